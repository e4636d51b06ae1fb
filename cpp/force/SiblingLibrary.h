#pragma once
#include <dlfcn.h>

#include <string>

namespace OpenMMCG {

/** The path of a file in the folder of the library that this function is part of. */
inline std::string getSiblingPath(const std::string& name) {
    Dl_info self;
    dladdr(reinterpret_cast<void*>(&getSiblingPath), &self);
    const std::string path(self.dli_fname);
    return path.substr(0, path.rfind('/') + 1) + name;
}

}  // namespace OpenMMCG
