#include "PairTable.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace OpenMMCG {

namespace {

const int mostCells = 1 << 15;
const double energyTolerance = 1e-6, slopeTolerance = 1e-5;
const double energyUnit = 1, slopeUnit = 10;  // kJ/mol, and that over 0.1 nm
constexpr double notANumber = std::numeric_limits<double>::quiet_NaN();
const std::array<double, 4> notTabulated{notANumber, notANumber, notANumber, notANumber};
/** The part of the cutoff, near zero, that matters to nobody. */
const double neglectedPart = 0.125;

/**
 * Whether a cell's polynomial is right, by the expression in its middle. Its error there is E t²(1-t)² with t = ½, and
 * the largest error of its slope, where t = ½ - √3/6, is 3.08 times that of the energy, over the width of the cell.
 */
bool isRight(const EnergyAndSlope& exact, double interpolated, double width) {
    const double error = std::abs(interpolated - exact.energy);
    return error <= energyTolerance * (std::abs(exact.energy) + energyUnit) &&
           3.08 * error <= slopeTolerance * width * (std::abs(exact.slope) + slopeUnit);  // false for what is no number
}

}  // namespace

PairTable::PairTable(double cutoff) : cellsPerUnit(1 / cutoff), coefficients(2, notTabulated) {
}

PairTable::PairTable(const PairExpression& expression, double cutoff, int cells) {
    std::vector<EnergyAndSlope> knots(cells + 1);
    for (int i = 0; i <= cells; i++) knots[i] = expression.evaluate(cutoff * i / cells);
    for (;;) {
        const double width = cutoff / cells;
        coefficients.assign(cells, {});
        std::vector<EnergyAndSlope> refined(2 * cells + 1);
        int wrong = 0;
        for (int i = 0; i < cells; i++) {
            const double a = knots[i].energy, b = knots[i + 1].energy, da = knots[i].slope * width,
                         db = knots[i + 1].slope * width;
            coefficients[i] = {a, da, 3 * (b - a) - 2 * da - db, 2 * (a - b) + da + db};
            refined[2 * i] = knots[i];
            refined[2 * i + 1] = expression.evaluate(cutoff * (2 * i + 1) / (2 * cells));
            if (isRight(refined[2 * i + 1], (a + b) / 2 + (da - db) / 8, width))
                continue;
            coefficients[i] = notTabulated;
            wrong += i >= neglectedPart * cells;
        }
        if (wrong == 0 || 2 * cells > mostCells)
            break;
        refined[2 * cells] = knots[cells];
        knots = std::move(refined);
        cells *= 2;
    }
    cellsPerUnit = cells / cutoff;
    coefficients.push_back(notTabulated);  // where a distance below the cutoff is rounded to
}

bool PairTable::isZero() const {
    const std::array<double, 4> zero{};
    return std::all_of(coefficients.begin(), coefficients.end() - 1, [&](const auto& cell) { return cell == zero; });
}

}  // namespace OpenMMCG
