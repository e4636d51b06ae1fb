#include "NeighborList.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "Capacity.h"
#include "openmm/OpenMMException.h"

using OpenMM::Vec3;

namespace OpenMMCG {

NeighborList::NeighborList(double cutoff, double skin, Parallel& parallel, int replicas)
    : cutoff(cutoff), skin(skin), parallel(parallel), replicas(replicas), shares(parallel.getThreads()) {
}

bool NeighborList::update(const std::vector<Vec3>& positions, const Vec3* boxVectors) {
    if (isValid(positions, boxVectors))
        return false;
    rebuild(positions, boxVectors);
    return true;
}

bool NeighborList::isValid(const std::vector<Vec3>& positions, const Vec3* boxVectors) const {
    if (positions.size() != builtPositions.size() || box.has_value() != (boxVectors != nullptr))
        return false;
    if (boxVectors != nullptr && !std::equal(boxVectors, boxVectors + 3, builtBox))
        return false;
    const double limit = validDistance * validDistance;
    for (size_t i = 0; i < positions.size(); i++) {
        const Vec3 moved = positions[i] - builtPositions[i];
        if (!(moved.dot(moved) < limit))  // also where a position is not a number
            return false;
    }
    return true;
}

void NeighborList::rebuild(const std::vector<Vec3>& positions, const Vec3* boxVectors) {
    for (size_t i = 0; i < positions.size(); i++)
        if (!std::isfinite(positions[i].dot(positions[i])))
            throw OpenMM::OpenMMException("The position of bead " + std::to_string(i) +
                                          " is not finite; check the starting positions, or shorten the time step");
    builtPositions.clear();  // should what follows be interrupted, the list is not valid
    double usedSkin = skin;
    if (boxVectors != nullptr) {
        box.emplace(boxVectors);
        std::copy(boxVectors, boxVectors + 3, builtBox);
        // Beyond half the box the minimum image is not exact, so the list cannot promise more than that.
        usedSkin = std::min(skin, std::max(0.0, box->getSmallestWidth() / 2 - cutoff));
    } else
        box.reset();
    validDistance = usedSkin / 2;
    sortIntoCells(positions, cutoff + usedSkin);
    const int beads = static_cast<int>(positions.size()), threads = static_cast<int>(shares.size());
    for (int i = 0; i < threads; i++) {
        shares[i].begin = static_cast<int>(static_cast<int64_t>(beads) * i / threads);
        shares[i].end = static_cast<int>(static_cast<int64_t>(beads) * (i + 1) / threads);
    }
    parallel.run([&](int thread) { findPairs(shares[thread], cutoff + usedSkin); });
    builtPositions = positions;
}

void NeighborList::sortIntoCells(const std::vector<Vec3>& positions, double radius) {
    const int beads = static_cast<int>(positions.size()), beadsOfReplica = beads / replicas;
    std::vector<Vec3> places(beads);  // in units of the box (or largest bounding box of a replica), from 0 to 1
    std::array<double, 3> extent;
    if (box) {
        extent = box->getFaceDistances();
        for (int i = 0; i < beads; i++) {
            places[i] = box->getFractional(positions[i]);
            for (int d = 0; d < 3; d++) places[i][d] -= std::floor(places[i][d]);
        }
    } else {
        extent.fill(1e-9);
        for (int begin = 0; begin < beads; begin += beadsOfReplica) {
            Vec3 low = positions[begin];
            for (int i = begin; i < begin + beadsOfReplica; i++)
                for (int d = 0; d < 3; d++) low[d] = std::min(low[d], positions[i][d]);
            for (int i = begin; i < begin + beadsOfReplica; i++) {
                places[i] = positions[i] - low;
                for (int d = 0; d < 3; d++) extent[d] = std::max(extent[d], places[i][d]);
            }
        }
        for (Vec3& place : places)
            for (int d = 0; d < 3; d++) place[d] /= extent[d];
    }
    // More cells than beads would only cost memory (beads of a molecule can be far apart without a box).
    const int most = std::max(1, static_cast<int>(2 * std::cbrt(beadsOfReplica)));
    int newCells[3];
    for (int d = 0; d < 3; d++)
        newCells[d] = static_cast<int>(std::clamp(std::floor(extent[d] / radius), 1.0, static_cast<double>(most)));
    setGrid(newCells);
    cellOfBead.resize(beads);
    cellStart.assign(replicas * cellRank.size() + 1, 0);
    const auto rankOfBead = [&](int i) { return i / beadsOfReplica * cellRank.size() + cellRank[cellOfBead[i]]; };
    for (int i = 0; i < beads; i++) {
        int cell = 0;
        for (int d = 2; d >= 0; d--)
            cell = cell * cells[d] + std::min(static_cast<int>(places[i][d] * cells[d]), cells[d] - 1);
        cellOfBead[i] = cell;
        cellStart[rankOfBead(i) + 1]++;
    }
    for (size_t rank = 1; rank < cellStart.size(); rank++) cellStart[rank] += cellStart[rank - 1];
    order.resize(beads);
    sorted.resize(beads);
    std::vector<int> next(cellStart.begin(), cellStart.end() - 1);
    for (int i = 0; i < beads; i++) order[next[rankOfBead(i)]++] = i;
    for (int i = 0; i < beads; i++) sorted[i] = positions[order[i]];
}

void NeighborList::setGrid(const int* newCells) {
    if (std::equal(newCells, newCells + 3, cells))
        return;
    std::vector<std::pair<uint64_t, int>> curve;
    for (int z = 0; z < newCells[2]; z++)
        for (int y = 0; y < newCells[1]; y++)
            for (int x = 0; x < newCells[0]; x++) {
                uint64_t code = 0;  // the bits of x, y and z in turn
                for (int bit = 0; bit < 20; bit++)
                    code |= static_cast<uint64_t>((x >> bit & 1) | (y >> bit & 1) << 1 | (z >> bit & 1) << 2)
                            << 3 * bit;
                curve.emplace_back(code, static_cast<int>(curve.size()));
            }
    std::sort(curve.begin(), curve.end());
    cellRank.resize(curve.size());
    for (size_t rank = 0; rank < curve.size(); rank++) cellRank[curve[rank].second] = static_cast<int>(rank);
    std::copy(newCells, newCells + 3, cells);
}

void NeighborList::findPairs(Share& share, double radius) const {
    const double limit = radius * radius;
    const int beadsOfReplica = static_cast<int>(order.size()) / replicas;
    const auto search = [&](int i, int from, int to, std::vector<int>& found) {
        const Vec3 center = sorted[i];
        for (int j = from; j < to; j++) {
            double x = sorted[j][0] - center[0], y = sorted[j][1] - center[1], z = sorted[j][2] - center[2];
            if (box)
                box->wrap(x, y, z);
            if (x * x + y * y + z * z < limit)
                found.push_back(j);
        }
    };
    share.first.assign(1, 0);
    share.middle.clear();
    share.neighbors.clear();
    std::vector<int> foreign;
    for (int i = share.begin; i < share.end; i++) {
        foreign.clear();
        int range[3][3], count[3];  // the cells to look at along each direction, none twice
        int cell = cellOfBead[order[i]];
        const size_t firstRank = order[i] / beadsOfReplica * cellRank.size();
        for (int d = 0; d < 3; d++) {
            const int here = cell % cells[d];
            cell /= cells[d];
            count[d] = 0;
            for (int offset = -1; offset <= 1; offset++) {
                int there = here + offset;
                if (box)
                    there = (there + cells[d]) % cells[d];
                if (there >= 0 && there < cells[d] &&
                    std::find(range[d], range[d] + count[d], there) == range[d] + count[d])
                    range[d][count[d]++] = there;
            }
        }
        for (int a = 0; a < count[2]; a++)
            for (int b = 0; b < count[1]; b++)
                for (int c = 0; c < count[0]; c++) {
                    const size_t other =
                        firstRank + cellRank[(range[2][a] * cells[1] + range[1][b]) * cells[0] + range[0][c]];
                    const int from = cellStart[other], to = cellStart[other + 1];
                    search(i, std::max(from, i + 1), std::min(to, share.end), share.neighbors);
                    search(i, from, std::min(to, share.begin), foreign);
                    search(i, std::max(from, share.end), to, foreign);
                }
        share.middle.push_back(static_cast<int>(share.neighbors.size()));
        share.neighbors.insert(share.neighbors.end(), foreign.begin(), foreign.end());
        share.first.push_back(
            requireCapacity(static_cast<int64_t>(share.neighbors.size()),
                            "a thread's part of the neighbor list of " + std::to_string(order.size()) + " beads"));
    }
}

void listPairs(NeighborList& list, const std::vector<Vec3>& positions, const Vec3* box, double cutoff,
               std::vector<int64_t>& rows, std::vector<int64_t>& columns) {
    list.update(positions, box);
    rows.clear();
    columns.clear();
    const auto& order = list.getOrder();
    std::optional<PeriodicBox> periodic;
    if (box != nullptr)
        periodic.emplace(box);
    for (const NeighborList::Share& share : list.getShares())
        for (int i = share.begin; i < share.end; i++)
            for (int k = share.first[i - share.begin]; k < share.middle[i - share.begin]; k++) {
                const int row = order[i], column = order[share.neighbors[k]];
                double x = positions[column][0] - positions[row][0], y = positions[column][1] - positions[row][1],
                       z = positions[column][2] - positions[row][2];
                if (periodic)
                    periodic->wrap(x, y, z);
                if (x * x + y * y + z * z < cutoff * cutoff) {
                    rows.push_back(row);
                    columns.push_back(column);
                }
            }
}

}  // namespace OpenMMCG
