#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../model/ModelArchive.h"
#include "../network/Work.h"
#include "openmm/Vec3.h"

namespace OpenMMCG {

/** What an engine is told once, when the Context is made. */
struct EngineSettings {
    std::vector<int> types;  ///< bead type of each bead
    bool periodic = false;
    bool doublePrecision = false;
    int threads = 1;
    std::vector<std::string> derivatives;  ///< global parameters whose dE/dλ is wanted
    int replicas = 1;                      ///< the beads are this many blocks of equally many
};

/** What is wanted of one evaluation. */
struct EngineRequest {
    const std::vector<OpenMM::Vec3>& positions;  ///< of the beads, nm
    const OpenMM::Vec3* box;                     ///< three box vectors in reduced form, or nullptr
    std::vector<double> parameters;              ///< global parameters, in the model's order
    bool forces, energy;
    bool replicaEnergies = false;  ///< the energy of each replica; only ever together with the energy
};

/** What an evaluation gives. Forces are all set, not added to; unwanted results are left alone. */
struct EngineResult {
    double energy = 0;                    ///< kJ/mol
    std::vector<OpenMM::Vec3> forces;     ///< kJ/mol/nm
    std::vector<double> derivatives;      ///< dE/dλ in the order of EngineSettings::derivatives
    std::vector<double> replicaEnergies;  ///< kJ/mol
};

/** Evaluates one model for one Context: the interface between CGForceImpl and what computes. */
class Engine {
public:
    virtual ~Engine() = default;
    virtual void evaluate(const EngineRequest& request, EngineResult& result) = 0;
    /** Take the time of each kernel of an evaluation of energy and forces; empty where an engine has no kernels. */
    virtual std::vector<KernelTime> profile(const EngineRequest& request, int repeats) {
        return {};
    }
};

/** How an engine is made. The libraries that need libtorch export one of these each, under these names. */
using EngineFactory = Engine* (*)(const ModelArchive& model, const EngineSettings& settings);
constexpr const char* torchScriptFactoryName = "openmmcgCreateTorchScriptEngine";
constexpr const char* inductorFactoryName = "openmmcgCreateInductorEngine";

}  // namespace OpenMMCG
