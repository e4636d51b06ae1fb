#include "TorchModule.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "InterpreterLock.h"

// Of the libraries that libtorch was built with, where it was: a build without them has other threads, which we leave
// alone.
extern "C" {
__attribute__((weak)) void omp_set_num_threads(int threads);
__attribute__((weak)) int MKL_Set_Num_Threads_Local(int threads);
}

using OpenMM::OpenMMException;

namespace OpenMMCG {

namespace {

/**
 * Lets torch use this many threads, as the platform was told, for what this thread asks of it.
 *
 * at::set_num_threads() would change that for the whole process; OpenMP and MKL keep a number for each thread as well.
 */
class TorchThreads {
public:
    explicit TorchThreads(int threads) : before(at::get_num_threads()) {  // which sets a new thread's number
        if (omp_set_num_threads != nullptr)
            omp_set_num_threads(threads);
        if (MKL_Set_Num_Threads_Local != nullptr)
            mklBefore = MKL_Set_Num_Threads_Local(threads);
    }
    ~TorchThreads() {
        if (omp_set_num_threads != nullptr)
            omp_set_num_threads(before);
        if (MKL_Set_Num_Threads_Local != nullptr)
            MKL_Set_Num_Threads_Local(mklBefore);
    }
    TorchThreads(const TorchThreads&) = delete;
    TorchThreads& operator=(const TorchThreads&) = delete;

private:
    int before, mklBefore = 0;
};

}  // namespace

TorchModule::TorchModule(const std::string& kind, const ModelArchive& model, const EngineSettings& settings,
                         torch::Device device)
    : description(model.getDescription()),
      settings(settings),
      device(device),
      dtype(description.dtype == "float32" ? torch::kFloat32 : torch::kFloat64),
      name("the " + kind + " of " + model.getSource()) {
    if (settings.replicas > 1 && !suppliesNeighbors())
        model.fail(
            "finds its own pairs (the plain contract), so that replicas would see each other; run one replica, or use "
            "a model of the neighbor-list contract (docs/model-contract.md)");
    types = torch::tensor(std::vector<int64_t>(settings.types.begin(), settings.types.end()), torch::kInt64).to(device);
}

torch::Tensor TorchModule::evaluate(const Graph& graph, const std::vector<double>& parameters, const Wanted& wanted,
                                    EngineResult& result) {
    const ReleaseInterpreterLock release;
    const TorchThreads threads(settings.threads);
    return explainErrors("could not be evaluated", [&] { return compute(graph, parameters, wanted, result); });
}

void TorchModule::fail(const std::string& problem) const {
    throw OpenMMException("CGForce: " + name + " " + problem);
}

torch::Tensor TorchModule::compute(Graph graph, const std::vector<double>& values, const Wanted& wanted,
                                   EngineResult& result) {
    const bool differentiate = wanted.forces && (!description.outputsForces || !settings.derivatives.empty());
    const torch::AutoGradMode mode(true);  // also where a module differentiates by itself
    graph.positions = graph.positions.detach().to(dtype, false, true);
    graph.box = graph.box.defined() ? graph.box.to(dtype, false, true) : boxOfNone(graph.positions.options());
    graph.types = types;
    if (wanted.forces && !description.outputsForces)
        graph.positions.requires_grad_(true);
    std::vector<torch::Tensor> parameters;
    for (size_t i = 0; i < values.size(); i++) {
        torch::Tensor parameter = torch::tensor(values[i], torch::dtype(dtype).device(device));
        if (wanted.forces && isDifferentiated(description.globalParameters[i].name))
            parameter.requires_grad_(true);
        parameters.push_back(parameter);
    }
    torch::Tensor energy, forces;
    call(graph, parameters, energy, forces);
    if (wanted.energy)
        result.energy = energy.to(torch::kFloat64).item<double>();
    if (wanted.replicaEnergies)
        result.replicaEnergies = computeReplicaEnergies(graph, parameters, result.energy);
    if (!wanted.forces)
        return {};
    if (differentiate)
        forces = differentiateEnergy(energy, graph.positions, parameters, forces, result);
    return forces.detach();
}

void TorchModule::call(const Graph& graph, const std::vector<torch::Tensor>& parameters, torch::Tensor& energy,
                       torch::Tensor& forces) {
    std::vector<torch::Tensor> arguments{graph.positions};
    if (suppliesNeighbors() || settings.periodic)
        arguments.push_back(graph.box);
    if (suppliesNeighbors())
        arguments.insert(arguments.end(), {graph.types, graph.rows, graph.columns});
    arguments.insert(arguments.end(), parameters.begin(), parameters.end());
    readOutputs(run(arguments), graph.positions.size(0), energy, forces);
}

torch::Tensor TorchModule::boxOfNone(const torch::TensorOptions& options) const {
    return torch::empty({0}, options);
}

/** A module returns one energy, so each replica is evaluated by itself. */
std::vector<double> TorchModule::computeReplicaEnergies(const Graph& all, const std::vector<torch::Tensor>& parameters,
                                                        double total) {
    if (settings.replicas == 1)
        return {total};
    std::vector<double> energies;
    const int64_t beads = all.positions.size(0) / settings.replicas;
    for (int64_t begin = 0; begin < all.positions.size(0); begin += beads) {
        const torch::Tensor inside = all.rows.ge(begin).logical_and(all.rows.lt(begin + beads));
        torch::Tensor energy, forces;
        call({all.positions.narrow(0, begin, beads), all.box, all.rows.masked_select(inside) - begin,
              all.columns.masked_select(inside) - begin, all.types.narrow(0, begin, beads)},
             parameters, energy, forces);
        energies.push_back(energy.to(torch::kFloat64).item<double>());
    }
    return energies;
}

bool TorchModule::isDifferentiated(const std::string& name) const {
    return std::find(settings.derivatives.begin(), settings.derivatives.end(), name) != settings.derivatives.end();
}

void TorchModule::readOutputs(const std::vector<torch::Tensor>& outputs, int64_t beads, torch::Tensor& energy,
                              torch::Tensor& forces) const {
    if (outputs.size() != (description.outputsForces ? 2 : 1)) {
        const std::string found = std::to_string(outputs.size()) + (outputs.size() == 1 ? " tensor" : " tensors");
        if (description.outputsForces)
            fail("is declared to return (energy, forces), but returns " + found);
        fail("must return the energy as one tensor, but returns " + found +
             "; if these are energy and forces, say so with outputs_forces=True");
    }
    energy = outputs[0];
    if (energy.numel() != 1)
        fail("returns an energy of " + std::to_string(energy.numel()) + " numbers; sum it to one");
    energy = description.scale * energy;
    if (!description.outputsForces)
        return;
    forces = outputs[1];
    if (forces.sizes() != torch::IntArrayRef({beads, 3}))
        fail("returns forces of another shape than [N, 3]");
    forces = description.scale * forces;
}

/** Fills in the derivatives with respect to global parameters; returns the forces. */
torch::Tensor TorchModule::differentiateEnergy(const torch::Tensor& energy, const torch::Tensor& positions,
                                               const std::vector<torch::Tensor>& parameters, const torch::Tensor& given,
                                               EngineResult& result) const {
    std::vector<torch::Tensor> inputs;
    if (!description.outputsForces)
        inputs.push_back(positions);
    for (const std::string& name : settings.derivatives)
        for (size_t i = 0; i < parameters.size(); i++)
            if (description.globalParameters[i].name == name)
                inputs.push_back(parameters[i]);
    std::vector<torch::Tensor> gradients(inputs.size());
    if (energy.requires_grad())  // else the energy is a constant
        gradients = torch::autograd::grad({energy.reshape({})}, inputs, {}, std::nullopt, false, true);
    const size_t first = description.outputsForces ? 0 : 1;
    result.derivatives.clear();
    for (size_t i = first; i < gradients.size(); i++)
        result.derivatives.push_back(gradients[i].defined() ? gradients[i].item<double>() : 0.0);
    if (description.outputsForces)
        return given;
    return gradients[0].defined() ? -gradients[0] : torch::zeros_like(positions);
}

}  // namespace OpenMMCG
