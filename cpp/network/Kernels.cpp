// Compiled once per instruction set, with OPENMMCG_KERNEL_SET naming it. Nothing here may instantiate inline
// functions of headers: the linker could pick the copy made for another instruction set.
#include "Kernels.h"

#include <math.h>

namespace OpenMMCG {

namespace {

#if defined(__AVX512F__)
constexpr int registerBytes = 64;
#elif defined(__AVX__)
constexpr int registerBytes = 32;
#else
constexpr int registerBytes = 16;
#endif

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

/** x times the logistic function of x. */
template <class Real>
inline void siluAndDerivative(Real x, Real& value, Real& derivative) {
    const Real magnitude = x < 0 ? -x : x;
    const Real e = exponential(-magnitude), inverse = 1 / (1 + e);
    const Real logistic = x > 0 ? inverse : e * inverse, rest = x > 0 ? e * inverse : inverse;
    value = x * logistic;
    derivative = logistic + value * rest;
}

inline float squareRoot(float x) {
    return __builtin_sqrtf(x);
}
inline double squareRoot(double x) {
    return __builtin_sqrt(x);
}

/** √(x + 1e-8) */
template <class Real>
inline void squareRootAndDerivative(Real x, Real& value, Real& derivative) {
    value = squareRoot(x + Real(1e-8));
    derivative = Real(0.5) / value;
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
    else if (activation == Activation::Silu)
        activateWith<Real, siluAndDerivative<Real>>(rows, stride, bias, values, derivatives);
    else if (activation == Activation::SquareRoot)
        activateWith<Real, squareRootAndDerivative<Real>>(rows, stride, bias, values, derivatives);
    else
        for (int i = 0; i < rows; i++) {
            const Real* b = row(bias, i, stride);
            for (int c = 0; c < stride; c++) values[static_cast<long>(i) * stride + c] += b[c];
        }
}

template <class Real>
void product(int rows, int stride, int components, const Real* a, const Real* b, bool accumulate, Real* y) {
    for (long i = 0; i < rows; i++)
        for (long row = i * components; row < (i + 1) * components; row++) {
#pragma omp simd
            for (int c = 0; c < stride; c++) {
                const Real term = a[i * stride + c] * b[row * stride + c];
                y[row * stride + c] = accumulate ? y[row * stride + c] + term : term;
            }
        }
}

template <class Real>
void innerProduct(int rows, int stride, int components, const Real* a, const Real* b, bool accumulate, Real* y) {
    for (long i = 0; i < rows; i++) {
        Real* yi = y + i * stride;
        for (long row = i * components; row < (i + 1) * components; row++) {
            const bool add = accumulate || row > i * components;
#pragma omp simd
            for (int c = 0; c < stride; c++) {
                const Real term = a[row * stride + c] * b[row * stride + c];
                yi[c] = add ? yi[c] + term : term;
            }
        }
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

/** As many numbers as a vector register holds; arithmetic on it is element by element. */
template <class Real>
struct Vector;
template <>
struct Vector<float> {
    typedef float type __attribute__((vector_size(registerBytes), may_alias));
};
template <>
struct Vector<double> {
    typedef double type __attribute__((vector_size(registerBytes), may_alias));
};

/** `count` registers of consecutive channels: what a loop over neighbors keeps of its bead. */
template <class Real, int count>
struct Block {
    using Register = typename Vector<Real>::type;
    static constexpr int lanes = registerBytes / sizeof(Real), channels = count * lanes;
    Register part[count];
    static Block zero() {
        Block result;
        for (int k = 0; k < count; k++) result.part[k] = Register{};
        return result;
    }
    static Block load(const Real* from) {
        Block result;
        for (int k = 0; k < count; k++) result.part[k] = reinterpret_cast<const Register*>(from)[k];
        return result;
    }
    void store(Real* to) const {
        for (int k = 0; k < count; k++) reinterpret_cast<Register*>(to)[k] = part[k];
    }
};

/** The sum of a vector's elements: halves upon halves, which stays in registers. */
template <class Real, int lanes>
struct HorizontalSum {
    typedef Real Whole __attribute__((vector_size(lanes * sizeof(Real))));
    typedef Real Half __attribute__((vector_size(lanes / 2 * sizeof(Real))));
    static Real of(Whole x) {
        Half parts[2];
        __builtin_memcpy(parts, &x, sizeof(x));
        return HorizontalSum<Real, lanes / 2>::of(parts[0] + parts[1]);
    }
};
template <class Real>
struct HorizontalSum<Real, 2> {
    typedef Real Pair __attribute__((vector_size(2 * sizeof(Real))));
    static Real of(Pair x) {
        return x[0] + x[1];
    }
};

template <class Real>
inline Real horizontalSum(typename Vector<Real>::type x) {
    return HorizontalSum<Real, registerBytes / sizeof(Real)>::of(x);
}

/** The four cubic B-splines that are not zero on a cell. */
template <class Real>
struct Spline {
    Real weights[4];
    explicit Spline(Real t) {
        const Real u = 1 - t, third = Real(1) / 3, half = Real(1) / 2;
        weights[0] = half * third * u * u * u;
        weights[1] = 2 * third - t * t * (1 - half * t);
        weights[2] = 2 * third - u * u * (1 - half * u);
        weights[3] = half * third * t * t * t;
    }
};

/** Their derivatives with respect to the distance. */
template <class Real>
struct SplineDerivative {
    Real weights[4];
    SplineDerivative(Real t, Real inverseWidth) {
        const Real u = 1 - t, half = Real(1) / 2;
        weights[0] = -half * u * u * inverseWidth;
        weights[1] = -t * (2 - 3 * half * t) * inverseWidth;
        weights[2] = u * (2 - 3 * half * u) * inverseWidth;
        weights[3] = half * t * t * inverseWidth;
    }
};

/** The registers at one channel of a row for each component. */
template <class Real, int count, int components>
struct Blocks {
    using B = Block<Real, count>;
    B of[components];
    static Blocks zero() {
        Blocks result;
        for (int d = 0; d < components; d++) result.of[d] = B::zero();
        return result;
    }
    static Blocks load(const Real* from, int stride) {
        Blocks result;
        for (int d = 0; d < components; d++) result.of[d] = B::load(from + d * stride);
        return result;
    }
    void store(Real* to, int stride) const {
        for (int d = 0; d < components; d++) of[d].store(to + d * stride);
    }
};

/** The four rows of the table that the filter of an edge is a sum of. */
template <class Real, int count>
struct Cell {
    using B = Block<Real, count>;
    B coefficients[4];
    Cell(const Real* table, int cell) {
        for (int row = 0; row < 4; row++)
            coefficients[row] = B::load(table + (static_cast<long>(cell) + row) * B::channels);
    }
    /** The filter or its derivative. */
    template <class Splines>
    typename B::Register sum(int k, const Splines& splines) const {
        return (splines.weights[0] * coefficients[0].part[k] + splines.weights[1] * coefficients[1].part[k]) +
               (splines.weights[2] * coefficients[2].part[k] + splines.weights[3] * coefficients[3].part[k]);
    }
};

/** Begin to fetch a block of channels. */
template <class Real, int count>
inline void prefetch(const Real* from) {
    for (int c = 0; c < Block<Real, count>::channels; c += 64 / sizeof(Real)) __builtin_prefetch(from + c);
}

/** One block of channels of a convolution, for all beads of the thread. */
template <class Real, int count, int components>
void convolveBlock(int channel, const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x,
                   Real* y) {
    using Rows = Blocks<Real, count, components>;
    const int stride = table.stride, width = components * stride;
    const Real* rows = table.rows + static_cast<long>(channel) * (table.cells + 3);
    for (int i = edges.begin; i < edges.end; i++)
        Rows::zero().store(y + static_cast<long>(i) * width + channel, stride);
    for (int i = edges.begin; i < edges.end; i++) {
        const Rows xi = Rows::load(row(x, i, width) + channel, stride);
        Real* yi = y + static_cast<long>(i) * width + channel;
        Rows sum = Rows::load(yi, stride);
        const int middle = edges.middle[i - edges.begin], last = edges.first[i - edges.begin + 1];
        const auto addEdge = [&](int e, bool both) __attribute__((always_inline)) {
            const Spline<Real> spline(edges.fraction[e]);
            const Cell<Real, count> cell(rows, edges.cell[e]);
            const Rows xj = Rows::load(row(x, edges.neighbor[e], width) + channel, stride);
            Real* yj = y + static_cast<long>(edges.neighbor[e]) * width + channel;
            Rows other = both ? Rows::load(yj, stride) : xj;
            if (components == 1) {  // of vectors there is more to fetch than it saves
                const long later = static_cast<long>(edges.neighbor[e + edgesAhead]) * width + channel;
                if (x.type == nullptr)
                    prefetch<Real, count>(x.values + later);
                prefetch<Real, count>(y + later);
            }
            for (int k = 0; k < count; k++) {
                const auto w = cell.sum(k, spline);
                for (int d = 0; d < components; d++) {
                    sum.of[d].part[k] += w * xj.of[d].part[k];
                    other.of[d].part[k] += w * xi.of[d].part[k];
                }
            }
            if (both)
                other.store(yj, stride);
        };
        for (int e = edges.first[i - edges.begin]; e < middle; e++) addEdge(e, true);
        for (int e = middle; e < last; e++) addEdge(e, false);
        sum.store(yi, stride);
    }
}

/** Which of a pair's beads get ∂E/∂x: none where x depends on the types alone. */
enum class Target { None, First, Both };

/** Call addEdge(edge, target) for all edges of one bead, and keep the bead's own sum. */
template <class Real, class Rows, class Function>
inline void __attribute__((always_inline)) forEdges(const Edges<Real>& edges, int i, int stride, Real* xGradient,
                                                    Rows& sum, const Function& addEdge) {
    const int first = edges.first[i - edges.begin], middle = edges.middle[i - edges.begin],
              last = edges.first[i - edges.begin + 1];
    if (xGradient == nullptr) {
        for (int e = first; e < last; e++) addEdge(e, Target::None);
    } else {
        for (int e = first; e < middle; e++) addEdge(e, Target::Both);
        for (int e = middle; e < last; e++) addEdge(e, Target::First);
        sum.store(xGradient, stride);
    }
}

/** One block of channels of the adjoint. */
template <class Real, int count, int components>
void convolveAdjointBlock(int channel, const Edges<Real>& edges, const FilterTable<Real>& table,
                          const Features<Real>& x, const Real* yGradient, Real* xGradient, Real* edgeGradient) {
    using Rows = Blocks<Real, count, components>;
    const int stride = table.stride, width = components * stride;
    const Real* rows = table.rows + static_cast<long>(channel) * (table.cells + 3);
    for (int i = edges.begin; i < edges.end; i++) {
        const long start = static_cast<long>(i) * width + channel;
        const Rows xi = Rows::load(row(x, i, width) + channel, stride), gi = Rows::load(yGradient + start, stride);
        Real* own = xGradient == nullptr ? nullptr : xGradient + start;
        Rows sum = own == nullptr ? Rows::zero() : Rows::load(own, stride);
        forEdges(edges, i, stride, own, sum, [&](int e, Target target) __attribute__((always_inline)) {
            const Real t = edges.fraction[e];
            const Spline<Real> spline(t);
            const SplineDerivative<Real> derivative(t, table.inverseWidth);
            const Cell<Real, count> cell(rows, edges.cell[e]);
            const long startJ = static_cast<long>(edges.neighbor[e]) * width + channel;
            const Rows xj = Rows::load(row(x, edges.neighbor[e], width) + channel, stride),
                       gj = Rows::load(yGradient + startJ, stride);
            Rows other = target == Target::Both ? Rows::load(xGradient + startJ, stride) : gj;
            if (components == 1) {
                const long later = static_cast<long>(edges.neighbor[e + edgesAhead]) * width + channel;
                if (x.type == nullptr)
                    prefetch<Real, count>(x.values + later);
                prefetch<Real, count>(yGradient + later);
                if (target == Target::Both)
                    prefetch<Real, count>(xGradient + later);
            }
            typename Rows::B::Register slopes{};
            for (int k = 0; k < count; k++) {
                auto products = gi.of[0].part[k] * xj.of[0].part[k] + gj.of[0].part[k] * xi.of[0].part[k];
                for (int d = 1; d < components; d++)
                    products += gi.of[d].part[k] * xj.of[d].part[k] + gj.of[d].part[k] * xi.of[d].part[k];
                slopes += cell.sum(k, derivative) * products;
                if (target != Target::None) {
                    const auto w = cell.sum(k, spline);
                    for (int d = 0; d < components; d++) {
                        sum.of[d].part[k] += w * gj.of[d].part[k];
                        other.of[d].part[k] += w * gi.of[d].part[k];
                    }
                }
            }
            edgeGradient[e] += horizontalSum<Real>(slopes);
            if (target == Target::Both)
                other.store(xGradient + startJ, stride);
        });
    }
}

/** The spherical harmonics of an edge's direction, seen from its bead; from its neighbor, `parity` times those. */
template <class Real, int components>
struct Harmonics;

/** Of degree 1: the direction. */
template <class Real>
struct Harmonics<Real, 3> {
    static constexpr int parity = -1;
    Real value[3];
    Harmonics(const Edges<Real>& edges, int e)
        : value{edges.direction[0][e], edges.direction[1][e], edges.direction[2][e]} {
    }
    /** Add ∂E/∂r̂ to a gradient, given ∂E/∂value. */
    void addGradient(const Real* q, Real* gradient) const {
        for (int d = 0; d < 3; d++) gradient[d] += q[d];
    }
};

/** Of degree 2: √3 xy, √3 yz, √3 xz, z² - (x² + y²)/2, √3 (x² - y²)/2. */
template <class Real>
struct Harmonics<Real, 5> {
    static constexpr int parity = 1;
    static constexpr Real root = Real(1.7320508075688772935);
    Real x, y, z, value[5];
    Harmonics(const Edges<Real>& edges, int e)
        : x(edges.direction[0][e]),
          y(edges.direction[1][e]),
          z(edges.direction[2][e]),
          value{root * x * y, root * y * z, root * x * z, z * z - (x * x + y * y) / 2, root * (x * x - y * y) / 2} {
    }
    void addGradient(const Real* q, Real* gradient) const {
        const Real xy = root * q[0], yz = root * q[1], xz = root * q[2], difference = root * q[4];
        gradient[0] += xy * y + xz * z - q[3] * x + difference * x;
        gradient[1] += xy * x + yz * z - q[3] * y - difference * y;
        gradient[2] += yz * y + xz * x + 2 * q[3] * z;
    }
};

/** One block of channels of a convolution to vectors or tensors. */
template <class Real, int count, int components>
void convolveDirectedBlock(int channel, const Edges<Real>& edges, const FilterTable<Real>& table,
                           const Features<Real>& x, Real* y) {
    using B = Block<Real, count>;
    using Rows = Blocks<Real, count, components>;
    constexpr int parity = Harmonics<Real, components>::parity;
    const int stride = table.stride, width = components * stride;
    const Real* rows = table.rows + static_cast<long>(channel) * (table.cells + 3);
    for (int i = edges.begin; i < edges.end; i++)
        Rows::zero().store(y + static_cast<long>(i) * width + channel, stride);
    for (int i = edges.begin; i < edges.end; i++) {
        const B xi = B::load(row(x, i, stride) + channel);
        Real* yi = y + static_cast<long>(i) * width + channel;
        Rows sum = Rows::load(yi, stride);
        const int middle = edges.middle[i - edges.begin], last = edges.first[i - edges.begin + 1];
        const auto addEdge = [&](int e, bool both) __attribute__((always_inline)) {
            const Spline<Real> spline(edges.fraction[e]);
            const Cell<Real, count> cell(rows, edges.cell[e]);
            const Harmonics<Real, components> harmonics(edges, e);
            const B xj = B::load(row(x, edges.neighbor[e], stride) + channel);
            Real* yj = y + static_cast<long>(edges.neighbor[e]) * width + channel;
            Rows other = both ? Rows::load(yj, stride) : sum;
            for (int k = 0; k < count; k++) {
                const auto w = cell.sum(k, spline), wxi = Real(parity) * w * xi.part[k], wxj = w * xj.part[k];
                for (int d = 0; d < components; d++) {
                    sum.of[d].part[k] += harmonics.value[d] * wxj;
                    other.of[d].part[k] += harmonics.value[d] * wxi;
                }
            }
            if (both)
                other.store(yj, stride);
        };
        for (int e = edges.first[i - edges.begin]; e < middle; e++) addEdge(e, true);
        for (int e = middle; e < last; e++) addEdge(e, false);
        sum.store(yi, stride);
    }
}

/** One block of channels of its adjoint. */
template <class Real, int count, int components>
void convolveDirectedAdjointBlock(int channel, const Edges<Real>& edges, const FilterTable<Real>& table,
                                  const Features<Real>& x, const Real* yGradient, Real* xGradient, Real* edgeGradient,
                                  Real* directionGradient) {
    using B = Block<Real, count>;
    using Row = Blocks<Real, count, 1>;
    using Rows = Blocks<Real, count, components>;
    using Register = typename B::Register;
    constexpr Real parity = Harmonics<Real, components>::parity;
    const int stride = table.stride, width = components * stride;
    const Real* rows = table.rows + static_cast<long>(channel) * (table.cells + 3);
    for (int i = edges.begin; i < edges.end; i++) {
        const B xi = B::load(row(x, i, stride) + channel);
        const Rows gi = Rows::load(yGradient + static_cast<long>(i) * width + channel, stride);
        Real* own = xGradient == nullptr ? nullptr : xGradient + static_cast<long>(i) * stride + channel;
        Row sum = own == nullptr ? Row::zero() : Row::load(own, stride);
        forEdges(edges, i, stride, own, sum, [&](int e, Target target) __attribute__((always_inline)) {
            const Real t = edges.fraction[e];
            const Harmonics<Real, components> harmonics(edges, e);
            const Spline<Real> spline(t);
            const SplineDerivative<Real> derivative(t, table.inverseWidth);
            const Cell<Real, count> cell(rows, edges.cell[e]);
            const long j = edges.neighbor[e];
            const B xj = B::load(row(x, j, stride) + channel);
            const Rows gj = Rows::load(yGradient + j * width + channel, stride);
            Real* others = target == Target::Both ? xGradient + j * stride + channel : nullptr;
            B other = target == Target::Both ? B::load(others) : xj;
            Register slopes{}, turns[components] = {};
            for (int k = 0; k < count; k++) {
                const auto w = cell.sum(k, spline), wxi = parity * w * xi.part[k], wxj = w * xj.part[k];
                Register alongI{}, alongJ{};
                for (int d = 0; d < components; d++) {
                    alongI += harmonics.value[d] * gi.of[d].part[k];
                    alongJ += harmonics.value[d] * gj.of[d].part[k];
                    turns[d] += wxj * gi.of[d].part[k] + wxi * gj.of[d].part[k];
                }
                slopes += cell.sum(k, derivative) * (alongI * xj.part[k] + parity * alongJ * xi.part[k]);
                if (target != Target::None) {
                    sum.of[0].part[k] += parity * w * alongJ;
                    other.part[k] += w * alongI;
                }
            }
            edgeGradient[e] += horizontalSum<Real>(slopes);
            Real q[components];
            for (int d = 0; d < components; d++) q[d] = horizontalSum<Real>(turns[d]);
            harmonics.addGradient(q, directionGradient + 3L * e);
            if (target == Target::Both)
                other.store(others);
        });
    }
}

/** Registers per block: what a block of scalars holds of a bead, and one edge's numbers, fit into the register file. */
constexpr int fullBlock = registerBytes == 64 ? 4 : 2;
template <int count>
struct Count {
    static constexpr int value = count;
};

/** Call function(channel, number of registers) for one block of channels after the other. */
template <class Real, class Function>
inline void forBlocks(int stride, const Function& function) {
    int channel = 0;
    for (; channel + Block<Real, fullBlock>::channels <= stride; channel += Block<Real, fullBlock>::channels)
        function(channel, Count<fullBlock>());
    for (; channel + Block<Real, 2>::channels <= stride; channel += Block<Real, 2>::channels)
        function(channel, Count<2>());
    for (; channel < stride; channel += Block<Real, 1>::channels) function(channel, Count<1>());
}

template <class Real>
void arrangeTable(int cells, int stride, const Real* table, Real* arranged) {
    forBlocks<Real>(stride, [&](int channel, auto count) {
        constexpr int channels = Block<Real, decltype(count)::value>::channels;
        for (int row = 0; row < cells + 3; row++)
            for (int c = 0; c < channels; c++) *arranged++ = table[static_cast<long>(row) * stride + channel + c];
    });
}

/** A value's number of components as a type. */
template <class Function>
inline void withComponents(int components, const Function& function) {
    if (components == 1)
        function(Count<1>());
    else if (components == 3)
        function(Count<3>());
    else
        function(Count<5>());
}

template <class Real>
void convolve(int components, const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x,
              Real* y) {
    withComponents(components, [&](auto of) {
        forBlocks<Real>(table.stride, [&](int channel, auto count) {
            convolveBlock<Real, decltype(count)::value, decltype(of)::value>(channel, edges, table, x, y);
        });
    });
}

template <class Real>
void convolveAdjoint(int components, const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x,
                     const Real* yGradient, Real* xGradient, Real* edgeGradient) {
    withComponents(components, [&](auto of) {
        forBlocks<Real>(table.stride, [&](int channel, auto count) {
            convolveAdjointBlock<Real, decltype(count)::value, decltype(of)::value>(channel, edges, table, x, yGradient,
                                                                                    xGradient, edgeGradient);
        });
    });
}

template <class Real>
void convolveDirected(int components, const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x,
                      Real* y) {
    forBlocks<Real>(table.stride, [&](int channel, auto count) {
        const auto run = components == 3 ? convolveDirectedBlock<Real, decltype(count)::value, 3>
                                         : convolveDirectedBlock<Real, decltype(count)::value, 5>;
        run(channel, edges, table, x, y);
    });
}

template <class Real>
void convolveDirectedAdjoint(int components, const Edges<Real>& edges, const FilterTable<Real>& table,
                             const Features<Real>& x, const Real* yGradient, Real* xGradient, Real* edgeGradient,
                             Real* directionGradient) {
    forBlocks<Real>(table.stride, [&](int channel, auto count) {
        const auto run = components == 3 ? convolveDirectedAdjointBlock<Real, decltype(count)::value, 3>
                                         : convolveDirectedAdjointBlock<Real, decltype(count)::value, 5>;
        run(channel, edges, table, x, yGradient, xGradient, edgeGradient, directionGradient);
    });
}

template <class Real>
constexpr Kernels<Real> kernels = {
    arrangeTable<Real>, convolve<Real>, convolveAdjoint<Real>, convolveDirected<Real>, convolveDirectedAdjoint<Real>,
    activate<Real>,     product<Real>,  innerProduct<Real>,    multiply<Real>,         add<Real>};

}  // namespace

#define OPENMMCG_JOIN(a, b) a##b
#define OPENMMCG_NAME(a, b) OPENMMCG_JOIN(a, b)
extern const Kernels<float> OPENMMCG_NAME(kernelsFloat, OPENMMCG_KERNEL_SET);
extern const Kernels<double> OPENMMCG_NAME(kernelsDouble, OPENMMCG_KERNEL_SET);
const Kernels<float> OPENMMCG_NAME(kernelsFloat, OPENMMCG_KERNEL_SET) = kernels<float>;
const Kernels<double> OPENMMCG_NAME(kernelsDouble, OPENMMCG_KERNEL_SET) = kernels<double>;

}  // namespace OpenMMCG
