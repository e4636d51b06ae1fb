// Compiled once per instruction set, with OPENMMCG_KERNEL_SET naming it. Nothing here may instantiate inline
// functions of headers: the linker could pick the copy made for another instruction set.
#include "Kernels.h"

#include <math.h>

namespace OpenMMCG {

namespace {

/** e^x, relative error 2e-7, for float: 2^n times a polynomial on ±ln(2)/2 (Taylor, degree 6). */
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    const float shift = 12582912.0f;  // 1.5 * 2^23: the sum rounds to an integer
    const float n = (x * 1.44269504f + shift) - shift;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    const float p =
        1.0f +
        r * (1.0f + r * (0.5f + r * (1.6666667e-1f + r * (4.1666667e-2f + r * (8.3333333e-3f + r * 1.3888889e-3f)))));
    union {
        int i;
        float f;
    } power;
    power.i = (static_cast<int>(n) + 127) << 23;
    return p * power.f;
}
inline double exponential(double x) {
    return exp(x);
}

/** ln(1 + x) for 0 ≤ x ≤ 1, relative error 2e-7: 2 artanh(x / (2 + x)) as a series. */
inline float logarithmOnePlus(float x) {
    const float s = x / (2.0f + x), q = s * s;  // q ≤ 1/9
    return 2.0f * s * (1.0f + q * (1.0f / 3 + q * (0.2f + q * (1.0f / 7 + q * (1.0f / 9 + q * (1.0f / 11 + q / 13))))));
}
inline double logarithmOnePlus(double x) {
    return log1p(x);
}

template <class Real>
inline void tanhAndDerivative(Real x, Real& value, Real& derivative) {
    const Real magnitude = x < 0 ? -x : x;
    const Real e = exponential(-2 * magnitude), inverse = 1 / (1 + e);
    // Near zero 1 - e cancels; there the series is exact to rounding.
    const Real q = x * x;
    const Real series =
        magnitude * (1 - q * (Real(1) / 3 - q * (Real(2) / 15 - q * (Real(17) / 315 - q * Real(62) / 2835))));
    const Real limit = sizeof(Real) == 4 ? Real(0.2) : Real(0.01);
    const Real positive = magnitude < limit ? series : (1 - e) * inverse;
    value = x < 0 ? -positive : positive;
    derivative = 4 * e * inverse * inverse;
}

/** ln(½ + ½eˣ); its derivative is the logistic function. */
template <class Real>
inline void softplusAndDerivative(Real x, Real& value, Real& derivative) {
    const Real magnitude = x < 0 ? -x : x;
    const Real e = exponential(-magnitude), inverse = 1 / (1 + e);
    value = (x > 0 ? x : Real(0)) + logarithmOnePlus(e) - Real(0.69314718055994530942);
    derivative = x > 0 ? inverse : e * inverse;
}

template <class Real>
inline const Real* row(const Features<Real>& x, int bead, int stride) {
    return x.values + static_cast<long>(x.type == nullptr ? bead : x.type[bead]) * stride;
}

template <class Real, void (*function)(Real, Real&, Real&)>
void activateWith(int rows, int stride, const Features<Real>& bias, Real* values, Real* derivatives) {
    for (int i = 0; i < rows; i++) {
        const Real* b = row(bias, i, stride);
        Real* v = values + static_cast<long>(i) * stride;
        Real* d = derivatives + static_cast<long>(i) * stride;
#pragma omp simd
        for (int c = 0; c < stride; c++) {
            Real value, derivative;
            function(v[c] + b[c], value, derivative);
            v[c] = value;
            if (derivatives != nullptr)
                d[c] = derivative;
        }
    }
}

template <class Real>
void activate(Activation activation, int rows, int stride, const Features<Real>& bias, Real* values,
              Real* derivatives) {
    if (activation == Activation::Tanh)
        activateWith<Real, tanhAndDerivative<Real>>(rows, stride, bias, values, derivatives);
    else if (activation == Activation::ShiftedSoftplus)
        activateWith<Real, softplusAndDerivative<Real>>(rows, stride, bias, values, derivatives);
    else
        for (int i = 0; i < rows; i++) {
            const Real* b = row(bias, i, stride);
            for (int c = 0; c < stride; c++) values[static_cast<long>(i) * stride + c] += b[c];
        }
}

template <class Real>
void multiply(int count, const Real* factors, Real* values) {
#pragma omp simd
    for (int i = 0; i < count; i++) values[i] *= factors[i];
}

template <class Real>
void add(int count, const Real* terms, Real* values) {
#pragma omp simd
    for (int i = 0; i < count; i++) values[i] += terms[i];
}

/** Cubic Hermite basis on one cell. */
template <class Real>
struct Hermite {
    Real value0, slope0, value1, slope1;
    explicit Hermite(Real t) {
        const Real t2 = t * t, t3 = t2 * t;
        value1 = 3 * t2 - 2 * t3;
        value0 = 1 - value1;
        slope0 = t3 - 2 * t2 + t;
        slope1 = t3 - t2;
    }
};

/** Its derivative with respect to the distance. */
template <class Real>
struct HermiteDerivative {
    Real difference, slope0, slope1;  // of value1 - value0, slope0, slope1
    HermiteDerivative(Real t, Real inverseWidth) {
        difference = 6 * (t - t * t) * inverseWidth;
        slope0 = (3 * t * t - 4 * t + 1) * inverseWidth;
        slope1 = (3 * t * t - 2 * t) * inverseWidth;
    }
};

/** One pair's part of a convolution: channel by channel, for both beads or for the first alone. */
template <class Real, bool both>
inline void convolveEdge(int stride, const Hermite<Real>& h, const Real* knot, const Real* xi, const Real* xj, Real* yi,
                         Real* yj) {
#pragma omp simd
    for (int c = 0; c < stride; c++) {
        const Real w = h.value0 * knot[c] + h.slope0 * knot[stride + c] + h.value1 * knot[2 * stride + c] +
                       h.slope1 * knot[3 * stride + c];
        yi[c] += w * xj[c];
        if (both)
            yj[c] += w * xi[c];
    }
}

template <class Real>
void convolve(const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x, Real* y) {
    const int stride = table.stride / channelBlock * channelBlock;
    for (long k = static_cast<long>(edges.begin) * stride; k < static_cast<long>(edges.end) * stride; k++) y[k] = 0;
    for (int i = edges.begin; i < edges.end; i++) {
        const Real* xi = row(x, i, stride);
        Real* yi = y + static_cast<long>(i) * stride;
        const int middle = edges.middle[i - edges.begin], last = edges.first[i - edges.begin + 1];
        for (int e = edges.first[i - edges.begin]; e < last; e++) {
            const Hermite<Real> h(edges.fraction[e]);
            const Real* knot = table.knots + static_cast<long>(edges.cell[e]) * 2 * stride;
            const int j = edges.neighbor[e];
            if (e < middle)
                convolveEdge<Real, true>(stride, h, knot, xi, row(x, j, stride), yi, y + static_cast<long>(j) * stride);
            else
                convolveEdge<Real, false>(stride, h, knot, xi, row(x, j, stride), yi, nullptr);
        }
    }
}

/** Which of a pair's beads get ∂E/∂x: none where x depends on the types alone. */
enum class Target { None, First, Both };

/** One pair's part of the adjoint; returns ∂E/∂r. */
template <class Real, Target target>
inline Real convolveEdgeAdjoint(int stride, Real t, Real inverseWidth, const Real* knot, const Real* xi, const Real* xj,
                                const Real* gi, const Real* gj, Real* xGradientI, Real* xGradientJ) {
    const Hermite<Real> h(t);
    const HermiteDerivative<Real> d(t, inverseWidth);
    Real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < stride; c++) {
        const Real v0 = knot[c], s0 = knot[stride + c], v1 = knot[2 * stride + c], s1 = knot[3 * stride + c];
        const Real slope = d.difference * (v1 - v0) + d.slope0 * s0 + d.slope1 * s1;
        sum += slope * (gi[c] * xj[c] + gj[c] * xi[c]);
        if (target != Target::None) {
            const Real w = h.value0 * v0 + h.slope0 * s0 + h.value1 * v1 + h.slope1 * s1;
            xGradientI[c] += w * gj[c];
            if (target == Target::Both)
                xGradientJ[c] += w * gi[c];
        }
    }
    return sum;
}

