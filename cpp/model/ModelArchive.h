#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace OpenMMCG {

/** What `model.json` says of a potential; the keys are described in docs/design.md. */
struct ModelDescription {
    struct BeadType {
        std::string name;
        double mass;
    };
    struct Parameter {
        std::string name;
        double defaultValue;
    };
    std::string contract;  ///< "neighbor-list" or "plain"
    double cutoff = 0;     ///< nm; 0 for the plain contract
    std::vector<BeadType> beadTypes;
    std::string dtype = "float32";  ///< "float32", "float64", "any" or "keep", see docs/model-contract.md
    bool outputsForces = false;
    std::vector<Parameter> globalParameters;
    std::vector<std::string> getTypeNames() const;
};

/**
 * A potential file held in memory: a zip of stored (uncompressed) entries, of which model.json describes it.
 *
 * Files of version 1 are TorchScript archives, as `torch.jit.save` writes them, with these entries in their folder
 * `extra`. Every entry read is checked against its CRC-32. Errors are OpenMM::OpenMMException and begin with the name
 * of the source.
 */
class ModelArchive {
public:
    static const int formatVersion = 2;
    /** Read a file. */
    static ModelArchive fromFile(const std::string& path);
    /** @param source  what error messages call these bytes */
    ModelArchive(std::vector<char> bytes, const std::string& source);
    const std::vector<char>& getBytes() const {
        return bytes;
    }
    const std::string& getSource() const {
        return source;
    }
    const ModelDescription& getDescription() const {
        return description;
    }
    bool hasCompiledNetwork() const;
    /** The content of an entry. The view lives as long as the archive. */
    std::string_view getEntry(const std::string& name) const;
    /** What the TorchScript engine runs, as `torch.jit.save` writes it. */
    std::string_view getModule() const;
    /** Throw an OpenMMException about this source. */
    [[noreturn]] void fail(const std::string& message) const;

private:
    struct Entry {
        uint64_t offset, size;
        uint32_t checksum;
        bool stored;
    };
    template <class T>
    T read(uint64_t position) const;
    std::map<std::string, Entry> readDirectory() const;
    void readDescription();
    std::vector<char> bytes;
    std::string source;
    std::map<std::string, Entry> entries;
    bool isTorchScriptArchive = false;  ///< as all was in version 1
    ModelDescription description;
};

}  // namespace OpenMMCG
