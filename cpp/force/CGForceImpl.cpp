#include "CGForceImpl.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>
#include <sstream>
#include <thread>

#include "../network/NativeEngine.h"
#include "CGForceKernel.h"
#include "TorchLibraries.h"
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

template <class Value>
std::string describe(const Value& value) {
    std::ostringstream text;
    text << std::setprecision(10) << value;
    return text.str();
}

std::string describe(const std::vector<int>& particles) {
    return std::to_string(particles.size()) + " of its own";
}

std::string describe(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none" : text;
}

std::vector<std::string> describeEach(const std::vector<ModelDescription::Parameter>& parameters) {
    std::vector<std::string> texts;
    for (const auto& parameter : parameters) texts.push_back(parameter.name + " = " + describe(parameter.defaultValue));
    return texts;
}

std::string yesOrNo(bool condition) {
    return condition ? "yes" : "no";
}

/** Refuse to take a change of the force over to a Context. */
template <class Value>
void refuseChange(const std::string& what, const Value& made, const Value& now) {
    if (made == now)
        return;
    throw OpenMMException("CGForce: the Context was made with another " + what +
                          " than the force has now (then: " + describe(made) + "; now: " + describe(now) +
                          "). It can take over a model and bead types only; make a new Context, or call its "
                          "reinitialize()");
}

}  // namespace

CGForceImpl::CGForceImpl(const CGForce& owner)
    : CustomCPPForceImpl(owner), owner(owner), guard("CGForce", "the model's cutoff") {
}

CGForceImpl::Parts CGForceImpl::takeParts(ContextImpl& context) const {
    const System& system = context.getSystem();
    const Platform& platform = context.getPlatform();
    Parts taken;
    taken.engine = owner.chooseEngine();
    taken.model = owner.model;
    taken.parameters = owner.getGlobalParameters();
    taken.particles = owner.getParticles();
    for (int particle : taken.particles)
        if (particle >= system.getNumParticles())
            throw OpenMMException("CGForce: particle " + std::to_string(particle) +
                                  " is not in the System, which has " + std::to_string(system.getNumParticles()) +
                                  " particles");
    if (taken.particles.empty()) {
        taken.particles.resize(system.getNumParticles());
        std::iota(taken.particles.begin(), taken.particles.end(), 0);
    }
    const int beads = static_cast<int>(taken.particles.size());
    EngineSettings& settings = taken.settings;
    settings.replicas = owner.getReplicas();
    if (beads % settings.replicas != 0)
        throw OpenMMException("CGForce: " + std::to_string(beads) + " beads cannot be " +
                              std::to_string(settings.replicas) +
                              " replicas of one system; their number must be a multiple of the number of replicas");
    settings.types = chooseTypes(beads);
    settings.periodic = owner.usesPeriodicBoundaryConditions();
    settings.doublePrecision = platform.getName() == "Reference";
    if (platform.getName() == "CPU")
        settings.threads = std::stoi(platform.getPropertyValue(context.getOwner(), "Threads"));
    else if (platform.getName() != "Reference")
        settings.threads = std::max(1u, std::thread::hardware_concurrency());
    settings.derivatives = owner.getEnergyParameterDerivatives();
    for (const std::string& name : settings.derivatives) owner.checkParameter(name);
    if (taken.engine != "torchscript" && !settings.derivatives.empty())
        taken.model->fail("runs on the " + taken.engine +
                          " engine, which has no derivatives with respect to global parameters; choose "
                          "engine=\"torchscript\"");
    return taken;
}

void CGForceImpl::initialize(ContextImpl& context) {
    const Platform& platform = context.getPlatform();
    parts = takeParts(context);
    std::vector<int> all(context.getSystem().getNumParticles());
    std::iota(all.begin(), all.end(), 0);
    usesAllParticles = parts.particles == all;
    hasReferenceData = platform.getName() == "CPU" || platform.getName() == "Reference";
    guard.initialize(context, parts.model->getDescription().cutoff, parts.settings.periodic);
    std::string reason;
    createKernel(context, reason);
    if (usesKernel)
        return;
    CustomCPPForceImpl::initialize(context);
    engine = createEngine(parts);
    if (!parts.settings.derivatives.empty() && !hasReferenceData) {
        derivativesKernel = platform.createKernel(AddDerivativesKernel::Name(), context);
        derivativesKernel.getAs<AddDerivativesKernel>().initialize(parts.settings.derivatives, result.derivatives,
                                                                   owner.getForceGroup());
    }
    if (!reason.empty())
        reportHostPath(parts.model->getSource(), platform.getName(), reason);
}

/**
 * Let the platform compute, if it has a kernel for that.
 *
 * @param reason  why it cannot run this model, which then runs on the host
 */
void CGForceImpl::createKernel(ContextImpl& context, std::string& reason) {
    const Platform& platform = context.getPlatform();
    const std::string name =
        parts.engine == "native" ? CalcCGForceKernel::Name() : CalcCGForceKernel::torchScriptName();
    if (!platform.supportsKernels({name}))
        return;
    if (parts.engine == "inductor") {
        reason = "AOTInductor packages are run by the processor";
        return;
    }
    if (!parts.settings.periodic && context.getSystem().usesPeriodicBoundaryConditions()) {
        reason =
            "it is not periodic, but other forces of the System are, so OpenMM may move beads by box vectors there";
        return;
    }
    try {
        kernel = platform.createKernel(name, context);
        kernel.getAs<CalcCGForceKernel>().initialize(context, *parts.model, parts.settings, parts.particles);
        usesKernel = true;
    } catch (const std::exception& error) {
        if (parts.engine == "native")
            throw;
        reason = error.what();
    }
}

