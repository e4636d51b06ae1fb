#pragma once
#include <memory>

#include "../cpp/force/CGForceKernel.h"
#include "../cpp/network/Program.h"
#include "BeadForceInfo.h"
#include "DeviceNeighborList.h"
#include "DeviceNetwork.h"
#include "KernelTimer.h"

namespace OpenMMCG {

/** The native engine on a GPU, for every platform of OpenMM's common compute dialect. */
class CommonCGForceKernel : public CalcCGForceKernel {
public:
    CommonCGForceKernel(std::string name, const OpenMM::Platform& platform, OpenMM::ComputeContext& compute);
    void initialize(OpenMM::ContextImpl& context, const ModelArchive& model, const EngineSettings& settings,
                    const std::vector<int>& particles) override;
    void setModel(const ModelArchive& model, const std::vector<int>& types) override;
    double execute(OpenMM::ContextImpl& context, bool forces, bool energy) override;
    std::vector<double> computeReplicaEnergies(OpenMM::ContextImpl& context) override;
    std::vector<KernelTime> profile(OpenMM::ContextImpl& context, int repeats) override;

private:
    void useProgram(std::unique_ptr<Program> next);
    void uploadTypes(const std::vector<int>& types);
    void checkSize(const Program& program, const DeviceNetwork& network) const;
    void createArrays();
    void createKernels();
    void run(bool forces, bool energy);
    OpenMM::ComputeContext& compute;
    KernelTimer timer;
    int beads = 0, replicas = 1;
    BeadForceInfo* info = nullptr;  ///< belongs to OpenMM
    std::unique_ptr<DeviceNeighborList> list;
    std::unique_ptr<Program> program;
    std::unique_ptr<DeviceNetwork> network;
    OpenMM::ComputeArray beadTypes, parameters, workspace, beadEnergies, replicaEnergies;
    std::vector<OpenMM::ComputeKernel> convolve, convolveAdjoint;  ///< by convolution
    std::vector<OpenMM::ComputeKernel> forward, reverse;           ///< by segment; null where there is nothing to do
    OpenMM::ComputeKernel last[3];                                 ///< forces, energy, both
    OpenMM::ComputeKernel sumEnergies;
};

}  // namespace OpenMMCG
