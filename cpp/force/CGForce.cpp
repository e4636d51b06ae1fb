#include "CGForce.h"

#include <algorithm>
#include <set>

#include "CGForceImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"

using OpenMM::OpenMMException;

namespace OpenMMCG {

CGForce::CGForce() {
    setName("CGForce");
}

CGForce::CGForce(const std::string& path) : CGForce() {
    setModel(std::make_shared<const ModelArchive>(ModelArchive::fromFile(path)));
}

const ModelArchive& CGForce::getModel() const {
    if (!hasModel())
        throw OpenMMException("CGForce: the force has no model; give it one with setModel()");
    return *model;
}

void CGForce::setModel(std::shared_ptr<const ModelArchive> model) {
    this->model = std::move(model);
}

void CGForce::setEngine(const std::string& engine) {
    if (engine != "auto" && engine != "native" && engine != "torchscript" && engine != "inductor")
        throw OpenMMException("CGForce: there is no engine '" + engine +
                              "'; choose auto, native, torchscript or inductor");
    this->engine = engine;
}

std::string CGForce::chooseEngine() const {
    struct Choice {
        std::string engine, needs;
        bool possible;
    };
    const Choice choices[] = {{"native", "compiled network", getModel().hasCompiledNetwork()},
                              {"inductor", "AOTInductor package", model->hasInductorPackage()},
                              {"torchscript", "TorchScript module", model->hasTorchScriptModule()}};
    std::string others;
    for (const Choice& choice : choices)
        if (choice.possible) {
            if (engine == "auto" || engine == choice.engine)
                return choice.engine;
            others += (others.empty() ? "" : " or ") + ("engine=\"" + choice.engine) + "\"";
        }
    if (others.empty())
        model->fail("holds no network in any form; write it with CGPotential.save()");
    for (const Choice& choice : choices)
        if (choice.engine == engine)
            model->fail("holds no " + choice.needs + ", so the " + engine + " engine cannot run it; choose " + others);
    return {};
}

void CGForce::setParticles(const std::vector<int>& particles) {
    std::set<int> seen;
    for (int particle : particles) {
        if (particle < 0)
            throw OpenMMException("CGForce: the particle index " + std::to_string(particle) + " is negative");
        if (!seen.insert(particle).second)
            throw OpenMMException("CGForce: the particle " + std::to_string(particle) + " is listed twice");
    }
    this->particles = particles;
}

void CGForce::setTypes(const std::vector<int>& types) {
    const std::vector<std::string> names = getModel().getDescription().getTypeNames();
    for (size_t i = 0; i < types.size(); i++)
        if (types[i] < 0 || types[i] >= static_cast<int>(names.size()))
            throw OpenMMException("CGForce: bead " + std::to_string(i) + " has the bead type " +
                                  std::to_string(types[i]) + ", but " + model->getSource() + " knows the types 0 to " +
                                  std::to_string(names.size() - 1));
    this->types = types;
    typeNames = names;
}

std::vector<int> CGForce::getTypes() const {
    const std::vector<std::string> known = getModel().getDescription().getTypeNames();
    std::vector<int> place;  // of each name among those of the model
    for (const std::string& name : typeNames)
        place.push_back(static_cast<int>(std::find(known.begin(), known.end(), name) - known.begin()));
    std::vector<int> result(types.size());
    for (size_t i = 0; i < types.size(); i++) {
        result[i] = place[types[i]];
        if (result[i] == static_cast<int>(known.size())) {
            std::string names;
            for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
            throw OpenMMException("CGForce: bead " + std::to_string(i) + " is of the bead type '" +
                                  typeNames[types[i]] + "', which " + model->getSource() + " does not know; it knows " +
                                  names + ". Give the types of the beads anew with setTypes()");
        }
    }
    return result;
}

void CGForce::setReplicas(int replicas) {
    if (replicas < 1)
        throw OpenMMException("CGForce: there must be at least 1 replica, not " + std::to_string(replicas));
    this->replicas = replicas;
}

std::vector<double> CGForce::getReplicaEnergies(OpenMM::Context& context) {
    return dynamic_cast<CGForceImpl&>(getImplInContext(context)).getReplicaEnergies(getContextImpl(context));
}

std::vector<KernelTime> CGForce::profile(OpenMM::Context& context, int repeats) {
    if (repeats < 1)
        throw OpenMMException("CGForce: a profile needs at least 1 repeat, not " + std::to_string(repeats));
    return dynamic_cast<CGForceImpl&>(getImplInContext(context)).profile(getContextImpl(context), repeats);
}

void CGForce::setUsesPeriodicBoundaryConditions(bool periodic) {
    this->periodic = periodic;
}

void CGForce::checkParameter(const std::string& name) const {
    for (const auto& parameter : getModel().getDescription().globalParameters)
        if (parameter.name == name)
            return;
    throw OpenMMException("CGForce: " + model->getSource() + " declares no global parameter '" + name + "'");
}

void CGForce::setGlobalParameterDefault(const std::string& name, double value) {
    checkParameter(name);
    defaults[name] = value;
}

std::vector<ModelDescription::Parameter> CGForce::getGlobalParameters() const {
    for (const auto& [name, value] : defaults) checkParameter(name);
    std::vector<ModelDescription::Parameter> parameters = getModel().getDescription().globalParameters;
    for (auto& parameter : parameters) {
        const auto found = defaults.find(parameter.name);
        if (found != defaults.end())
            parameter.defaultValue = found->second;
    }
    return parameters;
}

void CGForce::addEnergyParameterDerivative(const std::string& name) {
    checkParameter(name);
    if (std::find(derivatives.begin(), derivatives.end(), name) == derivatives.end())
        derivatives.push_back(name);
}

OpenMM::ForceImpl* CGForce::createImpl() const {
    return new CGForceImpl(*this);
}

void CGForce::updateParametersInContext(OpenMM::Context& context) {
    dynamic_cast<CGForceImpl&>(getImplInContext(context)).updateParametersInContext(getContextImpl(context));
}

}  // namespace OpenMMCG
