#pragma once
#include "Export.h"

/**
 * Let OpenMM know the plugin's forces, and its GPU platforms their engines; further calls change nothing.
 *
 * Called by the Python module, and by the library in OpenMM's folder of plugins (cpp/plugin) when it is asked for one
 * of the forces.
 */
extern "C" OPENMMCG_EXPORT void openmmcgRegister();

namespace OpenMMCG {

constexpr const char* registerFunctionName = "openmmcgRegister";

}  // namespace OpenMMCG
