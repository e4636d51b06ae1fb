#pragma once
#include <string>
#include <vector>

#include "KernelTimer.h"
#include "openmm/common/ComputeArray.h"
#include "openmm/common/ComputeContext.h"

namespace OpenMMCG {

/**
 * The beads' positions, neighbor list and edges in the device's memory; kernels/neighbors.cc says how they are made.
 *
 * The device decides when the list is made anew. The host learns one thing of it, and only where a list could run out
 * of room: whether it did. That is known long before a step is over, so the device does not wait for the host.
 *
 *     do {
 *         list.update();
 *         …  // enqueue what uses the list; kernels that add forces look at getState()
 *     } while (!list.isComplete());
 */
class DeviceNeighborList {
public:
    struct Settings {
        double cutoff;  ///< nm
        int replicas;
        bool periodic;
    };
    /** @param particles  the particle of each bead */
    DeviceNeighborList(OpenMM::ComputeContext& compute, KernelTimer& timer, const Settings& settings,
                       const std::vector<int>& particles);
    /** Enqueue what brings positions, list and edges up to date. */
    void update();
    /**
     * Say whether all neighbors had room in the list of the last update; if not, there is more room now.
     *
     * Throws where the position of a bead is not finite.
     */
    bool isComplete();
    /** Edges of bead i are the getEdgeCounts()[i] ones from i*getCapacity() on. */
    int getCapacity() const {
        return capacity;
    }
    OpenMM::ArrayInterface& getEdgeCounts() {
        return edgeCounts;
    }
    /** Of the beads, in nm, mixed4. */
    OpenMM::ArrayInterface& getPositions() {
        return positions;
    }
    /** The other bead of each edge. */
    OpenMM::ArrayInterface& getNeighbors() {
        return neighbors;
    }
    /** Unit vector to the neighbor and distance in nm, real4. */
    OpenMM::ArrayInterface& getEdges() {
        return edges;
    }
    /** All beads; where the list has cells, those near each other follow each other. */
    OpenMM::ArrayInterface& getOrder() {
        return sortedBeads;
    }
    /** Where OpenMM keeps each bead. */
    OpenMM::ArrayInterface& getSlots() {
        return slots;
    }
    /** Of its numbers the one at OVERFLOWED says not to add forces. */
    OpenMM::ArrayInterface& getState() {
        return state;
    }

private:
    class ReorderListener;
    struct Box {
        OpenMM::Vec3 vectors[3];
    };
    void createArrays(const std::vector<int>& particles);
    void createKernels();
    void setMixed(OpenMM::ComputeKernel& kernel, int index, double value);
    void setBox(OpenMM::ComputeKernel& kernel, int index);
    std::string countBeads() const;
    void setCapacity(int64_t wanted);
    void updateBox();
    int getMostCellsAlong() const;
    OpenMM::ComputeContext& compute;
    KernelTimer& timer;
    Settings settings;
    int beads, capacity = 0, evaluation = 0;
    bool useCells, usesDouble;  ///< usesDouble: for positions
    bool slotsAreStale = true, isStale = true, canOverflow = false, isChecked = false;
    double radius = 0, validDistance = 0;
    int cells[3] = {1, 1, 1};
    Box box;
    OpenMM::ComputeArray beadOfParticle, slots, positions, builtPositions, state;
    OpenMM::ComputeArray grid, cellOfBead, cellStart, cursor, sortedBeads;
    OpenMM::ComputeArray candidateCounts, candidates, edgeCounts, neighbors, edges;
    OpenMM::ComputeKernel findSlots, gatherPositions, sortIntoCells, findEdges;
    OpenMM::ComputeEvent stateIsHere;
};

}  // namespace OpenMMCG
