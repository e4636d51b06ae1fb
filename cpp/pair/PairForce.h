#pragma once
#include <vector>

#include "../force/Export.h"
#include "../force/LivingForce.h"
#include "openmm/CustomNonbondedForce.h"

namespace OpenMM {
class Context;
}

namespace OpenMMCG {

/**
 * A CustomNonbondedForce whose particles are of few kinds, computed at the speed of a force field, for one system or
 * for replicas that do not see each other.
 *
 * Kinds are particles with the same parameters, such as the beads of a type. On the platform CPU the energy of each
 * pair of kinds is tabulated, so any expression costs the same; Reference evaluates the expression itself; elsewhere
 * OpenMM's kernels for the CustomNonbondedForce do.
 *
 *     OpenMM::CustomNonbondedForce repulsion("(0.3/r)^12");
 *     repulsion.setNonbondedMethod(OpenMM::CustomNonbondedForce::CutoffPeriodic);
 *     for (int i = 0; i < system.getNumParticles(); i++) repulsion.addParticle();
 *     system.addForce(new OpenMMCG::PairForce(repulsion));
 *
 * Errors are OpenMM::OpenMMException: what such a force cannot be is said where it is made, what does not fit the
 * System when the Context is made. A Context keeps what it was made with; only global parameters change.
 */
class OPENMMCG_EXPORT PairForce : public OpenMM::CustomNonbondedForce {
public:
    /**
     * @param definition  of the particles of one replica, copied: with a cutoff, without interaction groups, computed
     *                    values and a long-range correction
     * @param replicas  consecutive blocks of particles of the System
     */
    explicit PairForce(const OpenMM::CustomNonbondedForce& definition, int replicas = 1);
    /** A CustomNonbondedForce that is assigned another's tabulated functions would delete them a second time. */
    PairForce& operator=(const PairForce&) = delete;
    /** Throws where it is no such force any more, as those of CustomNonbondedForce can make it. */
    void check() const;
    int getReplicas() const {
        return replicas;
    }
    void setReplicas(int replicas);
    /** The energy of each replica at the Context's positions, kJ/mol; on the platforms Reference and CPU. */
    std::vector<double> getReplicaEnergies(OpenMM::Context& context) const;

protected:
    OpenMM::ForceImpl* createImpl() const override;

private:
    LivingForce living{*this};
    int replicas;
};

}  // namespace OpenMMCG
