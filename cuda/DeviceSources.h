#pragma once
#include <map>
#include <string>

namespace OpenMMCG {

/** The files of cuda/kernels, by name; the build makes them part of the library. */
extern const std::map<std::string, std::string> deviceSources;

}  // namespace OpenMMCG
