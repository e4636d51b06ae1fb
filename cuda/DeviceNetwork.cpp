#include "DeviceNetwork.h"

#include <algorithm>

#include "DeviceSources.h"

namespace OpenMMCG {

namespace {

const int lanes = 32;

int padded(int channels) {
    return (channels + lanes - 1) / lanes * lanes;
}

/** Two channels for each lane where there are enough: they share what an edge costs once. */
int getChannelsPerLane(int stride) {
    return stride % (2 * lanes) == 0 ? 2 : 1;
}

using Replacements = std::map<std::string, std::string>;

/** Replace every $key$. */
std::string fill(std::string text, const Replacements& replacements) {
    for (const auto& [key, value] : replacements) {
        const std::string token = "$" + key + "$";
        for (size_t at = text.find(token); at != std::string::npos; at = text.find(token, at + value.size()))
            text.replace(at, token.size(), value);
    }
    return text;
}

/** Pointer to the working memory reserved at `place`. */
std::string at(int place) {
    return "(workspace+(mm_long) " + std::to_string(place) + "*PADDED_BEADS)";
}

/** Pointer to a row of four-number columns. */
std::string columnsOf(const std::string& pointer) {
    return "((GLOBAL real4*) " + pointer + ")";
}

/** The rows of a bead's components. */
std::vector<std::string> componentsOf(int components) {
    std::vector<std::string> rows;
    for (int d = 0; d < components; d++)
        rows.push_back("(row+r)*" + std::to_string(components) + "+" + std::to_string(d));
    return rows;
}

const char* functionOf(Activation activation) {
    switch (activation) {
        case Activation::Tanh:
            return "activateTanh";
        case Activation::ShiftedSoftplus:
            return "activateShiftedSoftplus";
        case Activation::Silu:
            return "activateSilu";
        case Activation::SquareRoot:
            return "activateSquareRoot";
        default:
            return "";
    }
}

/** A loop over all numbers of a value that a block of threads is responsible for, four rows by four columns at once. */
const char* loop = R"(
        for (int item = LOCAL_ID; item < $rows$/4*$columns$; item += LOCAL_SIZE) {
            const int column = item%$columns$, row = first*$components$+item/$columns$*4;
            real4 sum[4];
            for (int r = 0; r < 4; r++)
                sum[r] = make_real4(0, 0, 0, 0);
$body$        }
        SYNC_THREADS;
)";

}  // namespace

DeviceNetwork::DeviceNetwork(const Program& program) : lastSegment(program.getLastSegment()) {
    for (const Program::Operation& from : program.operations) {
        Operation operation;
        operation.source = &from;
        operation.stride = from.kind == Kind::Readout ? 1 : padded(from.channels);
        operation.components = from.components;
        const bool isConvolution = Program::isConvolution(from.kind);
        operation.needsGradient = isConvolution;
        for (const Program::Term& term : from.terms)
            operation.needsGradient = operation.needsGradient || operations[term.input].needsGradient;
        const int numbers = operation.stride * operation.components;
        operation.rows = from.kind == Kind::Readout ? -1 : reserve(numbers);
        operation.gradient = operation.needsGradient && from.kind != Kind::Readout ? reserve(numbers) : -1;
        operation.derivative =
            operation.needsGradient && from.activation != Activation::Identity ? reserve(numbers) : -1;
        if (!from.typeRows.empty())
            operation.typeRows = store(from.typeRows, from.channels, program.types, operation.stride);
        for (const Program::Term& term : from.terms) {
            const Operation& input = operations[term.input];
            int weight = -1, transposed = -1;
            if (!term.weight.empty()) {
                std::vector<double> turned(term.weight.size());
                const size_t in = term.weight.size() / from.channels;
                for (size_t k = 0; k < turned.size(); k++)
                    turned[k % from.channels * in + k / from.channels] = term.weight[k];
                transposed = store(turned, static_cast<int>(in), operation.stride, input.stride);
                // A readout has one column: its transposed weights are all that is needed.
                weight = from.kind == Kind::Readout ? transposed
                                                    : store(term.weight, from.channels, input.stride, operation.stride);
            }
            operation.weights.push_back(weight);
            operation.transposed.push_back(transposed);
            if (isConvolution && input.needsGradient)
                operation.inputGradients.push_back(reserve(input.stride * input.components));
        }
        if (isConvolution)
            operation.table = storeTable(from, operation.stride, getChannelsPerLane(operation.stride));
        else
            segments.insert(from.segment);
        operations.push_back(std::move(operation));
    }
    for (size_t k = 0; k < operations.size(); k++)
        if (operations[k].table >= 0)
            writeConvolution(static_cast<int>(k));
    for (int segment = 0; segment <= lastSegment; segment++) writeSegment(segment);
}

