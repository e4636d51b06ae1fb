#include "Program.h"

#include <algorithm>
#include <cmath>

namespace OpenMMCG {

namespace {

double activate(Activation activation, double x) {
    switch (activation) {
        case Activation::Tanh:
            return std::tanh(x);
        case Activation::ShiftedSoftplus:
            return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))) - std::log(2.0);
        default:
            return x;
    }
}

/** [rows, in] · [in, out] */
std::vector<double> product(const std::vector<double>& a, const std::vector<float>& b, int in, int out) {
    const size_t rows = a.size() / in;
    std::vector<double> result(rows * out, 0);
    for (size_t i = 0; i < rows; i++)
        for (int k = 0; k < in; k++)
            for (int j = 0; j < out; j++) result[i * out + j] += a[i * in + k] * b[k * out + j];
    return result;
}

std::vector<double> identity(int size) {
    std::vector<double> result(static_cast<size_t>(size) * size, 0);
    for (int i = 0; i < size; i++) result[i * size + i] = 1;
    return result;
}

}  // namespace

Program::Program(const CompiledNetwork& network) : Program(network, true) {
    Program residual(network, false);
    if (residual.getCost() < getCost())
        *this = std::move(residual);
}

Program::Program(const CompiledNetwork& network, bool multiplyOut) : cutoff(network.cutoff), types(network.types) {
    using Source = CompiledNetwork::Kind;
    std::vector<LinearForm> values;  // of the network, by its own numbers
    for (const auto& source : network.operations) {
        LinearForm form;
        if (source.kind == Source::Embedding)
            form = {{}, {source.weight.begin(), source.weight.end()}, source.channels};
        else
            form = values[source.inputs[0]];
        if (source.kind == Source::Sum) {
            for (size_t i = 1; i < source.inputs.size(); i++) form = add(form, values[source.inputs[i]]);
            if (!multiplyOut)
                form = makeValue({Kind::Affine, {}, {}, 0, Activation::Identity, {}, 0, 1}, form);
        } else if (source.kind == Source::Dense) {
            form = multiply(form, source.weight, source.bias, source.channels);
            if (source.activation != Activation::Identity)
                form = makeValue({Kind::Affine, {}, {}, 0, source.activation, {}, 0, 1}, form);
        } else if (source.kind == Source::Convolution) {
            form = makeValue({Kind::Affine, {}, {}, 0, Activation::Identity, {}, 0, 1}, form);
            operations.push_back({Kind::Convolution, getTerms(form), form.typeRows, source.channels,
                                  Activation::Identity, source.table, source.cells, 1});
            form = makeSource();
        } else if (source.kind == Source::Readout) {
            form = multiply(form, source.weight, source.bias, 1);
            operations.push_back({Kind::Readout, getTerms(form), form.typeRows, 1, Activation::Identity, {}, 0, 1});
        }
        values.push_back(std::move(form));
    }
}

Program::LinearForm Program::multiply(const LinearForm& form, const std::vector<float>& weight,
                                      const std::vector<float>& bias, int channels) const {
    LinearForm result{{}, product(form.typeRows, weight, form.channels, channels), channels};
    for (const auto& [source, matrix] : form.matrices)
        result.matrices[source] = product(matrix, weight, form.channels, channels);
    for (size_t i = 0; !bias.empty() && i < result.typeRows.size(); i++) result.typeRows[i] += bias[i % channels];
    return result;
}

Program::LinearForm Program::add(const LinearForm& a, const LinearForm& b) const {
    LinearForm result = a;
    for (size_t i = 0; i < result.typeRows.size(); i++) result.typeRows[i] += b.typeRows[i];
    for (const auto& [source, matrix] : b.matrices) {
        auto& sum = result.matrices[source];
        sum.resize(matrix.size(), 0);
        for (size_t i = 0; i < matrix.size(); i++) sum[i] += matrix[i];
    }
    return result;
}

/** Let the form, activated, be a value of the program; what needs no work is left as it is. */
Program::LinearForm Program::makeValue(Operation operation, const LinearForm& form) {
    if (form.matrices.empty()) {
        LinearForm result = form;
        for (double& x : result.typeRows) x = activate(operation.activation, x);
        return result;
    }
    const bool isSource = form.matrices.size() == 1 && form.matrices.begin()->second == identity(form.channels) &&
                          std::all_of(form.typeRows.begin(), form.typeRows.end(), [](double x) { return x == 0; });
    if (isSource && operation.activation == Activation::Identity)
        return form;
    operation.terms = getTerms(form);
    operation.typeRows = form.typeRows;
    operation.channels = form.channels;
    operations.push_back(std::move(operation));
    return makeSource();
}

/** The form of the value made last. */
Program::LinearForm Program::makeSource() {
    const int channels = operations.back().channels;
    return {{{static_cast<int>(operations.size()) - 1, identity(channels)}},
            std::vector<double>(static_cast<size_t>(types) * channels, 0),
            channels};
}

std::vector<Program::Term> Program::getTerms(const LinearForm& form) const {
    std::vector<Term> terms;
    for (const auto& [source, matrix] : form.matrices)
        terms.push_back(
            {source, matrix == identity(form.channels) && form.channels > 1 ? std::vector<double>() : matrix});
    return terms;
}

long Program::getCost() const {
    long cost = 0;
    for (const Operation& operation : operations)
        for (const Term& term : operation.terms) cost += static_cast<long>(term.weight.size());
    return cost;
}

}  // namespace OpenMMCG
