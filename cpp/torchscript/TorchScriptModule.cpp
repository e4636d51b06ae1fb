#include "TorchScriptModule.h"

#include <algorithm>
#include <sstream>

#include "../libtorch/InterpreterLock.h"

namespace OpenMMCG {

TorchScriptModule::TorchScriptModule(const ModelArchive& model, const EngineSettings& settings, torch::Device device)
    : TorchModule("TorchScript module", model, settings, device) {
    const ReleaseInterpreterLock release;
    const std::string problem =
        "cannot be loaded. If its operators are registered from Python, import the package "
        "that does so before making the Context";
    explainErrors(problem, [&] {
        std::istringstream stream{std::string(model.getTorchScriptModule())};
        module = torch::jit::load(stream, device);
        prepareTensors();
        module.eval();
    });
    checkArguments();
}

std::vector<torch::Tensor> TorchScriptModule::run(const std::vector<torch::Tensor>& arguments) {
    const torch::jit::IValue output = module.forward({arguments.begin(), arguments.end()});
    if (output.isTensor())
        return {output.toTensor()};
    std::vector<torch::Tensor> outputs;
    if (output.isTuple())
        for (const torch::jit::IValue& element : output.toTupleRef().elements())
            if (element.isTensor())
                outputs.push_back(element.toTensor());
    if (outputs.empty() || outputs.size() != output.toTupleRef().elements().size())
        fail("returns " + output.type()->repr_str() + "; wrap it, so that it returns the energy, or (energy, forces)");
    return outputs;
}

/**
 * Give parameters and buffers the precision that the model asks for (Module::to() would convert integers as well), and
 * see that no gradient of them is computed. torch::jit::freeze() would make constants of them; but it drops detach(),
 * so that forces would be others than those trained with.
 */
void TorchScriptModule::prepareTensors() {
    const bool converts = description.dtype == "float32" || description.dtype == "float64" ||
                          (description.dtype == "any" && settings.doublePrecision);
    const auto prepare = [&](torch::Tensor tensor) {
        tensor.set_requires_grad(false);
        if (converts && tensor.is_floating_point())
            tensor.set_data(tensor.to(dtype));
    };
    for (const torch::Tensor& tensor : module.parameters()) prepare(tensor);
    for (const torch::Tensor& tensor : module.buffers()) prepare(tensor);
}

void TorchScriptModule::checkArguments() const {
    const auto method = module.find_method("forward");
    if (!method)
        fail("has no method forward");
    const size_t own = suppliesNeighbors() ? 5 : settings.periodic ? 2 : 1;
    const auto& arguments = method->function().getSchema().arguments();
    const size_t given = own + description.globalParameters.size() + 1;  // and self
    const size_t required = std::count_if(arguments.begin(), arguments.end(),
                                          [](const c10::Argument& a) { return !a.default_value().has_value(); });
    if (given < required || given > arguments.size())
        fail("takes " + std::to_string(arguments.size() - 1) + " arguments; the contract '" + description.contract +
             "' passes " + std::to_string(given - 1) + ": " +
             (suppliesNeighbors() ? "positions, box, types, rows, columns"
              : settings.periodic ? "positions, box"
                                  : "positions") +
             (description.globalParameters.empty() ? "" : " and the global parameters") + " (docs/model-contract.md)");
}

}  // namespace OpenMMCG