int DeviceNetwork::reserve(int numbers) {
    workspace += numbers;
    return workspace - numbers;
}

/** Copy a matrix to the parameters, filled up with zeros. */
int DeviceNetwork::store(const std::vector<double>& matrix, int columns, int paddedRows, int paddedColumns) {
    const size_t place = parameters.size();
    parameters.resize(place + padded(paddedRows * paddedColumns), 0);
    for (size_t k = 0; k < matrix.size(); k++)
        parameters[place + k / columns * paddedColumns + k % columns] = matrix[k];
    return static_cast<int>(place);
}

/** Slices of channels one after the other, each [cells + 3, channels of the slice]. */
int DeviceNetwork::storeTable(const Program::Operation& operation, int stride, int channelsPerLane) {
    const int place = static_cast<int>(parameters.size()), width = lanes * channelsPerLane;
    const int rows = operation.cells + 3;
    parameters.resize(place + static_cast<size_t>(rows) * stride, 0);
    for (int row = 0; row < rows; row++)
        for (int channel = 0; channel < operation.channels; channel++)
            parameters[place + (channel / width * rows + row) * width + channel % width] =
                operation.table[row * operation.channels + channel];
    return place;
}

void DeviceNetwork::writeConvolution(int number) {
    const Operation& operation = operations[number];
    const Program::Operation& from = *operation.source;
    const bool typed = from.terms.empty();
    const int perLane = getChannelsPerLane(operation.stride), slices = operation.stride / (lanes * perLane);
    const Replacements values = {
        {"NAME", std::to_string(number)},
        {"VALUE", perLane == 2 ? "real2" : "real"},
        {"ZERO", perLane == 2 ? "make_real2(0, 0)" : "0"},
        {"TOTAL", perLane == 2 ? "TOTAL2" : "TOTAL1"},
        {"INPUT",
         typed ? "parameters+" + std::to_string(operation.typeRows) : at(operations[from.terms[0].input].rows)},
        {"ROW", typed ? "TYPE_OF" : "SAME"},
        {"OUTPUT", at(operation.rows)},
        {"OUTPUT_GRADIENT", at(operation.gradient)},
        {"HAS_INPUT_GRADIENT", operation.inputGradients.empty() ? "0" : "1"},
        {"INPUT_GRADIENT", operation.inputGradients.empty() ? "0" : at(operation.inputGradients[0])},
        {"DEGREE", std::to_string(from.kind == Kind::DirectedConvolution ? from.components / 2 : 0)},
        {"IN_COMPONENTS", typed ? "1" : std::to_string(operations[from.terms[0].input].components)},
        {"OUT_COMPONENTS", std::to_string(operation.components)},
        {"SLICES", std::to_string(slices)},
        {"COLUMNS", std::to_string(slices * lanes)},
        {"TABLE", std::to_string(operation.table)},
        {"CELLS", std::to_string(from.cells)},
        {"CELLS_PER_LENGTH", "(" + std::to_string(from.cells) + "/CUTOFF)"}};
    source += fill(deviceSources.at("convolution"), values);
    convolutions.push_back({from.segment, number, slices});
}

