#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../model/ModelArchive.h"
#include "../network/Work.h"
#include "Export.h"
#include "LivingForce.h"
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
 * to a subset; setTypes() gives the bead type of each of them. A bead keeps the name of its type when the model is
 * replaced.
 *
 * setReplicas(R) says that the beads are R copies of one system, one after the other, that do not see each other: the
 * energy is the sum of theirs. One Context then integrates all of them at once.
 *
 * Three engines can evaluate a model: "native" (needs a compiled network in the file) and, through libtorch,
 * "torchscript" (any TorchScript module) and "inductor" (a package that AOTInductor compiled). "auto" takes the first
 * of native, inductor and torchscript for which the file has what it needs.
 *
 * The parts can be set in any order. Whether they fit each other is checked where they are used: when a Context is
 * made, in updateParametersInContext(), and when the force is written to XML. Errors are OpenMM::OpenMMException.
 */
class OPENMMCG_EXPORT CGForce : public OpenMM::Force {
public:
    /** Without a model; it needs one before a Context is made. */
    CGForce();
    /** @param path  a file written by CGPotential.save() */
    explicit CGForce(const std::string& path);
    bool hasModel() const {
        return model != nullptr;
    }
    const ModelArchive& getModel() const;
    /** Replace the model by another; updateParametersInContext() carries it over to a running Context. */
    void setModel(std::shared_ptr<const ModelArchive> model);
    const std::string& getEngine() const {
        return engine;
    }
    /** @param engine  "auto", "native", "torchscript" or "inductor" */
    void setEngine(const std::string& engine);
    /** The engine that runs the present model: what was set, or what "auto" means for it. */
    std::string chooseEngine() const;
    /** The particles that are beads, in the order of the model; empty: all of them. */
    const std::vector<int>& getParticles() const {
        return particles;
    }
    void setParticles(const std::vector<int>& particles);
    /**
     * The bead type of each bead, an index into the present model's bead types; empty: all are the model's only type.
     * Throws where the model does not know the name of a bead's type.
     */
    std::vector<int> getTypes() const;
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
     * many repeats; nothing where another engine than the native one runs.
     */
    std::vector<KernelTime> profile(OpenMM::Context& context, int repeats);
    bool usesPeriodicBoundaryConditions() const override {
        return periodic;
    }
    void setUsesPeriodicBoundaryConditions(bool periodic);
    /** Set the default of a global parameter, in place of the model's; the parameters are declared by the model. */
    void setGlobalParameterDefault(const std::string& name, double value);
    /** The defaults that were set, whatever the model. */
    const std::map<std::string, double>& getGlobalParameterDefaults() const {
        return defaults;
    }
    /**
     * The model's global parameters, in its order, with their defaults. Throws where a default was set of a parameter
     * that the present model does not declare.
     */
    std::vector<ModelDescription::Parameter> getGlobalParameters() const;
    /** Ask for the derivative of the energy with respect to a global parameter (TorchScript engine). */
    void addEnergyParameterDerivative(const std::string& name);
    const std::vector<std::string>& getEnergyParameterDerivatives() const {
        return derivatives;
    }
    /**
     * Let a Context that holds this force use the present model and bead types.
     *
     * Throws, and leaves the Context as it is, where anything else differs from what the Context was made with: the
     * cutoff, the engine that runs, particles, replicas, periodicity, global parameters, their defaults and
     * derivatives.
     */
    void updateParametersInContext(OpenMM::Context& context);

protected:
    OpenMM::ForceImpl* createImpl() const override;

private:
    void checkParameter(const std::string& name) const;
    LivingForce living{*this};
    std::shared_ptr<const ModelArchive> model;
    std::string engine = "auto";
    std::vector<int> particles;
    std::vector<int> types;              ///< indices into typeNames
    std::vector<std::string> typeNames;  ///< the bead types of the model for which the types were given
    int replicas = 1;
    bool periodic = false;
    std::map<std::string, double> defaults;
    std::vector<std::string> derivatives;
    friend class CGForceImpl;
};

}  // namespace OpenMMCG
