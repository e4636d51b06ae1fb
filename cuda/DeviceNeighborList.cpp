#include "DeviceNeighborList.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "../cpp/neighbors/Capacity.h"
#include "../cpp/neighbors/NeighborList.h"
#include "../cpp/neighbors/PeriodicBox.h"
#include "../cpp/network/Kernels.h"
#include "DeviceSources.h"
#include "openmm/OpenMMException.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

/** Up to this many beads per replica every pair is looked at when the list is built. */
const int mostBeadsWithoutCells = 512;
/** A first guess at the number of neighbors; should it be too small, it is raised before the first step is over. */
const int firstCapacity = 96;
const int listThreads = 64, sortThreads = 256;
/** Threads that share the search for the neighbors of a bead. */
const int lanes = 8;

}  // namespace

class DeviceNeighborList::ReorderListener : public ComputeContext::ReorderListener {
public:
    explicit ReorderListener(bool& stale) : stale(stale) {
    }
    void execute() override {
        stale = true;
    }

private:
    bool& stale;
};

DeviceNeighborList::DeviceNeighborList(ComputeContext& compute, KernelTimer& timer, const Settings& settings,
                                       const std::vector<int>& particles)
    : compute(compute),
      timer(timer),
      settings(settings),
      beads(static_cast<int>(particles.size())),
      useCells(beads / settings.replicas > mostBeadsWithoutCells),
      usesDouble(compute.getUseDoublePrecision() || compute.getUseMixedPrecision()) {
    createArrays(particles);
    setCapacity(firstCapacity);
    createKernels();
    stateIsHere = compute.createEvent();
    compute.addReorderListener(new ReorderListener(slotsAreStale));
}

void DeviceNeighborList::createArrays(const std::vector<int>& particles) {
    requireCapacity(static_cast<int64_t>(beads) * lanes, "the search for the neighbors of " + countBeads());
    std::vector<int> beadOf(compute.getNumAtoms(), -1);
    for (int i = 0; i < beads; i++) beadOf[particles[i]] = i;
    beadOfParticle.initialize<int>(compute, beadOf.size(), "beadOfParticle");
    beadOfParticle.upload(beadOf);
    slots.initialize<int>(compute, beads, "slots");
    const int mixed4Size = usesDouble ? 32 : 16;
    positions.initialize(compute, beads, mixed4Size, "positions");
    builtPositions.initialize(compute, beads, mixed4Size, "builtPositions");
    state.initialize<int>(compute, 3, "state");
    compute.clearBuffer(state);
    candidateCounts.initialize<int>(compute, beads, "candidateCounts");
    edgeCounts.initialize<int>(compute, beads, "edgeCounts");
    if (useCells) {
        const int64_t along = getMostCellsAlong();
        const int most = requireCapacity(settings.replicas * along * along * along, "the cell list of " + countBeads());
        grid.initialize<int>(compute, 3, "grid");
        cellOfBead.initialize<int>(compute, beads, "cellOfBead");
        cellStart.initialize<int>(compute, most + 1, "cellStart");
        cursor.initialize<int>(compute, most, "cursor");
    }
    std::vector<int> order(beads);
    std::iota(order.begin(), order.end(), 0);
    sortedBeads.initialize<int>(compute, beads, "sortedBeads");
    sortedBeads.upload(order);
}

/** More cells than beads would only cost memory (beads of a molecule can be far apart without a box). */
int DeviceNeighborList::getMostCellsAlong() const {
    return std::max(1, static_cast<int>(2 * std::cbrt(beads / settings.replicas)));
}

std::string DeviceNeighborList::countBeads() const {
    return std::to_string(beads) + " beads";
}

/** @param wanted  neighbors of a bead; no bead has more than all others of its replica */
void DeviceNeighborList::setCapacity(int64_t wanted) {
    const int64_t others = beads / settings.replicas - 1, room = std::max<int64_t>(std::min(wanted, others), 1);
    const size_t pairs = requireCapacity(
        room * beads, "the neighbor list of " + countBeads() + " with " + std::to_string(room) + " neighbors each");
    capacity = static_cast<int>(room);
    canOverflow = capacity < others;
    const int real4Size = compute.getUseDoublePrecision() ? 32 : 16;
    for (auto [array, size] : {std::pair{&candidates, 4}, std::pair{&neighbors, 4}, std::pair{&edges, real4Size}}) {
        if (!array->isInitialized())
            array->initialize(compute, pairs, size, "pairs");
        else
            array->resize(pairs);
    }
    isStale = true;
}

