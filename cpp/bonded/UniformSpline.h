#pragma once
#include <array>
#include <vector>

namespace OpenMMCG {

/**
 * A cubic spline through energies at equally spaced places, as one polynomial for each cell between two of them.
 *
 * Periodic, or natural: then it goes on linearly beyond both ends. Nowhere is it searched for the cell.
 */
class UniformSpline {
public:
    /** @param energies  at least three, the first at `start` and the last at `stop`; if periodic, these two are equal
     */
    UniformSpline(double start, double stop, const std::vector<double>& energies, bool periodic);
    /** The energy at x and its derivative. Of what is not a number it is not a number either. */
    double evaluate(double x, double& derivative) const {
        const double u = (x - start) * cellsPerUnit;
        const int cell = u < 0 ? -1 : u < cells ? static_cast<int>(u) : cells;
        const double t = cell < 0 ? u : u - cell;
        const auto& c = coefficients[cell + 1];
        derivative = (c[1] + t * (2 * c[2] + 3 * t * c[3])) * cellsPerUnit;
        return c[0] + t * (c[1] + t * (c[2] + t * c[3]));
    }
    /** Slope at the first place, per unit of x. */
    double getStartSlope() const {
        return coefficients.front()[1] * cellsPerUnit;
    }
    /** Slope at the last place, per unit of x. */
    double getStopSlope() const {
        return coefficients.back()[1] * cellsPerUnit;
    }

private:
    double start, cellsPerUnit;
    int cells;
    /** Of powers of the place in a cell, 0 to 1; before the first cell and after the last are the straight lines. */
    std::vector<std::array<double, 4>> coefficients;
};

}  // namespace OpenMMCG
