#include "CommonCGForceKernel.h"

#include <algorithm>
#include <cmath>

#include "../cpp/neighbors/PeriodicBox.h"
#include "openmm/OpenMMException.h"
#include "openmm/common/ContextSelector.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const double verletSkin = 0.1;  // nm
/** Up to this many beads per replica every pair is looked at when the list is built. */
const int mostBeadsWithoutCells = 512;
const int listThreads = 64, sortThreads = 256, energyThreads = 64;

int roundUp(int number, int multiple) {
    return (number + multiple - 1) / multiple * multiple;
}

}  // namespace

/** Tells OpenMM which beads may change places in its order: those of one type. */
class CommonCGForceKernel::ForceInfo : public ComputeForceInfo {
public:
    explicit ForceInfo(std::vector<int> typeOfParticle) : typeOfParticle(std::move(typeOfParticle)) {
    }
    bool areParticlesIdentical(int a, int b) override {
        return typeOfParticle[a] == typeOfParticle[b];
    }

private:
    std::vector<int> typeOfParticle;  // -1: not a bead
};

class CommonCGForceKernel::ReorderListener : public ComputeContext::ReorderListener {
public:
    explicit ReorderListener(bool& stale) : stale(stale) {
    }
    void execute() override {
        stale = true;
    }

private:
    bool& stale;
};

bool CommonCGForceKernel::Box::operator!=(const Box& other) const {
    return !std::equal(vectors, vectors + 3, other.vectors);
}

CommonCGForceKernel::CommonCGForceKernel(std::string name, const Platform& platform, ComputeContext& compute)
    : CalcCGForceKernel(name, platform), compute(compute) {
}

void CommonCGForceKernel::initialize(ContextImpl& context, const Program& source, const EngineSettings& settings,
                                     const std::vector<int>& particles) {
    ContextSelector selector(compute);
    beads = static_cast<int>(settings.types.size());
    if (beads == 0)
        return;
    periodic = settings.periodic;
    replicas = settings.replicas;
    cutoff = source.cutoff;
    types = source.types;
    const int beadsPerReplica = beads / replicas, atoms = context.getSystem().getNumParticles();
    useCells = beadsPerReplica > mostBeadsWithoutCells;
    std::vector<int> beadOf(atoms, -1), typeOf(atoms, -1), paddedTypes(settings.types);
    for (int i = 0; i < beads; i++) {
        beadOf[particles[i]] = i;
        typeOf[particles[i]] = settings.types[i];
    }
    compute.addForce(new ForceInfo(typeOf));
    compute.addReorderListener(new ReorderListener(slotsAreStale));
    paddedTypes.resize(roundUp(beads, DeviceNetwork::rowsPerBlock), 0);

    const int mixedSize = compute.getUseDoublePrecision() || compute.getUseMixedPrecision() ? 8 : 4;
    beadOfParticle.initialize<int>(compute, atoms, "beadOfParticle");
    beadOfParticle.upload(beadOf);
    slots.initialize<int>(compute, beads, "slots");
    beadTypes.initialize<int>(compute, paddedTypes.size(), "beadTypes");
    beadTypes.upload(paddedTypes);
    positions.initialize(compute, beads, 4 * mixedSize, "positions");
    builtPositions.initialize(compute, beads, 4 * mixedSize, "builtPositions");
    state.initialize<int>(compute, 3, "state");
    compute.clearBuffer(state);
    if (useCells) {
        const int most = replicas * (2 * beadsPerReplica + 8);
        grid.initialize<int>(compute, 3, "grid");
        cellOfBead.initialize<int>(compute, beads, "cellOfBead");
        cellStart.initialize<int>(compute, most + 1, "cellStart");
        cursor.initialize<int>(compute, most, "cursor");
        sortedBeads.initialize<int>(compute, beads, "sortedBeads");
    }
    candidateCounts.initialize<int>(compute, beads, "candidateCounts");
    edgeCounts.initialize<int>(compute, beads, "edgeCounts");
    replicaEnergies.initialize(compute, replicas, mixedSize, "replicaEnergies");
    listIsReady = compute.createEvent();
    setProgram(source);
    // A first guess at the number of neighbors; should it be too small, it is raised before the first step is over.
    setCapacity(std::min(beadsPerReplica - 1, 96));
}

