#include "CommonCGForceKernel.h"

#include <numeric>

#include "../cpp/neighbors/Capacity.h"
#include "../cpp/network/CompiledNetwork.h"
#include "DeviceSources.h"
#include "openmm/common/ContextSelector.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const int energyThreads = 64;
/** Threads that share a bead's convolution. */
const int convolutionLanes = 32;

int roundUp(int number, int multiple) {
    return (number + multiple - 1) / multiple * multiple;
}

}  // namespace

CommonCGForceKernel::CommonCGForceKernel(std::string name, const Platform& platform, ComputeContext& compute)
    : CalcCGForceKernel(name, platform), compute(compute), timer(compute) {
}

void CommonCGForceKernel::initialize(ContextImpl& context, const ModelArchive& model, const EngineSettings& settings,
                                     const std::vector<int>& particles) {
    beads = static_cast<int>(settings.types.size());
    replicas = settings.replicas;
    if (beads == 0)
        return;
    auto first = std::make_unique<Program>(CompiledNetwork(model));
    ContextSelector selector(compute);
    info = new BeadForceInfo(context.getSystem().getNumParticles(), settings.types, particles);
    compute.addForce(info);
    list = std::make_unique<DeviceNeighborList>(
        compute, timer, DeviceNeighborList::Settings{first->cutoff, replicas, settings.periodic}, particles);
    beadTypes.initialize<int>(compute, roundUp(beads, DeviceNetwork::rowsPerBlock), "beadTypes");
    uploadTypes(settings.types);
    replicaEnergies.initialize(compute, replicas,
                               compute.getUseDoublePrecision() || compute.getUseMixedPrecision() ? 8 : 4,
                               "replicaEnergies");
    useProgram(std::move(first));
}

void CommonCGForceKernel::setModel(const ModelArchive& model, const std::vector<int>& types) {
    if (beads == 0)
        return;
    useProgram(std::make_unique<Program>(CompiledNetwork(model)));
    ContextSelector selector(compute);
    uploadTypes(types);
    info->setTypes(types);
    compute.invalidateMolecules(info);
}

void CommonCGForceKernel::uploadTypes(const std::vector<int>& types) {
    std::vector<int> padded(types);
    padded.resize(beadTypes.getSize(), 0);
    beadTypes.upload(padded);
}

void CommonCGForceKernel::useProgram(std::unique_ptr<Program> nextProgram) {
    ContextSelector selector(compute);
    auto next = std::make_unique<DeviceNetwork>(*nextProgram);
    checkSize(*nextProgram, *next);
    const bool sameKernels = network != nullptr && network->getSource() == next->getSource();
    network = std::move(next);
    program = std::move(nextProgram);
    if (!sameKernels) {
        createArrays();
        createKernels();
    }
    parameters.upload(network->getParameters(), true);
}

/** Kernels count threads, and the numbers of a value, by 32-bit integers. */
void CommonCGForceKernel::checkSize(const Program& program, const DeviceNetwork& network) const {
    const auto rows = static_cast<int64_t>(beadTypes.getSize());
    for (const auto& operation : program.operations)
        requireCapacity(rows * operation.components * operation.channels,
                        "a value of the network for " + std::to_string(beads) + " beads");
    for (const auto& convolution : network.getConvolutions())
        requireCapacity(rows * convolution.slices * convolutionLanes,
                        "a convolution of " + std::to_string(beads) + " beads");
}

void CommonCGForceKernel::createArrays() {
    const int realSize = compute.getUseDoublePrecision() ? 8 : 4;
    const size_t rows = beadTypes.getSize();
    for (auto [array, size] :
         {std::pair{&parameters, network->getParameters().size()},
          std::pair{&workspace, network->getWorkspacePerBead() * rows}, std::pair{&beadEnergies, rows}}) {
        if (!array->isInitialized())
            array->initialize(compute, size, realSize, "network");
        else
            array->resize(size);
    }
    compute.clearBuffer(workspace);  // rows beyond the last bead are computed with, but must be numbers
}

