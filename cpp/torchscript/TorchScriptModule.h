#pragma once
#include <torch/script.h>

#include "../libtorch/TorchModule.h"

namespace OpenMMCG {

/** A TorchScript module, on the host or on a GPU. */
class TorchScriptModule : public TorchModule {
public:
    TorchScriptModule(const ModelArchive& model, const EngineSettings& settings, torch::Device device);

private:
    std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& arguments) override;
    void prepareTensors();
    void checkArguments() const;
    torch::jit::Module module;
};

}  // namespace OpenMMCG
