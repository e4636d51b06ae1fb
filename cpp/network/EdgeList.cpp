#include "EdgeList.h"

#include <algorithm>
#include <cmath>

using OpenMM::Vec3;

namespace OpenMMCG {

template <class Real>
void EdgeList<Real>::update(const NeighborList::Share& share, const std::vector<Vec3>& positions,
                            const std::optional<PeriodicBox>& box, double cutoff) {
    begin = share.begin;
    end = share.end;
    this->cutoff = cutoff;
    locatedCells = 0;
    const size_t most = share.neighbors.size();
    first.assign(1, 0);
    middle.clear();
    neighbor.resize(most + edgesAhead);
    for (auto& component : displacement) component.resize(most + 1);
    int edges = 0;
    // Every candidate is written, and the next one over it if it was too far: no branch to mispredict.
    const auto keep = [&](int i, int from, int to) {
        const Vec3 center = positions[i];
        for (int k = from; k < to; k++) {
            const int j = share.neighbors[k];
            double x = positions[j][0] - center[0], y = positions[j][1] - center[1], z = positions[j][2] - center[2];
            if (box)
                box->wrap(x, y, z);
            neighbor[edges] = j;
            displacement[0][edges] = x;
            displacement[1][edges] = y;
            displacement[2][edges] = z;
            edges += x * x + y * y + z * z < cutoff * cutoff;
        }
    };
    for (int i = begin; i < end; i++) {
        keep(i, share.first[i - begin], share.middle[i - begin]);
        middle.push_back(edges);
        keep(i, share.middle[i - begin], share.first[i - begin + 1]);
        first.push_back(edges);
    }
    distance.resize(edges);
    for (auto& component : direction) component.resize(edges);
    for (int e = 0; e < edges; e++) {
        const double x = displacement[0][e], y = displacement[1][e], z = displacement[2][e];
        const double r = std::sqrt(x * x + y * y + z * z);
        const bool coincide = r < coincidence;
        const double inverse = coincide ? 0 : 1 / r;
        distance[e] = coincide ? 0 : static_cast<Real>(r);
        direction[0][e] = static_cast<Real>(x * inverse);
        direction[1][e] = static_cast<Real>(y * inverse);
        direction[2][e] = static_cast<Real>(z * inverse);
    }
    gradient.assign(edges, 0);
    directionGradient.clear();
}

template <class Real>
Real* EdgeList<Real>::getDirectionGradient() {
    directionGradient.resize(3 * gradient.size(), 0);
    return directionGradient.data();
}

template <class Real>
double EdgeList<Real>::countDirected() const {
    double count = 0;
    for (int i = 0; i < end - begin; i++) count += 2 * (middle[i] - first[i]) + (first[i + 1] - middle[i]);
    return count;
}

template <class Real>
Edges<Real> EdgeList<Real>::locate(int cells) {
    if (cells != locatedCells) {
        const int edges = first.back();
        const Real perLength = static_cast<Real>(cells / cutoff);
        cell.resize(edges);
        fraction.resize(edges);
        for (int e = 0; e < edges; e++) {
            const Real place = distance[e] * perLength;
            cell[e] = std::min(static_cast<int>(place), cells - 1);
            fraction[e] = place - static_cast<Real>(cell[e]);
        }
        locatedCells = cells;
    }
    return {
        begin,           end,         first.data(),    middle.data(),
        neighbor.data(), cell.data(), fraction.data(), {direction[0].data(), direction[1].data(), direction[2].data()}};
}

template <class Real>
void EdgeList<Real>::addForces(std::vector<Vec3>& forces) const {
    for (int i = begin; i < end; i++) {
        const int last = first[i - begin + 1];
        Vec3 total;
        for (int e = first[i - begin]; e < last; e++) {
            const Vec3 unit(direction[0][e], direction[1][e], direction[2][e]);
            Vec3 force = unit * gradient[e];
            if (!directionGradient.empty()) {
                // The derivative of a unit vector is what turns it, divided by the distance.
                const Real* g = &directionGradient[3 * e];
                const Vec3 turn(g[0], g[1], g[2]);
                if (distance[e] != 0)
                    force += (turn - unit * unit.dot(turn)) / distance[e];
            }
            total += force;
            if (e < middle[i - begin])
                forces[neighbor[e]] -= force;
        }
        forces[i] += total;
    }
}

template class EdgeList<float>;
template class EdgeList<double>;

}  // namespace OpenMMCG
