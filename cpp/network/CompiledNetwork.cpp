#include "CompiledNetwork.h"

#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

namespace OpenMMCG {

namespace {

/**
 * The cubic splines with these values at the knots and these slopes at both ends.
 *
 * The value at knot k is (c_k + 4 c_k+1 + c_k+2) / 6, the slope times the cell width (c_k+2 - c_k) / 2. The first and
 * the last coefficient follow from the slopes; for the others remains a tridiagonal system.
 */
std::vector<float> makeSplines(const std::vector<float>& knots, int cells, int channels) {
    std::vector<float> splines(static_cast<size_t>(cells + 3) * channels);
    std::vector<double> c(cells + 3), factor(cells + 3);
    for (int channel = 0; channel < channels; channel++) {
        const auto value = [&](int k) -> double { return knots[static_cast<size_t>(2 * k) * channels + channel]; };
        const auto slope = [&](int k) -> double { return knots[static_cast<size_t>(2 * k + 1) * channels + channel]; };
        for (int k = 0; k <= cells; k++) {
            const bool first = k == 0, last = k == cells;
            const double below = first ? 0 : last ? 2 : 1, above = last ? 0 : first ? 2 : 1;
            const double right = 6 * value(k) + (first ? 2 * slope(k) : 0) - (last ? 2 * slope(k) : 0);
            const double pivot = 4 - below * (first ? 0 : factor[k]);
            factor[k + 1] = above / pivot;
            c[k + 1] = (right - below * (first ? 0 : c[k])) / pivot;
        }
        for (int k = cells; k >= 1; k--) c[k] -= factor[k] * c[k + 1];
        c[0] = c[2] - 2 * slope(0);
        c[cells + 2] = c[cells] + 2 * slope(cells);
        for (int row = 0; row < cells + 3; row++)
            splines[static_cast<size_t>(row) * channels + channel] = static_cast<float>(c[row]);
    }
    return splines;
}

/** Reads the operations one after the other and checks that they fit together. */
class Reader {
public:
    Reader(const ModelArchive& model, CompiledNetwork& network)
        : model(model), network(network), numbers(model.getEntry("compiled_network.bin")) {
    }

    void read(const nlohmann::json& json) {
        network.cutoff = json.at("cutoff");
        network.types = json.at("types");
        require(std::abs(network.cutoff - model.getDescription().cutoff) < 1e-9,
                "its cutoff is not that of model.json");
        require(network.types == static_cast<int>(model.getDescription().beadTypes.size()),
                "its number of bead types is not that of model.json");
        for (const auto& operation : json.at("operations")) readOperation(operation);
        require(!network.operations.empty() && network.operations.back().kind == CompiledNetwork::Kind::Readout,
                "the last operation is not a readout");
        for (size_t k = 0; k < values.size(); k++)
            require(values[k].used, "no operation uses its value " + std::to_string(k));
    }

private:
    void require(bool condition, const std::string& problem) const {
        if (!condition)
            model.fail("holds a compiled network that cannot be run: " + problem);
    }

    void readOperation(const nlohmann::json& json) {
        using Kind = CompiledNetwork::Kind;
        const std::string name = json.at("operation");
        where = "operation " + std::to_string(network.operations.size()) + " (" + name + "): ";
        require(network.operations.empty() || network.operations.back().kind != Kind::Readout,
                where + "it comes after the readout");
        CompiledNetwork::Operation operation;
        if (name == "embedding") {
            operation.kind = Kind::Embedding;
            operation.weight = readArray(json.at("weight"), 2);
            require(shape[0] == network.types, where + "it does not have one row per bead type");
            operation.channels = shape[1];
        } else if (name == "dense") {
            operation.kind = Kind::Dense;
            const Value in = readInput(json.at("input"), operation);
            operation.weight = readArray(json.at("weight"), 2);
            require(shape[0] == in.channels, where + "its weight does not fit its input");
            operation.channels = shape[1];
            operation.components = in.components;
            if (json.contains("bias")) {
                operation.bias = readArray(json.at("bias"), 1);
                require(shape[0] == operation.channels, where + "its bias does not fit its weight");
            }
            operation.activation = readActivation(json.at("activation"));
            require(in.components == 1 || (operation.bias.empty() && operation.activation == Activation::Identity),
                    where + "a bias or an activation of a vector would depend on the direction of the axes");
        } else if (name == "activation") {
            operation.kind = Kind::Activation;
            operation.channels = readInput(json.at("input"), operation, 1).channels;
            operation.activation = readActivation(json.at("activation"));
        } else if (name == "convolution" || name == "vector_convolution" || name == "tensor_convolution") {
            const int made = name == "vector_convolution" ? 3 : name == "tensor_convolution" ? 5 : 0;
            operation.kind = made > 0 ? Kind::DirectedConvolution : Kind::Convolution;
            const Value in = readInput(json.at("input"), operation, made > 0 ? 1 : 0);
            operation.table = readTable(json.at("table"));
            require(shape[0] >= 4 && shape[1] == in.channels, where + "its table does not fit its input");
            operation.cells = shape[0] - 3;
            operation.channels = in.channels;
            operation.components = made > 0 ? made : in.components;
        } else if (name == "product" || name == "inner_product") {
            operation.kind = name == "product" ? Kind::Product : Kind::InnerProduct;
            const auto& inputs = json.at("inputs");
            require(inputs.size() == 2, where + "it does not have two inputs");
            const bool inner = operation.kind == Kind::InnerProduct;
            const Value first = readInput(inputs[0], operation, inner ? 0 : 1);
            const Value second = readInput(inputs[1], operation, inner ? first.components : 0);
            require(!inner || first.components > 1,
                    where + "its input " + inputs[0].dump() + " is a scalar instead of a vector or tensor");
            require(first.channels == second.channels, where + "its inputs differ in width");
            operation.channels = first.channels;
            operation.components = inner ? 1 : second.components;
        } else if (name == "sum") {
            operation.kind = Kind::Sum;
            require(!json.at("inputs").empty(), where + "it has no inputs");
            for (const auto& input : json.at("inputs")) {
                const Value in = readInput(input, operation, operation.inputs.empty() ? 0 : operation.components);
                require(operation.inputs.size() == 1 || operation.channels == in.channels,
                        where + "its inputs differ in width");
                operation.channels = in.channels;
                operation.components = in.components;
            }
        } else if (name == "readout") {
            operation.kind = Kind::Readout;
            const Value in = readInput(json.at("input"), operation, 1);
            operation.weight = readArray(json.at("weight"), 1);
            require(shape[0] == in.channels, where + "its weight does not fit its input");
            operation.bias = readArray(json.at("bias"), 1);
            require(shape[0] == 1, where + "its bias is not one number");
        } else
            require(false, where + "this openmm-cg does not know it; upgrade openmm-cg");
        if (operation.kind != Kind::Readout) {
            require(json.at("output") == values.size(),
                    where + "values must be numbered in the order of the operations");
            require(operation.channels > 0, where + "it has no channels");
            values.push_back({operation.channels, operation.components});
        }
        network.operations.push_back(std::move(operation));
    }

