#include "CudaSharedDevice.h"
#include "PlatformPlugin.h"
#include "openmm/cuda/CudaPlatform.h"

using namespace OpenMMCG;

/** None: without this function OpenMM would find that of the platform's library, and register the platform again. */
extern "C" __attribute__((visibility("default"))) void registerPlatforms() {
}

extern "C" __attribute__((visibility("default"))) void registerKernelFactories() {
    registerFactory<OpenMM::CudaPlatform>(
        "CUDA", [](OpenMM::ComputeContext& compute, int deviceIndex) -> std::unique_ptr<SharedDevice> {
            return std::make_unique<CudaSharedDevice>(compute, deviceIndex);
        });
}
