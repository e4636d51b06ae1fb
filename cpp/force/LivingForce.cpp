#include "LivingForce.h"

#include <map>
#include <mutex>

namespace OpenMMCG {

namespace {

struct Registry {
    std::mutex mutex;
    std::map<uint64_t, OpenMM::Force*> forces;
    uint64_t last = 0;
};

Registry& getRegistry() {
    // Never destroyed: forces may be deleted after static objects are.
    static Registry* const registry = new Registry();
    return *registry;
}

}  // namespace

LivingForce::LivingForce(OpenMM::Force& force) {
    Registry& registry = getRegistry();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    number = ++registry.last;
    registry.forces[number] = &force;
}

LivingForce::~LivingForce() {
    Registry& registry = getRegistry();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    registry.forces.erase(number);
}

uint64_t LivingForce::numberAt(const void* address) {
    Registry& registry = getRegistry();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    for (const auto& [number, force] : registry.forces)
        if (force == address)
            return number;
    return 0;
}

OpenMM::Force* LivingForce::find(uint64_t number) {
    Registry& registry = getRegistry();
    const std::lock_guard<std::mutex> lock(registry.mutex);
    const auto found = registry.forces.find(number);
    return found == registry.forces.end() ? nullptr : found->second;
}

}  // namespace OpenMMCG
