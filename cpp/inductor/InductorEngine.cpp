#include "../libtorch/TorchEngine.h"
#include "InductorModule.h"

extern "C" __attribute__((visibility("default"))) OpenMMCG::Engine* openmmcgCreateInductorEngine(
    const OpenMMCG::ModelArchive& model, const OpenMMCG::EngineSettings& settings) {
    using namespace OpenMMCG;
    return new TorchEngine(std::make_unique<InductorModule>(model, settings), settings);
}
