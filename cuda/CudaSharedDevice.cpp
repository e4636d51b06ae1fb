#include "CudaSharedDevice.h"

#include <dlfcn.h>

#include <string>

#include "openmm/OpenMMException.h"

using namespace OpenMM;

/** CudaContext::getCurrentStream() of OpenMM, whose header needs CUDA's; contexts, streams and events are pointers. */
extern "C" void* openmmcgGetCurrentStream(void* cudaContext) asm("_ZN6OpenMM11CudaContext16getCurrentStreamEv");

namespace OpenMMCG {

namespace {

/** Functions of the CUDA driver, as cuda.h declares them; they return 0 where all is well. */
struct Driver {
    int (*getDevice)(int* device, int ordinal);
    int (*retainPrimaryContext)(void** context, int device);
    int (*releasePrimaryContext)(int device);
    int (*pushContext)(void* context);
    int (*popContext)(void** context);
    int (*waitForEvent)(void* stream, void* event, unsigned int flags);

    static const Driver& get() {
        static const Driver driver = load();
        return driver;
    }

private:
    static Driver load() {
        void* library = dlopen("libcuda.so.1", RTLD_NOW);
        if (library == nullptr)
            throw OpenMMException("the CUDA driver could not be loaded (" + std::string(dlerror()) + ")");
        Driver driver;
        find(library, "cuDeviceGet", driver.getDevice);
        find(library, "cuDevicePrimaryCtxRetain", driver.retainPrimaryContext);
        find(library, "cuDevicePrimaryCtxRelease_v2", driver.releasePrimaryContext);
        find(library, "cuCtxPushCurrent_v2", driver.pushContext);
        find(library, "cuCtxPopCurrent_v2", driver.popContext);
        find(library, "cuStreamWaitEvent", driver.waitForEvent);
        return driver;
    }

    template <class Function>
    static void find(void* library, const char* name, Function& function) {
        function = reinterpret_cast<Function>(dlsym(library, name));
        if (function == nullptr)
            throw OpenMMException("the CUDA driver has no function " + std::string(name));
    }
};

void check(int result, const char* task) {
    if (result != 0)
        throw OpenMMException("CGForce: the CUDA driver cannot " + std::string(task) + " (error " +
                              std::to_string(result) + ")");
}

}  // namespace

CudaSharedDevice::CudaSharedDevice(ComputeContext& compute, int index) : compute(compute), index(index) {
    check(Driver::get().getDevice(&device, index), "find OpenMM's device");
    check(Driver::get().retainPrimaryContext(&primaryContext, device), "give libtorch's context");
}

CudaSharedDevice::~CudaSharedDevice() {
    Driver::get().releasePrimaryContext(device);
}

void CudaSharedDevice::enter() {
    check(Driver::get().pushContext(primaryContext), "change to libtorch's context");
}

void CudaSharedDevice::leave() {
    void* popped;
    Driver::get().popContext(&popped);
}

void CudaSharedDevice::waitFor(void* event) {
    check(Driver::get().waitForEvent(openmmcgGetCurrentStream(&compute), event, 0), "wait for libtorch");
}

}  // namespace OpenMMCG
