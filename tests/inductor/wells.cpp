// A package by hand, made in a second where AOTInductor takes a minute: E = Σ_pairs (r² − c²)² with c = 0.6, and
// forces. These are the functions that libtorch asks a package for. When it is loaded it leaves a mark.
#include <torch/csrc/inductor/aoti_runtime/interface.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace {

__attribute__((constructor)) void leaveMark() {
    if (const char* path = std::getenv("WELLS_MARK"))
        std::fclose(std::fopen(path, "w"));
}

template <class T>
T* data(AtenTensorHandle tensor) {
    void* address;
    aoti_torch_get_data_ptr(tensor, &address);
    return static_cast<T*>(address);
}

int64_t numel(AtenTensorHandle tensor) {
    int64_t number;
    aoti_torch_get_numel(tensor, &number);
    return number;
}

AtenTensorHandle empty(int64_t dimensions, const int64_t* sizes, const int64_t* strides) {
    AtenTensorHandle tensor;
    aoti_torch_empty_strided(dimensions, sizes, strides, aoti_torch_dtype_float64(), aoti_torch_device_type_cpu(), 0,
                             &tensor);
    return tensor;
}

int64_t present;

}  // namespace

extern "C" {

AOTIRuntimeError AOTInductorModelContainerCreateWithDevice(AOTInductorModelContainerHandle* container, size_t,
                                                           const char*, const char*) {
    *container = reinterpret_cast<AOTInductorModelContainerHandle>(&present);
    return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerDelete(AOTInductorModelContainerHandle) {
    return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerGetNumOutputs(AOTInductorModelContainerHandle, size_t* number) {
    *number = 2;
    return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerGetNumConstants(AOTInductorModelContainerHandle, size_t* number) {
    *number = 0;
    return AOTI_RUNTIME_SUCCESS;
}

// Of constants, which there are none of; libtorch looks whether the functions are there.
#define UNUSED(name)                                                                     \
    AOTI_API AOTIRuntimeError unused##name() __asm__("AOTInductorModelContainer" #name); \
    AOTIRuntimeError unused##name() {                                                    \
        return AOTI_RUNTIME_FAILURE;                                                     \
    }
UNUSED(GetConstantName)
UNUSED(GetConstantOriginalFQN)
UNUSED(GetConstantDtype)
UNUSED(ExtractConstantsMap)
UNUSED(UpdateUserManagedConstantBuffer)
UNUSED(UpdateConstantBuffer)
UNUSED(UpdateInactiveConstantBuffer)
UNUSED(RunConstantFolding)
UNUSED(SwapConstantBuffer)
UNUSED(FreeInactiveConstantBuffer)

AOTIRuntimeError AOTInductorModelContainerGetCallSpec(AOTInductorModelContainerHandle, const char** in,
                                                      const char** out) {
    *in = *out = "";
    return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerRun(AOTInductorModelContainerHandle, AtenTensorHandle* inputs, size_t number,
                                              AtenTensorHandle* outputs, size_t, AOTInductorStreamHandle,
                                              AOTIProxyExecutorHandle) {
    if (number != 5)
        return AOTI_RUNTIME_FAILURE;
    const double* positions = data<double>(inputs[0]);
    const double* box = data<double>(inputs[1]);
    const int64_t *rows = data<int64_t>(inputs[3]), *columns = data<int64_t>(inputs[4]);
    const int64_t beads = numel(inputs[2]), pairs = numel(inputs[3]);
    const int64_t sizes[] = {beads, 3}, strides[] = {3, 1};
    outputs[0] = empty(0, sizes, strides);
    outputs[1] = empty(2, sizes, strides);
    double& energy = *data<double>(outputs[0]);
    double* forces = data<double>(outputs[1]);
    energy = 0;
    for (int64_t i = 0; i < 3 * beads; i++) forces[i] = 0;
    for (int64_t pair = 0; pair < pairs; pair++) {
        const int64_t i = rows[pair], j = columns[pair];
        double d[3], square = 0;
        for (int k = 0; k < 3; k++) d[k] = positions[3 * j + k] - positions[3 * i + k];
        for (int vector = 2; vector >= 0; vector--) {
            const double turns = std::round(d[vector] / box[4 * vector]);
            for (int k = 0; k < 3; k++) d[k] -= turns * box[3 * vector + k];
        }
        for (double component : d) square += component * component;
        const double depth = 0.36 - square;
        energy += depth * depth;
        for (int k = 0; k < 3; k++) {
            forces[3 * j + k] += 4 * depth * d[k];
            forces[3 * i + k] -= 4 * depth * d[k];
        }
    }
    for (size_t input = 0; input < number; input++) aoti_torch_delete_tensor_object(inputs[input]);
    return AOTI_RUNTIME_SUCCESS;
}

}  // extern "C"
