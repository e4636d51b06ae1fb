#include <cstdlib>

#include "../pair/PairKernels.h"
#include "KernelSets.h"
#include "Kernels.h"
#include "openmm/OpenMMException.h"

namespace OpenMMCG {

#define OPENMMCG_DECLARE(set)                        \
    extern const Kernels<float> kernelsFloat##set;   \
    extern const Kernels<double> kernelsDouble##set; \
    extern const PairKernels pairKernels##set;

OPENMMCG_DECLARE(Baseline)
#ifdef __x86_64__
OPENMMCG_DECLARE(Avx2)
OPENMMCG_DECLARE(Avx512)
#endif

namespace {

struct KernelSet {
    std::string name;
    const Kernels<float>& ofFloat;
    const Kernels<double>& ofDouble;
    const PairKernels& ofPairs;
};

/** The sets that this processor can run, the best one last. */
const std::vector<KernelSet>& getSets() {
    static const std::vector<KernelSet> sets = [] {
        std::vector<KernelSet> found{{"baseline", kernelsFloatBaseline, kernelsDoubleBaseline, pairKernelsBaseline}};
#ifdef __x86_64__
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            found.push_back({"avx2", kernelsFloatAvx2, kernelsDoubleAvx2, pairKernelsAvx2});
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq"))
            found.push_back({"avx512", kernelsFloatAvx512, kernelsDoubleAvx512, pairKernelsAvx512});
#endif
        return found;
    }();
    return sets;
}

const KernelSet& chooseSet() {
    const char* chosen = std::getenv("OPENMMCG_KERNELS");
    if (chosen == nullptr || *chosen == '\0')
        return getSets().back();
    std::string names;
    for (const KernelSet& set : getSets()) {
        if (set.name == chosen)
            return set;
        names += (names.empty() ? "" : ", ") + set.name;
    }
    throw OpenMM::OpenMMException("CGForce: OPENMMCG_KERNELS is '" + std::string(chosen) +
                                  "'; this processor has the kernel sets " + names);
}

}  // namespace

template <>
const Kernels<float>& getKernels<float>() {
    return chooseSet().ofFloat;
}

template <>
const Kernels<double>& getKernels<double>() {
    return chooseSet().ofDouble;
}

const PairKernels& getPairKernels() {
    return chooseSet().ofPairs;
}

std::string getKernelSet() {
    return chooseSet().name;
}

std::vector<std::string> getKernelSets() {
    std::vector<std::string> names;
    for (const KernelSet& set : getSets()) names.push_back(set.name);
    return names;
}

}  // namespace OpenMMCG
