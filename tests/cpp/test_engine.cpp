// The engine's own tests, for the sanitizer build: test_engine <model files with compiled networks of two bead types>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <random>
#include <set>
#include <stdexcept>

#include "../../cpp/model/Base64.h"
#include "../../cpp/model/ModelArchive.h"
#include "../../cpp/neighbors/Capacity.h"
#include "../../cpp/neighbors/NeighborList.h"
#include "../../cpp/network/NativeEngine.h"
#include "openmm/OpenMMException.h"

using namespace OpenMMCG;
using OpenMM::Vec3;

/** Which request for memory from now on fails; 0: none. */
static std::atomic<long> requestsUntilFailure{0};

static void* allocate(size_t size, size_t alignment = alignof(std::max_align_t)) {
    if (requestsUntilFailure > 0 && --requestsUntilFailure == 0)
        throw std::bad_alloc();
    if (void* memory = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment))
        return memory;
    throw std::bad_alloc();
}

void* operator new(size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<size_t>(alignment));
}

void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}

void* operator new(size_t size) {
    return allocate(size);
}

void* operator new[](size_t size) {
    return allocate(size);
}

void operator delete(void* memory) noexcept {
    std::free(memory);
}

void operator delete[](void* memory) noexcept {
    std::free(memory);
}

void operator delete(void* memory, size_t) noexcept {
    std::free(memory);
}

void operator delete[](void* memory, size_t) noexcept {
    std::free(memory);
}

