#pragma once
#include <memory>

#include "../force/Engine.h"

namespace OpenMMCG {

/** The engine that runs a compiled network on the CPU, in float32 or float64. */
std::unique_ptr<Engine> createNativeEngine(const ModelArchive& model, const EngineSettings& settings);

}  // namespace OpenMMCG
