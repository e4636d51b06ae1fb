#pragma once
#include <map>
#include <string>
#include <vector>

#include "../cpp/network/Program.h"

namespace OpenMMCG {

/**
 * A program written as device code: one kernel for each segment and one pair of kernels for each convolution.
 *
 * The layers of an operation are one more than those of its deepest input if it is a convolution, and as many as those
 * if not. Segment k is what has k layers and is not a convolution: there every bead is on its own, so a block of
 * threads takes a few beads through all of a segment, in one launch. In the adjoint a value collects its gradient from
 * all that use it, so nothing is accumulated and every sum has a fixed order.
 *
 * What changes with the weights alone is in getParameters(); two networks of the same source can be exchanged by
 * uploading those.
 */
class DeviceNetwork {
public:
    struct Convolution {
        int layer;         ///< 1 … getLayers()
        std::string name;  ///< kernels `convolve<name>` and `convolveAdjoint<name>`
        int slices;        ///< 32 lanes each
    };
    explicit DeviceNetwork(const Program& program);
    /** The kernels; they need kernels/network.cc and the macros that CommonCGForceKernel defines. */
    const std::string& getSource() const {
        return source;
    }
    /** Weights, rows by bead type, and tables. */
    const std::vector<double>& getParameters() const {
        return parameters;
    }
    /** Numbers of working memory for each bead. */
    int getWorkspacePerBead() const {
        return workspace;
    }
    int getLayers() const {
        return layers;
    }
    const std::vector<Convolution>& getConvolutions() const {
        return convolutions;
    }
    bool hasSegment(int layer) const {
        return segments.count(layer) > 0;
    }
    /** Beads that a block of threads takes through a segment together. */
    static constexpr int rowsPerBlock = 16;
    static constexpr int segmentThreads = 128;
    static constexpr int convolutionThreads = 128;

private:
    using Kind = Program::Kind;
    struct Operation {
        const Program::Operation* source;
        int layer, stride, components;
        bool needsGradient;
        int rows, gradient, derivative;        ///< places in the workspace; the gradient is that before the activation
        std::vector<int> weights, transposed;  ///< places of the terms' matrices in the parameters, -1: the identity
        int typeRows = -1, table = -1;
        std::vector<int> inputGradients;  ///< of a convolution's input, in the workspace
    };
    int reserve(int numbers);
    int store(const std::vector<double>& matrix, int columns, int paddedRows, int paddedColumns);
    int storeTable(const Program::Operation& operation, int stride, int channelsPerLane);
    void writeConvolution(int number);
    std::string writeForward(int number) const;
    std::string writeGradient(int number) const;
    std::string writeProduct(int rows, int inputStride, int weight, int stride) const;
    std::string writeEnergy(int number) const;
    void writeSegment(int layer);
    std::vector<Operation> operations;
    std::vector<double> parameters;
    std::vector<Convolution> convolutions;
    std::map<int, bool> segments;
    std::string source;
    int workspace = 0, layers = 0;
};

}  // namespace OpenMMCG
