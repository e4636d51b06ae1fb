#pragma once
#include <memory>
#include <vector>

#include "../force/BoxGuard.h"
#include "PairEvaluator.h"
#include "PairForce.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmm/internal/CustomNonbondedForceImpl.h"

namespace OpenMMCG {

/**
 * Ties a PairForce to one Context. On the platforms Reference and CPU it computes pairs itself; on others OpenMM's
 * kernels for a CustomNonbondedForce do, with an interaction group for each replica, so that nothing leaves the device.
 */
class PairForceImpl : public OpenMM::CustomCPPForceImpl {
public:
    explicit PairForceImpl(const PairForce& owner);
    const PairForce& getOwner() const override {
        return owner;
    }
    void initialize(OpenMM::ContextImpl& context) override;
    double calcForcesAndEnergy(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy,
                               int groups) override;
    std::vector<std::string> getKernelNames() override;
    std::map<std::string, double> getDefaultParameters() override;
    double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                        std::vector<OpenMM::Vec3>& forces) override;
    std::vector<double> getReplicaEnergies(OpenMM::ContextImpl& context);

private:
    void evaluate(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                  std::vector<OpenMM::Vec3>& forces);
    const PairForce& owner;
    const std::unique_ptr<const OpenMM::CustomNonbondedForce> definition;  ///< as the owner was
    const int replicas;
    BoxGuard guard;
    std::unique_ptr<PairEvaluator> evaluator;  ///< null where the substitute computes
    PairEvaluator::Result result;
    std::unique_ptr<OpenMM::CustomNonbondedForce> repeated;  ///< for replicas there
    std::unique_ptr<OpenMM::CustomNonbondedForceImpl> substituteImpl;
    bool wantDerivatives = true;
};

}  // namespace OpenMMCG
