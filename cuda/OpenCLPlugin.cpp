#include "PlatformPlugin.h"
#include "openmm/opencl/OpenCLPlatform.h"

extern "C" __attribute__((visibility("default"))) void registerKernelFactories() {
    OpenMMCG::registerFactory<OpenMM::OpenCLPlatform>("OpenCL");
}
