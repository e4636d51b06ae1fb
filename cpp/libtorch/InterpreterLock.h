#pragma once
#include <dlfcn.h>

namespace OpenMMCG {

/**
 * Gives up Python's interpreter lock for its lifetime if this thread holds it.
 *
 * Operators registered from Python take the lock themselves, possibly in a thread of libtorch's own; a caller that
 * waited for them while holding it would wait for ever. The functions are looked up at run time: in a program without
 * Python there is nothing to do and nothing to link.
 */
class ReleaseInterpreterLock {
public:
    ReleaseInterpreterLock() {
        const auto isInitialized = find<int (*)()>("Py_IsInitialized");
        const auto isHeld = find<int (*)()>("PyGILState_Check");
        if (isInitialized != nullptr && isHeld != nullptr && isInitialized() && isHeld())
            state = find<void* (*)()>("PyEval_SaveThread")();
    }
    ~ReleaseInterpreterLock() {
        if (state != nullptr)
            find<void (*)(void*)>("PyEval_RestoreThread")(state);
    }
    ReleaseInterpreterLock(const ReleaseInterpreterLock&) = delete;
    ReleaseInterpreterLock& operator=(const ReleaseInterpreterLock&) = delete;

private:
    template <class Function>
    static Function find(const char* name) {
        return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
    }
    void* state = nullptr;
};

}  // namespace OpenMMCG
