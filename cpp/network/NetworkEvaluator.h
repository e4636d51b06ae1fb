#pragma once
#include <vector>

#include "../neighbors/Parallel.h"
#include "AlignedVector.h"
#include "EdgeList.h"
#include "Kernels.h"
#include "Program.h"

namespace OpenMMCG {

/**
 * Runs a program and its adjoint on the CPU.
 *
 * Convolutions divide the program into segments. Within a segment every bead is on its own, so a thread takes its beads
 * through the whole segment a few rows at a time, in cache, with values that no other segment needs in scratch space;
 * the last segment turns around and goes back at once. Threads wait for each other only before a convolution.
 *
 * The gradient of a value is stored over the value itself, except where a convolution's adjoint still needs it.
 */
template <class Real>
class NetworkEvaluator {
public:
    NetworkEvaluator(const Program& program, Parallel& parallel);
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
    /** An operation and the value it makes, one row of `stride` numbers for each bead. */
    struct Operation {
        Kind kind;
        Activation activation;
        int segment, stride;
        bool local = false;      ///< its value lives within one segment
        bool convolved = false;  ///< its value is the input of a convolution
        std::vector<Term> terms;
        AlignedVector<Real> typeRows, table;
        int cells;
        AlignedVector<Real> rows;        ///< unless local
        AlignedVector<Real> gradient;    ///< only where convolved; otherwise it is written over the rows
        AlignedVector<Real> derivative;  ///< of the activation; not in the last segment
    };
    struct Scratch {
        std::vector<AlignedVector<Real>> rows, derivatives;  ///< by operation
    };
    void planStorage();
    void runConvolution(int segment, EdgeList<Real>& edges);
    void runConvolutionAdjoint(int segment, EdgeList<Real>& edges);
    void forward(int segment, int thread, int begin, int rows, bool gradient, double* energies);
    void reverse(int segment, int thread, int begin, int rows);
    void readEnergies(const Operation& readout, int thread, int begin, int rows, double* energies);
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
    double cutoff;
    int segments = 0;  ///< the number of the last one; segment k follows convolution k
    std::vector<Operation> operations;
    std::vector<int> convolutions;  ///< their places among the operations
    std::vector<int> types;
    std::vector<Scratch> scratch;  ///< by thread
};

}  // namespace OpenMMCG
