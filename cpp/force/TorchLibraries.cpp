#include "TorchLibraries.h"

#include <dlfcn.h>

#include "SiblingLibrary.h"
#include "openmm/OpenMMException.h"

using OpenMM::OpenMMException;

namespace OpenMMCG {

namespace {

class Library {
public:
    Library(const std::string& name, const std::string& engine) : path(getSiblingPath(name)) {
        handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr)
            throw OpenMMException("CGForce: this model needs the " + engine + " engine, which could not be loaded (" +
                                  std::string(dlerror()) +
                                  "). It is built when torch is installed: pip install torch, then "
                                  "pip install --no-build-isolation openmm-cg");
    }
    template <class Function>
    Function find(const char* name) const {
        void* function = dlsym(handle, name);
        if (function == nullptr)
            throw OpenMMException("CGForce: " + path + " is of another version of openmm-cg; install openmm-cg again");
        return reinterpret_cast<Function>(function);
    }

private:
    std::string path;
    void* handle;
};

}  // namespace

const TorchScriptLibrary& getTorchScriptLibrary() {
    static const TorchScriptLibrary library = [] {
        const Library file("libOpenMMCGTorch.so", "TorchScript");
        return TorchScriptLibrary{file.find<EngineFactory>(torchScriptFactoryName),
                                  file.find<DeviceEngineFactory>(torchScriptDeviceFactoryName)};
    }();
    return library;
}

EngineFactory getInductorEngineFactory() {
    static const EngineFactory factory =
        Library("libOpenMMCGInductor.so", "AOTInductor").find<EngineFactory>(inductorFactoryName);
    return factory;
}

}  // namespace OpenMMCG
