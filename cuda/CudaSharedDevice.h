#pragma once
#include "SharedDevice.h"

namespace OpenMMCG {

/**
 * A GPU with CUDA. OpenMM has made a context of its own on it, libtorch uses the device's primary one, and each has its
 * streams. Memory of one context can be used in the other, and a stream can wait for an event of the other.
 *
 * The five functions of the driver that this takes are looked up in the library that OpenMM has loaded, so that the
 * build needs neither CUDA's headers nor its libraries.
 */
class CudaSharedDevice : public SharedDevice {
public:
    /** @param compute  an OpenMM::CudaContext */
    CudaSharedDevice(OpenMM::ComputeContext& compute, int index);
    ~CudaSharedDevice() override;
    DevicePlace getPlace() const override {
        return {true, index, false};
    }
    void waitFor(void* event) override;

protected:
    void enter() override;
    void leave() override;

private:
    OpenMM::ComputeContext& compute;
    int index, device = 0;
    void* primaryContext = nullptr;
};

}  // namespace OpenMMCG
