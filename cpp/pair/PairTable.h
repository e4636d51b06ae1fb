#pragma once
#include <array>
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
    /** The expression alone: one cell that is no polynomial. */
    explicit PairTable(double cutoff);
    /** @param cells  to begin with: where the expression is a spline on equal cells, their number, so that it is exact
     */
    PairTable(const PairExpression& expression, double cutoff, int cells);
    double getCellsPerUnit() const {
        return cellsPerUnit;
    }
    /** Of powers of the place in a cell, 0 to 1; not numbers where the expression is evaluated, as after the last cell.
     */
    const std::vector<std::array<double, 4>>& getCoefficients() const {
        return coefficients;
    }
    /** Whether it is zero wherever it is tabulated. */
    bool isZero() const;

private:
    double cellsPerUnit;
    std::vector<std::array<double, 4>> coefficients;
};

}  // namespace OpenMMCG
