#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "Parallel.h"
#include "PeriodicBox.h"
#include "openmm/Vec3.h"

namespace OpenMMCG {

/** How much farther than the cutoff lists look, on hosts and devices, nm. */
constexpr double verletSkin = 0.1;

/**
 * All pairs of beads closer than cutoff + skin, found through a cell list in time linear in the number of beads, and
 * valid until a bead has moved half the skin or the box has changed.
 *
 * Beads are renumbered along a Morton curve so that neighbors in space are neighbors in memory (the features a stretch
 * of beads needs fit the cache, in a system of any size); indices below are positions in getOrder().
 * Each thread owns a contiguous share of them. A pair within one share is listed once, under its lower bead; a pair
 * across shares is listed by both, so that a thread can finish its own beads without writing to another's.
 *
 * The positions can be those of several replicas, consecutive blocks of equally many beads: only beads of one replica
 * are paired, and a replica's beads stay together in the new numbering.
 */
class NeighborList {
public:
    /** The pairs of the beads begin … end-1. */
    struct Share {
        int begin = 0, end = 0;
        std::vector<int> first;      ///< [beads + 1] where the neighbors of a bead start
        std::vector<int> middle;     ///< [beads] from first to middle: beads of this share; then: of others
        std::vector<int> neighbors;  ///< candidate neighbors
    };
    /** @param cutoff, skin  in nm */
    NeighborList(double cutoff, double skin, Parallel& parallel, int replicas);
    /**
     * Make the list valid for these positions.
     *
     * @param positions  nm
     * @param box  three vectors in reduced form, nm, or nullptr
     * @return whether the list was rebuilt (and with it the order of the beads)
     */
    bool update(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box);
    /** The bead at each place of the new numbering. */
    const std::vector<int>& getOrder() const {
        return order;
    }
    const std::vector<Share>& getShares() const {
        return shares;
    }
    /** The box of the last update. */
    const std::optional<PeriodicBox>& getBox() const {
        return box;
    }

private:
    bool isValid(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* boxVectors) const;
    void rebuild(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* boxVectors);
    void sortIntoCells(const std::vector<OpenMM::Vec3>& positions, double radius);
    void setGrid(const int* newCells);
    void findPairs(Share& share, double radius) const;
    double cutoff, skin, validDistance = 0;
    Parallel& parallel;
    int replicas;
    std::vector<OpenMM::Vec3> builtPositions, sorted;
    OpenMM::Vec3 builtBox[3];
    std::optional<PeriodicBox> box;
    int cells[3] = {0, 0, 0};   // of one replica
    std::vector<int> cellRank;  // where a cell comes in the order of a Morton curve
    std::vector<int> order, cellOfBead;
    std::vector<int> cellStart;  // replica by replica, in each by rank
    std::vector<Share> shares;
};

/**
 * Every pair of beads closer than the cutoff, once, in the numbering of the positions.
 *
 * @param list  a list of one share; it is brought up to date
 */
void listPairs(NeighborList& list, const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box, double cutoff,
               std::vector<int64_t>& rows, std::vector<int64_t>& columns);

}  // namespace OpenMMCG
