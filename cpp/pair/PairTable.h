#pragma once
#include <array>
#include <cmath>
#include <vector>

#include "PairExpression.h"

namespace OpenMMCG {

/**
 * A pair energy up to its cutoff as a polynomial of degree three for each of equal cells, which has the energies and
 * slopes of the expression where cells meet: forces are continuous, and the exact derivative of the energy.
 *
 * Cells are halved until the energy between is right, within 1e-6 of itself and 1e-6 kJ/mol, and the slope within 1e-5;
 * where it never is (near zero, where energies are infinite, or at a kink) the expression itself is evaluated.
 */
class PairTable {
public:
    /**
     * @param expression  kept by the caller for as long as the table
     * @param cells  to begin with: where the expression is a spline on equal cells, their number, so that it is exact
     */
    PairTable(const PairExpression& expression, double cutoff, int cells);
    EnergyAndSlope evaluate(double distance) const {
        const double place = distance * cellsPerUnit;
        const size_t cell = static_cast<size_t>(place);
        if (cell < coefficients.size()) {
            const double t = place - static_cast<double>(cell);
            const auto& c = coefficients[cell];
            const double energy = c[0] + t * (c[1] + t * (c[2] + t * c[3]));
            if (energy == energy)
                return {energy, (c[1] + t * (2 * c[2] + 3 * t * c[3])) * cellsPerUnit};
        }
        return expression->evaluate(distance);
    }
    /** Whether it is zero wherever it is tabulated. */
    bool isZero() const;

private:
    const PairExpression* expression;
    double cellsPerUnit;
    std::vector<std::array<double, 4>> coefficients;  ///< not numbers where the expression is evaluated
};

}  // namespace OpenMMCG
