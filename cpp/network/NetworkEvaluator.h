#pragma once
#include <vector>

#include "../neighbors/Parallel.h"
#include "AlignedVector.h"
#include "CompiledNetwork.h"
#include "EdgeList.h"
#include "Kernels.h"

namespace OpenMMCG {

/**
 * Evaluates a compiled network and its adjoint on the CPU.
 *
 * Convolutions divide the program into segments. Within a segment every bead is on its own, so a thread takes its beads
 * through the whole segment a few rows at a time, in cache, with values that no other segment needs in scratch space;
 * the last segment turns around and goes back at once. Threads wait for each other only before a convolution.
 *
 * What depends on bead types alone is evaluated here once, in double precision. The gradient of a value is stored over
 * the value itself, except where a convolution's adjoint still needs it.
 */
template <class Real>
class NetworkEvaluator {
public:
    NetworkEvaluator(const CompiledNetwork& network, Parallel& parallel);
    /** Say which beads there are, in the numbering of the edges. */
    void setTypes(const std::vector<int>& types);
    /**
     * @param edges  one list per thread; with `gradient`, ∂E/∂r is added to each edge
     * @return the energy in kJ/mol, or 0 when not asked for
     */
    double evaluate(std::vector<EdgeList<Real>>& edges, bool gradient, bool energy);

private:
    using Kind = CompiledNetwork::Kind;
    struct Value {
        int stride = 0;
        bool perType = false;          ///< rows are bead types
        bool local = false;            ///< lives within one segment
        bool convolved = false;        ///< input of a convolution
        AlignedVector<Real> rows;      ///< unless local
        AlignedVector<Real> gradient;  ///< only where convolved; otherwise it is written over the rows
    };
    struct Operation {
        Kind kind;
        std::vector<int> inputs;
        std::vector<bool> first;  ///< whether this is the first contribution to that input's gradient
        int output, segment;
        Activation activation;
        bool pointwise;                     ///< there is a bias or an activation to apply
        bool keepsDerivative;               ///< of the activation, from forward to reverse
        AlignedVector<Real> weight, transposed, bias, table;
        double energyPerBead = 0;           ///< the readout's bias
        int cells = 0;
        AlignedVector<Real> derivative;     ///< unless in the last segment
    };
    struct Scratch {
        std::vector<AlignedVector<Real>> values, derivatives;  ///< by value, by operation
    };
    void addPerType(const CompiledNetwork& network, const CompiledNetwork::Operation& source);
    void addPerBead(const CompiledNetwork& network, const CompiledNetwork::Operation& source);
    void planStorage();
    void forward(int segment, int thread, int begin, int rows, bool gradient, bool energy, double& sum);
    void reverse(int segment, int thread, int begin, int rows);
    Real* getRows(int value, int thread, int begin);
    Real* getGradient(int value, int thread, int begin);
    Real* getDerivative(int operation, int thread, int begin);
    Features<Real> getFeatures(int value) const;
    FilterTable<Real> getTable(const Operation& convolution) const;
    const Kernels<Real>& kernels;
    Parallel& parallel;
    double cutoff;
    int segments = 0;  ///< the number of the last one; segment k follows convolution k
    std::vector<Value> values;
    std::vector<std::vector<double>> typeRows;  ///< by value, [types, channels], for what depends on types alone
    std::vector<Operation> operations;
    std::vector<int> convolutions;  ///< their places among the operations
    std::vector<int> types;
    std::vector<Scratch> scratch;  ///< by thread
};

}  // namespace OpenMMCG