void DeviceNeighborList::createKernels() {
    std::map<std::string, std::string> defines = {{"NUM_ATOMS", std::to_string(compute.getNumAtoms())},
                                                  {"NUM_BEADS", std::to_string(beads)},
                                                  {"BEADS_PER_REPLICA", std::to_string(beads / settings.replicas)},
                                                  {"CUTOFF", compute.doubleToString(settings.cutoff, true)},
                                                  {"COINCIDENCE", compute.doubleToString(coincidence, true)},
                                                  {"LIST_THREADS", std::to_string(listThreads)},
                                                  {"LANES", std::to_string(lanes)},
                                                  {"SORT_THREADS", std::to_string(sortThreads)},
                                                  {"MAX_CELLS_ALONG", std::to_string(getMostCellsAlong())}};
    if (settings.periodic)
        defines["PERIODIC"] = "1";
    if (useCells)
        defines["USE_CELLS"] = "1";
    const ComputeProgram program =
        compute.compileProgram(deviceSources.at("state") + deviceSources.at("neighbors"), defines);
    findSlots = program->createKernel("findSlots");
    findSlots->addArg(compute.getAtomIndexArray());
    findSlots->addArg(beadOfParticle);
    findSlots->addArg(slots);
    gatherPositions = program->createKernel("gatherPositions");
    for (int i = 0; i < 3; i++) gatherPositions->addArg();  // evaluation, must rebuild, limit
    gatherPositions->addArg(compute.getPosq());
    for (ComputeArray* array : {&slots, &positions, &builtPositions, &state}) gatherPositions->addArg(*array);
    if (compute.getUseMixedPrecision())
        gatherPositions->addArg(compute.getPosqCorrection());
    findEdges = program->createKernel("findEdges");
    for (int i = 0; i < 6; i++) findEdges->addArg();  // evaluation, radius, box, capacity
    for (ComputeArray* array :
         {&positions, &builtPositions, &state, &candidateCounts, &candidates, &edgeCounts, &neighbors, &edges})
        findEdges->addArg(*array);
    if (!useCells)
        return;
    for (ComputeArray* array : {&grid, &cellOfBead, &cellStart, &sortedBeads}) findEdges->addArg(*array);
    sortIntoCells = program->createKernel("sortIntoCells");
    for (int i = 0; i < 8; i++) sortIntoCells->addArg();  // evaluation, radius, box, cells
    for (ComputeArray* array : {&positions, &state, &grid, &cellOfBead, &cellStart, &cursor, &sortedBeads})
        sortIntoCells->addArg(*array);
}

void DeviceNeighborList::setMixed(ComputeKernel& kernel, int index, double value) {
    if (usesDouble)
        kernel->setArg(index, value);
    else
        kernel->setArg(index, static_cast<float>(value));
}

/** Three arguments: the box vectors, each with the inverse of its diagonal element. */
void DeviceNeighborList::setBox(ComputeKernel& kernel, int index) {
    for (int i = 0; i < 3; i++) {
        const Vec3& v = box.vectors[i];
        const mm_double4 row(v[0], v[1], v[2], v[i] != 0 ? 1 / v[i] : 0.0);
        if (usesDouble)
            kernel->setArg(index + i, row);
        else
            kernel->setArg(index + i, mm_float4(row.x, row.y, row.z, row.w));
    }
}

/** What depends on the box: how far the list reaches, and the grid of cells. */
void DeviceNeighborList::updateBox() {
    Box now;
    if (settings.periodic)
        compute.getPeriodicBoxVectors(now.vectors[0], now.vectors[1], now.vectors[2]);
    if (radius > 0 && std::equal(now.vectors, now.vectors + 3, box.vectors))
        return;
    box = now;
    double skin = verletSkin;
    if (settings.periodic) {
        const PeriodicBox shape(box.vectors);
        // Beyond half the box the minimum image is not exact, so the list cannot promise more than that.
        skin = std::min(skin, std::max(0.0, shape.getSmallestWidth() / 2 - settings.cutoff));
        const auto widths = shape.getFaceDistances();
        for (int d = 0; d < 3; d++)
            cells[d] = std::clamp(static_cast<int>(widths[d] / (settings.cutoff + skin)), 1, getMostCellsAlong());
    }
    radius = settings.cutoff + skin;
    validDistance = skin / 2;
    isStale = true;
}

void DeviceNeighborList::update() {
    updateBox();
    if (slotsAreStale) {
        findSlots->execute(compute.getNumAtoms(), listThreads);
        isStale = true;  // OpenMM may have moved beads by a box vector
        slotsAreStale = false;
    }
    evaluation++;
    gatherPositions->setArg(0, evaluation);
    gatherPositions->setArg(1, isStale ? 1 : 0);
    setMixed(gatherPositions, 2, validDistance * validDistance);
    timer.execute(gatherPositions, beads, listThreads);
    if (useCells) {
        sortIntoCells->setArg(0, evaluation);
        setMixed(sortIntoCells, 1, radius);
        setBox(sortIntoCells, 2);
        for (int d = 0; d < 3; d++) sortIntoCells->setArg(5 + d, cells[d]);
        timer.execute(sortIntoCells, sortThreads, sortThreads);
    }
    findEdges->setArg(0, evaluation);
    setMixed(findEdges, 1, radius);
    setBox(findEdges, 2);
    findEdges->setArg(5, capacity);
    timer.execute(findEdges, beads * lanes, listThreads);
    isChecked = canOverflow || isStale;
    isStale = false;
    if (isChecked) {
        state.download(compute.getPinnedBuffer(), false);
        stateIsHere->enqueue();
    }
}

bool DeviceNeighborList::isComplete() {
    if (!isChecked)
        return true;
    stateIsHere->wait();
    const int* found = static_cast<int*>(compute.getPinnedBuffer());
    if (found[2] > 0)
        throw OpenMMException("CGForce: the position of bead " + std::to_string(found[2] - 1) +
                              " is not finite; check the starting positions, or shorten the time step");
    if (found[1] == 0)
        return true;
    std::vector<int> counts;
    candidateCounts.download(counts);
    setCapacity(static_cast<int64_t>(*std::max_element(counts.begin(), counts.end())) * 5 / 4 + 8);
    return false;
}

}  // namespace OpenMMCG
