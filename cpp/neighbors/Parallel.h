#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "openmm/internal/ThreadPool.h"

namespace OpenMMCG {

/**
 * Runs a function once per thread and waits for all; with one thread it is a plain call. What a thread throws, the
 * caller gets when all are done.
 */
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
        std::vector<std::exception_ptr> errors(threads);
        pool->execute([&](OpenMM::ThreadPool&, int thread) {
            try {
                task(thread);
            } catch (...) {
                errors[thread] = std::current_exception();
            }
        });
        pool->waitForThreads();
        for (const std::exception_ptr& error : errors)
            if (error)
                std::rethrow_exception(error);
    }

private:
    int threads;
    std::unique_ptr<OpenMM::ThreadPool> pool;
};

}  // namespace OpenMMCG
