#include "PairForceImpl.h"

#include <limits>

#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/kernels.h"
#include "openmm/reference/ReferencePlatform.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

/** The force for several replicas, each an interaction group. */
std::unique_ptr<CustomNonbondedForce> repeat(const CustomNonbondedForce& definition, int replicas) {
    auto result = std::make_unique<CustomNonbondedForce>(definition);
    const int particles = definition.getNumParticles();
    for (int replica = 0; replica < replicas; replica++) {
        const int shift = replica * particles;
        std::set<int> group;
        std::vector<double> parameters;
        for (int i = 0; i < particles; i++) {
            group.insert(i + shift);
            if (replica == 0)
                continue;
            definition.getParticleParameters(i, parameters);
            result->addParticle(parameters);
        }
        result->addInteractionGroup(group, group);
        for (int i = 0; replica > 0 && i < definition.getNumExclusions(); i++) {
            int first, second;
            definition.getExclusionParticles(i, first, second);
            result->addExclusion(first + shift, second + shift);
        }
    }
    return result;
}

}  // namespace

PairForceImpl::PairForceImpl(const PairForce& owner)
    : CustomCPPForceImpl(owner),
      owner(owner),
      definition(std::make_unique<CustomNonbondedForce>(owner)),
      replicas(owner.getReplicas()),
      guard("PairForce", "the cutoff of " + owner.getName()) {
}

void PairForceImpl::initialize(ContextImpl& context) {
    owner.check();
    const int particles = context.getSystem().getNumParticles();
    if (static_cast<int64_t>(definition->getNumParticles()) * replicas != particles)
        throw OpenMMException("PairForce: " + owner.getName() + " is defined for " +
                              std::to_string(definition->getNumParticles()) + " particles and " +
                              std::to_string(replicas) + " replicas, and the System has " + std::to_string(particles) +
                              " particles");
    guard.initialize(context, definition->getCutoffDistance(), definition->usesPeriodicBoundaryConditions());
    const Platform& platform = context.getPlatform();
    if (platform.getName() != "Reference" && platform.getName() != "CPU") {
        const CustomNonbondedForce* force = &owner;  // whose place in the System names its kernel
        if (replicas > 1) {
            repeated = repeat(*definition, replicas);
            force = repeated.get();
        }
        substituteImpl = std::make_unique<CustomNonbondedForceImpl>(*force);
        substituteImpl->initialize(context);
        return;
    }
    CustomCPPForceImpl::initialize(context);
    const bool isReference = platform.getName() == "Reference";
    const int threads = isReference ? 1 : std::stoi(platform.getPropertyValue(context.getOwner(), "Threads"));
    try {
        evaluator = std::make_unique<PairEvaluator>(*definition, replicas, threads, !isReference);
        evaluator->setParameters(getDefaultParameters());  // so that what is wrong with the expression is said now
    } catch (const std::exception& error) {
        throw OpenMMException("PairForce: " + owner.getName() + ": " + error.what());
    }
}

std::vector<std::string> PairForceImpl::getKernelNames() {
    return {CalcCustomCPPForceKernel::Name(), CalcCustomNonbondedForceKernel::Name()};
}

std::map<std::string, double> PairForceImpl::getDefaultParameters() {
    std::map<std::string, double> parameters;
    for (int i = 0; i < definition->getNumGlobalParameters(); i++)
        parameters[definition->getGlobalParameterName(i)] = definition->getGlobalParameterDefaultValue(i);
    return parameters;
}

double PairForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if ((groups & (1 << owner.getForceGroup())) == 0)
        return 0;
    if (guard.isInfinite(context, includeEnergy))
        return std::numeric_limits<double>::infinity();
    if (substituteImpl != nullptr)
        return substituteImpl->calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
    wantDerivatives = includeForces;
    return CustomCPPForceImpl::calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
}

void PairForceImpl::evaluate(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) {
    Vec3 box[3];
    context.getPeriodicBoxVectors(box[0], box[1], box[2]);
    std::map<std::string, double> globals;
    for (int i = 0; i < definition->getNumGlobalParameters(); i++) {
        const std::string& name = definition->getGlobalParameterName(i);
        globals[name] = context.getParameter(name);
    }
    evaluator->evaluate(positions, definition->usesPeriodicBoundaryConditions() ? box : nullptr, globals, forces,
                        result);
}

double PairForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                   std::vector<Vec3>& forces) {
    evaluate(context, positions, forces);
    if (wantDerivatives) {
        auto* data = reinterpret_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
        for (size_t i = 0; i < result.derivatives.size(); i++)
            (*data->energyParameterDerivatives)[definition->getEnergyParameterDerivativeName(static_cast<int>(i))] +=
                result.derivatives[i];
    }
    return result.energy;
}

std::vector<double> PairForceImpl::getReplicaEnergies(ContextImpl& context) {
    if (evaluator == nullptr)
        throw OpenMMException("PairForce: energies of replicas are known on the platforms Reference and CPU only");
    guard.check(context);
    std::vector<Vec3> positions, forces(context.getSystem().getNumParticles());
    context.getPositions(positions);
    evaluate(context, positions, forces);
    return result.replicaEnergies;
}

}  // namespace OpenMMCG
