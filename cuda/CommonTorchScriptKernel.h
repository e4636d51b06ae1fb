#pragma once
#include <memory>

#include "../cpp/force/CGForceKernel.h"
#include "BeadForceInfo.h"
#include "DeviceNeighborList.h"
#include "KernelTimer.h"
#include "SharedDevice.h"

namespace OpenMMCG {

/**
 * The TorchScript engine where OpenMM keeps positions and forces: our neighbor list writes positions and pairs into
 * libtorch's tensors, and a kernel adds the forces that libtorch computes to OpenMM's.
 *
 * A tensor's length is known to the host, so a step has one thing to wait for: the number of pairs.
 */
class CommonTorchScriptKernel : public CalcCGForceKernel {
public:
    CommonTorchScriptKernel(std::string name, const OpenMM::Platform& platform, OpenMM::ComputeContext& compute,
                            SharedDeviceFactory createSharedDevice);
    ~CommonTorchScriptKernel() override;
    void initialize(OpenMM::ContextImpl& context, const ModelArchive& model, const EngineSettings& settings,
                    const std::vector<int>& particles) override;
    void setModel(const ModelArchive& model, const std::vector<int>& types) override;
    double execute(OpenMM::ContextImpl& context, bool forces, bool energy) override;
    std::vector<double> computeReplicaEnergies(OpenMM::ContextImpl& context) override;

private:
    void createEngine(const ModelArchive& model, const EngineSettings& settings);
    void createKernels();
    void replaceEngine(std::unique_ptr<DeviceEngine> next);
    void enqueueInput();
    DeviceResult evaluate(OpenMM::ContextImpl& context, DeviceRequest request);
    OpenMM::ComputeContext& compute;
    SharedDeviceFactory createSharedDevice;
    KernelTimer timer;
    EngineSettings settings;
    std::vector<std::string> parameters;
    int beads = 0, room = 0;
    BeadForceInfo* info = nullptr;  ///< belongs to OpenMM
    std::unique_ptr<SharedDevice> device;
    std::unique_ptr<DeviceEngine> engine;
    std::unique_ptr<DeviceNeighborList> list;
    OpenMM::ComputeArray pairCounts, numPairs;
    OpenMM::ComputeKernel exportPositions, countPairs, placePairs, exportPairs, addForces;
    OpenMM::ComputeEvent inputIsThere;
};

}  // namespace OpenMMCG
