#include "UniformSpline.h"

#include <numeric>

#include "openmm/internal/SplineFitter.h"

namespace OpenMMCG {

UniformSpline::UniformSpline(double start, double stop, const std::vector<double>& energies, bool periodic)
    : start(start), cells(static_cast<int>(energies.size()) - 1), coefficients(energies.size() + 1) {
    cellsPerUnit = cells / (stop - start);
    std::vector<double> places(energies.size()), curvatures;
    std::iota(places.begin(), places.end(), 0.0);
    OpenMM::SplineFitter::createSpline(places, energies, periodic, curvatures);
    for (int i = 0; i < cells; i++) {
        const double first = curvatures[i], last = curvatures[i + 1];
        coefficients[i + 1] = {energies[i], energies[i + 1] - energies[i] - (2 * first + last) / 6, first / 2,
                               (last - first) / 6};
    }
    const auto& last = coefficients[cells];
    coefficients[0] = {coefficients[1][0], coefficients[1][1], 0, 0};
    coefficients[cells + 1] = {energies[cells], last[1] + 2 * last[2] + 3 * last[3], 0, 0};
}

}  // namespace OpenMMCG
