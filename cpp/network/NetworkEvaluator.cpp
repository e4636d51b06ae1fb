#include "NetworkEvaluator.h"

#include <algorithm>

#include "DenseLayer.h"

namespace OpenMMCG {

namespace {

/** Rows that go through a segment together: BLAS is at its best and the scratch space fits the cache. */
const int chunk = 32;

int padded(int channels) {
    return (channels + channelBlock - 1) / channelBlock * channelBlock;
}

/** Copy a matrix into one with these numbers of rows and columns, the rest zeros. */
template <class Real, class Number>
AlignedVector<Real> pad(const std::vector<Number>& matrix, int columns, int paddedRows, int paddedColumns) {
    AlignedVector<Real> result(static_cast<size_t>(paddedRows) * paddedColumns, 0);
    for (size_t k = 0; k < matrix.size(); k++)
        result[k / columns * paddedColumns + k % columns] = static_cast<Real>(matrix[k]);
    return result;
}

template <class Real>
AlignedVector<Real> transpose(const AlignedVector<Real>& matrix, int columns) {
    AlignedVector<Real> result(matrix.size());
    const size_t rows = matrix.size() / columns;
    for (size_t k = 0; k < matrix.size(); k++) result[k % columns * rows + k / columns] = matrix[k];
    return result;
}

/** Call function(begin, rows) for one chunk of a thread's beads after the other. */
template <class Real, class Function>
void inChunks(const EdgeList<Real>& edges, const Function& function) {
    for (int begin = edges.getBegin(); begin < edges.getEnd(); begin += chunk)
        function(begin, std::min(chunk, edges.getEnd() - begin));
}

}  // namespace

template <class Real>
NetworkEvaluator<Real>::NetworkEvaluator(const Program& program, Parallel& parallel)
    : kernels(getKernels<Real>()), parallel(parallel), cutoff(program.cutoff), scratch(parallel.getThreads()) {
    for (const Program::Operation& source : program.operations) {
        Operation operation;
        operation.kind = source.kind;
        operation.activation = source.activation;
        operation.stride = padded(source.channels);
        operation.cells = source.cells;
        operation.typeRows = pad<Real>(source.typeRows, source.channels, program.types, operation.stride);
        if (source.kind == Kind::Convolution) {
            const auto table = pad<Real>(source.table, source.channels, 2 * (source.cells + 1), operation.stride);
            operation.table.resize(table.size());
            kernels.arrangeTable(source.cells, operation.stride, table.data(), operation.table.data());
            convolutions.push_back(static_cast<int>(operations.size()));
            segments++;
        }
        for (const Program::Term& sourceTerm : source.terms) {
            Term term{sourceTerm.input, {}, {}};
            const int inStride = operations[term.input].stride;
            if (!sourceTerm.weight.empty()) {
                term.weight = pad<Real>(sourceTerm.weight, source.channels, inStride, operation.stride);
                term.transposed = transpose(term.weight, operation.stride);
            }
            operation.terms.push_back(std::move(term));
        }
        operation.segment = segments;
        operations.push_back(std::move(operation));
    }
    planStorage();
}

template <class Real>
void NetworkEvaluator<Real>::planStorage() {
    for (Operation& operation : operations) {
        operation.local = operation.kind == Kind::Affine;
        for (const Term& term : operation.terms) {
            Operation& input = operations[term.input];
            input.convolved = input.convolved || operation.kind == Kind::Convolution;
            input.local = input.local && !input.convolved && operation.segment == input.segment;
        }
    }
    std::vector<bool> touched(operations.size(), false);
    for (auto operation = operations.rbegin(); operation != operations.rend(); ++operation)
        for (Term& term : operation->terms) {
            term.first = !touched[term.input];
            touched[term.input] = true;
        }
    for (Scratch& space : scratch) {
        space.rows.resize(operations.size());
        space.derivatives.resize(operations.size());
        for (size_t k = 0; k < operations.size(); k++) {
            if (operations[k].local)
                space.rows[k].resize(chunk * operations[k].stride);
            if (keepsDerivative(operations[k]) && operations[k].segment == segments)
                space.derivatives[k].resize(chunk * operations[k].stride);
        }
    }
}

template <class Real>
void NetworkEvaluator<Real>::setTypes(const std::vector<int>& types) {
    const bool sameSize = this->types.size() == types.size();
    this->types = types;
    if (sameSize)
        return;
    for (Operation& operation : operations) {
        const size_t size = types.size() * operation.stride;
        if (operation.kind != Kind::Readout && !operation.local)
            operation.rows.resize(size);
        if (operation.convolved)
            operation.gradient.resize(size);
        if (keepsDerivative(operation) && operation.segment != segments)
            operation.derivative.resize(size);
    }
}

template <class Real>
Real* NetworkEvaluator<Real>::getRows(int value, int thread, int begin) {
    Operation& operation = operations[value];
    return operation.local ? scratch[thread].rows[value].data()
                           : operation.rows.data() + static_cast<size_t>(begin) * operation.stride;
}

template <class Real>
Real* NetworkEvaluator<Real>::getGradient(int value, int thread, int begin) {
    Operation& operation = operations[value];
    return operation.convolved ? operation.gradient.data() + static_cast<size_t>(begin) * operation.stride
                               : getRows(value, thread, begin);
}

template <class Real>
Real* NetworkEvaluator<Real>::getDerivative(int value, int thread, int begin) {
    Operation& operation = operations[value];
    return operation.segment == segments ? scratch[thread].derivatives[value].data()
                                         : operation.derivative.data() + static_cast<size_t>(begin) * operation.stride;
}

template <class Real>
Features<Real> NetworkEvaluator<Real>::getFeatures(const Operation& convolution) const {
    if (convolution.terms.empty())
        return {convolution.typeRows.data(), types.data()};
    return {operations[convolution.terms[0].input].rows.data(), nullptr};
}

template <class Real>
FilterTable<Real> NetworkEvaluator<Real>::getTable(const Operation& convolution) const {
    return {convolution.table.data(), convolution.stride, convolution.cells,
            static_cast<Real>(convolution.cells / cutoff)};
}

template <class Real>
void NetworkEvaluator<Real>::evaluate(std::vector<EdgeList<Real>>& edges, bool gradient, double* energies) {
    for (int segment = std::min(1, segments); segment <= segments; segment++)
        parallel.run([&](int thread) {
            if (segment > 0)
                runConvolution(segment, edges[thread]);
            inChunks(edges[thread], [&](int begin, int rows) {
                forward(segment, thread, begin, rows, gradient, energies);
                if (gradient && segment == segments)
                    reverse(segment, thread, begin, rows);
            });
        });
    for (int segment = segments; gradient && segment > 0; segment--)
        parallel.run([&](int thread) {
            runConvolutionAdjoint(segment, edges[thread]);
            inChunks(edges[thread], [&](int begin, int rows) { reverse(segment - 1, thread, begin, rows); });
        });
}

template <class Real>
void NetworkEvaluator<Real>::runConvolution(int segment, EdgeList<Real>& edges) {
    Operation& convolution = operations[convolutions[segment - 1]];
    kernels.convolve(edges.locate(convolution.cells), getTable(convolution), getFeatures(convolution),
                     convolution.rows.data());
}

template <class Real>
void NetworkEvaluator<Real>::runConvolutionAdjoint(int segment, EdgeList<Real>& edges) {
    const int value = convolutions[segment - 1];
    const Operation& convolution = operations[value];
    Real* inputGradient = nullptr;
    if (!convolution.terms.empty()) {
        Operation& input = operations[convolution.terms[0].input];
        inputGradient = input.gradient.data();
        if (convolution.terms[0].first)
            std::fill(inputGradient + static_cast<size_t>(edges.getBegin()) * input.stride,
                      inputGradient + static_cast<size_t>(edges.getEnd()) * input.stride, Real(0));
    }
    kernels.convolveAdjoint(edges.locate(convolution.cells), getTable(convolution), getFeatures(convolution),
                            getGradient(value, 0, 0), inputGradient, edges.getGradient());
}

template <class Real>
void NetworkEvaluator<Real>::forward(int segment, int thread, int begin, int rows, bool gradient, double* energies) {
    for (size_t k = 0; k < operations.size(); k++) {
        const Operation& operation = operations[k];
        if (operation.segment != segment || operation.kind == Kind::Convolution)
            continue;
        if (operation.kind == Kind::Readout) {
            if (energies != nullptr)
                readEnergies(operation, thread, begin, rows, energies);
            continue;
        }
        Real* y = getRows(k, thread, begin);
        for (const Term& term : operation.terms) {
            const bool accumulate = &term != &operation.terms.front();
            const Real* x = getRows(term.input, thread, begin);
            if (!term.weight.empty())
                multiplyMatrices(rows, operations[term.input].stride, operation.stride, x, term.weight.data(),
                                 accumulate, y);
            else if (accumulate)
                kernels.add(rows * operation.stride, x, y);
            else
                std::copy(x, x + rows * operation.stride, y);
        }
        kernels.activate(operation.activation, rows, operation.stride, {operation.typeRows.data(), &types[begin]}, y,
                         gradient && keepsDerivative(operation) ? getDerivative(k, thread, begin) : nullptr);
    }
}

template <class Real>
void NetworkEvaluator<Real>::readEnergies(const Operation& readout, int thread, int begin, int rows, double* energies) {
    for (int row = 0; row < rows; row++) energies[begin + row] = readout.typeRows[types[begin + row] * readout.stride];
    for (const Term& term : readout.terms) {
        const int stride = operations[term.input].stride;
        const Real* x = getRows(term.input, thread, begin);
        for (int row = 0; row < rows; row++)
            for (int c = 0; c < stride; c++)
                energies[begin + row] += static_cast<double>(x[row * stride + c]) * term.transposed[c];
    }
}

template <class Real>
void NetworkEvaluator<Real>::reverse(int segment, int thread, int begin, int rows) {
    for (int k = static_cast<int>(operations.size()) - 1; k >= 0; k--) {
        const Operation& operation = operations[k];
        if (operation.segment != segment || operation.kind == Kind::Convolution)
            continue;
        Real* outGradient = operation.kind == Kind::Readout ? nullptr : getGradient(k, thread, begin);
        if (keepsDerivative(operation))
            kernels.multiply(rows * operation.stride, getDerivative(k, thread, begin), outGradient);
        for (const Term& term : operation.terms) {
            const int inStride = operations[term.input].stride;
            Real* inGradient = getGradient(term.input, thread, begin);
            if (operation.kind == Kind::Readout)
                for (int row = 0; row < rows; row++)
                    if (term.first)
                        std::copy(&term.transposed[0], &term.transposed[0] + inStride, inGradient + row * inStride);
                    else
                        kernels.add(inStride, term.transposed.data(), inGradient + row * inStride);
            else if (!term.weight.empty())
                multiplyMatrices(rows, operation.stride, inStride, outGradient, term.transposed.data(), !term.first,
                                 inGradient);
            else if (term.first)
                std::copy(outGradient, outGradient + rows * inStride, inGradient);
            else
                kernels.add(rows * inStride, outGradient, inGradient);
        }
    }
}

template class NetworkEvaluator<float>;
template class NetworkEvaluator<double>;

}  // namespace OpenMMCG
