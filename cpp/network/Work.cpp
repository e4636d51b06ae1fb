#include "Work.h"

namespace OpenMMCG {

namespace {

const double edgeBytes = 20;     // neighbor, unit vector and distance
const double interpolation = 7;  // W = w0·K0 + w1·K1 + w2·K2 + w3·K3, and W' likewise

}  // namespace

Work WorkEstimate::of(const std::string& kernel) const {
    const size_t end = kernel.find_first_of("0123456789");
    const std::string name = kernel.substr(0, end);
    const int number = end == std::string::npos ? program.getLastSegment() : std::stoi(kernel.substr(end));
    if (name == "convolve")
        return convolution(number);
    if (name == "convolveAdjoint")
        return convolutionAdjoint(number);
    if (name == "forward" || name == "reverse")
        return segment(number);
    if (name.rfind("last", 0) == 0) {
        const Work once = segment(number);
        return {2 * once.operations, 2 * once.memory, 2 * once.cache};
    }
    return {};
}

Work WorkEstimate::convolution(int k) const {
    const Program::Operation& operation = program.operations[k];
    const bool typed = operation.terms.empty(), directed = operation.kind == Program::Kind::DirectedConvolution;
    const double channels = operation.channels, out = operation.components, in = directed ? 1 : out;
    const double table = (operation.cells + 3.0) * channels, features = typed ? 0 : beads * in * channels;
    Work work;
    work.operations = edges * channels * (interpolation + 2 * out + (directed ? 1 : 0));
    work.memory = realSize * (table + features + beads * out * channels) + edges * edgeBytes;
    work.cache = realSize * channels * (edges * (4 + in) + beads * out) + edges * edgeBytes;
    return work;
}

Work WorkEstimate::convolutionAdjoint(int k) const {
    const Program::Operation& operation = program.operations[k];
    const bool typed = operation.terms.empty(), directed = operation.kind == Program::Kind::DirectedConvolution;
    const double channels = operation.channels, out = operation.components, in = directed ? 1 : out;
    const double table = (operation.cells + 3.0) * channels, features = typed ? 0 : beads * in * channels;
    const double input = typed ? 0 : directed ? 2 * out + 1 : 2 * in;             // to the gradient of the input
    const double force = directed ? 3 * out + 2 * out - 1 + 4 + 12 : 4 * in + 7;  // to the forces
    Work work;
    work.operations = edges * channels * (interpolation * (typed && !directed ? 1 : 2) + input + force);
    work.memory = realSize * (table + 2 * features + beads * out * channels) + edges * edgeBytes;
    work.cache =
        realSize * (channels * edges * (4 + in + out) + 2 * features + beads * out * channels) + edges * edgeBytes;
    return work;
}

Work WorkEstimate::segment(int number) const {
    Work work;
    for (const Program::Operation& operation : program.operations) {
        if (operation.segment != number || Program::isConvolution(operation.kind))
            continue;
        const double numbers = beads * operation.components * operation.channels;
        work.memory += realSize * numbers;
        for (const Program::Term& term : operation.terms) {
            const Program::Operation& input = program.operations[term.input];
            const double products = static_cast<double>(term.weight.size());
            work.operations += 2 * (term.weight.empty() ? numbers : beads * operation.components * products);
            work.memory += realSize * (products + beads * input.components * input.channels);
        }
    }
    work.cache = work.memory;
    return work;
}

}  // namespace OpenMMCG
