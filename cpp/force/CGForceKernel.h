#pragma once
#include <string>
#include <vector>

#include "../network/Program.h"
#include "Engine.h"
#include "openmm/KernelImpl.h"
#include "openmm/internal/ContextImpl.h"

namespace OpenMMCG {

/** The native engine of a platform that has one of its own: OpenCL and CUDA, in libraries beside this one. */
class CalcCGForceKernel : public OpenMM::KernelImpl {
public:
    static std::string Name() {
        return "CalcCGForce";
    }
    CalcCGForceKernel(std::string name, const OpenMM::Platform& platform) : KernelImpl(name, platform) {
    }
    /** @param particles  the particle of each bead */
    virtual void initialize(OpenMM::ContextImpl& context, const Program& program, const EngineSettings& settings,
                            const std::vector<int>& particles) = 0;
    /** Evaluate another network from now on, of the same cutoff and bead types. */
    virtual void setProgram(const Program& program) = 0;
    /**
     * Add forces and energy to those of the Context.
     *
     * @return 0; the energy is added on the device
     */
    virtual double execute(OpenMM::ContextImpl& context, bool forces, bool energy) = 0;
    /** The energies of the replicas at the Context's positions, kJ/mol. */
    virtual std::vector<double> computeReplicaEnergies(OpenMM::ContextImpl& context) = 0;
    /** Take the time of each kernel of an evaluation of energy and forces. */
    virtual std::vector<KernelTime> profile(OpenMM::ContextImpl& context, int repeats) = 0;
};

}  // namespace OpenMMCG
