#include "../libtorch/TorchEngine.h"
#include "TorchScriptModule.h"

extern "C" __attribute__((visibility("default"))) OpenMMCG::Engine* openmmcgCreateTorchScriptEngine(
    const OpenMMCG::ModelArchive& model, const OpenMMCG::EngineSettings& settings) {
    using namespace OpenMMCG;
    return new TorchEngine(std::make_unique<TorchScriptModule>(model, settings, torch::kCPU), settings);
}