    static const char* nameOf(int components) {
        return components == 1 ? "scalar" : components == 3 ? "vector" : "tensor";
    }

    struct Value {
        int channels, components;
        bool used = false;
    };

    /** A value made by an earlier operation; it must have this number of components, unless that is 0. */
    Value readInput(const nlohmann::json& json, CompiledNetwork::Operation& operation, int components = 0) {
        const int input = json;
        require(input >= 0 && input < static_cast<int>(values.size()),
                where + "its input " + std::to_string(input) + " is not made by an earlier operation");
        Value& value = values[input];
        require(components == 0 || value.components == components, where + "its input " + std::to_string(input) +
                                                                       " is a " + nameOf(value.components) +
                                                                       " instead of a " + nameOf(components));
        value.used = true;
        operation.inputs.push_back(input);
        return value;
    }

    Activation readActivation(const std::string& name) const {
        static const std::map<std::string, Activation> known = {{"identity", Activation::Identity},
                                                                {"tanh", Activation::Tanh},
                                                                {"shifted_softplus", Activation::ShiftedSoftplus},
                                                                {"silu", Activation::Silu},
                                                                {"square_root", Activation::SquareRoot}};
        const auto found = known.find(name);
        require(found != known.end(), where + "unknown activation '" + name + "'; upgrade openmm-cg");
        return found->second;
    }

    std::vector<float> readArray(const nlohmann::json& json, size_t dimensions) {
        shape = json.at("shape").get<std::vector<int>>();
        const size_t offset = json.at("offset"), available = numbers.size() / sizeof(float);
        require(shape.size() == dimensions, where + "an array has the wrong number of dimensions");
        size_t size = 1;
        for (int length : shape) {
            require(length > 0 && static_cast<size_t>(length) <= available, where + "an array has an impossible shape");
            size *= length;
            require(size <= available, where + "an array runs past the end of compiled_network.bin");
        }
        require(offset <= available - size, where + "an array runs past the end of compiled_network.bin");
        std::vector<float> values(size);
        std::memcpy(values.data(), numbers.data() + offset * sizeof(float), size * sizeof(float));
        for (float value : values) require(std::isfinite(value), where + "an array holds numbers that are not finite");
        return values;
    }

    /** Splines, or what earlier versions saved: values and slopes times cell width, [cells + 1, 2, channels]. */
    std::vector<float> readTable(const nlohmann::json& json) {
        if (json.at("shape").size() != 3)
            return readArray(json, 2);
        const std::vector<float> knots = readArray(json, 3);
        require(shape[0] >= 2 && shape[1] == 2, where + "its table does not fit its input");
        const int cells = shape[0] - 1, channels = shape[2];
        shape = {cells + 3, channels};
        return makeSplines(knots, cells, channels);
    }

    const ModelArchive& model;
    CompiledNetwork& network;
    std::string_view numbers;
    std::string where;
    std::vector<int> shape;     // of the array read last
    std::vector<Value> values;  // made so far
};

}  // namespace

CompiledNetwork::CompiledNetwork(const ModelArchive& model) {
    try {
        Reader(model, *this).read(nlohmann::json::parse(model.getEntry("compiled_network.json")));
    } catch (const nlohmann::json::exception& error) {
        model.fail(std::string("has a compiled_network.json that cannot be read: ") + error.what());
    }
}

}  // namespace OpenMMCG
