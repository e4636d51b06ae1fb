/*
 * The library that OpenMM finds in its folder of plugins, and loads in every process that imports it. So a System that
 * holds a force of ours can be read where nobody imported openmmcg. It does as little as possible there: only when such
 * a force is read is the plugin itself loaded, from the package's own folder and without making its symbols, or those
 * of the BLAS that it brings along, visible to the libraries of other packages.
 */
#include <dlfcn.h>

#include <string>

#include "../force/Plugin.h"
#include "../force/SiblingLibrary.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationProxy.h"

using namespace OpenMM;
using namespace OpenMMCG;

namespace {

const std::string pluginPath = "../../../openmmcg/lib/libOpenMMCG.so";  // site-packages is the root of both

/** Takes the place of a force's proxy until that is there. */
class ProxyOfUnloaded : public SerializationProxy {
public:
    explicit ProxyOfUnloaded(const std::string& force) : SerializationProxy(force) {
    }
    void serialize(const void*, SerializationNode&) const override {
        throw OpenMMException(getTypeName() + ": there is no such object before openmm-cg is loaded");
    }
    void* deserialize(const SerializationNode& node) const override {
        void* library = dlopen(getSiblingPath(pluginPath).c_str(), RTLD_NOW | RTLD_LOCAL);
        void* function = library == nullptr ? nullptr : dlsym(library, registerFunctionName);
        if (function == nullptr)
            throw OpenMMException(getTypeName() + ": openmm-cg, which computes this force, cannot be loaded (" +
                                  dlerror() + "); install it again: pip install --force-reinstall openmm-cg");
        reinterpret_cast<void (*)()>(function)();
        return getProxy(getTypeName()).deserialize(node);
    }
};

struct UnloadedCGForce {};
struct UnloadedPairForce {};
struct UnloadedTabulatedBondedForce {};

/** Once, however often OpenMM is told to initialise its plugins. */
const bool registered = [] {
    if (dlopen(getSiblingPath(pluginPath).c_str(), RTLD_NOW | RTLD_NOLOAD) != nullptr)
        return false;
    SerializationProxy::registerProxy(typeid(UnloadedCGForce), new ProxyOfUnloaded("CGForce"));
    SerializationProxy::registerProxy(typeid(UnloadedPairForce), new ProxyOfUnloaded("PairForce"));
    SerializationProxy::registerProxy(typeid(UnloadedTabulatedBondedForce),
                                      new ProxyOfUnloaded("TabulatedBondedForce"));
    return true;
}();

}  // namespace
