#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "ZipArchive.h"

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
    double scale = 1;  ///< what the module's energy and forces are multiplied by
    std::vector<Parameter> globalParameters;
    std::vector<std::string> getTypeNames() const;
};

/**
 * A potential file held in memory: a zip of stored (uncompressed) entries, of which model.json describes it.
 *
 * Files of version 1 are TorchScript archives, as `torch.jit.save` writes them, with these entries in their folder
 * `extra`. Errors are OpenMM::OpenMMException and begin with the name of the source.
 */
class ModelArchive {
public:
    static const int formatVersion = 2;
    /** Read a file. */
    static ModelArchive fromFile(const std::string& path);
    /** @param source  what error messages call these bytes */
    ModelArchive(std::vector<char> bytes, const std::string& source);
    ModelArchive(ModelArchive&&) = default;
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
    bool hasTorchScriptModule() const;
    bool hasInductorPackage() const;
    /** The content of an entry. The view lives as long as the archive, as all of these do. */
    std::string_view getEntry(const std::string& name) const;
    /** What `torch.jit.save` wrote. */
    std::string_view getTorchScriptModule() const;
    /** What `torch._inductor.aoti_compile_and_package` wrote. */
    std::string_view getInductorPackage() const;
    /** Throw an OpenMMException about this source. */
    [[noreturn]] void fail(const std::string& message) const;

private:
    bool has(const std::string& name) const;
    void readDescription();
    std::vector<char> bytes;
    std::string source;
    ZipArchive archive;
    std::string folder;  ///< where the entries of a file of version 1 are; empty in later ones
    ModelDescription description;
};

}  // namespace OpenMMCG
