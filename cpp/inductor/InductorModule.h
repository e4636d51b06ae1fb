#pragma once
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <map>
#include <memory>

#include "../libtorch/TorchModule.h"

namespace OpenMMCG {

/**
 * A package that AOTInductor compiled for the processor; it returns energy and forces, since libtorch's autograd does
 * not see what is inside.
 *
 * A package is a program. What it says of the torch, machine and instruction set that it was compiled for, and the
 * names of its entries, are looked at before anything of it is unpacked, loaded or run.
 */
class InductorModule : public TorchModule {
public:
    InductorModule(const ModelArchive& model, const EngineSettings& settings);

private:
    std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& arguments) override;
    torch::Tensor boxOfNone(const torch::TensorOptions& options) const override;
    void checkEntries(const ZipArchive& package) const;
    void checkMachine(const ZipArchive& package) const;
    void compareMachines(const std::map<std::string, std::string>& madeFor) const;
    std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
};

}  // namespace OpenMMCG
