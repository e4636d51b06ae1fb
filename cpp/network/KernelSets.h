#pragma once
#include <string>
#include <vector>

namespace OpenMMCG {

/**
 * The name of the kernels that an engine gets which is made now: those for the best instruction set of this processor,
 * or those that the environment variable OPENMMCG_KERNELS names.
 */
std::string getKernelSet();

/** The names of all that this processor can run, the best one last. */
std::vector<std::string> getKernelSets();

}  // namespace OpenMMCG
