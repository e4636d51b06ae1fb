#pragma once
#include <string>
#include <vector>

#include "../model/ModelArchive.h"
#include "Kernels.h"

namespace OpenMMCG {

/**
 * The program of a filter-convolution network as docs/design.md defines it: operations in the order of evaluation,
 * each writing one value (a row of channels per bead, or one for each component of a vector or tensor), the last one
 * the readout.
 */
struct CompiledNetwork {
    enum class Kind {
        Embedding,
        Dense,
        Activation,
        Convolution,
        DirectedConvolution,
        Product,
        InnerProduct,
        Sum,
        Readout
    };
    struct Operation {
        Kind kind;
        std::vector<int> inputs;
        int channels = 0, components = 1;  ///< of the value; components are 1, 3 or 5
        Activation activation = Activation::Identity;
        std::vector<float> weight, bias;  ///< dense: [in, out]; embedding: [types, channels]; readout: [in], [1]
        std::vector<float> table;         ///< [cells + 3, channels]
        int cells = 0;
    };
    double cutoff;  ///< nm
    int types;      ///< number of bead types
    std::vector<Operation> operations;

    /** Read and check it; errors name the source and the operation. */
    explicit CompiledNetwork(const ModelArchive& model);
};

}  // namespace OpenMMCG
