#pragma once
#include <memory>
#include <string>
#include <vector>

#include "BoxGuard.h"
#include "CGForce.h"
#include "Engine.h"
#include "openmm/internal/CustomCPPForceImpl.h"

namespace OpenMMCG {

/**
 * Ties a CGForce to one Context: checks it against the System and makes what computes it. That is a kernel of the
 * platform's own where it has one (CalcCGForceKernel), and otherwise an Engine, called from the host on any platform.
 */
class CGForceImpl : public OpenMM::CustomCPPForceImpl {
public:
    explicit CGForceImpl(const CGForce& owner);
    const CGForce& getOwner() const override {
        return owner;
    }
    void initialize(OpenMM::ContextImpl& context) override;
    double calcForcesAndEnergy(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy,
                               int groups) override;
    std::vector<std::string> getKernelNames() override;
    double computeForce(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions,
                        std::vector<OpenMM::Vec3>& forces) override;
    std::map<std::string, double> getDefaultParameters() override;
    std::vector<double> getReplicaEnergies(OpenMM::ContextImpl& context);
    std::vector<KernelTime> profile(OpenMM::ContextImpl& context, int repeats);
    void updateParametersInContext(OpenMM::ContextImpl& context);

private:
    /** All that a Context takes from its force. What the force has become since is compared with it. */
    struct Parts {
        std::shared_ptr<const ModelArchive> model;
        std::string engine;  ///< that runs the model
        std::vector<ModelDescription::Parameter> parameters;
        std::vector<int> particles;  ///< of each bead
        EngineSettings settings;
    };
    /** Those of the force as it is now; throws where they do not fit each other or the System. */
    Parts takeParts(OpenMM::ContextImpl& context) const;
    std::vector<int> chooseTypes(int beads) const;
    void createKernel(OpenMM::ContextImpl& context, std::string& reason);
    std::unique_ptr<Engine> createEngine(const Parts& parts) const;
    EngineRequest prepareRequest(OpenMM::ContextImpl& context, const std::vector<OpenMM::Vec3>& positions);
    const CGForce& owner;
    BoxGuard guard;
    Parts parts;
    std::unique_ptr<Engine> engine;  ///< null where the kernel computes
    OpenMM::Kernel kernel, derivativesKernel;
    std::vector<OpenMM::Vec3> beadPositions;
    OpenMM::Vec3 box[3];
    EngineResult result;
    bool wantForces = true, wantEnergy = true;
    bool hasReferenceData = false, usesKernel = false, usesAllParticles = false;
};

}  // namespace OpenMMCG
