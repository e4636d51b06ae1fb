#pragma once
#include <map>
#include <vector>

#include "CompiledNetwork.h"

namespace OpenMMCG {

/**
 * A compiled network made ready to run: the linear algebra between two nonlinearities is multiplied out.
 *
 * Dense layers without activation, sums and everything that depends on bead types alone are linear in the outputs of
 * convolutions and activated layers, so a chain of them collapses into one matrix for each of those sources and one
 * row for each bead type. Residual sums may be kept as values of their own or be multiplied out as well; the program
 * takes what needs fewer multiplications (for SchNet, multiplying out wins up to three blocks).
 *
 * Convolutions divide the program into segments. A segment begins with its convolutions, which do not depend on each
 * other; in the rest of it every bead is on its own.
 */
struct Program {
    struct Term {
        int input;
        std::vector<double> weight;  ///< [channels of input, channels]; empty: the identity
    };
    /** Values are scalars or vectors: one row of channels for each bead, or three. */
    enum class Kind {
        Affine,               ///< y_i = f(Σ_terms x_i · weight + typeRows[type_i]); each component of a vector
        Convolution,          ///< y_i = Σ_j x_j ∘ W(r_ij); each component of a vector
        DirectedConvolution,  ///< y_i = Σ_j (x_j ∘ W(r_ij)) Y(r̂_ij), from a scalar to a vector or tensor, see Kernels.h
        Product,              ///< y_i = a_i ∘ b_i, a scalar, b scalar or vector
        InnerProduct,         ///< y_i = Σ_d a_id ∘ b_id of two vectors
        Readout               ///< E = Σ_i (Σ_terms x_i · weight + typeRows[type_i])
    };
    struct Operation {
        Kind kind;
        /** Of a convolution at most one, the identity; without, x_j = typeRows[type_j]. Of products two, identities. */
        std::vector<Term> terms;
        std::vector<double> typeRows;  ///< [types, channels]; empty for vectors and products
        int channels = 0;
        Activation activation = Activation::Identity;
        std::vector<float> table;
        int cells = 0;
        int components = 1;  ///< of the value it makes: 1, 3 or 5
        int segment = 0;     ///< the largest number of convolutions on a way to it, itself included
    };
    static bool isConvolution(Kind kind) {
        return kind == Kind::Convolution || kind == Kind::DirectedConvolution;
    }
    double cutoff;
    int types;
    std::vector<Operation> operations;  ///< operation k makes value k
    explicit Program(const CompiledNetwork& network);
    /** Multiplications per bead in the matrix products. */
    long getCost() const;
    /** The number of the last segment. */
    int getLastSegment() const {
        return operations.back().segment;  // the readout's
    }

private:
    /** A value as Σ_sources source · matrix + typeRows[type], in terms of values already made. */
    struct LinearForm {
        std::map<int, std::vector<double>> matrices;
        std::vector<double> typeRows;  ///< empty for vectors
        int channels;
        int components;
    };
    Program(const CompiledNetwork& network, bool multiplyOut);
    LinearForm compile(const CompiledNetwork::Operation& source, std::vector<LinearForm>& values, bool multiplyOut);
    LinearForm compileConvolution(const CompiledNetwork::Operation& source, LinearForm& input);
    LinearForm compileProduct(const CompiledNetwork::Operation& source, LinearForm& first, LinearForm& second);
    LinearForm multiply(const LinearForm& form, const std::vector<float>& weight, const std::vector<float>& bias,
                        int channels) const;
    LinearForm add(const LinearForm& a, const LinearForm& b) const;
    LinearForm activate(const LinearForm& form, Activation activation);
    int makeValue(LinearForm& form);
    LinearForm makeSource();
    void findSegments();
    std::vector<Term> getTerms(const LinearForm& form) const;
    bool isValue(const LinearForm& form) const;
};

}  // namespace OpenMMCG
