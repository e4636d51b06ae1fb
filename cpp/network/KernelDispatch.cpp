#include "Kernels.h"

namespace OpenMMCG {

#define OPENMMCG_DECLARE(set)                      \
    extern const Kernels<float> kernelsFloat##set; \
    extern const Kernels<double> kernelsDouble##set;

OPENMMCG_DECLARE(Baseline)
#ifdef __x86_64__
OPENMMCG_DECLARE(Avx2)
OPENMMCG_DECLARE(Avx512)
#endif

#ifdef __x86_64__
#define OPENMMCG_SELECT(kind)                                                                                     \
    __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") \
        ? kernels##kind##Avx512                                                                                   \
        : (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? kernels##kind##Avx2                  \
                                                                           : kernels##kind##Baseline)
#else
#define OPENMMCG_SELECT(kind) kernels##kind##Baseline
#endif

template <>
const Kernels<float>& getKernels<float>() {
    static const Kernels<float>& best = OPENMMCG_SELECT(Float);
    return best;
}

template <>
const Kernels<double>& getKernels<double>() {
    static const Kernels<double>& best = OPENMMCG_SELECT(Double);
    return best;
}

}  // namespace OpenMMCG
