#pragma once
#include <string>
#include <utility>
#include <vector>

#include "openmm/common/ComputeContext.h"

namespace OpenMMCG {

/** Runs kernels; between start() and stop() it also takes the time of each. */
class KernelTimer {
public:
    explicit KernelTimer(OpenMM::ComputeContext& compute) : compute(compute) {
    }
    void execute(const OpenMM::ComputeKernel& kernel, int threads, int blockSize);
    /** Run every kernel so many times from now on; all of ours may be run again without changing their results. */
    void start(int repeats);
    /** @return the name of each kernel that ran, and the seconds of one run */
    std::vector<std::pair<std::string, double>> stop();

private:
    void finish();
    OpenMM::ComputeContext& compute;
    int repeats = 0;
    OpenMM::ComputeEvent event;
    std::vector<std::pair<std::string, double>> times;
};

}  // namespace OpenMMCG
