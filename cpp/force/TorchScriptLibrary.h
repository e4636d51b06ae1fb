#pragma once
#include "DeviceEngine.h"
#include "Engine.h"

namespace OpenMMCG {

/** What the library of the TorchScript engine, the only one that needs libtorch, hands over. */
struct TorchScriptLibrary {
    EngineFactory createEngine;
    DeviceEngineFactory createDeviceEngine;
};

/** The library beside this one, loaded when first needed; throws where that fails. */
const TorchScriptLibrary& getTorchScriptLibrary();

}  // namespace OpenMMCG
