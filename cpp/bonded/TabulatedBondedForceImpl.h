#pragma once
#include <array>
#include <memory>
#include <vector>

#include "TabulatedBondedForce.h"
#include "UniformSpline.h"
#include "openmm/CustomCompoundBondForce.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmm/internal/CustomCompoundBondForceImpl.h"

namespace OpenMMCG {

/**
 * Ties a TabulatedBondedForce to one Context. On the platforms Reference and CPU it computes the terms itself, in
 * double precision; on others OpenMM's kernels for CustomCompoundBondForce do, so that nothing leaves the device.
 */
class TabulatedBondedForceImpl : public OpenMM::CustomCPPForceImpl {
public:
    explicit TabulatedBondedForceImpl(const TabulatedBondedForce& owner);
    const TabulatedBondedForce& getOwner() const override {
        return owner;
    }
    void initialize(OpenMM::ContextImpl& context) override;
    double calcForcesAndEnergy(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy,
                               int groups) override;
    std::vector<std::string> getKernelNames() override;
    std::vector<std::pair<int, int>> getBondedParticles() const override;
    double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                        std::vector<OpenMM::Vec3>& forces) override;

private:
    struct Term {
        std::array<int, 4> particles;
        int table;
    };
    /** What computes the force where this class does not. */
    struct Substitute {
        std::unique_ptr<OpenMM::CustomCompoundBondForce> force;
        std::unique_ptr<OpenMM::CustomCompoundBondForceImpl> impl;
    };
    void checkTerms(int particlesOfSystem) const;
    const TabulatedBondedForce& owner;
    const bool periodic;
    std::vector<UniformSpline> splines;
    std::vector<Term> terms;
    std::vector<Substitute> substitutes;
};

}  // namespace OpenMMCG
