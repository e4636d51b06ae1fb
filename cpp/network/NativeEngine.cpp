#include "NativeEngine.h"

#include <algorithm>
#include <numeric>

#include "../neighbors/NeighborList.h"
#include "../neighbors/Parallel.h"
#include "NetworkEvaluator.h"

using OpenMM::Vec3;

namespace OpenMMCG {

namespace {

/** Fewer beads than this for each thread cost more to hand out than to do. */
const int beadsPerThread = 64;

template <class Real>
class NativeEngine : public Engine {
public:
    NativeEngine(const Program& program, const EngineSettings& settings)
        : program(program),
          types(settings.types),
          replicas(settings.replicas),
          parallel(std::clamp(static_cast<int>(types.size()) / beadsPerThread, 1, settings.threads)),
          neighbors(program.cutoff, verletSkin, parallel, replicas),
          evaluator(program, parallel, stopwatch),
          edges(parallel.getThreads()) {
    }

    void evaluate(const EngineRequest& request, EngineResult& result) override {
        if (types.empty())
            return;
        bool rebuilt = wasInterrupted;
        wasInterrupted = true;
        stopwatch.run(0, "neighbors", -1, [&] { rebuilt |= neighbors.update(request.positions, request.box); });
        const std::vector<int>& order = neighbors.getOrder();
        const int beads = static_cast<int>(order.size());
        if (rebuilt) {
            std::vector<int> sortedTypes(beads);
            for (int i = 0; i < beads; i++) sortedTypes[i] = types[order[i]];
            evaluator.setTypes(sortedTypes);
            positions.resize(beads);
            forces.resize(beads);
        }
        for (int i = 0; i < beads; i++) positions[i] = request.positions[order[i]];
        parallel.run([&](int thread) {
            stopwatch.run(thread, "findEdges", -1, [&] {
                edges[thread].update(neighbors.getShares()[thread], positions, neighbors.getBox(), program.cutoff);
            });
        });
        energies.resize(beads);
        evaluator.evaluate(edges, request.forces, request.energy ? energies.data() : nullptr);
        if (request.energy)
            result.energy = std::accumulate(energies.begin(), energies.end(), 0.0);
        if (request.replicaEnergies) {
            result.replicaEnergies.assign(replicas, 0.0);
            for (int i = 0; i < beads; i++) result.replicaEnergies[order[i] / (beads / replicas)] += energies[i];
        }
        if (request.forces) {
            std::fill(forces.begin(), forces.end(), Vec3());
            parallel.run(
                [&](int thread) { stopwatch.run(thread, "addForces", -1, [&] { edges[thread].addForces(forces); }); });
            result.forces.resize(beads);
            for (int i = 0; i < beads; i++) result.forces[order[i]] = forces[i];
        }
        wasInterrupted = false;
    }

    std::vector<KernelTime> profile(const EngineRequest& request, int repeats) override {
        EngineResult result;
        evaluate(request, result);
        stopwatch.start();
        for (int i = 0; i < repeats; i++) evaluate(request, result);
        double directed = 0;
        for (int thread = 0; thread < parallel.getThreads(); thread++) directed += edges[thread].countDirected();
        const WorkEstimate estimate(program, static_cast<double>(types.size()), directed, sizeof(Real));
        std::vector<KernelTime> times;
        for (const auto& [name, seconds] : stopwatch.stop())
            times.push_back({name, seconds / repeats, estimate.of(name)});
        return times;
    }

private:
    Program program;
    std::vector<int> types;
    int replicas;
    bool wasInterrupted = false;  ///< the last evaluation, by an exception
    Parallel parallel;
    Stopwatch stopwatch;
    NeighborList neighbors;
    NetworkEvaluator<Real> evaluator;
    std::vector<EdgeList<Real>> edges;
    std::vector<Vec3> positions, forces;  // in the order of the neighbor list
    std::vector<double> energies;
};

}  // namespace

std::unique_ptr<Engine> createNativeEngine(const ModelArchive& model, const EngineSettings& settings) {
    const Program program{CompiledNetwork(model)};
    if (settings.doublePrecision)
        return std::make_unique<NativeEngine<double>>(program, settings);
    return std::make_unique<NativeEngine<float>>(program, settings);
}

}  // namespace OpenMMCG
