#pragma once
#include <memory>

#include "../neighbors/NeighborList.h"
#include "TorchModule.h"

namespace OpenMMCG {

/** Runs a module of libtorch's on the host, on any platform. */
class TorchEngine : public Engine {
public:
    /** @param module  on the host */
    TorchEngine(std::unique_ptr<TorchModule> module, const EngineSettings& settings)
        : module(std::move(module)),
          parallel(1),
          neighbors(this->module->getCutoff(), verletSkin, parallel, settings.replicas) {
    }

    void evaluate(const EngineRequest& request, EngineResult& result) override {
        const int64_t beads = static_cast<int64_t>(request.positions.size());
        TorchModule::Graph graph{toTensor(request.positions.data(), beads), {}, {}, {}};
        if (request.box != nullptr)
            graph.box = toTensor(request.box, 3);
        if (module->suppliesNeighbors()) {
            listPairs(neighbors, request.positions, request.box, module->getCutoff(), rows, columns);
            const int64_t pairs = static_cast<int64_t>(rows.size());
            graph.rows = torch::from_blob(rows.data(), {pairs}, torch::kInt64);
            graph.columns = torch::from_blob(columns.data(), {pairs}, torch::kInt64);
        }
        torch::Tensor forces = module->evaluate(graph, request.parameters,
                                                {request.forces, request.energy, request.replicaEnergies}, result);
        if (!request.forces)
            return;
        forces = forces.to(torch::kFloat64).contiguous();
        const OpenMM::Vec3* values = reinterpret_cast<const OpenMM::Vec3*>(forces.data_ptr<double>());
        result.forces.assign(values, values + beads);
    }

private:
    static constexpr double verletSkin = 0.1;  // nm

    static torch::Tensor toTensor(const OpenMM::Vec3* vectors, int64_t count) {
        static_assert(sizeof(OpenMM::Vec3) == 3 * sizeof(double));
        return torch::from_blob(const_cast<OpenMM::Vec3*>(vectors), {count, 3}, torch::kFloat64);
    }

    std::unique_ptr<TorchModule> module;
    Parallel parallel;
    NeighborList neighbors;
    std::vector<int64_t> rows, columns;
};

}  // namespace OpenMMCG
