#include "CGForceImpl.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

#include "../network/NativeEngine.h"
#include "CGForceKernel.h"
#include "TorchScriptLibrary.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/kernels.h"
#include "openmm/reference/ReferencePlatform.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

/** Say once for each reason that a model does not run where the platform does. */
void reportHostPath(const std::string& source, const std::string& platform, const std::string& reason) {
    static std::mutex mutex;
    static std::set<std::string> reported;
    const std::string message = "CGForce: on the platform " + platform + " " + source +
                                " is evaluated on the host, and every step takes positions and forces there and back, "
                                "because " +
                                reason;
    const std::lock_guard<std::mutex> lock(mutex);
    if (reported.insert(message).second)
        std::cerr << message << std::endl;
}

}  // namespace

CGForceImpl::CGForceImpl(const CGForce& owner)
    : CustomCPPForceImpl(owner), owner(owner), model(owner.model), particles(owner.getParticles()) {
}

void CGForceImpl::initialize(ContextImpl& context) {
    const System& system = context.getSystem();
    for (int particle : particles)
        if (particle >= system.getNumParticles())
            throw OpenMMException("CGForce: particle " + std::to_string(particle) +
                                  " is not in the System, which has " + std::to_string(system.getNumParticles()) +
                                  " particles");
    const int beads = particles.empty() ? system.getNumParticles() : static_cast<int>(particles.size());
    settings.replicas = owner.getReplicas();
    if (beads % settings.replicas != 0)
        throw OpenMMException("CGForce: " + std::to_string(beads) + " beads cannot be " +
                              std::to_string(settings.replicas) +
                              " replicas of one system; their number must be a multiple of the number of replicas");
    const Platform& platform = context.getPlatform();
    settings.types = chooseTypes(beads);
    settings.periodic = owner.usesPeriodicBoundaryConditions();
    settings.doublePrecision = platform.getName() == "Reference";
    if (platform.getName() == "CPU")
        settings.threads = std::stoi(platform.getPropertyValue(context.getOwner(), "Threads"));
    else if (platform.getName() != "Reference")
        settings.threads = std::max(1u, std::thread::hardware_concurrency());
    settings.derivatives = owner.getEnergyParameterDerivatives();
    hasReferenceData = platform.getName() == "CPU" || platform.getName() == "Reference";
    if (settings.periodic) {
        Vec3 box[3];
        context.getPeriodicBoxVectors(box[0], box[1], box[2]);
        checkBox(box);
    }
    std::string reason;
    usesKernel = createKernel(context, beads, reason);
    usesNativeKernel = usesKernel && isNative();
    if (usesKernel)
        return;
    CustomCPPForceImpl::initialize(context);
    engine = createEngine();
    if (!settings.derivatives.empty() && !hasReferenceData) {
        derivativesKernel = platform.createKernel(AddDerivativesKernel::Name(), context);
        derivativesKernel.getAs<AddDerivativesKernel>().initialize(settings.derivatives, result.derivatives,
                                                                   owner.getForceGroup());
    }
    if (!reason.empty())
        reportHostPath(model->getSource(), platform.getName(), reason);
}

/**
 * Let the platform compute, if it has a kernel for that.
 *
 * @param reason  why it cannot run this model, which then runs on the host
 */
bool CGForceImpl::createKernel(ContextImpl& context, int beads, std::string& reason) {
    const Platform& platform = context.getPlatform();
    const bool native = isNative();
    const std::string name = native ? CalcCGForceKernel::Name() : CalcCGForceKernel::torchScriptName();
    if (!platform.supportsKernels({name}))
        return false;
    if (!settings.periodic && context.getSystem().usesPeriodicBoundaryConditions()) {
        reason =
            "it is not periodic, but other forces of the System are, so OpenMM may move beads by box vectors there";
        return false;
    }
    std::vector<int> particleOfBead = particles;
    if (particles.empty()) {
        particleOfBead.resize(beads);
        std::iota(particleOfBead.begin(), particleOfBead.end(), 0);
    }
    try {
        kernel = platform.createKernel(name, context);
        kernel.getAs<CalcCGForceKernel>().initialize(context, *model, settings, particleOfBead);
        return true;
    } catch (const std::exception& error) {
        if (native)
            throw;
        reason = error.what();
        return false;
    }
}

std::vector<std::string> CGForceImpl::getKernelNames() {
    return {CalcCustomCPPForceKernel::Name()};
}

std::vector<int> CGForceImpl::chooseTypes(int beads) const {
    const std::vector<int>& types = owner.getTypes();
    if (types.empty()) {
        const size_t known = model->getDescription().beadTypes.size();
        if (known > 1)
            throw OpenMMException("CGForce: " + model->getSource() + " has " + std::to_string(known) +
                                  " bead types; give the type of each bead with setTypes() (in Python: types=)");
        return std::vector<int>(beads, 0);
    }
    const int given = static_cast<int>(types.size());
    if (given != beads && given * settings.replicas != beads)
        throw OpenMMException("CGForce: " + std::to_string(given) + " bead types are given for " +
                              std::to_string(beads) + " beads; give one for each bead" +
                              (settings.replicas > 1 ? ", or for each bead of one of the " +
                                                           std::to_string(settings.replicas) + " replicas"
                                                     : "") +
                              " (setTypes, setParticles)");
    std::vector<int> all(beads);
    for (int i = 0; i < beads; i++) all[i] = types[i % given];
    return all;
}

