#include "ModelArchive.h"

#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "openmm/OpenMMException.h"

namespace OpenMMCG {

namespace {

uint32_t crc32(std::string_view data) {
    static const std::array<uint32_t, 256> table = [] {
        std::array<uint32_t, 256> result{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ (value & 1 ? 0xEDB88320u : 0u);
            result[i] = value;
        }
        return result;
    }();
    uint32_t result = 0xFFFFFFFFu;
    for (char c : data) result = table[(result ^ static_cast<uint8_t>(c)) & 0xFF] ^ (result >> 8);
    return ~result;
}

// Signatures and field offsets of the zip format (PKWARE APPNOTE 6.3, sections 4.3 and 4.5.3).
const uint32_t endSignature = 0x06054b50, end64Signature = 0x06064b50, locatorSignature = 0x07064b50;
const uint32_t directorySignature = 0x02014b50, localSignature = 0x04034b50;
const uint64_t endSize = 22, locatorSize = 20, directoryHeaderSize = 46, localHeaderSize = 30;

}  // namespace

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

ModelArchive::ModelArchive(std::vector<char> bytes, const std::string& source)
    : bytes(std::move(bytes)), source(source) {
    entries = readDirectory();
    if (entries.count("model.json") == 0) {
        isTorchScriptArchive = true;
        std::map<std::string, Entry> extras;
        for (const auto& [name, entry] : entries) {
            const size_t extra = name.find("/extra/");
            if (extra != std::string::npos && extra == name.find('/'))
                extras[name.substr(extra + std::strlen("/extra/"))] = entry;
        }
        entries = std::move(extras);
    }
    readDescription();
}

void ModelArchive::fail(const std::string& message) const {
    throw OpenMM::OpenMMException("CGForce: " + source + " " + message);
}

template <class T>
T ModelArchive::read(uint64_t position) const {
    if (position > bytes.size() || sizeof(T) > bytes.size() - position)
        fail("is truncated or corrupted; save the potential again, or copy the file again");
    T value;
    std::memcpy(&value, bytes.data() + position, sizeof(T));
    return value;
}

/** Where the entries are, and that they lie within the file. */
std::map<std::string, ModelArchive::Entry> ModelArchive::readDirectory() const {
    std::map<std::string, Entry> found;
    const std::string notAnArchive =
        "is not a complete potential file (no zip directory found): it is truncated, or not written by "
        "CGPotential.save() or torch.jit.save()";
    uint64_t end = bytes.size() < endSize ? 0 : bytes.size() - endSize + 1;
    const uint64_t searchLimit = end > 65535 ? end - 65535 : 0;
    while (end > searchLimit && read<uint32_t>(end - 1) != endSignature) end--;
    if (end == searchLimit)
        fail(notAnArchive);
    end--;
    uint64_t number = read<uint16_t>(end + 10), position = read<uint32_t>(end + 16);
    if (end >= locatorSize && read<uint32_t>(end - locatorSize) == locatorSignature) {
        const uint64_t end64 = read<uint64_t>(end - locatorSize + 8);
        if (read<uint32_t>(end64) != end64Signature)
            fail(notAnArchive);
        number = read<uint64_t>(end64 + 32);
        position = read<uint64_t>(end64 + 48);
    }
    for (uint64_t i = 0; i < number; i++) {
        if (read<uint32_t>(position) != directorySignature)
            fail("is corrupted: its directory cannot be read");
        const uint16_t nameLength = read<uint16_t>(position + 28), extraLength = read<uint16_t>(position + 30);
        Entry entry{read<uint32_t>(position + 42), read<uint32_t>(position + 24), read<uint32_t>(position + 16),
                    read<uint16_t>(position + 10) == 0};
        uint64_t compressedSize = read<uint32_t>(position + 20);
        const uint64_t namePosition = position + directoryHeaderSize;
        const uint64_t next = namePosition + nameLength + extraLength + read<uint16_t>(position + 32);
        if (next > bytes.size())
            fail("is truncated or corrupted: its directory runs past its end");
        const std::string name(bytes.data() + namePosition, nameLength);
        for (uint64_t field = namePosition + nameLength; field + 4 <= namePosition + nameLength + extraLength;
             field += 4 + read<uint16_t>(field + 2)) {
            if (read<uint16_t>(field) != 1)
                continue;
            uint64_t value = field + 4;
            for (uint64_t* number : {&entry.size, &compressedSize, &entry.offset})
                if (*number == 0xFFFFFFFFu) {
                    *number = read<uint64_t>(value);
                    value += 8;
                }
        }
        if (read<uint32_t>(entry.offset) != localSignature)
            fail("is corrupted: the entry '" + name + "' is not where the directory says");
        entry.offset += localHeaderSize + read<uint16_t>(entry.offset + 26) + read<uint16_t>(entry.offset + 28);
        if (entry.stored && entry.size != compressedSize)
            fail("is corrupted: the entry '" + name + "' is of two sizes");
        if (compressedSize > bytes.size() || entry.offset > bytes.size() - compressedSize)
            fail("is truncated or corrupted: the entry '" + name + "' runs past its end");
        if (!found.emplace(name, entry).second)
            fail("is corrupted: it holds the entry '" + name + "' twice");
        position = next;
    }
    return found;
}

std::string_view ModelArchive::getEntry(const std::string& name) const {
    auto found = entries.find(name);
    if (found == entries.end())
        fail("has no entry '" + name + "'");
    const Entry& entry = found->second;
    if (!entry.stored)
        fail("holds the entry '" + name + "' compressed; it must be stored, as CGPotential.save() does");
    std::string_view content(bytes.data() + entry.offset, entry.size);
    if (crc32(content) != entry.checksum)
        fail("is corrupted: the checksum of '" + name + "' does not agree; save or copy the file again");
    return content;
}

std::string_view ModelArchive::getModule() const {
    return isTorchScriptArchive ? std::string_view(bytes.data(), bytes.size()) : getEntry("module.pt");
}

bool ModelArchive::hasCompiledNetwork() const {
    return entries.count("compiled_network.json") > 0;
}

void ModelArchive::readDescription() {
    if (entries.count("model.json") == 0)
        fail(
            "is a TorchScript archive without model.json: write it with CGPotential.save(), or give the "
            "torch.jit.ScriptModule itself to CGForce");
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
        for (const auto& parameter : json.value("global_parameters", nlohmann::json::array()))
            description.globalParameters.push_back({parameter.at("name"), parameter.at("default")});
    } catch (const nlohmann::json::exception& error) {
        fail(std::string("has a model.json that cannot be read: ") + error.what() +
             "; if it says NaN, CGPotential.load(path).save(path) in Python writes what can be read");
    }
}

}  // namespace OpenMMCG
