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
    neighbor.resize(most);
    distance.resize(most);
    for (auto& component : direction) component.resize(most);
    int edges = 0;
    const auto keep = [&](int i, int from, int to) {
        for (int k = from; k < to; k++) {
            const int j = share.neighbors[k];
            double x = positions[j][0] - positions[i][0], y = positions[j][1] - positions[i][1],
                   z = positions[j][2] - positions[i][2];
            if (box)
                box->wrap(x, y, z);
            const double square = x * x + y * y + z * z;
            if (square >= cutoff * cutoff)
                continue;
            const double r = std::sqrt(square), inverse = r > 0 ? 1 / r : 0;
            neighbor[edges] = j;
            distance[edges] = static_cast<Real>(r);
            direction[0][edges] = static_cast<Real>(x * inverse);
            direction[1][edges] = static_cast<Real>(y * inverse);
            direction[2][edges] = static_cast<Real>(z * inverse);
            edges++;
        }
    };
    for (int i = begin; i < end; i++) {
        keep(i, share.first[i - begin], share.middle[i - begin]);
        middle.push_back(edges);
        keep(i, share.middle[i - begin], share.first[i - begin + 1]);
        first.push_back(edges);
    }
    gradient.assign(edges, 0);
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
    return {begin, end, first.data(), middle.data(), neighbor.data(), cell.data(), fraction.data()};
}

template <class Real>
void EdgeList<Real>::addForces(std::vector<Vec3>& forces) const {
    for (int i = begin; i < end; i++) {
        const int last = first[i - begin + 1];
        Vec3 total;
        for (int e = first[i - begin]; e < last; e++) {
            const double g = gradient[e];
            const Vec3 force(g * direction[0][e], g * direction[1][e], g * direction[2][e]);
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
