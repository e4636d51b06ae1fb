#pragma once
#include <string>

#include "CommonAddDerivativesKernel.h"
#include "CommonCGForceKernel.h"
#include "CommonTorchScriptKernel.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"

namespace OpenMMCG {

/** Makes CGForce's kernels for a platform that is written in the common compute dialect. */
template <class ComputePlatform>
class CGForceKernelFactory : public OpenMM::KernelFactory {
public:
    explicit CGForceKernelFactory(SharedDeviceFactory createSharedDevice) : createSharedDevice(createSharedDevice) {
    }
    OpenMM::KernelImpl* createKernelImpl(std::string name, const OpenMM::Platform& platform,
                                         OpenMM::ContextImpl& context) const override {
        auto* data = static_cast<typename ComputePlatform::PlatformData*>(context.getPlatformData());
        if (data->contexts.size() > 1)
            throw OpenMM::OpenMMException(
                "CGForce runs on one device; choose one with the platform's property DeviceIndex");
        // The platform's own context class needs the headers of OpenCL or CUDA; of it we need its only base class,
        // which is where the object begins.
        auto* compute = reinterpret_cast<OpenMM::ComputeContext*>(data->contexts[0]);
        if (name == CalcCGForceKernel::torchScriptName())
            return new CommonTorchScriptKernel(name, platform, *compute, createSharedDevice);
        if (name == AddDerivativesKernel::Name())
            return new CommonAddDerivativesKernel(name, platform, *compute);
        return new CommonCGForceKernel(name, platform, *compute);
    }

private:
    SharedDeviceFactory createSharedDevice;
};

/** Register the kernels, if OpenMM has the platform on this machine. */
template <class ComputePlatform>
void registerFactory(const std::string& platformName, SharedDeviceFactory createSharedDevice) {
    for (int i = 0; i < OpenMM::Platform::getNumPlatforms(); i++) {
        OpenMM::Platform& platform = OpenMM::Platform::getPlatform(i);
        if (platform.getName() == platformName)
            for (const std::string& kernel :
                 {CalcCGForceKernel::Name(), CalcCGForceKernel::torchScriptName(), AddDerivativesKernel::Name()})
                platform.registerKernelFactory(kernel, new CGForceKernelFactory<ComputePlatform>(createSharedDevice));
    }
}

}  // namespace OpenMMCG
