#include "CGForce.h"

#include <algorithm>
#include <set>

#include "CGForceImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"

using OpenMM::OpenMMException;

namespace OpenMMCG {

CGForce::CGForce(const std::string& path)
    : model(std::make_shared<const ModelArchive>(ModelArchive::fromFile(path))),
      globalParameters(model->getDescription().globalParameters) {
    setName("CGForce");
}

CGForce::CGForce(std::vector<char> bytes)
    : model(std::make_shared<const ModelArchive>(std::move(bytes), "the model")),
      globalParameters(model->getDescription().globalParameters) {
    setName("CGForce");
}

void CGForce::setModel(std::vector<char> bytes) {
    auto next = std::make_shared<const ModelArchive>(std::move(bytes), "the model");
    const auto& parameters = next->getDescription().globalParameters;
    const bool same = std::equal(parameters.begin(), parameters.end(), globalParameters.begin(), globalParameters.end(),
                                 [](const auto& a, const auto& b) { return a.name == b.name; });
    if (!same)
        next->fail("declares other global parameters than the model it replaces; make a new CGForce for it");
    model = next;
}

void CGForce::setEngine(const std::string& engine) {
    if (engine != "auto" && engine != "native" && engine != "torchscript")
        throw OpenMMException("CGForce: there is no engine '" + engine + "'; choose auto, native or torchscript");
    this->engine = engine;
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
    const auto& known = model->getDescription().beadTypes;
    for (size_t i = 0; i < types.size(); i++)
        if (types[i] < 0 || types[i] >= static_cast<int>(known.size()))
            throw OpenMMException("CGForce: bead " + std::to_string(i) + " has the bead type " +
                                  std::to_string(types[i]) + ", but " + model->getSource() + " knows the types 0 to " +
                                  std::to_string(known.size() - 1));
    this->types = types;
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
    for (const auto& parameter : globalParameters)
        if (parameter.name == name)
            return;
    throw OpenMMException("CGForce: " + model->getSource() + " declares no global parameter '" + name + "'");
}

void CGForce::setGlobalParameterDefault(const std::string& name, double value) {
    checkParameter(name);
    for (auto& parameter : globalParameters)
        if (parameter.name == name)
            parameter.defaultValue = value;
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