void CommonCGForceKernel::setProgram(const Program& source) {
    if (beads == 0)
        return;
    ContextSelector selector(compute);
    auto next = std::make_unique<DeviceNetwork>(source);
    const bool sameKernels = network != nullptr && network->getSource() == next->getSource();
    network = std::move(next);
    const int realSize = compute.getUseDoublePrecision() ? 8 : 4;
    const size_t numbers = network->getParameters().size();
    if (!sameKernels) {
        const size_t workNumbers =
            static_cast<size_t>(network->getWorkspacePerBead()) * roundUp(beads, DeviceNetwork::rowsPerBlock);
        for (auto [array, size] : {std::pair{&parameters, numbers}, std::pair{&workspace, workNumbers},
                                   std::pair{&beadEnergies, static_cast<size_t>(beadTypes.getSize())}}) {
            if (!array->isInitialized())
                array->initialize(compute, size, realSize, "network");
            else if (array->getSize() != size)
                array->resize(size);
        }
        compute.clearBuffer(workspace);  // rows beyond the last bead are computed with, but must be numbers
    }
    parameters.upload(network->getParameters(), true);
    if (sameKernels)
        return;
    std::map<std::string, std::string> defines = {
        {"NUM_ATOMS", std::to_string(compute.getNumAtoms())},
        {"PADDED_NUM_ATOMS", std::to_string(compute.getPaddedNumAtoms())},
        {"NUM_BEADS", std::to_string(beads)},
        {"PADDED_BEADS", std::to_string(beadTypes.getSize())},
        {"BEADS_PER_REPLICA", std::to_string(beads / replicas)},
        {"CUTOFF", compute.doubleToString(cutoff, true)},
        {"SORT_THREADS", std::to_string(sortThreads)},
        {"ENERGY_THREADS", std::to_string(energyThreads)},
        {"CONVOLUTION_THREADS", std::to_string(DeviceNetwork::convolutionThreads)},
        {"MAX_CELLS_ALONG", std::to_string(std::max(1, static_cast<int>(std::cbrt(2.0 * beads / replicas))))}};
    if (periodic)
        defines["PERIODIC"] = "1";
    if (useCells)
        defines["USE_CELLS"] = "1";
    program = compute.compileProgram(network->getSource(), defines);
    createListKernels();
    createNetworkKernels();
    listIsStale = true;
}

ComputeKernel CommonCGForceKernel::getKernel(const std::string& name) {
    return program->createKernel(name);
}

void CommonCGForceKernel::setMixed(ComputeKernel& kernel, int index, double value) {
    if (compute.getUseDoublePrecision() || compute.getUseMixedPrecision())
        kernel->setArg(index, value);
    else
        kernel->setArg(index, static_cast<float>(value));
}

/** Three arguments: the box vectors, each with the inverse of its diagonal element. */
void CommonCGForceKernel::setBox(ComputeKernel& kernel, int index) {
    for (int i = 0; i < 3; i++) {
        const Vec3& v = box.vectors[i];
        const mm_double4 row(v[0], v[1], v[2], v[i] != 0 ? 1 / v[i] : 0.0);
        if (compute.getUseDoublePrecision() || compute.getUseMixedPrecision())
            kernel->setArg(index + i, row);
        else
            kernel->setArg(index + i, mm_float4(row.x, row.y, row.z, row.w));
    }
}

void CommonCGForceKernel::createListKernels() {
    findSlotsKernel = getKernel("findSlots");
    findSlotsKernel->addArg(compute.getAtomIndexArray());
    findSlotsKernel->addArg(beadOfParticle);
    findSlotsKernel->addArg(slots);
    gatherKernel = getKernel("gatherPositions");
    gatherKernel->addArg(compute.getPosq());
    if (compute.getUseMixedPrecision())
        gatherKernel->addArg(compute.getPosqCorrection());
    for (ComputeArray* array : {&slots, &positions, &builtPositions, &state}) gatherKernel->addArg(*array);
    for (int i = 0; i < 3; i++) gatherKernel->addArg();
    if (useCells) {
        sortKernel = getKernel("sortIntoCells");
        sortKernel->addArg(positions);
        sortKernel->addArg(state);
        for (int i = 0; i < 8; i++) sortKernel->addArg();
        for (ComputeArray* array : {&grid, &cellOfBead, &cellStart, &cursor, &sortedBeads}) sortKernel->addArg(*array);
    }
    edgesKernel = getKernel("findEdges");
    edgesKernel->addArg(positions);
    edgesKernel->addArg(builtPositions);
    edgesKernel->addArg(state);
    for (int i = 0; i < 6; i++) edgesKernel->addArg();
    edgesKernel->addArg(candidateCounts);
    edgesKernel->addArg();
    edgesKernel->addArg(edgeCounts);
    for (int i = 0; i < 2; i++) edgesKernel->addArg();
    if (useCells)
        for (ComputeArray* array : {&grid, &cellOfBead, &cellStart, &sortedBeads}) edgesKernel->addArg(*array);
    energyKernel = getKernel("sumEnergies");
    for (ComputeArray* array : {&beadEnergies, &state, &replicaEnergies}) energyKernel->addArg(*array);
    energyKernel->addArg(compute.getEnergyBuffer());
}

