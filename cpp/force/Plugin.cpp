#include "Plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include "../bonded/TabulatedBondedForce.h"
#include "../bonded/TabulatedBondedForceProxy.h"
#include "../pair/PairForce.h"
#include "../pair/PairForceProxy.h"
#include "CGForce.h"
#include "CGForceProxy.h"
#include "SiblingLibrary.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/serialization/SerializationProxy.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

/** The library beside this one that holds the engine of a platform, where there is one and OpenMM has the platform. */
void loadEngine(const Platform& platform) {
    const std::string path = getSiblingPath("libOpenMMCG" + platform.getName() + ".so");
    if (!std::filesystem::exists(path))
        return;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* function = library == nullptr ? nullptr : dlsym(library, "registerKernelFactories");
    if (function == nullptr)
        throw OpenMMException("the engine for the platform " + platform.getName() + " cannot be loaded (" + dlerror() +
                              "); install openmm-cg again");
    reinterpret_cast<void (*)()>(function)();
}

}  // namespace

}  // namespace OpenMMCG

void openmmcgRegister() {
    using namespace OpenMMCG;
    static std::once_flag once;
    std::call_once(once, [] {
        SerializationProxy::registerProxy(typeid(CGForce), new CGForceProxy());
        SerializationProxy::registerProxy(typeid(PairForce), new PairForceProxy());
        SerializationProxy::registerProxy(typeid(TabulatedBondedForce), new TabulatedBondedForceProxy());
        for (int i = 0; i < Platform::getNumPlatforms(); i++) loadEngine(Platform::getPlatform(i));
    });
}
