#include "NetworkEvaluator.h"

#include <algorithm>
#include <cmath>

#include "DenseLayer.h"

namespace OpenMMCG {

namespace {

/** Rows that go through a segment together: BLAS is at its best and the scratch space fits the cache. */
const int chunk = 32;

int padded(int channels) {
    return (channels + channelBlock - 1) / channelBlock * channelBlock;
}

/** Copy a matrix into one whose rows and columns are padded with zeros. */
template <class Real>
AlignedVector<Real> pad(const std::vector<float>& matrix, int rows, int columns, int paddedRows, bool transpose = false) {
    const int stride = transpose ? paddedRows : padded(columns);
    AlignedVector<Real> result(static_cast<size_t>(paddedRows) * padded(columns), 0);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            result[transpose ? j * stride + i : i * stride + j] = matrix[i * columns + j];
    return result;
}

double activateExactly(Activation activation, double x) {
    switch (activation) {
        case Activation::Tanh:
            return std::tanh(x);
        case Activation::ShiftedSoftplus:
            return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))) - std::log(2.0);
        default:
            return x;
    }
}

}  // namespace

template <class Real>
NetworkEvaluator<Real>::NetworkEvaluator(const CompiledNetwork& network, Parallel& parallel)
    : kernels(getKernels<Real>()), parallel(parallel), cutoff(network.cutoff), values(network.channels.size()),
      typeRows(network.channels.size()), scratch(parallel.getThreads()) {
    std::vector<bool> needed(values.size(), false);
    std::vector<bool> run(network.operations.size(), false);
    for (int k = static_cast<int>(network.operations.size()) - 1; k >= 0; k--) {
        const auto& operation = network.operations[k];
        run[k] = operation.kind == Kind::Readout || needed[operation.output];
        if (run[k])
            for (int input : operation.inputs)
                needed[input] = true;
    }
    for (size_t k = 0; k < network.operations.size(); k++) {
        const auto& operation = network.operations[k];
        if (!run[k])
            continue;
        if (operation.output >= 0) {
            Value& value = values[operation.output];
            value.stride = padded(operation.channels);
            value.perType = operation.kind != Kind::Convolution &&
                            std::all_of(operation.inputs.begin(), operation.inputs.end(),
                                        [this](int input) { return values[input].perType; });
            if (value.perType) {
                addPerType(network, operation);
                continue;
            }
        }
        addPerBead(network, operation);
    }
    planStorage();
}

template <class Real>
void NetworkEvaluator<Real>::addPerType(const CompiledNetwork& network, const CompiledNetwork::Operation& source) {
    const int channels = source.channels;
    std::vector<double>& rows = typeRows[source.output];
    rows.assign(static_cast<size_t>(network.types) * channels, 0);
    for (int type = 0; type < network.types; type++)
        for (int c = 0; c < channels; c++) {
            double& result = rows[type * channels + c];
            if (source.kind == Kind::Embedding)
                result = source.weight[type * channels + c];
            else if (source.kind == Kind::Sum)
                for (int input : source.inputs)
                    result += typeRows[input][type * channels + c];
            else {
                const int in = network.channels[source.inputs[0]];
                for (int k = 0; k < in; k++)
                    result += typeRows[source.inputs[0]][type * in + k] * source.weight[k * channels + c];
                if (!source.bias.empty())
                    result += source.bias[c];
                result = activateExactly(source.activation, result);
            }
        }
    Value& value = values[source.output];
    value.rows.assign(static_cast<size_t>(network.types) * value.stride, 0);
    for (int type = 0; type < network.types; type++)
        for (int c = 0; c < channels; c++)
            value.rows[type * value.stride + c] = static_cast<Real>(rows[type * channels + c]);
}

template <class Real>
void NetworkEvaluator<Real>::addPerBead(const CompiledNetwork& network, const CompiledNetwork::Operation& source) {
    Operation operation;
    operation.kind = source.kind;
    operation.inputs = source.inputs;
    operation.output = source.output;
    operation.activation = source.activation;
    operation.pointwise = source.activation != Activation::Identity || !source.bias.empty();
    operation.keepsDerivative = source.activation != Activation::Identity;
    operation.cells = source.cells;
    const int in = network.channels[source.inputs[0]], out = source.channels;
    if (source.kind == Kind::Dense) {
        operation.weight = pad<Real>(source.weight, in, out, padded(in));
        operation.transposed = pad<Real>(source.weight, in, out, padded(in), true);
        operation.bias.assign(padded(out), 0);
        std::copy(source.bias.begin(), source.bias.end(), operation.bias.begin());
    } else if (source.kind == Kind::Convolution) {
        operation.table = pad<Real>(source.table, 2 * (source.cells + 1), out, 2 * (source.cells + 1));
        values[source.inputs[0]].convolved = true;
        convolutions.push_back(static_cast<int>(operations.size()));
        segments++;
    } else if (source.kind == Kind::Readout) {
        operation.weight = pad<Real>(source.weight, 1, in, 1);
        operation.energyPerBead = source.bias[0];
    }
    operation.segment = segments;
    operations.push_back(std::move(operation));
}

