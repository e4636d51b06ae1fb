#pragma once
#include <string>
#include <vector>

#include "Engine.h"
#include "openmm/KernelImpl.h"
#include "openmm/internal/ContextImpl.h"

namespace OpenMMCG {

/**
 * What computes the force on a platform that works on a device of its own: OpenCL and CUDA, in libraries beside this
 * one. There are two, one for each engine.
 */
class CalcCGForceKernel : public OpenMM::KernelImpl {
public:
    /** The native engine. */
    static std::string Name() {
        return "CalcCGForce";
    }
    /** The TorchScript engine; where its initialize() throws, the same model can still run on the host. */
    static std::string torchScriptName() {
        return "CalcCGForceTorchScript";
    }
    CalcCGForceKernel(std::string name, const OpenMM::Platform& platform) : KernelImpl(name, platform) {
    }
    /** @param particles  the particle of each bead */
    virtual void initialize(OpenMM::ContextImpl& context, const ModelArchive& model, const EngineSettings& settings,
                            const std::vector<int>& particles) = 0;
    /** Evaluate another model of the same cutoff from now on, with a bead type of it for each bead. */
    virtual void setModel(const ModelArchive& model, const std::vector<int>& types) = 0;
    /**
     * Add the forces to those of the Context, and the energy.
     *
     * @return the energy, kJ/mol, as far as it is not added on the device
     */
    virtual double execute(OpenMM::ContextImpl& context, bool forces, bool energy) = 0;
    /** The energies of the replicas at the Context's positions, kJ/mol. */
    virtual std::vector<double> computeReplicaEnergies(OpenMM::ContextImpl& context) = 0;
    /** Take the time of each kernel of an evaluation of energy and forces; empty where an engine has none. */
    virtual std::vector<KernelTime> profile(OpenMM::ContextImpl& context, int repeats) {
        return {};
    }
};

/** Adds derivatives that the host computed to those of a platform that works on a device of its own. */
class AddDerivativesKernel : public OpenMM::KernelImpl {
public:
    static std::string Name() {
        return "AddCGForceDerivatives";
    }
    AddDerivativesKernel(std::string name, const OpenMM::Platform& platform) : KernelImpl(name, platform) {
    }
    /**
     * @param names       of global parameters
     * @param values      dE/dλ of each, those of the present evaluation of forces whenever one is over
     * @param forceGroup  with which they are computed
     */
    virtual void initialize(const std::vector<std::string>& names, const std::vector<double>& values,
                            int forceGroup) = 0;
};

}  // namespace OpenMMCG
