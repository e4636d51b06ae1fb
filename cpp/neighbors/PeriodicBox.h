#pragma once
#include <algorithm>
#include <array>
#include <cmath>

#include "openmm/Vec3.h"

namespace OpenMMCG {

/**
 * A periodic box in OpenMM's reduced form: a = (ax, 0, 0), b = (bx, by, 0), c = (cx, cy, cz).
 *
 * The minimum image subtracts multiples of c, then b, then a. Two displacements that differ by a lattice vector and are
 * both shorter than half of min(ax, by, cz) have the same multiples, so for such distances the result is exact.
 */
class PeriodicBox {
public:
    explicit PeriodicBox(const OpenMM::Vec3* vectors) {
        for (int i = 0; i < 3; i++) {
            v[i] = vectors[i];
            inverse[i] = 1 / v[i][i];
        }
    }
    double getSmallestWidth() const {
        return std::min({v[0][0], v[1][1], v[2][2]});
    }
    /** Distances between opposite faces; they bound how far a cell reaches. */
    std::array<double, 3> getFaceDistances() const {
        const double volume = v[0][0] * v[1][1] * v[2][2];
        std::array<double, 3> result;
        for (int i = 0; i < 3; i++) {
            const OpenMM::Vec3 normal = v[(i + 1) % 3].cross(v[(i + 2) % 3]);
            result[i] = volume / std::sqrt(normal.dot(normal));
        }
        return result;
    }
    OpenMM::Vec3 getFractional(const OpenMM::Vec3& r) const {
        const double z = r[2] * inverse[2];
        const double y = (r[1] - z * v[2][1]) * inverse[1];
        const double x = (r[0] - y * v[1][0] - z * v[2][0]) * inverse[0];
        return OpenMM::Vec3(x, y, z);
    }
    /** Replace a displacement by its minimum image. */
    void wrap(double& x, double& y, double& z) const {
        const double k = round(z * inverse[2]);
        x -= k * v[2][0];
        y -= k * v[2][1];
        z -= k * v[2][2];
        const double j = round(y * inverse[1]);
        x -= j * v[1][0];
        y -= j * v[1][1];
        x -= round(x * inverse[0]) * v[0][0];
    }

private:
    /** To the nearest integer for |x| < 2^51, without a call: the sum has no room for a fraction. */
    static double round(double x) {
        const double shift = 6755399441055744.0;  // 1.5 * 2^52
        return (x + shift) - shift;
    }
    OpenMM::Vec3 v[3];
    double inverse[3];
};

}  // namespace OpenMMCG
