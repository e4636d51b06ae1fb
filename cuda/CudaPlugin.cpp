#include "CudaSharedDevice.h"
#include "PlatformPlugin.h"
#include "openmm/cuda/CudaPlatform.h"

using namespace OpenMMCG;

extern "C" __attribute__((visibility("default"))) void registerKernelFactories() {
    registerFactory<OpenMM::CudaPlatform>(
        "CUDA", [](OpenMM::ComputeContext& compute, int deviceIndex) -> std::unique_ptr<SharedDevice> {
            return std::make_unique<CudaSharedDevice>(compute, deviceIndex);
        });
}