void CommonCGForceKernel::createNetworkKernels() {
    convolve.clear();
    convolveAdjoint.clear();
    for (const auto& convolution : network->getConvolutions())
        for (auto [name, list] : {std::pair{"convolve", &convolve}, std::pair{"convolveAdjoint", &convolveAdjoint}}) {
            ComputeKernel kernel = getKernel(name + convolution.name);
            for (ComputeArray* array : {&workspace, &parameters, &beadTypes}) kernel->addArg(*array);
            for (int i = 0; i < 2; i++) kernel->addArg();
            kernel->addArg(edgeCounts);
            kernel->addArg();
            if (list == &convolveAdjoint) {
                kernel->addArg(slots);
                kernel->addArg(state);
                kernel->addArg(compute.getLongForceBuffer());
            }
            list->push_back(kernel);
        }
    const auto segment = [&](const std::string& name) {
        ComputeKernel kernel = getKernel(name);
        for (ComputeArray* array : {&workspace, &parameters, &beadTypes, &beadEnergies}) kernel->addArg(*array);
        return kernel;
    };
    forward.assign(network->getLayers(), nullptr);
    reverse.assign(network->getLayers(), nullptr);
    for (int layer = 0; layer < network->getLayers(); layer++) {
        if (network->hasSegment(layer))
            forward[layer] = segment("forward" + std::to_string(layer));
        if (layer > 0)
            reverse[layer] = segment("reverse" + std::to_string(layer));
    }
    last[0] = segment("lastForces");
    last[1] = segment("lastEnergy");
    last[2] = segment("lastForcesAndEnergy");
    if (capacity > 0)
        setCapacity(capacity);
}

void CommonCGForceKernel::setCapacity(int newCapacity) {
    capacity = std::max(newCapacity, 1);
    canOverflow = capacity < beads / replicas - 1;
    const int realSize = compute.getUseDoublePrecision() ? 8 : 4;
    const size_t pairs = static_cast<size_t>(capacity) * beads;
    for (auto [array, size] : {std::pair{&candidates, 4}, std::pair{&neighbors, 4}, std::pair{&edges, 4 * realSize}}) {
        if (!array->isInitialized())
            array->initialize(compute, pairs, size, "pairs");
        else if (array->getSize() != pairs)
            array->resize(pairs);
    }
    edgesKernel->setArg(8, capacity);
    edgesKernel->setArg(10, candidates);
    edgesKernel->setArg(12, neighbors);
    edgesKernel->setArg(13, edges);
    for (auto* kernels : {&convolve, &convolveAdjoint})
        for (ComputeKernel& kernel : *kernels) {
            kernel->setArg(3, neighbors);
            kernel->setArg(4, edges);
            kernel->setArg(6, capacity);
        }
    listIsStale = true;
}

/** What depends on the box: how far the list reaches, and the grid of cells. */
void CommonCGForceKernel::updateBox() {
    Box now;
    if (periodic)
        compute.getPeriodicBoxVectors(now.vectors[0], now.vectors[1], now.vectors[2]);
    if (radius > 0 && !(now != box))
        return;
    box = now;
    double skin = verletSkin;
    if (periodic) {
        const PeriodicBox shape(box.vectors);
        // Beyond half the box the minimum image is not exact, so the list cannot promise more than that.
        skin = std::min(skin, std::max(0.0, shape.getSmallestWidth() / 2 - cutoff));
        const auto widths = shape.getFaceDistances();
        const int most = std::max(1, static_cast<int>(std::cbrt(2.0 * beads / replicas)));
        for (int d = 0; d < 3; d++) cells[d] = std::clamp(static_cast<int>(widths[d] / (cutoff + skin)), 1, most);
    }
    radius = cutoff + skin;
    validDistance = skin / 2;
    listIsStale = true;
}