namespace {

void require(bool condition, const std::string& what) {
    if (!condition)
        throw std::runtime_error(what);
}

using Box = std::vector<Vec3>;  // empty: not periodic

const std::vector<std::pair<std::string, Box>> boxes = {
    {"no box", {}},
    {"cubic", {Vec3(2.4, 0, 0), Vec3(0, 2.4, 0), Vec3(0, 0, 2.4)}},
    {"long", {Vec3(5.0, 0, 0), Vec3(0, 1.3, 0), Vec3(0, 0, 2.0)}},
    {"triclinic", {Vec3(2.6, 0, 0), Vec3(-1.2, 2.5, 0), Vec3(0.9, -1.1, 2.4)}},
};

const Vec3* vectorsOf(const Box& box) {
    return box.empty() ? nullptr : box.data();
}

/** Beads anywhere, also far outside the box, none closer than 0.15 nm to another. */
std::vector<Vec3> scatter(int beads, const Box& box, int seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(-1.0, 2.0);
    std::vector<Vec3> positions;
    while (static_cast<int>(positions.size()) < beads) {
        const Vec3 s(uniform(random), uniform(random), uniform(random));
        const Vec3 r = box.empty() ? s : box[0] * s[0] + box[1] * s[1] + box[2] * s[2];
        const bool free = std::all_of(positions.begin(), positions.end(), [&](const Vec3& other) {
            double x = r[0] - other[0], y = r[1] - other[1], z = r[2] - other[2];
            if (!box.empty())
                PeriodicBox(box.data()).wrap(x, y, z);
            return x * x + y * y + z * z > 0.15 * 0.15;
        });
        if (free)
            positions.push_back(r);
    }
    return positions;
}

/** The shortest distance over the nearest images, without any trick. */
double shortestDistance(const Vec3& a, const Vec3& b, const Box& box) {
    Vec3 d = b - a;
    if (box.empty())
        return std::sqrt(d.dot(d));
    const Vec3 s = PeriodicBox(box.data()).getFractional(d);
    double best = INFINITY;
    for (int i = -2; i <= 2; i++)
        for (int j = -2; j <= 2; j++)
            for (int k = -2; k <= 2; k++) {
                const Vec3 image = d + box[0] * (i - std::round(s[0])) + box[1] * (j - std::round(s[1])) +
                                   box[2] * (k - std::round(s[2]));
                best = std::min(best, image.dot(image));
            }
    return std::sqrt(best);
}

void neighborListFindsEveryPairOnce(int replicas) {
    const double cutoff = 0.6;
    const int beads = 120, beadsOfReplica = beads / replicas;
    for (const auto& [name, box] : boxes)
        for (int threads : {1, 3}) {
            const auto positions = scatter(beads, box, 7);
            std::set<std::pair<int, int>> expected, found;
            for (int i = 0; i < beads; i++)
                for (int j = i + 1; j < beads; j++)
                    if (i / beadsOfReplica == j / beadsOfReplica &&
                        shortestDistance(positions[i], positions[j], box) < cutoff)
                        expected.insert({i, j});
            Parallel parallel(threads);
            NeighborList list(cutoff, 0.1, parallel, replicas);
            require(list.update(positions, vectorsOf(box)), "the first update builds");
            require(!list.update(positions, vectorsOf(box)), "the list stays valid while nothing moves");
            const auto& order = list.getOrder();
            for (int i = 0; i < beads; i++)
                require(order[i] / beadsOfReplica == i / beadsOfReplica, "the beads of a replica stay together");
            for (const auto& share : list.getShares())
                for (int i = share.begin; i < share.end; i++)
                    for (int k = share.first[i - share.begin]; k < share.first[i - share.begin + 1]; k++) {
                        const int a = order[i], b = order[share.neighbors[k]];
                        require(a / beadsOfReplica == b / beadsOfReplica, "beads of different replicas are paired");
                        const bool own = k < share.middle[i - share.begin];
                        require(own == (share.neighbors[k] >= share.begin && share.neighbors[k] < share.end),
                                "own and foreign neighbors are kept apart");
                        if (shortestDistance(positions[a], positions[b], box) < cutoff && (own || a < b))
                            require(found.insert({std::min(a, b), std::max(a, b)}).second, "a pair is listed twice");
                    }
            require(found == expected, name + ": the list misses pairs");
        }
}

std::vector<int> alternatingTypes(int beads) {
    std::vector<int> types(beads);
    for (int i = 0; i < beads; i++) types[i] = i % 2;
    return types;
}

EngineResult evaluate(Engine& engine, const std::vector<Vec3>& positions, const Box& box, bool forces = true) {
    EngineResult result;
    engine.evaluate({positions, vectorsOf(box), {}, forces, true}, result);
    return result;
}

void forcesAreMinusTheGradient(const ModelArchive& model) {
    for (const auto& [name, box] : boxes) {
        auto positions = scatter(40, box, 3);
        const auto engine = createNativeEngine(model, {alternatingTypes(40), !box.empty(), true, 1, {}});
        const auto forces = evaluate(*engine, positions, box).forces;
        double error = 0, norm = 0;
        for (int i = 0; i < 40; i += 7)
            for (int d = 0; d < 3; d++) {
                const double h = 1e-6, before = positions[i][d];
                positions[i][d] = before + h;
                const double high = evaluate(*engine, positions, box, false).energy;
                positions[i][d] = before - h;
                const double low = evaluate(*engine, positions, box, false).energy;
                positions[i][d] = before;
                const double numerical = -(high - low) / (2 * h);
                error += std::pow(numerical - forces[i][d], 2);
                norm += numerical * numerical;
            }
        std::printf("%s: forces against finite differences %.1e\n", name.c_str(), std::sqrt(error / norm));
        require(std::sqrt(error / norm) < 1e-7, name + ": forces are not minus the gradient");
    }
}

void energyIsComputedOnlyWhenAskedFor(const ModelArchive& model) {
    const auto positions = scatter(40, {}, 3);
    const auto engine = createNativeEngine(model, {alternatingTypes(40), false, true, 1, {}});
    const auto both = evaluate(*engine, positions, {});
    EngineResult forcesOnly;
    engine->evaluate({positions, nullptr, {}, true, false}, forcesOnly);
    require(both.energy != 0 && forcesOnly.energy == 0, "an energy that nobody asked for is computed");
    require(forcesOnly.forces == both.forces, "forces depend on whether the energy is asked for");
    require(evaluate(*engine, positions, {}, false).energy == both.energy,
            "the energy depends on whether forces are asked for");
}

double difference(const std::vector<Vec3>& a, const std::vector<Vec3>& b) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < a.size(); i++) {
        error += (a[i] - b[i]).dot(a[i] - b[i]);
        norm += b[i].dot(b[i]);
    }
    return std::sqrt(error / norm);
}

