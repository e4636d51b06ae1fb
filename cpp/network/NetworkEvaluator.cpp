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
NetworkEvaluator<Real>::NetworkEvaluator(const Program& program, Parallel& parallel, Stopwatch& stopwatch)
    : kernels(getKernels<Real>()),
      parallel(parallel),
      stopwatch(stopwatch),
      cutoff(program.cutoff),
      scratch(parallel.getThreads()) {
    for (const Program::Operation& source : program.operations) {
        Operation operation = prepare(source, program.types);
        segments.resize(std::max(segments.size(), static_cast<size_t>(operation.segment) + 1));
        Segment& segment = segments[operation.segment];
        (Program::isConvolution(operation.kind) ? segment.convolutions : segment.others)
            .push_back(static_cast<int>(operations.size()));
        operations.push_back(std::move(operation));
    }
    planStorage();
}

template <class Real>
typename NetworkEvaluator<Real>::Operation NetworkEvaluator<Real>::prepare(const Program::Operation& source,
                                                                           int types) const {
    Operation operation;
    operation.kind = source.kind;
    operation.activation = source.activation;
    operation.stride = padded(source.channels);
    operation.components = source.components;
    operation.width = operation.components * operation.stride;
    operation.cells = source.cells;
    operation.segment = source.segment;
    if (!source.typeRows.empty())
        operation.typeRows = pad<Real>(source.typeRows, source.channels, types, operation.stride);
    for (const Program::Term& sourceTerm : source.terms) {
        Term term{sourceTerm.input, {}, {}};
        const Operation& input = operations[term.input];
        if (!sourceTerm.weight.empty()) {
            term.weight = pad<Real>(sourceTerm.weight, source.channels, input.stride, operation.stride);
            term.transposed = transpose(term.weight, operation.stride);
        }
        operation.terms.push_back(std::move(term));
    }
    if (Program::isConvolution(source.kind)) {
        const auto table = pad<Real>(source.table, source.channels, source.cells + 3, operation.stride);
        operation.table.resize(table.size());
        kernels.arrangeTable(source.cells, operation.stride, table.data(), operation.table.data());
    }
    return operation;
}

template <class Real>
void NetworkEvaluator<Real>::planStorage() {
    for (Operation& operation : operations) {
        const bool convolves = Program::isConvolution(operation.kind);
        operation.local = !convolves && operation.kind != Kind::Readout;
        for (const Term& term : operation.terms) {
            Operation& input = operations[term.input];
            input.convolved = input.convolved || convolves;
            input.multiplied = input.multiplied || isProduct(operation.kind);
            input.local = input.local && !convolves && operation.segment == input.segment;
        }
    }
    std::vector<bool> touched(operations.size(), false);
    const auto visit = [&](const std::vector<int>& values) {
        for (auto value = values.rbegin(); value != values.rend(); ++value)
            for (Term& term : operations[*value].terms) {
                term.first = !touched[term.input];
                touched[term.input] = true;
            }
    };
    for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
        visit(segment->others);
        visit(segment->convolutions);
    }
    for (Scratch& space : scratch) {
        space.rows.resize(operations.size());
        space.gradients.resize(operations.size());
        space.derivatives.resize(operations.size());
        for (size_t k = 0; k < operations.size(); k++) {
            const int size = chunk * operations[k].width;
            if (isInScratch(operations[k]))
                space.rows[k].resize(size);
            if (operations[k].local && isGradientSeparate(operations[k]))
                space.gradients[k].resize(size);
            if (keepsDerivative(operations[k]) && isLast(operations[k]))
                space.derivatives[k].resize(size);
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
        const size_t size = types.size() * operation.width;
        if (operation.kind != Kind::Readout && !isInScratch(operation))
            operation.rows.resize(size);
        if (isGradientSeparate(operation) && !operation.local)
            operation.gradient.resize(size);
        if (keepsDerivative(operation) && !isLast(operation))
            operation.derivative.resize(size);
    }
}

template <class Real>
Real* NetworkEvaluator<Real>::getRows(int value, int thread, int begin) {
    Operation& operation = operations[value];
    return isInScratch(operation) ? scratch[thread].rows[value].data()
                                  : operation.rows.data() + static_cast<size_t>(begin) * operation.width;
}

