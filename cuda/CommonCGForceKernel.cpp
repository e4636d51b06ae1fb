#include "CommonCGForceKernel.h"

#include <numeric>

#include "../cpp/network/CompiledNetwork.h"
#include "BeadForceInfo.h"
#include "DeviceSources.h"
#include "openmm/common/ContextSelector.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const int energyThreads = 64;

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
    program = std::make_unique<Program>(CompiledNetwork(model));
    ContextSelector selector(compute);
    compute.addForce(new BeadForceInfo(context.getSystem().getNumParticles(), settings.types, particles));
    list = std::make_unique<DeviceNeighborList>(
        compute, timer, DeviceNeighborList::Settings{program->cutoff, replicas, settings.periodic}, particles);
    std::vector<int> types(settings.types);
    types.resize(roundUp(beads, DeviceNetwork::rowsPerBlock), 0);
    beadTypes.initialize<int>(compute, types.size(), "beadTypes");
    beadTypes.upload(types);
    replicaEnergies.initialize(compute, replicas,
                               compute.getUseDoublePrecision() || compute.getUseMixedPrecision() ? 8 : 4,
                               "replicaEnergies");
    useProgram();
}

void CommonCGForceKernel::setModel(const ModelArchive& model) {
    if (beads == 0)
        return;
    program = std::make_unique<Program>(CompiledNetwork(model));
    useProgram();
}

void CommonCGForceKernel::useProgram() {
    ContextSelector selector(compute);
    auto next = std::make_unique<DeviceNetwork>(*program);
    const bool sameKernels = network != nullptr && network->getSource() == next->getSource();
    network = std::move(next);
    if (!sameKernels) {
        createArrays();
        createKernels();
    }
    parameters.upload(network->getParameters(), true);
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
                timer.execute(kernels[k], beads * convolutions[k].slices * 32, DeviceNetwork::convolutionThreads);
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