/** Rotated by 120 degrees about the diagonal, and mirrored: exchanges of axes, which rounding does not see. */
void forcesTurnWithTheBeads(const ModelArchive& model) {
    const int beads = 200;
    const auto positions = scatter(beads, {}, 19);
    for (int parity : {1, -1}) {
        const auto turn = [&](std::vector<Vec3> vectors) {
            for (Vec3& v : vectors) v = Vec3(v[1], v[2], v[0]) * parity;
            return vectors;
        };
        for (bool doublePrecision : {true, false}) {
            const auto engine = createNativeEngine(model, {alternatingTypes(beads), false, doublePrecision, 3, {}});
            const auto forces = evaluate(*engine, positions, {}).forces;
            require(difference(evaluate(*engine, turn(positions), {}).forces, turn(forces)) <
                        (doublePrecision ? 1e-12 : 1e-5),
                    "forces do not turn with the beads");
        }
    }
}

void threadsAndPrecisionsAgree(const ModelArchive& model) {
    for (const auto& [name, box] : boxes) {
        const int beads = 300;
        const auto positions = scatter(beads, {Vec3(3, 0, 0), Vec3(0, 3, 0), Vec3(0, 0, 3)}, 11);
        const auto types = alternatingTypes(beads);
        const auto exact =
            evaluate(*createNativeEngine(model, {types, !box.empty(), true, 1, {}}), positions, box).forces;
        for (int threads : {1, 2, 4}) {
            const auto engine = createNativeEngine(model, {types, !box.empty(), false, threads, {}});
            const auto first = evaluate(*engine, positions, box), again = evaluate(*engine, positions, box);
            require(difference(first.forces, exact) < 2e-5, name + ": float32 differs from float64");
            require(first.forces == again.forces && first.energy == again.energy, "an evaluation is not reproducible");
        }
    }
}

void movingBeadsAndBoxesKeepTheListTrue(const ModelArchive& model) {
    std::mt19937 random(5);
    std::normal_distribution<double> normal(0, 0.01);
    Box box = boxes[3].second;
    auto positions = scatter(150, box, 13);
    const auto types = alternatingTypes(150);
    const auto engine = createNativeEngine(model, {types, true, true, 2, {}});
    for (int step = 0; step < 40; step++) {
        for (Vec3& r : positions) r += Vec3(normal(random), normal(random), normal(random));
        if (step % 10 == 9)
            for (Vec3& v : box) v *= 1.01;
        const auto fresh = createNativeEngine(model, {types, true, true, 1, {}});
        require(difference(evaluate(*engine, positions, box).forces, evaluate(*fresh, positions, box).forces) < 1e-10,
                "an old neighbor list gives other forces than a new one");
    }
}

/** Every damage is noticed, or is to a part of the file that the engine does not read. */
void damagedModelsAreRefused(const ModelArchive& model) {
    const auto& bytes = model.getBytes();
    const auto positions = scatter(6, {}, 23);
    const auto energyOf = [&](std::vector<char> file) {
        const ModelArchive archive(std::move(file), "the model");
        return evaluate(*createNativeEngine(archive, {alternatingTypes(6), false, false, 1, {}}), positions, {}).energy;
    };
    const auto refuses = [&](std::vector<char> damaged, double energy) {
        try {
            require(energyOf(std::move(damaged)) == energy, "a damaged model is accepted and gives another energy");
        } catch (const OpenMM::OpenMMException&) {
            return true;
        }
        return false;
    };
    const double energy = energyOf(bytes);
    for (size_t length = 0; length < bytes.size(); length += 1 + bytes.size() / 300)
        require(refuses({bytes.begin(), bytes.begin() + length}, energy), "a truncated model is accepted");
    size_t read = 0;
    for (const char* name : {"model.json", "compiled_network.json", "compiled_network.bin"})
        read += model.getEntry(name).size();
    const int damages = 300;
    std::mt19937 random(17);
    int refused = 0;
    for (int i = 0; i < damages; i++) {
        auto damaged = bytes;
        damaged[random() % bytes.size()] ^= static_cast<char>(1 + random() % 255);
        refused += refuses(std::move(damaged), energy);
    }
    const double share = static_cast<double>(read) / static_cast<double>(bytes.size());
    std::printf("%d of %d damages refused, %.2f of the file is read\n", refused, damages, share);
    require(refused > (share - 0.1) * damages, "damage to what is read is not noticed");
}

