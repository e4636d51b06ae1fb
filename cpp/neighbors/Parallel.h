#pragma once
#include <functional>
#include <memory>

#include "openmm/internal/ThreadPool.h"

namespace OpenMMCG {

/** Runs a function once per thread and waits for all; with one thread it is a plain call. */
class Parallel {
public:
    explicit Parallel(int threads) : threads(threads) {
        if (threads > 1)
            pool = std::make_unique<OpenMM::ThreadPool>(threads);
    }
    int getThreads() const {
        return threads;
    }
    void run(const std::function<void(int)>& task) {
        if (pool == nullptr) {
            task(0);
            return;
        }
        pool->execute([&task](OpenMM::ThreadPool&, int thread) { task(thread); });
        pool->waitForThreads();
    }

private:
    int threads;
    std::unique_ptr<OpenMM::ThreadPool> pool;
};

}  // namespace OpenMMCG
