#include "TorchScriptLibrary.h"

#include <dlfcn.h>

#include "SiblingLibrary.h"
#include "openmm/OpenMMException.h"

using OpenMM::OpenMMException;

namespace OpenMMCG {

namespace {

TorchScriptLibrary load() {
    const std::string path = getSiblingPath("libOpenMMCGTorch.so");
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
        throw OpenMMException("CGForce: this model needs the TorchScript engine, which could not be loaded (" +
                              std::string(dlerror()) +
                              "). It is built when torch is installed: pip install torch, then "
                              "pip install --no-build-isolation openmm-cg");
    const auto find = [&](const char* name) {
        void* function = dlsym(library, name);
        if (function == nullptr)
            throw OpenMMException("CGForce: " + path + " is of another version of openmm-cg; install openmm-cg again");
        return function;
    };
    return {reinterpret_cast<EngineFactory>(find(torchScriptFactoryName)),
            reinterpret_cast<DeviceEngineFactory>(find(torchScriptDeviceFactoryName))};
}

}  // namespace

const TorchScriptLibrary& getTorchScriptLibrary() {
    static const TorchScriptLibrary library = load();
    return library;
}

}  // namespace OpenMMCG
