#include "Program.h"

#include <algorithm>
#include <cmath>

namespace OpenMMCG {

namespace {

double apply(Activation activation, double x) {
    switch (activation) {
        case Activation::Tanh:
            return std::tanh(x);
        case Activation::ShiftedSoftplus:
            return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))) - std::log(2.0);
        case Activation::Silu:
            return x / (1 + std::exp(-x));
        case Activation::SquareRoot:
            return std::sqrt(x + 1e-8);
        case Activation::Identity:
            break;
    }
    return x;
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
    std::vector<LinearForm> values;  // of the network, by its own numbers
    for (const auto& source : network.operations) {
        LinearForm form = compile(source, values, multiplyOut);
        values.push_back(std::move(form));
    }
    findSegments();
}

void Program::findSegments() {
    for (Operation& operation : operations) {
        for (const Term& term : operation.terms)
            operation.segment = std::max(operation.segment, operations[term.input].segment);
        operation.segment += isConvolution(operation.kind);
    }
}

Program::LinearForm Program::compile(const CompiledNetwork::Operation& source, std::vector<LinearForm>& values,
                                     bool multiplyOut) {
    const auto input = [&](int k) -> LinearForm& { return values[source.inputs[k]]; };
    switch (source.kind) {
        case CompiledNetwork::Kind::Embedding:
            return {{}, {source.weight.begin(), source.weight.end()}, source.channels, 1};
        case CompiledNetwork::Kind::Dense:
            return activate(multiply(input(0), source.weight, source.bias, source.channels), source.activation);
        case CompiledNetwork::Kind::Activation:
            return activate(input(0), source.activation);
        case CompiledNetwork::Kind::Convolution:
        case CompiledNetwork::Kind::DirectedConvolution:
            return compileConvolution(source, input(0));
        case CompiledNetwork::Kind::Product:
        case CompiledNetwork::Kind::InnerProduct:
            return compileProduct(source, input(0), input(1));
        case CompiledNetwork::Kind::Sum: {
            LinearForm form = input(0);
            for (size_t k = 1; k < source.inputs.size(); k++) form = add(form, input(k));
            if (!multiplyOut && !form.matrices.empty())
                makeValue(form);
            return form;
        }
        case CompiledNetwork::Kind::Readout:
            break;
    }
    LinearForm form = multiply(input(0), source.weight, source.bias, 1);
    operations.push_back({Kind::Readout, getTerms(form), form.typeRows, 1, Activation::Identity, {}, 0, 1, 0});
    return form;
}

Program::LinearForm Program::compileConvolution(const CompiledNetwork::Operation& source, LinearForm& input) {
    Operation operation;
    operation.kind = source.kind == CompiledNetwork::Kind::Convolution ? Kind::Convolution : Kind::DirectedConvolution;
    operation.channels = source.channels;
    operation.table = source.table;
    operation.cells = source.cells;
    operation.components = source.components;
    if (input.matrices.empty())
        operation.typeRows = input.typeRows;
    else
        operation.terms = {{makeValue(input), {}}};
    operations.push_back(std::move(operation));
    return makeSource();
}

Program::LinearForm Program::compileProduct(const CompiledNetwork::Operation& source, LinearForm& first,
                                            LinearForm& second) {
    if (first.matrices.empty() && second.matrices.empty()) {
        LinearForm form = first;
        for (size_t i = 0; i < form.typeRows.size(); i++) form.typeRows[i] *= second.typeRows[i];
        return form;
    }
    Operation operation;
    operation.kind = source.kind == CompiledNetwork::Kind::Product ? Kind::Product : Kind::InnerProduct;
    const int a = makeValue(first), b = makeValue(second);
    operation.terms = {{a, {}}, {b, {}}};
    operation.channels = source.channels;
    operation.components = source.components;
    operations.push_back(std::move(operation));
    return makeSource();
}

Program::LinearForm Program::multiply(const LinearForm& form, const std::vector<float>& weight,
                                      const std::vector<float>& bias, int channels) const {
    LinearForm result{{}, product(form.typeRows, weight, form.channels, channels), channels, form.components};
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

Program::LinearForm Program::activate(const LinearForm& form, Activation activation) {
    if (activation == Activation::Identity)
        return form;
    if (form.matrices.empty()) {
        LinearForm result = form;
        for (double& x : result.typeRows) x = apply(activation, x);
        return result;
    }
    operations.push_back(
        {Kind::Affine, getTerms(form), form.typeRows, form.channels, activation, {}, 0, form.components, 0});
    return makeSource();
}

/** Let the form be a value of the program, unless it is one already; which one. */
int Program::makeValue(LinearForm& form) {
    if (!isValue(form)) {
        operations.push_back(
            {Kind::Affine, getTerms(form), form.typeRows, form.channels, Activation::Identity, {}, 0, form.components});
        form = makeSource();
    }
    return form.matrices.begin()->first;
}

bool Program::isValue(const LinearForm& form) const {
    return form.matrices.size() == 1 && form.matrices.begin()->second == identity(form.channels) &&
           std::all_of(form.typeRows.begin(), form.typeRows.end(), [](double x) { return x == 0; });
}

/** The form of the value made last. */
Program::LinearForm Program::makeSource() {
    const Operation& last = operations.back();
    const size_t rows = last.components == 1 ? types : 0;
    return {{{static_cast<int>(operations.size()) - 1, identity(last.channels)}},
            std::vector<double>(rows * last.channels, 0),
            last.channels,
            last.components};
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
        for (const Term& term : operation.terms) cost += static_cast<long>(term.weight.size()) * operation.components;
    return cost;
}

}  // namespace OpenMMCG
