#include "CompiledNetwork.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

namespace OpenMMCG {

namespace {

/** Reads the operations one after the other and checks that they fit together. */
class Reader {
public:
    Reader(const ModelArchive& model, CompiledNetwork& network)
        : model(model), network(network), numbers(model.getExtra("compiled_network.bin")) {
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
        CompiledNetwork::Operation operation;
        if (name == "embedding") {
            operation.kind = Kind::Embedding;
            operation.weight = readArray(json.at("weight"), 2);
            require(shape[0] == network.types, where + "it does not have one row per bead type");
            operation.channels = shape[1];
        } else if (name == "dense") {
            operation.kind = Kind::Dense;
            const int in = readInput(json.at("input"), operation);
            operation.weight = readArray(json.at("weight"), 2);
            require(shape[0] == in, where + "its weight does not fit its input");
            operation.channels = shape[1];
            if (json.contains("bias")) {
                operation.bias = readArray(json.at("bias"), 1);
                require(shape[0] == operation.channels, where + "its bias does not fit its weight");
            }
            operation.activation = readActivation(json.at("activation"));
        } else if (name == "convolution") {
            operation.kind = Kind::Convolution;
            const int in = readInput(json.at("input"), operation);
            operation.table = readArray(json.at("table"), 3);
            require(shape[0] >= 2 && shape[1] == 2 && shape[2] == in, where + "its table does not fit its input");
            operation.cells = shape[0] - 1;
            operation.channels = in;
        } else if (name == "sum") {
            operation.kind = Kind::Sum;
            for (const auto& input : json.at("inputs")) {
                const int in = readInput(input, operation);
                require(operation.channels == 0 || operation.channels == in, where + "its inputs differ in width");
                operation.channels = in;
            }
            require(!operation.inputs.empty(), where + "it has no inputs");
        } else if (name == "readout") {
            operation.kind = Kind::Readout;
            const int in = readInput(json.at("input"), operation);
            operation.weight = readArray(json.at("weight"), 1);
            require(shape[0] == in, where + "its weight does not fit its input");
            operation.bias = readArray(json.at("bias"), 1);
            require(shape[0] == 1, where + "its bias is not one number");
        } else
            require(false, where + "this openmm-cg does not know it; upgrade openmm-cg");
        if (operation.kind != Kind::Readout) {
            operation.output = json.at("output");
            require(operation.output == static_cast<int>(network.channels.size()),
                    where + "values must be numbered in the order of the operations");
            require(operation.channels > 0, where + "it has no channels");
            network.channels.push_back(operation.channels);
        }
        network.operations.push_back(std::move(operation));
    }

    /** The width of a value made by an earlier operation. */
    int readInput(const nlohmann::json& json, CompiledNetwork::Operation& operation) {
        const int input = json;
        require(input >= 0 && input < static_cast<int>(network.channels.size()),
                where + "its input " + std::to_string(input) + " is not made by an earlier operation");
        operation.inputs.push_back(input);
        return network.channels[input];
    }

    Activation readActivation(const std::string& name) const {
        if (name == "identity")
            return Activation::Identity;
        if (name == "tanh")
            return Activation::Tanh;
        require(name == "shifted_softplus", where + "unknown activation '" + name + "'; upgrade openmm-cg");
        return Activation::ShiftedSoftplus;
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

    const ModelArchive& model;
    CompiledNetwork& network;
    std::string_view numbers;
    std::string where;
    std::vector<int> shape;  // of the array read last
};

}  // namespace

CompiledNetwork::CompiledNetwork(const ModelArchive& model) {
    try {
        Reader(model, *this).read(nlohmann::json::parse(model.getExtra("compiled_network.json")));
    } catch (const nlohmann::json::exception& error) {
        model.fail(std::string("has a compiled_network.json that cannot be read: ") + error.what());
    }
}

}  // namespace OpenMMCG
