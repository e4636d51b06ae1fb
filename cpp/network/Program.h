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
 */
struct Program {
    struct Term {
        int input;
        std::vector<double> weight;  ///< [channels of input, channels]; empty: the identity
    };
    enum class Kind {
        Affine,       ///< y_i = f(Σ_terms x_i · weight + typeRows[type_i])
        Convolution,  ///< y_i = Σ_j x_j ∘ W(r_ij); where there are no terms, x_j = typeRows[type_j]
        Readout       ///< E = Σ_i (Σ_terms x_i · weight + typeRows[type_i])
    };
    struct Operation {
        Kind kind;
        std::vector<Term> terms;  ///< of a convolution at most one, the identity
        std::vector<double> typeRows;
        int channels = 0;
        Activation activation = Activation::Identity;
        std::vector<float> table;
        int cells = 0;
    };
    double cutoff;
    int types;
    std::vector<Operation> operations;  ///< operation k makes value k
    explicit Program(const CompiledNetwork& network);
    /** Multiplications per bead in the matrix products. */
    long getCost() const;

private:
    /** A value as Σ_sources source · matrix + typeRows[type], in terms of values already made. */
    struct LinearForm {
        std::map<int, std::vector<double>> matrices;
        std::vector<double> typeRows;
        int channels;
    };
    Program(const CompiledNetwork& network, bool multiplyOut);
    LinearForm multiply(const LinearForm& form, const std::vector<float>& weight, const std::vector<float>& bias,
                        int channels) const;
    LinearForm add(const LinearForm& a, const LinearForm& b) const;
    LinearForm makeValue(Operation operation, const LinearForm& form);
    LinearForm makeSource();
    std::vector<Term> getTerms(const LinearForm& form) const;
};

}  // namespace OpenMMCG
