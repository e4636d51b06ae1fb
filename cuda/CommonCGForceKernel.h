#pragma once
#include <memory>

#include "../cpp/force/CGForceKernel.h"
#include "DeviceNetwork.h"
#include "openmm/common/ComputeArray.h"
#include "openmm/common/ComputeContext.h"

namespace OpenMMCG {

/**
 * The native engine on a GPU, for every platform of OpenMM's common compute dialect.
 *
 * A step gathers the positions, brings neighbor list and edges up to date, and runs the network forward and back; the
 * host reads nothing but, where a list could overflow, one number that is ready long before the step is.
 */
class CommonCGForceKernel : public CalcCGForceKernel {
public:
    CommonCGForceKernel(std::string name, const OpenMM::Platform& platform, OpenMM::ComputeContext& compute);
    void initialize(OpenMM::ContextImpl& context, const Program& program, const EngineSettings& settings,
                    const std::vector<int>& particles) override;
    void setProgram(const Program& program) override;
    double execute(OpenMM::ContextImpl& context, bool forces, bool energy) override;
    std::vector<double> computeReplicaEnergies(OpenMM::ContextImpl& context) override;

private:
    class ForceInfo;
    class ReorderListener;
    struct Box {
        OpenMM::Vec3 vectors[3];
        bool operator!=(const Box& other) const;
    };
    OpenMM::ComputeKernel getKernel(const std::string& name);
    void createListKernels();
    void createNetworkKernels();
    void setMixed(OpenMM::ComputeKernel& kernel, int index, double value);
    void setBox(OpenMM::ComputeKernel& kernel, int index);
    void setCapacity(int newCapacity);
    void updateBox();
    void findEdges(bool mustRebuild);
    void runNetwork(bool forces, bool energy);
    OpenMM::ComputeContext& compute;
    double cutoff = 0, radius = 0, validDistance = 0;
    int beads = 0, replicas = 1, types = 0, capacity = 0, evaluation = 0;
    bool periodic = false, useCells = false, slotsAreStale = true, listIsStale = true, canOverflow = false;
    int cells[3] = {1, 1, 1};
    Box box;
    std::unique_ptr<DeviceNetwork> network;
    OpenMM::ComputeProgram program;
    OpenMM::ComputeArray beadOfParticle, slots, beadTypes, positions, builtPositions, state;
    OpenMM::ComputeArray grid, cellOfBead, cellStart, cursor, sortedBeads;
    OpenMM::ComputeArray candidateCounts, candidates, edgeCounts, neighbors, edges;
    OpenMM::ComputeArray parameters, workspace, beadEnergies, replicaEnergies;
    OpenMM::ComputeKernel findSlotsKernel, gatherKernel, sortKernel, edgesKernel, energyKernel;
    std::vector<OpenMM::ComputeKernel> convolve, convolveAdjoint;  ///< by convolution
    std::vector<OpenMM::ComputeKernel> forward, reverse;           ///< by layer; null where there is nothing to do
    OpenMM::ComputeKernel last[3];                                 ///< forces, energy, both
    OpenMM::ComputeEvent listIsReady;
};

}  // namespace OpenMMCG
