#pragma once

namespace OpenMMCG {

/**
 * y[rows, out] = x[rows, in] · w[in, out] + accumulate·y, row-major, through BLAS. Call it with a few dozen rows: such
 * products run at the speed of large ones, and what they touch stays in the cache.
 */
void multiplyMatrices(int rows, int in, int out, const float* x, const float* w, bool accumulate, float* y);
void multiplyMatrices(int rows, int in, int out, const double* x, const double* w, bool accumulate, double* y);

}  // namespace OpenMMCG
