#include "KernelTimer.h"

#include <chrono>

using namespace OpenMM;

namespace OpenMMCG {

void KernelTimer::execute(const ComputeKernel& kernel, int threads, int blockSize) {
    kernel->execute(threads, blockSize);
    if (repeats == 0)
        return;
    finish();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < repeats; i++) kernel->execute(threads, blockSize);
    finish();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    times.emplace_back(kernel->getName(), taken.count() / repeats);
}

void KernelTimer::start(int repeats) {
    this->repeats = repeats;
    event = compute.createEvent();
    times.clear();
}

std::vector<std::pair<std::string, double>> KernelTimer::stop() {
    repeats = 0;
    return std::move(times);
}

/** Wait until the device has nothing left to do. */
void KernelTimer::finish() {
    event->enqueue();
    compute.flushQueue();
    event->wait();
}

}  // namespace OpenMMCG
