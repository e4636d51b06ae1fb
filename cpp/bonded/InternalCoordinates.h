#pragma once
#include <algorithm>
#include <array>
#include <cmath>

#include "openmm/Vec3.h"

namespace OpenMMCG {

/** An internal coordinate of some particles, and its gradient with respect to the position of each. */
template <size_t particles>
struct InternalCoordinate {
    double value;
    std::array<OpenMM::Vec3, particles> gradient;
};

/** Sine of an angle below which three particles are in a line as far as rounding can tell: they span no plane. */
constexpr double smallestSine = 1e-8;

/** Squared lengths are at least this where they divide, so that coinciding particles have zero gradients. */
constexpr double smallestSquare = 1e-200;

/**
 * A distance.
 *
 * @param d  from particle 1 to particle 2
 */
inline InternalCoordinate<2> computeDistance(const OpenMM::Vec3& d) {
    const double length = std::sqrt(d.dot(d));
    const OpenMM::Vec3 direction = d / std::max(length, smallestSquare);
    return {length, {-direction, direction}};
}

/**
 * An angle, from 0 to π; of the arctangent, so that it is exact near both ends. Where the particles are in a line its
 * gradient has no direction, and is zero.
 *
 * @param a  from particle 2, the vertex, to particle 1
 * @param b  from particle 2 to particle 3
 */
inline InternalCoordinate<3> computeAngle(const OpenMM::Vec3& a, const OpenMM::Vec3& b) {
    const double aa = std::max(a.dot(a), smallestSquare), bb = std::max(b.dot(b), smallestSquare);
    const OpenMM::Vec3 cross = a.cross(b);
    const double area = std::sqrt(cross.dot(cross));
    const OpenMM::Vec3 normal = cross / std::max(area, smallestSine * std::sqrt(aa) * std::sqrt(bb));
    const OpenMM::Vec3 first = a.cross(normal) / aa, third = normal.cross(b) / bb;
    return {std::atan2(area, a.dot(b)), {first, -(first + third), third}};
}

/**
 * A dihedral, from -π to π in the sign convention of IUPAC and OpenMM: A. Blondel and M. Karplus, J. Comput. Chem. 17,
 * 1132 (1996), equations 19 and 27, whose only singularities are those of the dihedral itself.
 *
 * @param f  from particle 2 to particle 1
 * @param g  from particle 3 to particle 2
 * @param h  from particle 3 to particle 4
 */
inline InternalCoordinate<4> computeDihedral(const OpenMM::Vec3& f, const OpenMM::Vec3& g, const OpenMM::Vec3& h) {
    const OpenMM::Vec3 a = f.cross(g), b = h.cross(g);
    const double gg = std::max(g.dot(g), smallestSquare), length = std::sqrt(gg);
    const double least = smallestSine * smallestSine * gg;
    const OpenMM::Vec3 first = a * (-length / std::max({a.dot(a), least * f.dot(f), smallestSquare}));
    const OpenMM::Vec3 fourth = b * (length / std::max({b.dot(b), least * h.dot(h), smallestSquare}));
    const OpenMM::Vec3 shared = first * (f.dot(g) / gg) + fourth * (h.dot(g) / gg);
    return {std::atan2(-length * b.dot(f), a.dot(b)), {first, -first - shared, shared - fourth, fourth}};
}

/** Squared sine of 15°: nearer to a straight line a dihedral's energy fades. */
constexpr double fadingSquaredSine = 0.0669872981077807;

/**
 * A weight of a dihedral for one of its two angles, and its gradient with respect to the vectors along both sides.
 *
 * 1 where the angle is at least 15° from 0 and from π, and 0 where it is straight, where the dihedral itself has no
 * meaning and a gradient that diverges as 1/sin; s²(3 - 2s) of s = (sin/sin 15°)² in between.
 */
struct AngleWeight {
    double value;
    OpenMM::Vec3 first, second;
};

/** @param a, b  along the sides; their signs do not matter */
inline AngleWeight computeAngleWeight(const OpenMM::Vec3& a, const OpenMM::Vec3& b) {
    const double aa = std::max(a.dot(a), smallestSquare), bb = std::max(b.dot(b), smallestSquare), ab = a.dot(b);
    const OpenMM::Vec3 cross = a.cross(b);
    const double s = cross.dot(cross) / aa / bb / fadingSquaredSine;
    if (!(s < 1))
        return {s >= 1 ? 1.0 : s, OpenMM::Vec3(), OpenMM::Vec3()};
    // ds/da = -2 (a·b)/(a²b²) (b - a (a·b)/a²)
    const double scale = -12 * s * (1 - s) * ab / aa / bb / fadingSquaredSine;
    return {s * s * (3 - 2 * s), (b - a * (ab / aa)) * scale, (a - b * (ab / bb)) * scale};
}

}  // namespace OpenMMCG
