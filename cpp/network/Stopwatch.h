#pragma once
#include <chrono>
#include <map>
#include <string>

namespace OpenMMCG {

/** Takes the time of named pieces of work, as the first thread does them, where somebody wants to know. */
class Stopwatch {
public:
    void start() {
        running = true;
        seconds.clear();
    }
    /** @return the seconds of each piece since start() */
    std::map<std::string, double> stop() {
        running = false;
        return std::move(seconds);
    }
    template <class Task>
    void run(int thread, const char* name, int number, const Task& task) {
        if (!running || thread != 0) {
            task();
            return;
        }
        const auto begin = std::chrono::steady_clock::now();
        task();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
        seconds[name + (number < 0 ? "" : std::to_string(number))] += taken.count();
    }

private:
    bool running = false;
    std::map<std::string, double> seconds;
};

}  // namespace OpenMMCG
