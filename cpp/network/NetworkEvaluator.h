#pragma once
#include <vector>

#include "../neighbors/Parallel.h"
#include "AlignedVector.h"
#include "EdgeList.h"
#include "Kernels.h"
#include "Program.h"
#include "Stopwatch.h"

namespace OpenMMCG {

/**
 * Runs a program and its adjoint on the CPU.
 *
 * After the convolutions of a segment every bead is on its own, so a thread takes its beads through the whole of it a
 * few rows at a time, in cache, with values that no other segment needs in scratch space; the last segment turns around
 * and goes back at once. Threads wait for each other only before the convolutions of a segment.
 *
 * The gradient of a value is stored over the value itself, except where an adjoint still needs the value: that of a
 * convolution or of a product.
 */
template <class Real>
class NetworkEvaluator {
public:
    NetworkEvaluator(const Program& program, Parallel& parallel, Stopwatch& stopwatch);
    /** Say which beads there are, in the numbering of the edges. */
    void setTypes(const std::vector<int>& types);
    /**
     * @param edges  one list per thread; with `gradient`, ∂E/∂r is added to each edge
     * @param energies  of the beads, kJ/mol, in the numbering of the edges; null if they are not wanted
     */
    void evaluate(std::vector<EdgeList<Real>>& edges, bool gradient, double* energies);

private:
    using Kind = Program::Kind;
    struct Term {
        int input;
        AlignedVector<Real> weight, transposed;  ///< empty: the identity
        bool first = false;                      ///< whether it is the first to write to the gradient of its input
    };
    /** An operation and the value it makes, `width` numbers for each bead: `stride` for each component. */
    struct Operation {
        Kind kind;
        Activation activation;
        int segment, stride, components, width;
        bool local = false;       ///< its value lives within one segment
        bool convolved = false;   ///< its value is the input of a convolution
        bool multiplied = false;  ///< its value is a factor of a product
        std::vector<Term> terms;
        AlignedVector<Real> typeRows, table;
        int cells;
        AlignedVector<Real> rows;        ///< unless in scratch space
        AlignedVector<Real> gradient;    ///< only where separate from the rows, and not local
        AlignedVector<Real> derivative;  ///< of the activation; not in the last segment
    };
    struct Segment {
        std::vector<int> convolutions, others;
    };
    struct Scratch {
        std::vector<AlignedVector<Real>> rows, gradients, derivatives;  ///< by operation
    };
    Operation prepare(const Program::Operation& source, int types) const;
    void planStorage();
    void runConvolution(int value, EdgeList<Real>& edges);
    void runConvolutionAdjoint(int value, EdgeList<Real>& edges);
    void forward(int segment, int thread, int begin, int rows, bool gradient, double* energies);
    void reverse(int segment, int thread, int begin, int rows);
    void runAffine(int value, int thread, int begin, int rows, bool gradient);
    void runAffineAdjoint(int value, int thread, int begin, int rows);
    void runProduct(int value, int thread, int begin, int rows);
    void runProductAdjoint(int value, int thread, int begin, int rows);
    void readEnergies(const Operation& readout, int thread, int begin, int rows, double* energies);
    void runReadoutAdjoint(const Operation& readout, int thread, int begin, int rows);
    static bool isProduct(Kind kind) {
        return kind == Kind::Product || kind == Kind::InnerProduct;
    }
    bool isLast(const Operation& operation) const {
        return operation.segment + 1 == static_cast<int>(segments.size());
    }
    /** The way back begins at once in the last segment; from others, a factor's value must last until it comes. */
    bool isInScratch(const Operation& operation) const {
        return operation.local && (isLast(operation) || !operation.multiplied);
    }
    bool isGradientSeparate(const Operation& operation) const {
        return operation.convolved || operation.multiplied;
    }
    bool keepsDerivative(const Operation& operation) const {
        return operation.activation != Activation::Identity;
    }
    Real* getRows(int value, int thread, int begin);
    Real* getGradient(int value, int thread, int begin);
    Real* getDerivative(int value, int thread, int begin);
    Features<Real> getFeatures(const Operation& convolution) const;
    FilterTable<Real> getTable(const Operation& convolution) const;
    const Kernels<Real>& kernels;
    Parallel& parallel;
    Stopwatch& stopwatch;
    double cutoff;
    std::vector<Operation> operations;
    std::vector<Segment> segments;
    std::vector<int> types;
    std::vector<Scratch> scratch;  ///< by thread
};

}  // namespace OpenMMCG
