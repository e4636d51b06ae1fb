#include "../neighbors/NeighborList.h"
#include "TorchScriptModule.h"

using OpenMM::Vec3;

namespace OpenMMCG {

namespace {

const double verletSkin = 0.1;  // nm

/** Runs a module on the host, on any platform. */
class TorchScriptEngine : public Engine {
public:
    TorchScriptEngine(const ModelArchive& model, const EngineSettings& settings)
        : module(model, settings, torch::kCPU),
          parallel(1),
          neighbors(module.getCutoff(), verletSkin, parallel, settings.replicas) {
    }

    void evaluate(const EngineRequest& request, EngineResult& result) override {
        const int64_t beads = static_cast<int64_t>(request.positions.size());
        TorchScriptModule::Graph graph{toTensor(request.positions.data(), beads), {}, {}, {}};
        if (request.box != nullptr)
            graph.box = toTensor(request.box, 3);
        if (module.suppliesNeighbors()) {
            listPairs(neighbors, request.positions, request.box, module.getCutoff(), rows, columns);
            const int64_t pairs = static_cast<int64_t>(rows.size());
            graph.rows = torch::from_blob(rows.data(), {pairs}, torch::kInt64);
            graph.columns = torch::from_blob(columns.data(), {pairs}, torch::kInt64);
        }
        torch::Tensor forces = module.evaluate(graph, request.parameters,
                                               {request.forces, request.energy, request.replicaEnergies}, result);
        if (!request.forces)
            return;
        forces = forces.to(torch::kFloat64).contiguous();
        const Vec3* values = reinterpret_cast<const Vec3*>(forces.data_ptr<double>());
        result.forces.assign(values, values + beads);
    }

private:
    static torch::Tensor toTensor(const Vec3* vectors, int64_t count) {
        static_assert(sizeof(Vec3) == 3 * sizeof(double));
        return torch::from_blob(const_cast<Vec3*>(vectors), {count, 3}, torch::kFloat64);
    }

    TorchScriptModule module;
    Parallel parallel;
    NeighborList neighbors;
    std::vector<int64_t> rows, columns;
};

}  // namespace

}  // namespace OpenMMCG

extern "C" __attribute__((visibility("default"))) OpenMMCG::Engine* openmmcgCreateTorchScriptEngine(
    const OpenMMCG::ModelArchive& model, const OpenMMCG::EngineSettings& settings) {
    return new OpenMMCG::TorchScriptEngine(model, settings);
}