/** sum[r] += x[row + r] · weight */
std::string DeviceNetwork::writeProduct(int rows, int inputStride, int weight, int stride) const {
    const std::string in = std::to_string(inputStride / 4);
    return "            addProduct(sum, " + columnsOf(at(rows)) + "+row*" + in + ", " + in + ", " +
           columnsOf("(parameters+" + std::to_string(weight) + ")") + "+column, " + std::to_string(stride / 4) + ");\n";
}

std::string DeviceNetwork::writeForward(int number) const {
    const Operation& operation = operations[number];
    const Program::Operation& from = *operation.source;
    const std::string columns = std::to_string(operation.stride / 4);
    const auto row = [&](int input, const std::string& index) {
        return columnsOf(at(operations[input].rows)) + "[(" + index + ")*" + columns + "+column]";
    };
    std::string body;
    const auto add = [&](const std::string& expression) {
        body += "            for (int r = 0; r < 4; r++)\n                sum[r] += " + expression + ";\n";
    };
    if (from.kind == Kind::Product) {
        const int a = from.terms[0].input, b = from.terms[1].input;
        const std::string components = std::to_string(operation.components);
        add(row(a, operation.components > 1 ? "(row+r)/" + components : "row+r") + "*" + row(b, "row+r"));
    } else if (from.kind == Kind::InnerProduct) {
        const int a = from.terms[0].input, b = from.terms[1].input;
        for (const std::string& component : componentsOf(operations[a].components))
            add(row(a, component) + "*" + row(b, component));
    } else {
        for (size_t t = 0; t < from.terms.size(); t++) {
            const int input = from.terms[t].input;
            if (operation.weights[t] >= 0)
                body += writeProduct(operations[input].rows, operations[input].stride, operation.weights[t],
                                     operation.stride);
            else
                add(row(input, "row+r"));
        }
        if (operation.typeRows >= 0)
            add(columnsOf("(parameters+" + std::to_string(operation.typeRows) + ")") + "[types[row+r]*" + columns +
                "+column]");
    }
    body += "            for (int r = 0; r < 4; r++) {\n";
    const std::string place = "[(row+r)*" + columns + "+column]";
    if (from.activation != Activation::Identity) {
        for (const std::string c : {"x", "y", "z", "w"})
            body += "                const real2 " + c + " = " + functionOf(from.activation) + "(sum[r]." + c + ");\n";
        body += "                sum[r] = make_real4(x.x, y.x, z.x, w.x);\n";
        if (operation.derivative >= 0)
            body += "                " + columnsOf(at(operation.derivative)) + place +
                    " = make_real4(x.y, y.y, z.y, w.y);\n";
    }
    body += "                " + columnsOf(at(operation.rows)) + place + " = sum[r];\n            }\n";
    return body;
}

std::string DeviceNetwork::writeGradient(int number) const {
    const Operation& operation = operations[number];
    const std::string columns = std::to_string(operation.stride / 4);
    const std::string ofBead = operation.components > 1 ? "(row+r)/" + std::to_string(operation.components) : "row+r";
    std::string body;
    const auto add = [&](const std::string& expression) {
        body += "            for (int r = 0; r < 4; r++)\n                sum[r] += " + expression + ";\n";
    };
    const auto value = [&](int place, const std::string& index) {
        return columnsOf(at(place)) + "[(" + index + ")*" + columns + "+column]";
    };
    for (const Operation& user : operations)
        for (size_t t = 0; t < user.source->terms.size(); t++) {
            if (user.source->terms[t].input != number)
                continue;
            switch (user.source->kind) {
                case Kind::Affine:
                    if (user.transposed[t] >= 0)
                        body += writeProduct(user.gradient, user.stride, user.transposed[t], operation.stride);
                    else
                        add(value(user.gradient, "row+r"));
                    break;
                case Kind::Convolution:
                case Kind::DirectedConvolution:
                    add(value(user.inputGradients[t], "row+r"));
                    break;
                case Kind::Product: {
                    const int other = operations[user.source->terms[1 - t].input].rows;
                    if (t == 0 && user.components > 1)
                        for (const std::string& component : componentsOf(user.components))
                            add(value(user.gradient, component) + "*" + value(other, component));
                    else
                        add(value(user.gradient, "row+r") + "*" + value(other, ofBead));
                    break;
                }
                case Kind::InnerProduct:
                    add(value(user.gradient, ofBead) + "*" +
                        value(operations[user.source->terms[1 - t].input].rows, "row+r"));
                    break;
                case Kind::Readout:
                    add(columnsOf("(parameters+" + std::to_string(user.transposed[t]) + ")") + "[column]");
                    break;
            }
        }
    if (operation.derivative >= 0)
        body += "            for (int r = 0; r < 4; r++)\n                sum[r] *= " +
                value(operation.derivative, "row+r") + ";\n";
    body += "            for (int r = 0; r < 4; r++)\n                " + value(operation.gradient, "row+r") +
            " = sum[r];\n";
    return body;
}

