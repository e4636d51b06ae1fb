#pragma once
#include <string>

#include "CommonCGForceKernel.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"

namespace OpenMMCG {

/** Makes CGForce's kernel for a platform that is written in the common compute dialect. */
template <class ComputePlatform>
class CGForceKernelFactory : public OpenMM::KernelFactory {
public:
    OpenMM::KernelImpl* createKernelImpl(std::string name, const OpenMM::Platform& platform,
                                         OpenMM::ContextImpl& context) const override {
        auto* data = static_cast<typename ComputePlatform::PlatformData*>(context.getPlatformData());
        if (data->contexts.size() > 1)
            throw OpenMM::OpenMMException(
                "CGForce runs on one device; choose one with the platform's property DeviceIndex");
        // The platform's own context class needs the headers of OpenCL or CUDA; of it we need its only base class,
        // which is where the object begins.
        auto* compute = reinterpret_cast<OpenMM::ComputeContext*>(data->contexts[0]);
        return new CommonCGForceKernel(name, platform, *compute);
    }
};

/** Register the kernel, if OpenMM has the platform on this machine. */
template <class ComputePlatform>
void registerFactory(const std::string& platformName) {
    for (int i = 0; i < OpenMM::Platform::getNumPlatforms(); i++) {
        OpenMM::Platform& platform = OpenMM::Platform::getPlatform(i);
        if (platform.getName() == platformName)
            platform.registerKernelFactory(CalcCGForceKernel::Name(), new CGForceKernelFactory<ComputePlatform>());
    }
}

}  // namespace OpenMMCG
