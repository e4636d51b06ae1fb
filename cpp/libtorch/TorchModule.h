#pragma once
#include <torch/types.h>

#include <string>
#include <vector>

#include "../force/Engine.h"
#include "openmm/OpenMMException.h"

namespace OpenMMCG {

/**
 * What libtorch runs under one of the contracts of docs/model-contract.md: what is common to modules in every form.
 *
 * Errors are OpenMM::OpenMMException.
 */
class TorchModule {
public:
    /** Beads and their pairs, on the module's device. */
    struct Graph {
        torch::Tensor positions, box;  ///< in any floating-point type; the box is undefined where there is none
        torch::Tensor rows, columns;   ///< not looked at where the contract is plain
        torch::Tensor types = {};      ///< filled in by the module
    };
    struct Wanted {
        bool forces, energy, replicaEnergies;
    };
    virtual ~TorchModule() = default;
    bool suppliesNeighbors() const {
        return description.contract == "neighbor-list";
    }
    double getCutoff() const {
        return description.cutoff;
    }
    /**
     * Evaluate the module.
     *
     * @param parameters  global parameters, in the model's order
     * @param result      what is wanted of energies and derivatives is put there
     * @return the forces, if they are wanted, in whatever type the module computes
     */
    torch::Tensor evaluate(const Graph& graph, const std::vector<double>& parameters, const Wanted& wanted,
                           EngineResult& result);

protected:
    /** @param kind  what errors call it */
    TorchModule(const std::string& kind, const ModelArchive& model, const EngineSettings& settings,
                torch::Device device);
    /** The outputs for the contract's arguments. */
    virtual std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& arguments) = 0;
    /** What is given as the box where there is none. */
    virtual torch::Tensor boxOfNone(const torch::TensorOptions& options) const;
    [[noreturn]] void fail(const std::string& problem) const;
    /** Call a function; what it throws becomes an OpenMMException that says which module has this problem. */
    template <class Function>
    auto explainErrors(const std::string& problem, const Function& function) const {
        try {
            return function();
        } catch (const OpenMM::OpenMMException&) {
            throw;
        } catch (const c10::Error& error) {
            fail(problem + "; libtorch says: " + error.what_without_backtrace());
        } catch (const std::exception& error) {
            fail(problem + "; libtorch says: " + error.what());
        }
    }
    ModelDescription description;
    EngineSettings settings;
    torch::Device device;
    torch::ScalarType dtype;  ///< of positions, box and global parameters

private:
    torch::Tensor compute(Graph graph, const std::vector<double>& parameters, const Wanted& wanted,
                          EngineResult& result);
    void call(const Graph& graph, const std::vector<torch::Tensor>& parameters, torch::Tensor& energy,
              torch::Tensor& forces);
    std::vector<double> computeReplicaEnergies(const Graph& all, const std::vector<torch::Tensor>& parameters,
                                               double total);
    bool isDifferentiated(const std::string& name) const;
    void readOutputs(const std::vector<torch::Tensor>& outputs, int64_t beads, torch::Tensor& energy,
                     torch::Tensor& forces) const;
    torch::Tensor differentiateEnergy(const torch::Tensor& energy, const torch::Tensor& positions,
                                      const std::vector<torch::Tensor>& parameters, const torch::Tensor& given,
                                      EngineResult& result) const;
    std::string name;
    torch::Tensor types;
};

}  // namespace OpenMMCG