bool CGForceImpl::isNative() const {
    if (owner.getEngine() == "native" && !model->hasCompiledNetwork())
        model->fail("holds no compiled network, so the native engine cannot run it; choose engine=\"torchscript\"");
    const bool native = model->hasCompiledNetwork() && owner.getEngine() != "torchscript";
    if (native && !settings.derivatives.empty())
        model->fail(
            "runs on the native engine, which has no derivatives with respect to global parameters; choose "
            "engine=\"torchscript\"");
    return native;
}

std::unique_ptr<Engine> CGForceImpl::createEngine() const {
    if (isNative())
        return createNativeEngine(*model, settings);
    return std::unique_ptr<Engine>(getTorchScriptLibrary().createEngine(*model, settings));
}

void CGForceImpl::checkBox(const Vec3* box) const {
    const double width = std::min({box[0][0], box[1][1], box[2][2]}), cutoff = model->getDescription().cutoff;
    if (!(2 * cutoff <= width))
        throw OpenMMException("CGForce: the model's cutoff of " + std::to_string(cutoff) +
                              " nm is more than half the smallest width of the periodic box, " + std::to_string(width) +
                              " nm; use a box of at least " + std::to_string(2 * cutoff) + " nm");
}

double CGForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if (usesKernel) {
        if ((groups & (1 << owner.getForceGroup())) == 0)
            return 0;
        if (settings.periodic) {
            Vec3 box[3];
            context.getPeriodicBoxVectors(box[0], box[1], box[2]);
            checkBox(box);
        }
        return kernel.getAs<CalcCGForceKernel>().execute(context, includeForces, includeEnergy);
    }
    // Other platforms call computeForce() from a thread of theirs before they come here, so it has to compute both.
    if (hasReferenceData) {
        wantForces = includeForces;
        wantEnergy = includeEnergy;
    }
    return CustomCPPForceImpl::calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
}

/** What the engine is told of the Context's present state; forces and energy are asked for. */
EngineRequest CGForceImpl::prepareRequest(ContextImpl& context, const std::vector<Vec3>& positions) {
    if (settings.periodic) {
        context.getPeriodicBoxVectors(box[0], box[1], box[2]);
        checkBox(box);
    }
    if (!particles.empty()) {
        beadPositions.resize(particles.size());
        for (size_t i = 0; i < particles.size(); i++) beadPositions[i] = positions[particles[i]];
    }
    EngineRequest request{
        particles.empty() ? positions : beadPositions, settings.periodic ? box : nullptr, {}, true, true};
    for (const auto& parameter : owner.getGlobalParameters())
        request.parameters.push_back(context.getParameter(parameter.name));
    return request;
}

double CGForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) {
    if (particles.empty())
        result.forces.swap(forces);
    EngineRequest request = prepareRequest(context, positions);
    request.forces = wantForces;
    request.energy = wantEnergy;
    result.energy = 0;
    engine->evaluate(request, result);
    if (particles.empty())
        result.forces.swap(forces);
    else if (wantForces) {
        std::fill(forces.begin(), forces.end(), Vec3());
        for (size_t i = 0; i < particles.size(); i++) forces[particles[i]] = result.forces[i];
    }
    if (wantForces && hasReferenceData && !settings.derivatives.empty()) {
        auto* data = reinterpret_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
        for (size_t i = 0; i < settings.derivatives.size(); i++)
            (*data->energyParameterDerivatives)[settings.derivatives[i]] += result.derivatives[i];
    }
    return result.energy;
}

std::vector<double> CGForceImpl::getReplicaEnergies(ContextImpl& context) {
    if (usesKernel)
        return kernel.getAs<CalcCGForceKernel>().computeReplicaEnergies(context);
    std::vector<Vec3> positions;
    context.getPositions(positions);
    EngineRequest request = prepareRequest(context, positions);
    request.forces = false;
    request.replicaEnergies = true;
    engine->evaluate(request, result);
    return result.replicaEnergies;
}

std::vector<KernelTime> CGForceImpl::profile(ContextImpl& context, int repeats) {
    if (usesKernel)
        return kernel.getAs<CalcCGForceKernel>().profile(context, repeats);
    std::vector<Vec3> positions;
    context.getPositions(positions);
    return engine->profile(prepareRequest(context, positions), repeats);
}

std::map<std::string, double> CGForceImpl::getDefaultParameters() {
    std::map<std::string, double> parameters;
    for (const auto& parameter : owner.getGlobalParameters()) parameters[parameter.name] = parameter.defaultValue;
    return parameters;
}

void CGForceImpl::updateParametersInContext(ContextImpl& context) {
    const ModelDescription &before = model->getDescription(), &after = owner.model->getDescription();
    if (after.cutoff != before.cutoff || after.beadTypes.size() != before.beadTypes.size())
        throw OpenMMException(
            "CGForce: the new model has another cutoff or other bead types than the one this Context was made with; "
            "reinitialize the Context");
    const auto previous = model;
    model = owner.model;
    try {
        if (usesKernel && isNative() != usesNativeKernel)
            throw OpenMMException(
                "CGForce: the new model needs another engine than the one of its platform that this Context runs; "
                "reinitialize the Context");
        if (usesKernel)
            kernel.getAs<CalcCGForceKernel>().setModel(*model);
        else
            engine = createEngine();
    } catch (...) {
        model = previous;
        throw;
    }
    context.systemChanged();
}

}  // namespace OpenMMCG
