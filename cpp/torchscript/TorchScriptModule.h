#pragma once
#include <torch/script.h>

#include <string>
#include <vector>

#include "../force/Engine.h"

namespace OpenMMCG {

/**
 * A TorchScript module that follows one of the contracts of docs/model-contract.md, on the host or on a GPU.
 *
 * Errors are OpenMM::OpenMMException.
 */
class TorchScriptModule {
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
    TorchScriptModule(const ModelArchive& model, const EngineSettings& settings, torch::Device device);
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

private:
    [[noreturn]] void fail(const std::string& problem) const;
    template <class Function>
    auto explainErrors(const std::string& problem, const Function& function) const;
    void prepareTensors();
    void checkArguments() const;
    torch::Tensor compute(Graph graph, const std::vector<double>& parameters, const Wanted& wanted,
                          EngineResult& result);
    void call(const Graph& graph, const std::vector<torch::Tensor>& parameters, torch::Tensor& energy,
              torch::Tensor& forces);
    std::vector<double> computeReplicaEnergies(const Graph& all, const std::vector<torch::Tensor>& parameters,
                                               double total);
    bool isDifferentiated(const std::string& name) const;
    void readOutput(const torch::jit::IValue& output, int64_t beads, torch::Tensor& energy,
                    torch::Tensor& forces) const;
    torch::Tensor differentiateEnergy(const torch::Tensor& energy, const torch::Tensor& positions,
                                      const std::vector<torch::Tensor>& parameters, const torch::Tensor& given,
                                      EngineResult& result) const;
    std::string source;
    ModelDescription description;
    EngineSettings settings;
    torch::Device device;
    torch::ScalarType dtype;  ///< of positions, box and global parameters
    torch::jit::Module module;
    torch::Tensor types;
};

}  // namespace OpenMMCG
