#include "ModelArchive.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "openmm/OpenMMException.h"

namespace OpenMMCG {

std::vector<std::string> ModelDescription::getTypeNames() const {
    std::vector<std::string> names;
    for (const BeadType& type : beadTypes) names.push_back(type.name);
    return names;
}

ModelArchive ModelArchive::fromFile(const std::string& path) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error)
        throw OpenMM::OpenMMException("CGForce: cannot open the model file '" + path + "': " + error.message());
    std::vector<char> bytes(size);
    std::ifstream file(path, std::ios::binary);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(size)))
        throw OpenMM::OpenMMException("CGForce: cannot read the model file '" + path + "': " + std::strerror(errno));
    return ModelArchive(std::move(bytes), "the model file '" + path + "'");
}

ModelArchive::ModelArchive(std::vector<char> content, const std::string& source)
    : bytes(std::move(content)), source(source), archive({bytes.data(), bytes.size()}, source) {
    if (!archive.has("model.json"))
        for (const std::string& name : archive.getNames()) {
            const size_t slash = name.find('/');
            if (slash != std::string::npos && name.compare(slash, 7, "/extra/") == 0)
                folder = name.substr(0, slash + 7);
        }
    readDescription();
}

void ModelArchive::fail(const std::string& message) const {
    throw OpenMM::OpenMMException("CGForce: " + source + " " + message);
}

std::string_view ModelArchive::getEntry(const std::string& name) const {
    return archive.read(folder + name);
}

bool ModelArchive::hasCompiledNetwork() const {
    return has("compiled_network.json");
}

bool ModelArchive::hasTorchScriptModule() const {
    return !folder.empty() || has("module.pt");
}

bool ModelArchive::hasInductorPackage() const {
    return has("module.pt2");
}

std::string_view ModelArchive::getTorchScriptModule() const {
    return folder.empty() ? getEntry("module.pt") : std::string_view(bytes.data(), bytes.size());
}

std::string_view ModelArchive::getInductorPackage() const {
    return getEntry("module.pt2");
}

bool ModelArchive::has(const std::string& name) const {
    return archive.has(folder + name);
}

void ModelArchive::readDescription() {
    if (!has("model.json"))
        fail(
            "has no model.json: write it with CGPotential.save(), or give a torch.jit.ScriptModule, or a .pt2 of "
            "AOTInductor, to CGForce together with its cutoff and bead types");
    try {
        const auto json = nlohmann::json::parse(getEntry("model.json"));
        if (json.at("format") != "openmm-cg potential")
            fail("is not an openmm-cg potential (format '" + json.at("format").get<std::string>() + "')");
        const int version = json.at("format_version");
        if (version > formatVersion)
            fail("has format version " + std::to_string(version) + "; this openmm-cg reads versions up to " +
                 std::to_string(formatVersion) + ": upgrade openmm-cg");
        description.contract = json.at("contract");
        if (description.contract == "none")
            fail(
                "holds priors alone, no network, so there is nothing for a CGForce to compute; its System is made by "
                "openmmcg.CGPotential.load(...).create_system(topology)");
        if (description.contract != "neighbor-list" && description.contract != "plain")
            fail("follows the unknown contract '" + description.contract + "' (known: neighbor-list, plain)");
        if (description.contract == "neighbor-list") {
            description.cutoff = json.at("cutoff");
            if (!(description.cutoff > 0) || !std::isfinite(description.cutoff))
                fail("has a cutoff of " + std::to_string(description.cutoff) + " nm; it must be positive");
        }
        std::set<std::string> names;
        for (const auto& type : json.at("bead_types")) {
            description.beadTypes.push_back({type.at("name"), type.at("mass")});
            const std::string& name = description.beadTypes.back().name;
            if (!names.insert(name).second)
                fail("names the bead type '" + name + "' twice");
        }
        if (description.beadTypes.empty())
            fail("names no bead types");
        description.dtype = json.value("dtype", "float32");
        if (description.dtype != "float32" && description.dtype != "float64" && description.dtype != "any" &&
            description.dtype != "keep")
            fail("has the unknown dtype '" + description.dtype + "' (known: float32, float64, any, keep)");
        description.outputsForces = json.value("outputs_forces", false);
        description.scale = json.value("scale", 1.0);
        for (const auto& parameter : json.value("global_parameters", nlohmann::json::array()))
            description.globalParameters.push_back({parameter.at("name"), parameter.at("default")});
    } catch (const nlohmann::json::exception& error) {
        fail(std::string("has a model.json that cannot be read: ") + error.what() +
             "; if it says NaN, CGPotential.load(path).save(path) in Python writes what can be read");
    }
}

}  // namespace OpenMMCG