void CommonCGForceKernel::createKernels() {
    const ComputeProgram device =
        compute.compileProgram(deviceSources.at("state") + deviceSources.at("network") + network->getSource(),
                               {{"PADDED_NUM_ATOMS", std::to_string(compute.getPaddedNumAtoms())},
                                {"NUM_BEADS", std::to_string(beads)},
                                {"PADDED_BEADS", std::to_string(beadTypes.getSize())},
                                {"BEADS_PER_REPLICA", std::to_string(beads / replicas)},
                                {"CUTOFF", compute.doubleToString(program->cutoff, true)},
                                {"ENERGY_THREADS", std::to_string(energyThreads)},
                                {"CONVOLUTION_THREADS", std::to_string(DeviceNetwork::convolutionThreads)}});
    convolve.clear();
    convolveAdjoint.clear();
    for (const auto& convolution : network->getConvolutions())
        for (auto [name, made] : {std::pair{"convolve", &convolve}, std::pair{"convolveAdjoint", &convolveAdjoint}}) {
            ComputeKernel kernel = device->createKernel(name + std::to_string(convolution.operation));
            kernel->addArg();  // capacity
            for (ComputeArray* array : {&workspace, &parameters, &beadTypes}) kernel->addArg(*array);
            for (ArrayInterface* array :
                 {&list->getOrder(), &list->getNeighbors(), &list->getEdges(), &list->getEdgeCounts()})
                kernel->addArg(*array);
            if (made == &convolveAdjoint)
                for (ArrayInterface* array : {&list->getSlots(), &list->getState(), &compute.getLongForceBuffer()})
                    kernel->addArg(*array);
            made->push_back(kernel);
        }
    const auto segment = [&](const std::string& name) {
        ComputeKernel kernel = device->createKernel(name);
        for (ComputeArray* array : {&workspace, &parameters, &beadTypes, &beadEnergies}) kernel->addArg(*array);
        return kernel;
    };
    forward.assign(network->getLastSegment(), nullptr);
    reverse.assign(network->getLastSegment(), nullptr);
    for (int k = 0; k < network->getLastSegment(); k++) {
        if (network->hasSegment(k))
            forward[k] = segment("forward" + std::to_string(k));
        if (k > 0)
            reverse[k] = segment("reverse" + std::to_string(k));
    }
    last[0] = segment("lastForces");
    last[1] = segment("lastEnergy");
    last[2] = segment("lastForcesAndEnergy");
    sumEnergies = device->createKernel("sumEnergies");
    for (ArrayInterface* array : {static_cast<ArrayInterface*>(&beadEnergies), &list->getState(),
                                  static_cast<ArrayInterface*>(&replicaEnergies), &compute.getEnergyBuffer()})
        sumEnergies->addArg(*array);
}

void CommonCGForceKernel::run(bool forces, bool energy) {
    const auto& convolutions = network->getConvolutions();
    const int segmentSize = beadTypes.getSize() / DeviceNetwork::rowsPerBlock * DeviceNetwork::segmentThreads;
    const auto runConvolutions = [&](int segment, std::vector<ComputeKernel>& kernels) {
        for (size_t k = 0; k < convolutions.size(); k++)
            if (convolutions[k].segment == segment) {
                kernels[k]->setArg(0, list->getCapacity());
                timer.execute(kernels[k], beads * convolutions[k].slices * convolutionLanes,
                              DeviceNetwork::convolutionThreads);
            }
    };
    const int lastSegment = network->getLastSegment();
    for (int segment = 0; segment < lastSegment; segment++) {
        runConvolutions(segment, convolve);
        if (forward[segment] != nullptr)
            timer.execute(forward[segment], segmentSize, DeviceNetwork::segmentThreads);
    }
    runConvolutions(lastSegment, convolve);
    timer.execute(last[forces && energy ? 2 : energy ? 1 : 0], segmentSize, DeviceNetwork::segmentThreads);
    if (energy)
        timer.execute(sumEnergies, replicas * energyThreads, energyThreads);
    for (int segment = lastSegment; forces && segment > 0; segment--) {
        runConvolutions(segment, convolveAdjoint);
        if (segment > 1)
            timer.execute(reverse[segment - 1], segmentSize, DeviceNetwork::segmentThreads);
    }
}

double CommonCGForceKernel::execute(ContextImpl& context, bool forces, bool energy) {
    if (beads == 0)
        return 0;
    ContextSelector selector(compute);
    do {
        list->update();
        run(forces, energy);
    } while (!list->isComplete());
    return 0;
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

std::vector<KernelTime> CommonCGForceKernel::profile(ContextImpl& context, int repeats) {
    if (beads == 0)
        return {};
    execute(context, true, true);
    timer.start(repeats);
    execute(context, true, true);
    ContextSelector selector(compute);
    std::vector<int> counts;
    list->getEdgeCounts().download(counts);
    const double edges = std::accumulate(counts.begin(), counts.end(), 0.0);
    const WorkEstimate estimate(*program, beads, edges, compute.getUseDoublePrecision() ? 8 : 4);
    std::vector<KernelTime> times;
    for (const auto& [name, seconds] : timer.stop()) times.push_back({name, seconds, estimate.of(name)});
    return times;
}

}  // namespace OpenMMCG
