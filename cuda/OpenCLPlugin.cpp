#include "PlatformPlugin.h"
#include "openmm/opencl/OpenCLPlatform.h"

using namespace OpenMMCG;

extern "C" __attribute__((visibility("default"))) void registerKernelFactories() {
    // Where the processor is the device, its memory is that of the process.
    registerFactory<OpenMM::OpenCLPlatform>("OpenCL", [](OpenMM::ComputeContext& compute, int) {
        if (!compute.getIsCPU())
            throw OpenMM::OpenMMException("libtorch cannot work on a GPU through OpenCL");
        return std::make_unique<SharedDevice>();
    });
}
