#include "PlatformPlugin.h"
#include "openmm/cuda/CudaPlatform.h"

extern "C" __attribute__((visibility("default"))) void registerKernelFactories() {
    OpenMMCG::registerFactory<OpenMM::CudaPlatform>("CUDA");
}
