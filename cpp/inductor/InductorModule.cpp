#include "InductorModule.h"

#include <stdlib.h>
#include <sys/utsname.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "../libtorch/InterpreterLock.h"

namespace OpenMMCG {

namespace {

const double wide = 1e6;  // nm
const std::string exportAgain =
    "export it again here (CGPotential.export_inductor, or torch._inductor.aoti_compile_and_package)";

/** A folder of our own for as long as this lives. */
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "openmmcg-XXXXXX").string();
        if (mkdtemp(pattern.data()) == nullptr)
            throw OpenMM::OpenMMException(
                "CGForce: no folder can be made in " + std::filesystem::temp_directory_path().string() +
                " to unpack an AOTInductor package; set TMPDIR to a folder where there is room");
        path = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    void unpack(const ZipArchive& archive) const {
        for (const std::string& name : archive.getNames()) {
            const std::filesystem::path target = path / name;
            const std::string_view content = archive.read(name);
            std::filesystem::create_directories(target.parent_path());
            std::ofstream file(target, std::ios::binary);
            file.write(content.data(), static_cast<std::streamsize>(content.size()));
            if (!file.flush())
                throw OpenMM::OpenMMException("CGForce: an AOTInductor package cannot be unpacked to " + path.string() +
                                              "; set TMPDIR to a folder where there is room");
        }
    }
    std::filesystem::path path;
};

/** The version of the libtorch that is loaded. */
std::string torchVersion() {
    const uint64_t version = aoti_torch_abi_version();
    return std::to_string(version >> 56) + "." + std::to_string(version >> 48 & 0xFF) + "." +
           std::to_string(version >> 40 & 0xFF);
}

/** What the kernel says that the processor can do. */
std::set<std::string> processorFeatures() {
    std::ifstream file("/proc/cpuinfo");
    std::set<std::string> features;
    for (std::string line; features.empty() && std::getline(file, line);)
        if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) {
            std::istringstream words(line.substr(line.find(':') + 1));
            for (std::string word; words >> word;) features.insert(word);
        }
    return features;
}

bool endsWith(const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

InductorModule::InductorModule(const ModelArchive& model, const EngineSettings& settings)
    : TorchModule("AOTInductor package", model, settings, torch::kCPU) {
    if (!description.outputsForces)
        fail(
            "has to return (energy, forces), since what is compiled is not differentiated any more; its model.json "
            "says that it returns energies alone");
    const ZipArchive package(model.getInductorPackage(), "the AOTInductor package of " + model.getSource());
    checkEntries(package);
    checkMachine(package);
    // Without this a package reads arguments of other types or shapes than it was compiled for, whatever lies there.
    setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 0);
    const ReleaseInterpreterLock release;
    const TemporaryFolder folder;
    explainErrors("cannot be loaded", [&] {
        folder.unpack(package);
        loader = std::make_unique<torch::inductor::AOTIModelPackageLoader>(folder.path.string());
    });
}

std::vector<torch::Tensor> InductorModule::run(const std::vector<torch::Tensor>& arguments) {
    return loader->run(arguments);
}

/** Shapes are compiled in, so there is a box always: one in which no minimum image moves what is within a cutoff. */
torch::Tensor InductorModule::boxOfNone(const torch::TensorOptions& options) const {
    return wide * torch::eye(3, options);
}

void InductorModule::checkEntries(const ZipArchive& package) const {
    bool isCompiled = false;
    for (const std::string& name : package.getNames()) {
        bool leavesFolder = name.empty() || name.front() == '/' || name.back() == '/' || name.find('\0') != name.npos;
        for (const auto& part : std::filesystem::path(name)) leavesFolder |= part == "..";
        if (leavesFolder)
            fail("holds an entry named '" + name + "', which is none of a package; nothing of it is unpacked");
        isCompiled |= name.find("data/aotinductor/model/") != name.npos && endsWith(name, ".so");
    }
    if (!isCompiled)
        fail(
            "holds no compiled model named 'model'; a .pt2 is written by torch._inductor.aoti_compile_and_package, "
            "torch.export.save does not compile");
}

void InductorModule::checkMachine(const ZipArchive& package) const {
    bool isDescribed = false;
    for (const std::string& name : package.getNames())
        if (endsWith(name, "wrapper_metadata.json")) {
            const auto metadata = nlohmann::json::parse(package.read(name), nullptr, false);
            if (!metadata.is_object())
                fail("has a " + name + " that cannot be read");
            std::map<std::string, std::string> madeFor;
            for (const auto& [key, value] : metadata.items())
                if (value.is_string())
                    madeFor[key] = value.get<std::string>();
            compareMachines(madeFor);
            isDescribed = true;
        }
    if (!isDescribed)
        fail("does not say what it was compiled for (there is no wrapper_metadata.json); " + exportAgain);
}

void InductorModule::compareMachines(const std::map<std::string, std::string>& madeFor) const {
    struct utsname system;
    uname(&system);
    const auto require = [&](const std::string& key, const std::string& what, const std::string& here) {
        const auto entry = madeFor.find(key);
        if (entry != madeFor.end() && entry->second.substr(0, entry->second.find('+')) != here)
            fail("was compiled for " + what + " " + entry->second + ", here is " + here + "; " + exportAgain);
    };
    require("torch_version", "torch", torchVersion());  // whatever the build, "+cpu"
    require("AOTI_PLATFORM", "the platform", "linux");
    require("AOTI_MACHINE", "machines of the kind", system.machine);
    require("AOTI_DEVICE_KEY", "the device", "cpu");
    const std::set<std::string> features = processorFeatures();
    const auto instructions = madeFor.find("AOTI_CPU_ISA");
    std::istringstream needed(instructions == madeFor.end() ? "" : instructions->second);
    for (std::string feature; needed >> feature;) {
        for (char& letter : feature) letter = static_cast<char>(std::tolower(letter));
        if (feature == "invalid_vec_isa")
            continue;
        if (features.count(feature == "avx512" ? "avx512f" : feature) == 0)
            fail("was compiled for processors with " + instructions->second + ", and this one has no " + feature +
                 "; " + exportAgain);
    }
}

}  // namespace OpenMMCG