template <class Real>
Real* NetworkEvaluator<Real>::getGradient(int value, int thread, int begin) {
    Operation& operation = operations[value];
    if (!isGradientSeparate(operation))
        return getRows(value, thread, begin);
    return operation.local ? scratch[thread].gradients[value].data()
                           : operation.gradient.data() + static_cast<size_t>(begin) * operation.width;
}

template <class Real>
Real* NetworkEvaluator<Real>::getDerivative(int value, int thread, int begin) {
    Operation& operation = operations[value];
    return isLast(operation) ? scratch[thread].derivatives[value].data()
                             : operation.derivative.data() + static_cast<size_t>(begin) * operation.width;
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
    const int last = static_cast<int>(segments.size()) - 1;
    for (int segment = segments[0].others.empty() ? 1 : 0; segment <= last; segment++)
        parallel.run([&](int thread) {
            for (int value : segments[segment].convolutions)
                stopwatch.run(thread, "convolve", value, [&] { runConvolution(value, edges[thread]); });
            inChunks(edges[thread], [&](int begin, int rows) {
                stopwatch.run(thread, "forward", segment,
                              [&] { forward(segment, thread, begin, rows, gradient, energies); });
                if (gradient && segment == last)
                    stopwatch.run(thread, "reverse", segment, [&] { reverse(segment, thread, begin, rows); });
            });
        });
    for (int segment = last; gradient && segment > 0; segment--)
        parallel.run([&](int thread) {
            const std::vector<int>& convolutions = segments[segment].convolutions;
            for (auto value = convolutions.rbegin(); value != convolutions.rend(); ++value)
                stopwatch.run(thread, "convolveAdjoint", *value, [&] { runConvolutionAdjoint(*value, edges[thread]); });
            inChunks(edges[thread], [&](int begin, int rows) {
                stopwatch.run(thread, "reverse", segment - 1, [&] { reverse(segment - 1, thread, begin, rows); });
            });
        });
}

template <class Real>
void NetworkEvaluator<Real>::runConvolution(int value, EdgeList<Real>& edges) {
    Operation& convolution = operations[value];
    if (convolution.kind == Kind::DirectedConvolution)
        kernels.convolveDirected(convolution.components, edges.locate(convolution.cells), getTable(convolution),
                                 getFeatures(convolution), convolution.rows.data());
    else
        kernels.convolve(convolution.components, edges.locate(convolution.cells), getTable(convolution),
                         getFeatures(convolution), convolution.rows.data());
}

template <class Real>
void NetworkEvaluator<Real>::runConvolutionAdjoint(int value, EdgeList<Real>& edges) {
    const Operation& convolution = operations[value];
    Real* inputGradient = nullptr;
    if (!convolution.terms.empty()) {
        Operation& input = operations[convolution.terms[0].input];
        inputGradient = input.gradient.data();
        if (convolution.terms[0].first)
            std::fill(inputGradient + static_cast<size_t>(edges.getBegin()) * input.width,
                      inputGradient + static_cast<size_t>(edges.getEnd()) * input.width, Real(0));
    }
    const Real* outGradient = getGradient(value, 0, 0);
    if (convolution.kind == Kind::DirectedConvolution)
        kernels.convolveDirectedAdjoint(convolution.components, edges.locate(convolution.cells), getTable(convolution),
                                        getFeatures(convolution), outGradient, inputGradient, edges.getGradient(),
                                        edges.getDirectionGradient());
    else
        kernels.convolveAdjoint(convolution.components, edges.locate(convolution.cells), getTable(convolution),
                                getFeatures(convolution), outGradient, inputGradient, edges.getGradient());
}

template <class Real>
void NetworkEvaluator<Real>::forward(int segment, int thread, int begin, int rows, bool gradient, double* energies) {
    for (int value : segments[segment].others) {
        const Operation& operation = operations[value];
        if (operation.kind == Kind::Affine)
            runAffine(value, thread, begin, rows, gradient);
        else if (isProduct(operation.kind))
            runProduct(value, thread, begin, rows);
        else if (energies != nullptr)
            readEnergies(operation, thread, begin, rows, energies);
    }
}

template <class Real>
void NetworkEvaluator<Real>::reverse(int segment, int thread, int begin, int rows) {
    const std::vector<int>& values = segments[segment].others;
    for (auto value = values.rbegin(); value != values.rend(); ++value) {
        const Operation& operation = operations[*value];
        if (operation.kind == Kind::Affine)
            runAffineAdjoint(*value, thread, begin, rows);
        else if (isProduct(operation.kind))
            runProductAdjoint(*value, thread, begin, rows);
        else
            runReadoutAdjoint(operation, thread, begin, rows);
    }
}

