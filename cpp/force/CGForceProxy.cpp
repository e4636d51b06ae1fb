#include "CGForceProxy.h"

#include <memory>

#include "../model/Base64.h"
#include "CGForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

/** Version 2 knows replicas. */
const int proxyVersion = 2;

void writeIntegers(SerializationNode& node, const std::string& name, const std::vector<int>& values) {
    SerializationNode& list = node.createChildNode(name);
    for (int value : values) list.createChildNode("Item").setIntProperty("value", value);
}

std::vector<int> readIntegers(const SerializationNode& node, const std::string& name) {
    std::vector<int> values;
    for (const SerializationNode& item : node.getChildNode(name).getChildren())
        values.push_back(item.getIntProperty("value"));
    return values;
}

}  // namespace

CGForceProxy::CGForceProxy() : SerializationProxy("CGForce") {
}

void CGForceProxy::serialize(const void* object, SerializationNode& node) const {
    const CGForce& force = *static_cast<const CGForce*>(object);
    node.setIntProperty("version", proxyVersion);
    node.setStringProperty("name", force.getName());
    node.setIntProperty("forceGroup", force.getForceGroup());
    node.setStringProperty("engine", force.getEngine());
    node.setBoolProperty("periodic", force.usesPeriodicBoundaryConditions());
    node.setIntProperty("replicas", force.getReplicas());
    writeIntegers(node, "Particles", force.getParticles());
    writeIntegers(node, "Types", force.hasModel() ? force.getTypes() : std::vector<int>());
    SerializationNode& parameters = node.createChildNode("GlobalParameters");
    for (const auto& [name, value] : force.getGlobalParameterDefaults())
        parameters.createChildNode("Parameter").setStringProperty("name", name).setDoubleProperty("default", value);
    SerializationNode& derivatives = node.createChildNode("EnergyParameterDerivatives");
    for (const auto& name : force.getEnergyParameterDerivatives())
        derivatives.createChildNode("Parameter").setStringProperty("name", name);
    if (force.hasModel())
        node.createChildNode("Model").setStringProperty("base64", encodeBase64(force.getModel().getBytes()));
}

void* CGForceProxy::deserialize(const SerializationNode& node) const {
    const int version = node.getIntProperty("version");
    if (version > proxyVersion)
        throw OpenMMException("CGForce: this XML has version " + std::to_string(version) +
                              "; upgrade openmm-cg to read it");
    auto force = std::make_unique<CGForce>();
    for (const SerializationNode& child : node.getChildren())
        if (child.getName() == "Model")
            force->setModel(
                std::make_shared<const ModelArchive>(decodeBase64(child.getStringProperty("base64")), "the model"));
    force->setName(node.getStringProperty("name", force->getName()));
    force->setForceGroup(node.getIntProperty("forceGroup", 0));
    force->setEngine(node.getStringProperty("engine"));
    force->setUsesPeriodicBoundaryConditions(node.getBoolProperty("periodic"));
    force->setReplicas(node.getIntProperty("replicas", 1));
    force->setParticles(readIntegers(node, "Particles"));
    if (force->hasModel())
        force->setTypes(readIntegers(node, "Types"));
    for (const SerializationNode& parameter : node.getChildNode("GlobalParameters").getChildren())
        force->setGlobalParameterDefault(parameter.getStringProperty("name"), parameter.getDoubleProperty("default"));
    for (const SerializationNode& parameter : node.getChildNode("EnergyParameterDerivatives").getChildren())
        force->addEnergyParameterDerivative(parameter.getStringProperty("name"));
    return force.release();
}

}  // namespace OpenMMCG