template <class Real>
void convolveAdjoint(const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x,
                     const Real* yGradient, Real* xGradient, Real* edgeGradient) {
    const int stride = table.stride / channelBlock * channelBlock;
    for (int i = edges.begin; i < edges.end; i++) {
        const long startI = static_cast<long>(i) * stride;
        const Real* xi = row(x, i, stride);
        const int middle = edges.middle[i - edges.begin], last = edges.first[i - edges.begin + 1];
        for (int e = edges.first[i - edges.begin]; e < last; e++) {
            const Real* knot = table.knots + static_cast<long>(edges.cell[e]) * 2 * stride;
            const int j = edges.neighbor[e];
            const long startJ = static_cast<long>(j) * stride;
            const Real* xj = row(x, j, stride);
            const Real *gi = yGradient + startI, *gj = yGradient + startJ;
            const Real t = edges.fraction[e];
            if (xGradient == nullptr)
                edgeGradient[e] += convolveEdgeAdjoint<Real, Target::None>(stride, t, table.inverseWidth, knot, xi, xj,
                                                                           gi, gj, nullptr, nullptr);
            else if (e < middle)
                edgeGradient[e] += convolveEdgeAdjoint<Real, Target::Both>(
                    stride, t, table.inverseWidth, knot, xi, xj, gi, gj, xGradient + startI, xGradient + startJ);
            else
                edgeGradient[e] += convolveEdgeAdjoint<Real, Target::First>(stride, t, table.inverseWidth, knot, xi, xj,
                                                                            gi, gj, xGradient + startI, nullptr);
        }
    }
}

template <class Real>
constexpr Kernels<Real> kernels = {convolve<Real>, convolveAdjoint<Real>, activate<Real>, multiply<Real>, add<Real>};

}  // namespace

#define OPENMMCG_JOIN(a, b) a##b
#define OPENMMCG_NAME(a, b) OPENMMCG_JOIN(a, b)
extern const Kernels<float> OPENMMCG_NAME(kernelsFloat, OPENMMCG_KERNEL_SET);
extern const Kernels<double> OPENMMCG_NAME(kernelsDouble, OPENMMCG_KERNEL_SET);
const Kernels<float> OPENMMCG_NAME(kernelsFloat, OPENMMCG_KERNEL_SET) = kernels<float>;
const Kernels<double> OPENMMCG_NAME(kernelsDouble, OPENMMCG_KERNEL_SET) = kernels<double>;

}  // namespace OpenMMCG