template <class Real>
void NetworkEvaluator<Real>::runAffine(int value, int thread, int begin, int rows, bool gradient) {
    const Operation& operation = operations[value];
    Real* y = getRows(value, thread, begin);
    if (operation.terms.empty())
        std::fill(y, y + rows * operation.width, Real(0));
    for (const Term& term : operation.terms) {
        const bool accumulate = &term != &operation.terms.front();
        const Real* x = getRows(term.input, thread, begin);
        if (!term.weight.empty())
            multiplyMatrices(rows * operation.components, operations[term.input].stride, operation.stride, x,
                             term.weight.data(), accumulate, y);
        else if (accumulate)
            kernels.add(rows * operation.width, x, y);
        else
            std::copy(x, x + rows * operation.width, y);
    }
    if (!operation.typeRows.empty())
        kernels.activate(operation.activation, rows, operation.stride, {operation.typeRows.data(), &types[begin]}, y,
                         gradient && keepsDerivative(operation) ? getDerivative(value, thread, begin) : nullptr);
}

template <class Real>
void NetworkEvaluator<Real>::runAffineAdjoint(int value, int thread, int begin, int rows) {
    const Operation& operation = operations[value];
    Real* outGradient = getGradient(value, thread, begin);
    if (keepsDerivative(operation))
        kernels.multiply(rows * operation.width, getDerivative(value, thread, begin), outGradient);
    for (const Term& term : operation.terms) {
        const Operation& input = operations[term.input];
        Real* inGradient = getGradient(term.input, thread, begin);
        if (!term.weight.empty())
            multiplyMatrices(rows * operation.components, operation.stride, input.stride, outGradient,
                             term.transposed.data(), !term.first, inGradient);
        else if (term.first)
            std::copy(outGradient, outGradient + rows * input.width, inGradient);
        else
            kernels.add(rows * input.width, outGradient, inGradient);
    }
}

template <class Real>
void NetworkEvaluator<Real>::runProduct(int value, int thread, int begin, int rows) {
    const Operation& operation = operations[value];
    const int second = operation.terms[1].input;
    const auto kernel = operation.kind == Kind::Product ? kernels.product : kernels.innerProduct;
    kernel(rows, operation.stride, operations[second].components, getRows(operation.terms[0].input, thread, begin),
           getRows(second, thread, begin), false, getRows(value, thread, begin));
}

/** Of a ∘ b_d the gradients are Σ_d b_d ∘ g_d and a ∘ g_d, of Σ_d a_d ∘ b_d they are g ∘ b_d and g ∘ a_d. */
template <class Real>
void NetworkEvaluator<Real>::runProductAdjoint(int value, int thread, int begin, int rows) {
    const Operation& operation = operations[value];
    const Term &a = operation.terms[0], &b = operation.terms[1];
    const int stride = operation.stride, components = operations[b.input].components;
    const Real* gradient = getGradient(value, thread, begin);
    const Real *aRows = getRows(a.input, thread, begin), *bRows = getRows(b.input, thread, begin);
    Real *aGradient = getGradient(a.input, thread, begin), *bGradient = getGradient(b.input, thread, begin);
    if (operation.kind == Kind::Product) {
        kernels.innerProduct(rows, stride, components, bRows, gradient, !a.first, aGradient);
        kernels.product(rows, stride, components, aRows, gradient, !b.first, bGradient);
    } else {
        kernels.product(rows, stride, components, gradient, bRows, !a.first, aGradient);
        kernels.product(rows, stride, components, gradient, aRows, !b.first, bGradient);
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
void NetworkEvaluator<Real>::runReadoutAdjoint(const Operation& readout, int thread, int begin, int rows) {
    for (const Term& term : readout.terms) {
        const int stride = operations[term.input].stride;
        Real* inGradient = getGradient(term.input, thread, begin);
        for (int row = 0; row < rows; row++)
            if (term.first)
                std::copy(&term.transposed[0], &term.transposed[0] + stride, inGradient + row * stride);
            else
                kernels.add(stride, term.transposed.data(), inGradient + row * stride);
    }
}

template class NetworkEvaluator<float>;
template class NetworkEvaluator<double>;

}  // namespace OpenMMCG
