#include "PairForce.h"

#include "PairForceImpl.h"
#include "openmm/Context.h"
#include "openmm/OpenMMException.h"

using namespace OpenMM;

namespace OpenMMCG {

PairForce::PairForce(const CustomNonbondedForce& definition, int replicas) : CustomNonbondedForce(definition) {
    check();
    setReplicas(replicas);
}

void PairForce::check() const {
    const auto refuse = [](const std::string& what) { throw OpenMMException("PairForce: " + what); };
    if (getNonbondedMethod() == NoCutoff)
        refuse("the CustomNonbondedForce has no cutoff; choose CutoffPeriodic or CutoffNonPeriodic");
    if (getNumInteractionGroups() > 0)
        refuse("the CustomNonbondedForce has interaction groups; add it to the System as it is");
    if (getNumComputedValues() > 0)
        refuse("the CustomNonbondedForce has computed values; write them into its energy expression");
    if (getUseLongRangeCorrection())
        refuse("the CustomNonbondedForce has a long-range correction; switch it off, or add the force as it is");
    std::vector<double> parameters;
    for (int i = 0; i < getNumParticles(); i++) {
        getParticleParameters(i, parameters);
        if (static_cast<int>(parameters.size()) != getNumPerParticleParameters())
            refuse("particle " + std::to_string(i) + " has " + std::to_string(parameters.size()) + " parameters, and " +
                   std::to_string(getNumPerParticleParameters()) + " have names");
    }
}

void PairForce::setReplicas(int replicas) {
    if (replicas < 1)
        throw OpenMMException("PairForce: there must be at least 1 replica, not " + std::to_string(replicas));
    this->replicas = replicas;
}

std::vector<double> PairForce::getReplicaEnergies(Context& context) const {
    return dynamic_cast<PairForceImpl&>(getImplInContext(context)).getReplicaEnergies(getContextImpl(context));
}

ForceImpl* PairForce::createImpl() const {
    return new PairForceImpl(*this);
}

}  // namespace OpenMMCG