template <class Real>
void NetworkEvaluator<Real>::planStorage() {
    std::vector<int> made(values.size(), 0);
    for (const Operation& operation : operations)
        if (operation.output >= 0) {
            made[operation.output] = operation.segment;
            values[operation.output].local = operation.kind != Kind::Convolution;
        }
    for (const Operation& operation : operations)
        for (int input : operation.inputs)
            if (operation.kind == Kind::Convolution || operation.segment != made[input])
                values[input].local = false;
    std::vector<bool> touched(values.size(), false);
    for (auto operation = operations.rbegin(); operation != operations.rend(); ++operation)
        for (int input : operation->inputs) {
            operation->first.push_back(!touched[input]);
            touched[input] = true;
        }
    for (Scratch& s : scratch) {
        s.values.resize(values.size());
        s.derivatives.resize(operations.size());
        for (size_t v = 0; v < values.size(); v++)
            if (values[v].local)
                s.values[v].resize(chunk * values[v].stride);
        for (size_t k = 0; k < operations.size(); k++)
            if (operations[k].keepsDerivative && operations[k].segment == segments)
                s.derivatives[k].resize(chunk * values[operations[k].output].stride);
    }
}

template <class Real>
void NetworkEvaluator<Real>::setTypes(const std::vector<int>& types) {
    const bool sameSize = this->types.size() == types.size();
    this->types = types;
    if (sameSize)
        return;
    for (Value& value : values)
        if (value.stride > 0 && !value.perType && !value.local) {
            value.rows.resize(types.size() * value.stride);
            if (value.convolved)
                value.gradient.resize(types.size() * value.stride);
        }
    for (Operation& operation : operations)
        if (operation.keepsDerivative && operation.segment != segments)
            operation.derivative.resize(types.size() * values[operation.output].stride);
}

template <class Real>
Real* NetworkEvaluator<Real>::getRows(int value, int thread, int begin) {
    Value& v = values[value];
    return v.local ? scratch[thread].values[value].data() : v.rows.data() + static_cast<size_t>(begin) * v.stride;
}

template <class Real>
Real* NetworkEvaluator<Real>::getGradient(int value, int thread, int begin) {
    Value& v = values[value];
    return v.convolved ? v.gradient.data() + static_cast<size_t>(begin) * v.stride : getRows(value, thread, begin);
}

template <class Real>
Real* NetworkEvaluator<Real>::getDerivative(int operation, int thread, int begin) {
    Operation& o = operations[operation];
    return o.segment == segments ? scratch[thread].derivatives[operation].data()
                                 : o.derivative.data() + static_cast<size_t>(begin) * values[o.output].stride;
}

template <class Real>
Features<Real> NetworkEvaluator<Real>::getFeatures(int value) const {
    return {values[value].rows.data(), values[value].perType ? types.data() : nullptr};
}

template <class Real>
FilterTable<Real> NetworkEvaluator<Real>::getTable(const Operation& convolution) const {
    return {convolution.table.data(), values[convolution.output].stride,
            static_cast<Real>(convolution.cells / cutoff)};
}