/** The energies of the block's beads, one thread each. */
std::string DeviceNetwork::writeEnergy(int number) const {
    const Operation& readout = operations[number];
    std::string sums;
    for (size_t t = 0; t < readout.weights.size(); t++) {
        const Operation& input = operations[readout.source->terms[t].input];
        sums += fill(R"(
            for (int k = 0; k < $stride$; k++)
                energy += $rows$[i*$stride$+k]*parameters[$weight$+k];)",
                     {{"stride", std::to_string(input.stride)},
                      {"rows", at(input.rows)},
                      {"weight", std::to_string(readout.weights[t])}});
    }
    return fill(
        R"(
        for (int i = first+LOCAL_ID; i < first+$rows$; i += LOCAL_SIZE) {
            real energy = parameters[$typeRows$+types[i]];$sums$
            beadEnergies[i] = energy;
        }
)",
        {{"rows", std::to_string(rowsPerBlock)}, {"typeRows", std::to_string(readout.typeRows)}, {"sums", sums}});
}

void DeviceNetwork::writeSegment(int segment) {
    const auto withLoop = [&](int number, const std::string& body) {
        const Operation& operation = operations[number];
        return fill(loop, {{"rows", std::to_string(rowsPerBlock * operation.components)},
                           {"columns", std::to_string(operation.stride / 4)},
                           {"components", std::to_string(operation.components)},
                           {"body", body}});
    };
    std::string forward, energy, reverse;
    for (size_t k = 0; k < operations.size(); k++) {
        const int number = static_cast<int>(k);
        if (operations[k].source->segment != segment || operations[k].table >= 0)
            continue;
        if (operations[k].source->kind == Kind::Readout)
            energy += writeEnergy(number);
        else
            forward += withLoop(number, writeForward(number));
    }
    for (int number = static_cast<int>(operations.size()) - 1; number >= 0; number--)
        if (operations[number].source->segment == segment && operations[number].gradient >= 0)
            reverse += withLoop(number, writeGradient(number));
    const auto write = [&](const std::string& name, const std::string& body) {
        source += fill(R"(
KERNEL void BOUNDS($threads$, 4) $name$(GLOBAL real* workspace, GLOBAL const real* RESTRICT parameters,
        GLOBAL const int* RESTRICT types, GLOBAL real* RESTRICT beadEnergies) {
    for (int first = GROUP_ID*$rows$; first < PADDED_BEADS; first += NUM_GROUPS*$rows$) {
$body$    }
}
)",
                       {{"name", name},
                        {"threads", std::to_string(segmentThreads)},
                        {"rows", std::to_string(rowsPerBlock)},
                        {"body", body}});
    };
    if (segment < lastSegment) {
        write("forward" + std::to_string(segment), forward);
        write("reverse" + std::to_string(segment), reverse);
    } else {
        write("lastForces", forward + reverse);
        write("lastEnergy", forward + energy);
        write("lastForcesAndEnergy", forward + energy + reverse);
    }
}

}  // namespace OpenMMCG