void threadsHandOnWhatTheyThrow() {
    for (int threads : {1, 3}) {
        Parallel parallel(threads);
        for (int thrower = 0; thrower < threads; thrower++) {
            bool caught = false;
            try {
                parallel.run([&](int thread) {
                    if (thread == thrower)
                        throw std::bad_alloc();
                });
            } catch (const std::bad_alloc&) {
                caught = true;
            }
            require(caught, "what a thread throws does not arrive");
        }
        std::vector<int> done(threads, 0);
        parallel.run([&](int thread) { done[thread] = 1; });
        require(done == std::vector<int>(threads, 1), "threads do not work on after an error");
    }
}

/** Whichever of its requests for memory fails, an evaluation says so, and the next one is right. */
void evaluationsSurviveMissingMemory(const ModelArchive& model) {
    const int beads = 200;
    const auto first = scatter(beads, {}, 29), second = scatter(beads, {}, 31);
    const EngineSettings settings{alternatingTypes(beads), false, true, 3, {}};
    const auto expected = evaluate(*createNativeEngine(model, settings), second, {});
    int failures = 0;
    for (long request = 1;; request += 1 + request / 4) {
        const auto engine = createNativeEngine(model, settings);
        evaluate(*engine, first, {});
        bool failed = false;
        try {
            requestsUntilFailure = request;
            evaluate(*engine, second, {});
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        requestsUntilFailure = 0;
        const auto again = evaluate(*engine, second, {});
        require(again.forces == expected.forces && again.energy == expected.energy,
                "an evaluation after one that failed is wrong");
        if (!failed)
            break;
        failures++;
    }
    std::printf("%d evaluations without memory\n", failures);
    require(failures > 5, "memory was never missing");
}

void listsThatCannotBeCountedAreRefused() {
    require(requireCapacity(2147483647, "a list") == 2147483647, "the largest list is refused");
    for (int64_t entries : {int64_t{2147483648}, int64_t{4294967296}, int64_t{1} << 40}) try {
            requireCapacity(entries, "the neighbor list of 30000000 beads");
            require(false, "a list that cannot be counted is accepted");
        } catch (const OpenMM::OpenMMException& error) {
            const std::string message = error.what();
            for (const std::string& part : {std::string("the neighbor list of 30000000 beads"), std::to_string(entries),
                                            std::string("fewer beads")})
                require(message.find(part) != std::string::npos, "the error does not name " + part);
        }
}

void base64GoesBothWays() {
    require(encodeBase64({'f', 'o', 'o', 'b', 'a'}) == "Zm9vYmE=", "RFC 4648 section 10");
    std::vector<char> bytes;
    for (int i = 0; i < 600; i++) {
        require(decodeBase64(encodeBase64(bytes)) == bytes, "base64 does not round trip");
        bytes.push_back(static_cast<char>(i * 7));
    }
}

}  // namespace

int main(int count, char** arguments) {
    try {
        base64GoesBothWays();
        threadsHandOnWhatTheyThrow();
        listsThatCannotBeCountedAreRefused();
        for (int replicas : {1, 4, 120}) neighborListFindsEveryPairOnce(replicas);
        for (int k = 1; k < count; k++) {
            std::printf("%s\n", arguments[k]);
            const auto model = ModelArchive::fromFile(arguments[k]);
            forcesAreMinusTheGradient(model);
            forcesTurnWithTheBeads(model);
            energyIsComputedOnlyWhenAskedFor(model);
            threadsAndPrecisionsAgree(model);
            movingBeadsAndBoxesKeepTheListTrue(model);
            damagedModelsAreRefused(model);
            evaluationsSurviveMissingMemory(model);
        }
    } catch (const std::exception& error) {
        std::printf("FAILED: %s\n", error.what());
        return 1;
    }
    std::printf("all engine tests passed\n");
    return 0;
}
