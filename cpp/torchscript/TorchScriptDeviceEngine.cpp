#include <ATen/Context.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

#include "../force/DeviceEngine.h"
#include "TorchScriptModule.h"
#include "openmm/OpenMMException.h"

using OpenMM::OpenMMException;
using OpenMM::Vec3;

namespace OpenMMCG {

namespace {

torch::Device chooseDevice(const DevicePlace& place) {
    if (!place.isCuda)
        return torch::kCPU;
    if (!at::hasCUDA())
        throw OpenMMException("the torch that is installed has no CUDA (install a build of torch that has)");
    const int devices = c10::impl::VirtualGuardImpl(torch::kCUDA).deviceCount();
    if (place.index >= devices)
        throw OpenMMException("OpenMM uses CUDA device " + std::to_string(place.index) + ", but torch sees only " +
                              std::to_string(devices));
    return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(place.index));
}

/**
 * Runs a module where OpenMM keeps positions and forces. The tensors are libtorch's; OpenMM's kernels write and read
 * them. Nothing here needs a libtorch that was built with CUDA: only parts are used that are common to all devices.
 */
class TorchScriptDeviceEngine : public DeviceEngine {
public:
    TorchScriptDeviceEngine(const ModelArchive& model, const EngineSettings& settings, const DevicePlace& place)
        : device(chooseDevice(place)),
          realType(place.doublePrecision ? torch::kFloat64 : torch::kFloat32),
          module(model, settings, device),
          periodic(settings.periodic) {
        const int64_t beads = static_cast<int64_t>(settings.types.size());
        positions = torch::zeros({beads, 3}, torch::dtype(realType).device(device));
        tryOut(model.getDescription());
    }

    DeviceInput reserve(int64_t pairs) override {
        if (!rows.defined() || rows.numel() < pairs) {
            const auto options = torch::dtype(torch::kInt64).device(device);
            rows = torch::empty({pairs}, options);
            columns = torch::empty({pairs}, options);
            synchronize();
        }
        return {addressOf(positions), addressOf(rows), addressOf(columns)};
    }

    void evaluate(const DeviceRequest& request, DeviceResult& result) override {
        TorchModule::Graph graph{positions, {}, rows.narrow(0, 0, request.pairs), columns.narrow(0, 0, request.pairs)};
        if (request.box != nullptr)
            graph.box = toDevice(request.box);
        EngineResult energies;
        forces = module.evaluate(graph, request.parameters, {request.forces, request.energy, request.replicaEnergies},
                                 energies);
        result.energy = energies.energy;
        result.replicaEnergies = energies.replicaEnergies;
        result.derivatives = energies.derivatives;
        if (request.forces) {
            forces = forces.to(device, realType).contiguous();
            result.forces = addressOf(forces);
        }
        result.finished = recordEvent();
    }

private:
    static uint64_t addressOf(const torch::Tensor& tensor) {
        return reinterpret_cast<uintptr_t>(tensor.data_ptr());
    }

    /** The box; it is sent there only when it has changed. */
    torch::Tensor toDevice(const Vec3* box) {
        if (!boxTensor.defined() || !std::equal(box, box + 3, lastBox)) {
            std::copy(box, box + 3, lastBox);
            boxTensor = torch::from_blob(lastBox, {3, 3}, torch::kFloat64).to(device, torch::kFloat64, false, true);
        }
        return boxTensor;
    }

    /** What libtorch has enqueued so far is done when this event has happened. The host's operators return when done.
     */
    void* recordEvent() {
        if (device.is_cpu())
            return nullptr;
        if (!finished)
            finished.emplace(device.type());
        finished->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
        return finished->eventId();
    }

    /** Memory that libtorch gives out may be in use by what it still does: others have to wait for that. */
    void synchronize() const {
        if (device.is_cpu())
            return;
        const c10::impl::VirtualGuardImpl guard(device.type());
        guard.synchronizeStream(guard.getStream(device));
    }

    /** One evaluation of a chain of beads: a module with constants or operators of the host only fails here. */
    void tryOut(const ModelDescription& description) {
        const int64_t beads = positions.size(0);
        positions.copy_(torch::arange(3 * beads, positions.options()).reshape({beads, 3}) * 0.1);
        reserve(beads);
        rows.copy_(torch::arange(beads, rows.options()));
        columns.copy_(rows + 1);
        const double width = 1 + 4 * description.cutoff;
        const Vec3 box[3] = {Vec3(width, 0, 0), Vec3(0, width, 0), Vec3(0, 0, width)};
        DeviceRequest request{beads - 1, periodic ? box : nullptr, {}, true, true};
        for (const auto& parameter : description.globalParameters) request.parameters.push_back(parameter.defaultValue);
        DeviceResult result;
        evaluate(request, result);
        synchronize();
    }

    torch::Device device;
    torch::ScalarType realType;
    TorchScriptModule module;
    bool periodic;
    torch::Tensor positions, rows, columns, boxTensor, forces;
    Vec3 lastBox[3];
    std::optional<c10::Event> finished;
};

}  // namespace

}  // namespace OpenMMCG

extern "C" __attribute__((visibility("default"))) OpenMMCG::DeviceEngine* openmmcgCreateTorchScriptDeviceEngine(
    const OpenMMCG::ModelArchive& model, const OpenMMCG::EngineSettings& settings, const OpenMMCG::DevicePlace& place) {
    return new OpenMMCG::TorchScriptDeviceEngine(model, settings, place);
}
