#pragma once
#include <cstdint>
#include <vector>

#include "Engine.h"

namespace OpenMMCG {

/** A device on which libtorch can work: memory of the process, or that of a GPU. */
struct DevicePlace {
    bool isCuda;           ///< otherwise the memory of the process
    int index;             ///< of the GPU
    bool doublePrecision;  ///< whether the platform's numbers of positions and forces are double (or float)
};

/** Where on the device an engine expects its input; the addresses are the device's. */
struct DeviceInput {
    uint64_t positions;      ///< [beads, 3], nm
    uint64_t rows, columns;  ///< int64 [pairs] each: the beads of every pair, once
};

/** What is wanted of one evaluation. Its input is there already: who asks has waited for what wrote it. */
struct DeviceRequest {
    int64_t pairs;
    const OpenMM::Vec3* box;         ///< three box vectors in reduced form, or nullptr
    std::vector<double> parameters;  ///< global parameters, in the model's order
    bool forces, energy;
    bool replicaEnergies = false;
};

struct DeviceResult {
    double energy = 0;                    ///< kJ/mol
    std::vector<double> replicaEnergies;  ///< kJ/mol
    std::vector<double> derivatives;      ///< dE/dλ in the order of EngineSettings::derivatives; with the forces
    uint64_t forces = 0;                  ///< address of [beads, 3], kJ/mol/nm; valid until the next evaluation
    void* finished = nullptr;  ///< CUevent to wait for before forces are read or input is written; null: no need to
};

/** Evaluates one model for one Context where positions and forces are kept, without a way over the host. */
class DeviceEngine {
public:
    virtual ~DeviceEngine() = default;
    /** Make room for so many pairs; the addresses hold until more room is asked for. */
    virtual DeviceInput reserve(int64_t pairs) = 0;
    virtual void evaluate(const DeviceRequest& request, DeviceResult& result) = 0;
};

/** Makes such an engine and tries it out; throws an OpenMMException that says why it cannot work there. */
using DeviceEngineFactory = DeviceEngine* (*)(const ModelArchive& model, const EngineSettings& settings,
                                              const DevicePlace& place);
constexpr const char* torchScriptDeviceFactoryName = "openmmcgCreateTorchScriptDeviceEngine";

}  // namespace OpenMMCG
