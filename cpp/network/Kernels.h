#pragma once

namespace OpenMMCG {

enum class Activation { Identity, Tanh, ShiftedSoftplus, Silu, SquareRoot };

/** Numbers per row of every array are rounded up to a multiple of this, so that loops have no remainder. */
constexpr int channelBlock = 16;

/** So many edges ahead a neighbor's rows are fetched: those of a large system are not in the near caches. */
constexpr int edgesAhead = 8;

/**
 * Beads nearer than this (nm) coincide: their distance counts as 0, and they have no direction and no force on
 * each other.
 */
constexpr double coincidence = 1e-6;

/**
 * The pairs of one thread's beads that are within the cutoff.
 *
 * A pair from first to middle is listed once and stands for both directions; from middle to the next first it is
 * listed by the owners of both its beads, and each of them fills in its own bead only.
 */
template <class Real>
struct Edges {
    int begin, end;            ///< the thread's beads
    const int* first;          ///< [beads + 1]
    const int* middle;         ///< [beads]
    const int* neighbor;       ///< the other bead; after the last edge `edgesAhead` more numbers of beads
    const int* cell;           ///< table cell in which the distance lies
    const Real* fraction;      ///< and where in the cell, 0 to 1
    const Real* direction[3];  ///< unit vector from the bead to its neighbor; zero where they coincide
};

/** Tabulated filter: the coefficients of cubic splines, `stride` channels each. */
template <class Real>
struct FilterTable {
    const Real* rows;  ///< as arrangeTable puts them
    int stride, cells;
    Real inverseWidth;  ///< 1/nm
};

/** Rows of features, found by bead, or by bead type where `type` is not null; vectors have a row per component. */
template <class Real>
struct Features {
    const Real* values;
    const int* type;
};

/**
 * The inner loops of the primitives, compiled for several instruction sets. Values have 1, 3 or 5 components: scalars,
 * vectors, and tensors, which are made of spherical harmonics of degree 2 as vectors are of directions, those of
 * degree 1.
 */
template <class Real>
struct Kernels {
    /** Copy a table [cells + 3, stride] into the order in which the convolution reads it. */
    void (*arrangeTable)(int cells, int stride, const Real* table, Real* arranged);
    /** y_i = Σ_j x_j ∘ W(r_ij) for the thread's beads. */
    void (*convolve)(int components, const Edges<Real>& edges, const FilterTable<Real>& table, const Features<Real>& x,
                     Real* y);
    /**
     * Adjoint of convolve, given yGradient = ∂E/∂y of all beads.
     *
     * @param xGradient  ∂E/∂x of the thread's beads is added here; may be null
     * @param edgeGradient  ∂E/∂r of each edge is added here
     */
    void (*convolveAdjoint)(int components, const Edges<Real>& edges, const FilterTable<Real>& table,
                            const Features<Real>& x, const Real* yGradient, Real* xGradient, Real* edgeGradient);
    /** y_i = Σ_j (x_j ∘ W(r_ij)) Y(r̂_ij) for the thread's beads; Y of 3 components is r̂, of 5 see `Harmonics`. */
    void (*convolveDirected)(int components, const Edges<Real>& edges, const FilterTable<Real>& table,
                             const Features<Real>& x, Real* y);
    /** Its adjoint; ∂E/∂r̂ of each edge is added to directionGradient, [edges, 3]. */
    void (*convolveDirectedAdjoint)(int components, const Edges<Real>& edges, const FilterTable<Real>& table,
                                    const Features<Real>& x, const Real* yGradient, Real* xGradient, Real* edgeGradient,
                                    Real* directionGradient);
    /** values ← f(values + bias), row by row; the derivative f' goes to `derivatives` unless that is null. */
    void (*activate)(Activation activation, int rows, int stride, const Features<Real>& bias, Real* values,
                     Real* derivatives);
    /** y_id ← a_i ∘ b_id, or y_id + a_i ∘ b_id */
    void (*product)(int rows, int stride, int components, const Real* a, const Real* b, bool accumulate, Real* y);
    /** y_i ← Σ_d a_id ∘ b_id, or y_i + Σ_d a_id ∘ b_id */
    void (*innerProduct)(int rows, int stride, int components, const Real* a, const Real* b, bool accumulate, Real* y);
    /** values ← values ∘ factors */
    void (*multiply)(int count, const Real* factors, Real* values);
    /** values ← values + terms */
    void (*add)(int count, const Real* terms, Real* values);
};

/** The kernels of getKernelSet(). */
template <class Real>
const Kernels<Real>& getKernels();

}  // namespace OpenMMCG
