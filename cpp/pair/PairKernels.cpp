// Compiled once per instruction set, with OPENMMCG_KERNEL_SET naming it. Nothing here may instantiate inline
// functions of headers: the linker could pick the copy made for another instruction set.
#include "PairKernels.h"

#include <math.h>

namespace OpenMMCG {

namespace {

/** To the nearest integer for |x| < 2^51: the sum has no room for a fraction. */
inline double nearest(double x) {
    const double shift = 6755399441055744.0;  // 1.5 * 2^52
    return (x + shift) - shift;
}

int find(int count, const int* bead, const int* pair, const double* const* positions, const double* center,
         const BoxNumbers* box, double limit, const NearPairs& found) {
    const double *px = positions[0], *py = positions[1], *pz = positions[2];
    double *x = found.x, *y = found.y, *z = found.z, *square = found.square;
    const double cx = center[0], cy = center[1], cz = center[2];
#pragma omp simd
    for (int k = 0; k < count; k++) {
        x[k] = px[bead[k]] - cx;
        y[k] = py[bead[k]] - cy;
        z[k] = pz[bead[k]] - cz;
    }
    if (box != nullptr) {
        const BoxNumbers b = *box;
#pragma omp simd
        for (int k = 0; k < count; k++) {
            const double nz = nearest(z[k] * b.inverse[2]), yz = y[k] - nz * b.cy, ny = nearest(yz * b.inverse[1]);
            const double xyz = x[k] - nz * b.cx - ny * b.bx;
            x[k] = xyz - nearest(xyz * b.inverse[0]) * b.ax;
            y[k] = yz - ny * b.by;
            z[k] -= nz * b.cz;
        }
    }
#pragma omp simd
    for (int k = 0; k < count; k++) square[k] = x[k] * x[k] + y[k] * y[k] + z[k] * z[k];
    // Every candidate is written, and the next one over it if it was too far: no branch to mispredict.
    int near = 0;
    for (int k = 0; k < count; k++) {
        const double s = square[k];
        found.bead[near] = bead[k];
        found.pair[near] = pair[k];
        x[near] = x[k];
        y[near] = y[k];
        z[near] = z[k];
        square[near] = s;
        near += s < limit;
    }
    return near;
}

void evaluate(int count, const NearPairs& pairs, const PackedTables& tables, double* energies, double* strengths) {
    const int *pair = pairs.pair, *first = tables.first;
    const double *square = pairs.square, *scale = tables.cellsPerUnit, *coefficients = tables.coefficients;
#pragma omp simd
    for (int k = 0; k < count; k++) {
        const double r = sqrt(square[k]), perUnit = scale[pair[k]], place = r * perUnit;
        const int cell = static_cast<int>(place);
        const double t = place - cell;
        const double* c = coefficients + 4 * (first[pair[k]] + cell);
        energies[k] = c[0] + t * (c[1] + t * (c[2] + t * c[3]));
        strengths[k] = (c[1] + t * (2 * c[2] + 3 * t * c[3])) * perUnit / r;
    }
}

}  // namespace

#define OPENMMCG_JOIN(a, b) a##b
#define OPENMMCG_NAME(a, b) OPENMMCG_JOIN(a, b)
extern const PairKernels OPENMMCG_NAME(pairKernels, OPENMMCG_KERNEL_SET);
const PairKernels OPENMMCG_NAME(pairKernels, OPENMMCG_KERNEL_SET) = {find, evaluate};

}  // namespace OpenMMCG