std::vector<std::string> CGForceImpl::getKernelNames() {
    return {CalcCustomCPPForceKernel::Name()};
}

std::vector<int> CGForceImpl::chooseTypes(int beads) const {
    const std::vector<int> types = owner.getTypes();
    if (types.empty()) {
        const size_t known = owner.getModel().getDescription().beadTypes.size();
        if (known > 1)
            throw OpenMMException("CGForce: " + owner.getModel().getSource() + " has " + std::to_string(known) +
                                  " bead types; give the type of each bead with setTypes() (in Python: types=)");
        return std::vector<int>(beads, 0);
    }
    const int given = static_cast<int>(types.size()), replicas = owner.getReplicas();
    if (given != beads && static_cast<int64_t>(given) * replicas != beads)
        throw OpenMMException(
            "CGForce: " + std::to_string(given) + " bead types are given for " + std::to_string(beads) +
            " beads; give one for each bead" +
            (replicas > 1 ? ", or for each bead of one of the " + std::to_string(replicas) + " replicas" : "") +
            " (setTypes, setParticles)");
    std::vector<int> all(beads);
    for (int i = 0; i < beads; i++) all[i] = types[i % given];
    return all;
}

std::unique_ptr<Engine> CGForceImpl::createEngine(const Parts& parts) const {
    if (parts.engine == "native")
        return createNativeEngine(*parts.model, parts.settings);
    const EngineFactory create =
        parts.engine == "inductor" ? getInductorEngineFactory() : getTorchScriptLibrary().createEngine;
    return std::unique_ptr<Engine>(create(*parts.model, parts.settings));
}

double CGForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if ((groups & (1 << owner.getForceGroup())) == 0)
        return 0;
    if (guard.isInfinite(context, includeEnergy))
        return std::numeric_limits<double>::infinity();
    if (usesKernel)
        return kernel.getAs<CalcCGForceKernel>().execute(context, includeForces, includeEnergy);
    // Other platforms call computeForce() from a thread of theirs before they come here, so it has to compute both.
    if (hasReferenceData) {
        wantForces = includeForces;
        wantEnergy = includeEnergy;
    }
    return CustomCPPForceImpl::calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
}

/** What the engine is told of the Context's present state; forces and energy are asked for. */
EngineRequest CGForceImpl::prepareRequest(ContextImpl& context, const std::vector<Vec3>& positions) {
    if (parts.settings.periodic)
        context.getPeriodicBoxVectors(box[0], box[1], box[2]);
    if (!usesAllParticles) {
        beadPositions.resize(parts.particles.size());
        for (size_t i = 0; i < beadPositions.size(); i++) beadPositions[i] = positions[parts.particles[i]];
    }
    EngineRequest request{
        usesAllParticles ? positions : beadPositions, parts.settings.periodic ? box : nullptr, {}, true, true};
    for (const auto& parameter : parts.parameters) request.parameters.push_back(context.getParameter(parameter.name));
    return request;
}

double CGForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) {
    if (!guard.fits(context)) {  // only before calcForcesAndEnergy(), which says so
        std::fill(forces.begin(), forces.end(), Vec3());
        return std::numeric_limits<double>::infinity();
    }
    EngineRequest request = prepareRequest(context, positions);
    request.forces = wantForces;
    request.energy = wantEnergy;
    result.energy = 0;
    const auto lendForces = [&] {
        if (usesAllParticles)
            result.forces.swap(forces);
    };
    lendForces();
    try {
        engine->evaluate(request, result);
    } catch (...) {
        lendForces();
        throw;
    }
    lendForces();
    if (wantForces && !usesAllParticles) {
        std::fill(forces.begin(), forces.end(), Vec3());
        for (size_t i = 0; i < parts.particles.size(); i++) forces[parts.particles[i]] = result.forces[i];
    }
    const std::vector<std::string>& derivatives = parts.settings.derivatives;
    if (wantForces && hasReferenceData && !derivatives.empty()) {
        auto* data = reinterpret_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
        for (size_t i = 0; i < derivatives.size(); i++)
            (*data->energyParameterDerivatives)[derivatives[i]] += result.derivatives[i];
    }
    return result.energy;
}

std::vector<double> CGForceImpl::getReplicaEnergies(ContextImpl& context) {
    guard.check(context);
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
    guard.check(context);
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
    Parts next = takeParts(context);
    const EngineSettings &made = parts.settings, &now = next.settings;
    refuseChange("contract", parts.model->getDescription().contract, next.model->getDescription().contract);
    refuseChange("cutoff in nm", parts.model->getDescription().cutoff, next.model->getDescription().cutoff);
    refuseChange("engine", parts.engine, next.engine);
    refuseChange("choice of particles", parts.particles, next.particles);
    refuseChange("number of replicas", made.replicas, now.replicas);
    refuseChange("periodicity", yesOrNo(made.periodic), yesOrNo(now.periodic));
    refuseChange("set of global parameters", describeEach(parts.parameters), describeEach(next.parameters));
    refuseChange("set of energy parameter derivatives", made.derivatives, now.derivatives);
    if (usesKernel)
        kernel.getAs<CalcCGForceKernel>().setModel(*next.model, now.types);
    else
        engine = createEngine(next);
    parts = std::move(next);
    context.systemChanged();
}

}  // namespace OpenMMCG