void CommonCGForceKernel::findEdges(bool mustRebuild) {
    evaluation++;
    const int first = compute.getUseMixedPrecision() ? 6 : 5;
    gatherKernel->setArg(first, evaluation);
    gatherKernel->setArg(first + 1, mustRebuild ? 1 : 0);
    setMixed(gatherKernel, first + 2, validDistance * validDistance);
    gatherKernel->execute(beads, listThreads);
    if (useCells) {
        sortKernel->setArg(2, evaluation);
        setMixed(sortKernel, 3, radius);
        for (int d = 0; d < 3; d++) sortKernel->setArg(4 + d, cells[d]);
        setBox(sortKernel, 7);
        sortKernel->execute(sortThreads, sortThreads);
    }
    edgesKernel->setArg(3, evaluation);
    setMixed(edgesKernel, 4, radius);
    setBox(edgesKernel, 5);
    edgesKernel->execute(beads, listThreads);
}

void CommonCGForceKernel::runNetwork(bool forces, bool energy) {
    const auto& convolutions = network->getConvolutions();
    const int segmentSize = beadTypes.getSize() / DeviceNetwork::rowsPerBlock * DeviceNetwork::segmentThreads;
    const auto convolutionsOf = [&](int layer, std::vector<ComputeKernel>& kernels) {
        for (size_t k = 0; k < convolutions.size(); k++)
            if (convolutions[k].layer == layer)
                kernels[k]->execute(beads * convolutions[k].slices * 32, DeviceNetwork::convolutionThreads);
    };
    const int layers = network->getLayers();
    for (int layer = 0; layer <= layers; layer++) {
        convolutionsOf(layer, convolve);
        if (layer == layers)
            last[forces && energy ? 2 : energy ? 1 : 0]->execute(segmentSize, DeviceNetwork::segmentThreads);
        else if (forward[layer] != nullptr)
            forward[layer]->execute(segmentSize, DeviceNetwork::segmentThreads);
    }
    if (energy)
        energyKernel->execute(replicas * energyThreads, energyThreads);
    for (int layer = layers; forces && layer > 0; layer--) {
        convolutionsOf(layer, convolveAdjoint);
        if (layer > 1)
            reverse[layer - 1]->execute(segmentSize, DeviceNetwork::segmentThreads);
    }
}

double CommonCGForceKernel::execute(ContextImpl& context, bool forces, bool energy) {
    if (beads == 0)
        return 0;
    ContextSelector selector(compute);
    updateBox();
    if (slotsAreStale) {
        findSlotsKernel->execute(compute.getNumAtoms(), listThreads);
        listIsStale = true;  // OpenMM may have moved beads by a box vector
        slotsAreStale = false;
    }
    while (true) {
        const bool check = canOverflow || listIsStale;
        findEdges(listIsStale);
        listIsStale = false;
        const int* found = static_cast<int*>(compute.getPinnedBuffer());
        if (check) {
            state.download(compute.getPinnedBuffer(), false);
            listIsReady->enqueue();
        }
        runNetwork(forces, energy);
        if (!check)
            return 0;
        listIsReady->wait();
        if (found[2] > 0)
            throw OpenMMException("CGForce: the position of bead " + std::to_string(found[2] - 1) +
                                  " is not finite; check the starting positions, or shorten the time step");
        if (found[1] == 0)
            return 0;
        // Nothing has been added to the forces yet. Give the list room, and start over.
        std::vector<int> counts;
        candidateCounts.download(counts);
        setCapacity(std::min(beads / replicas - 1, *std::max_element(counts.begin(), counts.end()) * 5 / 4 + 8));
    }
}

std::vector<double> CommonCGForceKernel::computeReplicaEnergies(ContextImpl& context) {
    std::vector<double> energies(replicas, 0);
    if (beads == 0)
        return energies;
    execute(context, false, true);
    ContextSelector selector(compute);
    replicaEnergies.download(energies, true);
    return energies;
}

}  // namespace OpenMMCG
