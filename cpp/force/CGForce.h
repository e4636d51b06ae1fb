#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../model/ModelArchive.h"
#include "../network/Work.h"
#include "Export.h"
#include "openmm/Context.h"
#include "openmm/Force.h"

namespace OpenMMCG {

/**
 * A coarse-grained potential given by a neural network, as one Force of an OpenMM System.
 *
 * The energy is E(r_1 … r_N) of the model, in kJ/mol, of the positions of the beads in nm; every pair of beads closer
 * than the model's cutoff interacts (minimum image when periodic). The model is a file written by
 * `CGPotential.save()`; docs/design.md describes it.
 *
 *     auto* force = new OpenMMCG::CGForce("water.pt");
 *     force->setUsesPeriodicBoundaryConditions(true);
 *     system.addForce(force);
 *
 * By default every particle of the System is a bead, of the model's only bead type. setParticles() restricts the force
 * to a subset; setTypes() gives the bead type of each of them.
 *
 * setReplicas(R) says that the beads are R copies of one system, one after the other, that do not see each other: the
 * energy is the sum of theirs. One Context then integrates all of them at once.
 *
 * Two engines can evaluate a model: "native" (needs a compiled network in the file) and "torchscript" (any module,
 * through libtorch). "auto" takes the native one where it can.
 *
 * Errors are OpenMM::OpenMMException: a bad model where it is read, what concerns the System when the Context is made.
 */
class OPENMMCG_EXPORT CGForce : public OpenMM::Force {
public:
    /** @param path  a file written by CGPotential.save() */
    explicit CGForce(const std::string& path);
    /** @param bytes  the content of such a file */
    explicit CGForce(std::vector<char> bytes);
    const ModelArchive& getModel() const {
        return *model;
    }
    /** Replace the model by another; updateParametersInContext() carries it over to a running Context. */
    void setModel(std::vector<char> bytes);
    const std::string& getEngine() const {
        return engine;
    }
    /** @param engine  "auto", "native" or "torchscript" */
    void setEngine(const std::string& engine);
    /** The particles that are beads, in the order of the model; empty: all of them. */
    const std::vector<int>& getParticles() const {
        return particles;
    }
    void setParticles(const std::vector<int>& particles);
    /** The bead type of each bead, an index into the model's bead types; empty: all are the model's only type. */
    const std::vector<int>& getTypes() const {
        return types;
    }
    /** @param types  of all beads, or of those of one replica, which then hold for every replica */
    void setTypes(const std::vector<int>& types);
    int getReplicas() const {
        return replicas;
    }
    /** @param replicas  the number of copies; the beads are so many consecutive blocks of equal size */
    void setReplicas(int replicas);
    /** The energy of each replica at the present positions of a Context that holds this force, kJ/mol. */
    std::vector<double> getReplicaEnergies(OpenMM::Context& context);
    /**
     * Take the time of each kernel of an evaluation of energy and forces at the Context's positions, an average of so
     * many repeats; nothing where the TorchScript engine runs.
     */
    std::vector<KernelTime> profile(OpenMM::Context& context, int repeats);
    bool usesPeriodicBoundaryConditions() const override {
        return periodic;
    }
    void setUsesPeriodicBoundaryConditions(bool periodic);
    /** Set the default of a global parameter; the parameters themselves are declared by the model. */
    void setGlobalParameterDefault(const std::string& name, double value);
    const std::vector<ModelDescription::Parameter>& getGlobalParameters() const {
        return globalParameters;
    }
    /** Ask for the derivative of the energy with respect to a global parameter (TorchScript engine). */
    void addEnergyParameterDerivative(const std::string& name);
    const std::vector<std::string>& getEnergyParameterDerivatives() const {
        return derivatives;
    }
    /**
     * Let a Context that holds this force use the present model. Cutoff, bead types and global parameters must be
     * those the Context was made with; anything else about the force is not carried over.
     */
    void updateParametersInContext(OpenMM::Context& context);

protected:
    OpenMM::ForceImpl* createImpl() const override;

private:
    void checkParameter(const std::string& name) const;
    std::shared_ptr<const ModelArchive> model;
    std::string engine = "auto";
    std::vector<int> particles, types;
    int replicas = 1;
    bool periodic = false;
    std::vector<ModelDescription::Parameter> globalParameters;
    std::vector<std::string> derivatives;
    friend class CGForceImpl;
};

}  // namespace OpenMMCG
