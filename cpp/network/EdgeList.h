#pragma once
#include <vector>

#include "../neighbors/NeighborList.h"
#include "Kernels.h"

namespace OpenMMCG {

/** The pairs of one share of a neighbor list that are within the cutoff now, with what the network needs of each. */
template <class Real>
class EdgeList {
public:
    /** @param positions  of the beads in the list's numbering, nm */
    void update(const NeighborList::Share& share, const std::vector<OpenMM::Vec3>& positions,
                const std::optional<PeriodicBox>& box, double cutoff);
    int getBegin() const {
        return begin;
    }
    int getEnd() const {
        return end;
    }
    /** Edges that end at the share's own beads, in each direction one. */
    double countDirected() const;
    /** The view for a convolution whose filter is tabulated in this many cells. */
    Edges<Real> locate(int cells);
    /** ∂E/∂r of each edge, kJ/mol/nm; set to zero by update(). */
    Real* getGradient() {
        return gradient.data();
    }
    /** ∂E/∂r̂ of each edge, [edges, 3], where r̂ is the unit vector; zero when asked for first after update(). */
    Real* getDirectionGradient();
    /** Add the forces on this share's beads that follow from the gradient. */
    void addForces(std::vector<OpenMM::Vec3>& forces) const;

private:
    int begin = 0, end = 0, locatedCells = 0;
    double cutoff = 0;
    std::vector<int> first, middle, neighbor, cell;
    std::vector<Real> distance, fraction, gradient;
    std::vector<double> displacement[3];
    std::vector<Real> direction[3];       // unit vector from the bead to its neighbor; zero where they coincide
    std::vector<Real> directionGradient;  // empty where the network does not depend on directions
};

}  // namespace OpenMMCG
