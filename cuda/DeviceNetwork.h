#pragma once
#include <set>
#include <string>
#include <vector>

#include "../cpp/network/Program.h"

namespace OpenMMCG {

/**
 * A program written as device code: one kernel for each segment and one pair of kernels for each convolution.
 *
 * After the convolutions of a segment every bead is on its own, so a block of threads takes a few beads through all of
 * it, in one launch. In the adjoint a value collects its gradient from all that use it, so nothing is accumulated and
 * every sum has a fixed order.
 *
 * What changes with the weights alone is in getParameters(); two networks of the same source can be exchanged by
 * uploading those.
 */
class DeviceNetwork {
public:
    struct Convolution {
        int segment;
        int operation;  ///< of the program; the kernels are `convolve<operation>` and `convolveAdjoint<operation>`
        int slices;     ///< 32 lanes each
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
    int getLastSegment() const {
        return lastSegment;
    }
    const std::vector<Convolution>& getConvolutions() const {
        return convolutions;
    }
    /** Whether the segment is more than its convolutions. */
    bool hasSegment(int number) const {
        return segments.count(number) > 0;
    }
    /** Beads that a block of threads takes through a segment together. */
    static constexpr int rowsPerBlock = 16;
    static constexpr int segmentThreads = 128;
    static constexpr int convolutionThreads = 128;

private:
    using Kind = Program::Kind;
    struct Operation {
        const Program::Operation* source;
        int stride, components;
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
    void writeSegment(int segment);
    std::vector<Operation> operations;
    std::vector<double> parameters;
    std::vector<Convolution> convolutions;
    std::set<int> segments;
    std::string source;
    int workspace = 0, lastSegment;
};

}  // namespace OpenMMCG
