#pragma once
#include <memory>

#include "../cpp/force/DeviceEngine.h"
#include "openmm/common/ComputeContext.h"

namespace OpenMMCG {

/**
 * A device on which OpenMM and libtorch work side by side: what they have to do about each other, which differs between
 * platforms. This class is for memory of the process, where libtorch is done when its functions return.
 */
class SharedDevice {
public:
    /** Lets the calling thread use libtorch for its lifetime. */
    class Scope {
    public:
        explicit Scope(SharedDevice& device) : device(device) {
            device.enter();
        }
        ~Scope() {
            device.leave();
        }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        SharedDevice& device;
    };
    virtual ~SharedDevice() = default;
    virtual DevicePlace getPlace() const {
        return {false, 0, false};
    }
    /** Let what OpenMM enqueues from now on wait for an event of libtorch. OpenMM's context has to be selected. */
    virtual void waitFor(void* event) {
    }

protected:
    virtual void enter() {
    }
    virtual void leave() {
    }
};

/** Makes that of a platform; throws where libtorch cannot work on the device, and says why. */
using SharedDeviceFactory = std::unique_ptr<SharedDevice> (*)(OpenMM::ComputeContext& compute, int deviceIndex);

}  // namespace OpenMMCG