template <class Real>
double NetworkEvaluator<Real>::evaluate(std::vector<EdgeList<Real>>& edges, bool gradient, bool energy) {
    std::vector<double> energies(edges.size(), 0);
    const auto inChunks = [&edges](int thread, const auto& function) {
        const int end = edges[thread].getEnd();
        for (int begin = edges[thread].getBegin(); begin < end; begin += chunk)
            function(begin, std::min(chunk, end - begin));
    };
    for (int segment = convolutions.empty() ? 0 : 1; segment <= segments; segment++)
        parallel.run([&](int thread) {
            if (segment > 0) {
                const Operation& convolution = operations[convolutions[segment - 1]];
                kernels.convolve(edges[thread].locate(convolution.cells), getTable(convolution),
                                 getFeatures(convolution.inputs[0]), values[convolution.output].rows.data());
            }
            inChunks(thread, [&](int begin, int rows) {
                forward(segment, thread, begin, rows, gradient, energy, energies[thread]);
                if (gradient && segment == segments)
                    reverse(segment, thread, begin, rows);
            });
        });
    if (gradient)
        for (int segment = segments; segment > 0; segment--)
            parallel.run([&](int thread) {
                const Operation& convolution = operations[convolutions[segment - 1]];
                const int input = convolution.inputs[0];
                Real* inputGradient = nullptr;
                if (!values[input].perType) {
                    inputGradient = values[input].gradient.data();
                    const size_t stride = values[input].stride;
                    if (convolution.first[0])
                        std::fill(inputGradient + edges[thread].getBegin() * stride,
                                  inputGradient + edges[thread].getEnd() * stride, Real(0));
                }
                kernels.convolveAdjoint(edges[thread].locate(convolution.cells), getTable(convolution),
                                        getFeatures(input), getGradient(convolution.output, thread, 0), inputGradient,
                                        edges[thread].getGradient());
                inChunks(thread, [&](int begin, int rows) { reverse(segment - 1, thread, begin, rows); });
            });
    double total = 0;
    for (double part : energies)
        total += part;
    return total;
}

template <class Real>
void NetworkEvaluator<Real>::forward(int segment, int thread, int begin, int rows, bool gradient, bool energy,
                                     double& sum) {
    for (size_t k = 0; k < operations.size(); k++) {
        const Operation& operation = operations[k];
        if (operation.segment != segment || operation.kind == Kind::Convolution)
            continue;
        const int input = operation.inputs[0], inStride = values[input].stride;
        if (operation.kind == Kind::Readout) {
            for (int row = 0; energy && row < rows; row++) {
                const Real* x = values[input].perType ? &values[input].rows[types[begin + row] * inStride]
                                                      : getRows(input, thread, begin) + row * inStride;
                double bead = operation.energyPerBead;
                for (int c = 0; c < inStride; c++)
                    bead += static_cast<double>(x[c]) * operation.weight[c];
                sum += bead;
            }
            continue;
        }
        const int stride = values[operation.output].stride;
        Real* y = getRows(operation.output, thread, begin);
        if (operation.kind == Kind::Dense) {
            multiplyMatrices(rows, inStride, stride, getRows(input, thread, begin), operation.weight.data(), false, y);
            if (operation.pointwise)
                kernels.activate(operation.activation, rows, stride, operation.bias.data(), y,
                                 gradient && operation.keepsDerivative ? getDerivative(k, thread, begin) : nullptr);
        } else {
            std::fill(y, y + rows * stride, Real(0));
            for (int term : operation.inputs)
                if (values[term].perType)
                    for (int row = 0; row < rows; row++)
                        kernels.add(stride, &values[term].rows[types[begin + row] * stride], y + row * stride);
                else
                    kernels.add(rows * stride, getRows(term, thread, begin), y);
        }
    }
}

template <class Real>
void NetworkEvaluator<Real>::reverse(int segment, int thread, int begin, int rows) {
    for (int k = static_cast<int>(operations.size()) - 1; k >= 0; k--) {
        const Operation& operation = operations[k];
        if (operation.segment != segment || operation.kind == Kind::Convolution)
            continue;
        for (size_t place = 0; place < operation.inputs.size(); place++) {
            const int input = operation.inputs[place];
            if (values[input].perType)
                continue;
            const int inStride = values[input].stride;
            Real* inGradient = getGradient(input, thread, begin);
            if (operation.kind == Kind::Readout)
                for (int row = 0; row < rows; row++)
                    if (operation.first[place])
                        std::copy(operation.weight.begin(), operation.weight.end(), inGradient + row * inStride);
                    else
                        kernels.add(inStride, operation.weight.data(), inGradient + row * inStride);
            else {
                Real* outGradient = getGradient(operation.output, thread, begin);
                if (operation.kind == Kind::Dense) {
                    if (operation.keepsDerivative)
                        kernels.multiply(rows * values[operation.output].stride, getDerivative(k, thread, begin),
                                         outGradient);
                    multiplyMatrices(rows, values[operation.output].stride, inStride, outGradient,
                                     operation.transposed.data(), !operation.first[place], inGradient);
                } else if (operation.first[place])
                    std::copy(outGradient, outGradient + rows * inStride, inGradient);
                else
                    kernels.add(rows * inStride, outGradient, inGradient);
            }
        }
    }
}

template class NetworkEvaluator<float>;
template class NetworkEvaluator<double>;

}  // namespace OpenMMCG
