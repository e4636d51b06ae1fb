/*
 * A CUDA driver for a machine without a GPU: memory is the host's, kernels are found by their names and listed when
 * they are launched, but not run. With it OpenMM makes Contexts on its CUDA platform, for which NVRTC compiles every
 * kernel.
 *
 * Declared here as in CUDA's own headers, which a build of OpenMM-CG does not need: handles are pointers, results are
 * numbers, 0 where all is well.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace {

const int invalidValue = 1, invalidContext = 201, notFound = 500;
const int mostThreadsPerBlock = 1024;

struct Module {
    std::map<std::string, const char*> kernels;
};

thread_local std::vector<void*> contexts;

void* handle() {
    static char first;
    return &first;
}

int copy(void* to, const void* from, size_t bytes) {
    std::memcpy(to, from, bytes);
    return 0;
}

int attribute(int number) {
    switch (number) {
        case 1:  // threads per block
        case 2:  // … along x
            return mostThreadsPerBlock;
        case 8:  // bytes of shared memory per block
            return 49152;
        case 10:  // threads of a warp
            return 32;
        case 13:  // clock rate, kHz
            return 1980000;
        case 16:  // multiprocessors
            return 132;
        case 75:  // compute capability: major …
            return 9;
        default:  // … and minor, and what is asked for besides
            return 0;
    }
}

}  // namespace

using Address = unsigned long long;

extern "C" {

int cuInit(unsigned) {
    return 0;
}
int cuDriverGetVersion(int* version) {
    *version = 13000;
    return 0;
}
int cuGetErrorName(int, const char** name) {
    *name = "error of the driver without a GPU";
    return 0;
}
int cuGetExportTable(const void** table, const void*) {  // NVRTC looks for a cache there
    *table = nullptr;
    return notFound;
}
int cuProfilerStop() {
    return 0;
}

int cuDeviceGetCount(int* count) {
    *count = 1;
    return 0;
}
int cuDeviceGet(int* device, int) {
    *device = 0;
    return 0;
}
int cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, length, "none");
    return 0;
}
int cuDeviceGetAttribute(int* value, int number, int) {
    *value = attribute(number);
    return 0;
}
int cuDeviceCanAccessPeer(int* can, int, int) {
    *can = 0;
    return 0;
}

int cuCtxCreate_v4(void** context, void*, unsigned, int) {
    contexts.push_back(*context = handle());
    return 0;
}
int cuCtxDestroy_v2(void*) {
    return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = handle();
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    return 0;
}
int cuCtxEnablePeerAccess(void*, unsigned) {
    return 0;
}
int cuCtxPushCurrent_v2(void* context) {
    contexts.push_back(context);
    return 0;
}
int cuCtxPopCurrent_v2(void** context) {
    if (contexts.empty())
        return invalidContext;
    if (context != nullptr)
        *context = contexts.back();
    contexts.pop_back();
    return 0;
}
int cuCtxSetCurrent(void* context) {
    contexts.assign(1, context);
    return 0;
}
int cuCtxSetCacheConfig(int) {
    return 0;
}
int cuCtxSynchronize() {
    return 0;
}

int cuStreamCreate(void** stream, unsigned) {
    *stream = handle();
    return 0;
}
int cuStreamDestroy_v2(void*) {
    return 0;
}
int cuStreamSynchronize(void*) {
    return 0;
}
int cuStreamWaitEvent(void*, void*, unsigned) {
    return 0;
}
int cuEventCreate(void** event, unsigned) {
    *event = handle();
    return 0;
}
int cuEventDestroy_v2(void*) {
    return 0;
}
int cuEventRecord(void*, void*) {
    return 0;
}
int cuEventSynchronize(void*) {
    return 0;
}

int cuMemAlloc_v2(Address* address, size_t bytes) {
    *address = reinterpret_cast<Address>(std::calloc(bytes, 1));
    return bytes > 0 ? 0 : invalidValue;
}
int cuMemFree_v2(Address address) {
    std::free(reinterpret_cast<void*>(address));
    return 0;
}
int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    *memory = std::calloc(bytes, 1);
    return 0;
}
int cuMemFreeHost(void* memory) {
    std::free(memory);
    return 0;
}
int cuMemHostGetDevicePointer_v2(Address* address, void* memory, unsigned) {
    *address = reinterpret_cast<Address>(memory);
    return 0;
}
int cuMemcpyAsync(Address to, Address from, size_t bytes, void*) {
    return copy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) {
    return copy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
}
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
    return copy(to, reinterpret_cast<void*>(from), bytes);
}
int cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
    return copy(to, reinterpret_cast<void*>(from), bytes);
}
int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
    return copy(reinterpret_cast<void*>(to), from, bytes);
}
int cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
    return copy(reinterpret_cast<void*>(to), from, bytes);
}

int cuModuleLoadDataEx(void** module, const char* ptx, unsigned, void*, void*) {
    auto* made = new Module;
    const std::string text = ptx, entry = ".entry ";
    for (size_t at = text.find(entry); at != std::string::npos; at = text.find(entry, at + 1)) {
        const size_t begin = at + entry.size();
        const auto kernel = made->kernels.emplace(text.substr(begin, text.find('(', begin) - begin), nullptr).first;
        kernel->second = kernel->first.c_str();
    }
    *module = made;
    return made->kernels.empty() ? invalidValue : 0;
}
int cuModuleLoad(void** module, const char* path) {
    std::ifstream file(path);
    const std::string ptx((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return file ? cuModuleLoadDataEx(module, ptx.c_str(), 0, nullptr, nullptr) : notFound;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    const auto& kernels = static_cast<Module*>(module)->kernels;
    const auto found = kernels.find(name);
    if (found == kernels.end())
        return notFound;
    *function = const_cast<char*>(found->second);
    return 0;
}
int cuFuncGetAttribute(int* value, int, void*) {
    *value = mostThreadsPerBlock;
    return 0;
}
int cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned,
                   void*, void**, void**) {
    std::printf("launched %s\n", static_cast<char*>(function));
    std::fflush(stdout);
    return blocks > 0 && threads > 0 && threads <= mostThreadsPerBlock ? 0 : invalidValue;
}

// Fourier transforms, of a library that OpenMM's CUDA platform is linked to and that no test needs.
#define UNUSED(name) \
    int name() {     \
        return 1;    \
    }
UNUSED(cufftDestroy)
UNUSED(cufftExecC2C)
UNUSED(cufftExecC2R)
UNUSED(cufftExecD2Z)
UNUSED(cufftExecR2C)
UNUSED(cufftExecZ2D)
UNUSED(cufftExecZ2Z)
UNUSED(cufftPlan3d)
UNUSED(cufftSetStream)
}
