#include "DenseLayer.h"

#include <cblas.h>

namespace OpenMMCG {

/** Each of our threads multiplies its own rows, so BLAS itself is to use one thread. */
static void useOneThread() {
    static const bool done = [] {
        scipy_openblas_set_num_threads(1);
        return true;
    }();
    (void)done;
}

void multiplyMatrices(int rows, int in, int out, const float* x, const float* w, bool accumulate, float* y) {
    useOneThread();
    scipy_cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, out, in, 1.0f, x, in, w, out,
                      accumulate ? 1.0f : 0.0f, y, out);
}

void multiplyMatrices(int rows, int in, int out, const double* x, const double* w, bool accumulate, double* y) {
    useOneThread();
    scipy_cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, out, in, 1.0, x, in, w, out,
                      accumulate ? 1.0 : 0.0, y, out);
}

}  // namespace OpenMMCG
