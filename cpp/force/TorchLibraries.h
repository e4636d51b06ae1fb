#pragma once
#include "DeviceEngine.h"
#include "Engine.h"

namespace OpenMMCG {

/** What the library of the TorchScript engine hands over. */
struct TorchScriptLibrary {
    EngineFactory createEngine;
    DeviceEngineFactory createDeviceEngine;
};

// The libraries beside this one that need libtorch, each loaded when first needed; throw where that fails.

const TorchScriptLibrary& getTorchScriptLibrary();
/** Of the library of the AOTInductor engine. */
EngineFactory getInductorEngineFactory();

}  // namespace OpenMMCG
