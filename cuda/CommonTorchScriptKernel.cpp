#include "CommonTorchScriptKernel.h"

#include "../cpp/force/TorchLibraries.h"
#include "DeviceSources.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/common/ContextSelector.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const int threads = 64, sumThreads = 256;
/** Where in OpenMM's pinned buffer the number of pairs arrives; the neighbor list's own state is at its beginning. */
const int placeOfNumPairs = 16;

}  // namespace

CommonTorchScriptKernel::CommonTorchScriptKernel(std::string name, const Platform& platform, ComputeContext& compute,
                                                 SharedDeviceFactory createSharedDevice)
    : CalcCGForceKernel(name, platform), compute(compute), createSharedDevice(createSharedDevice), timer(compute) {
}

CommonTorchScriptKernel::~CommonTorchScriptKernel() {
    try {
        if (engine != nullptr)
            replaceEngine(nullptr);
    } catch (const std::exception&) {
        // The device fails; who uses it next is told so.
    }
}

/** Our kernels, which work with the tensors of the present engine, have to be done before those can go. */
void CommonTorchScriptKernel::replaceEngine(std::unique_ptr<DeviceEngine> next) {
    if (inputIsThere != nullptr) {
        ContextSelector selector(compute);
        inputIsThere->enqueue();
        compute.flushQueue();
        inputIsThere->wait();
    }
    const SharedDevice::Scope scope(*device);
    engine = std::move(next);
}

void CommonTorchScriptKernel::initialize(ContextImpl& context, const ModelArchive& model,
                                         const EngineSettings& engineSettings, const std::vector<int>& particles) {
    settings = engineSettings;
    beads = static_cast<int>(settings.types.size());
    if (beads == 0)
        return;
    const std::string index = context.getPlatform().getPropertyValue(context.getOwner(), "DeviceIndex");
    device = createSharedDevice(compute, std::stoi(index));
    createEngine(model, settings);
    for (const auto& parameter : model.getDescription().globalParameters) parameters.push_back(parameter.name);
    ContextSelector selector(compute);
    for (const std::string& name : settings.derivatives) compute.addEnergyParameterDerivative(name);
    info = new BeadForceInfo(context.getSystem().getNumParticles(), settings.types, particles);
    compute.addForce(info);
    const DeviceNeighborList::Settings listSettings{model.getDescription().cutoff, settings.replicas,
                                                    settings.periodic};
    list = std::make_unique<DeviceNeighborList>(compute, timer, listSettings, particles);
    pairCounts.initialize<int>(compute, beads, "pairCounts");
    numPairs.initialize<int>(compute, 1, "numPairs");
    inputIsThere = compute.createEvent();
    createKernels();
}

void CommonTorchScriptKernel::setModel(const ModelArchive& model, const std::vector<int>& types) {
    if (beads == 0)
        return;
    EngineSettings next = settings;
    next.types = types;
    createEngine(model, next);
    settings = std::move(next);
    ContextSelector selector(compute);
    info->setTypes(types);
    compute.invalidateMolecules(info);
}

void CommonTorchScriptKernel::createEngine(const ModelArchive& model, const EngineSettings& settings) {
    DevicePlace place = device->getPlace();
    place.doublePrecision = compute.getUseDoublePrecision() || compute.getUseMixedPrecision();
    std::unique_ptr<DeviceEngine> next;
    {
        const SharedDevice::Scope scope(*device);
        next.reset(getTorchScriptLibrary().createDeviceEngine(model, settings, place));
    }
    replaceEngine(std::move(next));
}

void CommonTorchScriptKernel::createKernels() {
    const ComputeProgram program = compute.compileProgram(
        deviceSources.at("exchange"), {{"PADDED_NUM_ATOMS", std::to_string(compute.getPaddedNumAtoms())},
                                       {"NUM_BEADS", std::to_string(beads)},
                                       {"SUM_THREADS", std::to_string(sumThreads)}});
    const auto create = [&](const std::string& name, int numbers, const std::vector<ArrayInterface*>& arrays) {
        ComputeKernel kernel = program->createKernel(name);
        for (int i = 0; i < numbers; i++) kernel->addArg();
        for (ArrayInterface* array : arrays) kernel->addArg(*array);
        return kernel;
    };
    ArrayInterface *counts = &list->getEdgeCounts(), *neighbors = &list->getNeighbors();
    exportPositions = create("exportPositions", 1, {&list->getPositions()});
    countPairs = create("countPairs", 1, {counts, neighbors, &pairCounts});
    placePairs = create("placePairs", 0, {&pairCounts, &numPairs});
    exportPairs = create("exportPairs", 4, {counts, neighbors, &pairCounts});
    addForces = create("addForces", 1, {&list->getSlots(), &compute.getLongForceBuffer()});
}

/** Bring positions and pairs into the engine's tensors. */
void CommonTorchScriptKernel::enqueueInput() {
    DeviceInput input;
    room = static_cast<int>((static_cast<int64_t>(beads) * list->getCapacity() + 1) / 2);
    {
        const SharedDevice::Scope scope(*device);
        input = engine->reserve(room);
    }
    exportPositions->setArg(0, input.positions);
    exportPositions->execute(beads, threads);
    countPairs->setArg(0, list->getCapacity());
    countPairs->execute(beads, threads);
    placePairs->execute(sumThreads, sumThreads);
    exportPairs->setArg(0, input.rows);
    exportPairs->setArg(1, input.columns);
    exportPairs->setArg(2, room);
    exportPairs->setArg(3, list->getCapacity());
    exportPairs->execute(beads, threads);
    numPairs.download(static_cast<int*>(compute.getPinnedBuffer()) + placeOfNumPairs, false);
    inputIsThere->enqueue();
}

DeviceResult CommonTorchScriptKernel::evaluate(ContextImpl& context, DeviceRequest request) {
    ContextSelector selector(compute);
    do {
        list->update();
        enqueueInput();
        inputIsThere->wait();
    } while (!list->isComplete());
    request.pairs = static_cast<int*>(compute.getPinnedBuffer())[placeOfNumPairs];
    if (request.pairs > room)
        throw OpenMMException("CGForce: there are more pairs of beads than the neighbor list has room for");
    Vec3 box[3];
    if (settings.periodic) {
        context.getPeriodicBoxVectors(box[0], box[1], box[2]);
        request.box = box;
    }
    for (const std::string& name : parameters) request.parameters.push_back(context.getParameter(name));
    DeviceResult result;
    {
        const SharedDevice::Scope scope(*device);
        engine->evaluate(request, result);
    }
    if (result.finished != nullptr)
        device->waitFor(result.finished);
    return result;
}

double CommonTorchScriptKernel::execute(ContextImpl& context, bool forces, bool energy) {
    if (beads == 0)
        return 0;
    const DeviceResult result = evaluate(context, {0, nullptr, {}, forces, energy});
    if (forces) {
        ContextSelector selector(compute);
        addForces->setArg(0, result.forces);
        addForces->execute(3 * beads, threads);
        for (size_t i = 0; i < settings.derivatives.size(); i++)
            compute.getEnergyParamDerivWorkspace()[settings.derivatives[i]] += result.derivatives[i];
    }
    return result.energy;
}

std::vector<double> CommonTorchScriptKernel::computeReplicaEnergies(ContextImpl& context) {
    if (beads == 0)
        return std::vector<double>(settings.replicas, 0);
    return evaluate(context, {0, nullptr, {}, false, true, true}).replicaEnergies;
}

}  // namespace OpenMMCG
