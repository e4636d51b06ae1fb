#include "TabulatedBondedForceProxy.h"

#include <memory>

#include "TabulatedBondedForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const int proxyVersion = 1;

/** As OpenMM's own forces call the particles of a term. */
std::string particleName(size_t index) {
    return "p" + std::to_string(index + 1);
}

}  // namespace

TabulatedBondedForceProxy::TabulatedBondedForceProxy() : SerializationProxy("TabulatedBondedForce") {
}

void TabulatedBondedForceProxy::serialize(const void* object, SerializationNode& node) const {
    const TabulatedBondedForce& force = *static_cast<const TabulatedBondedForce*>(object);
    node.setIntProperty("version", proxyVersion);
    node.setStringProperty("name", force.getName());
    node.setIntProperty("forceGroup", force.getForceGroup());
    node.setStringProperty("kind", force.getKind());
    node.setBoolProperty("periodic", force.usesPeriodicBoundaryConditions());
    SerializationNode& tables = node.createChildNode("Tables");
    for (const auto& table : force.getTables()) {
        SerializationNode& child = tables.createChildNode("Table");
        child.setDoubleProperty("start", table.start).setDoubleProperty("stop", table.stop);
        for (double energy : table.energies) child.createChildNode("Energy").setDoubleProperty("e", energy);
    }
    SerializationNode& terms = node.createChildNode("Terms");
    for (const auto& term : force.getTerms()) {
        SerializationNode& child = terms.createChildNode("Term");
        for (size_t i = 0; i < term.particles.size(); i++) child.setIntProperty(particleName(i), term.particles[i]);
        child.setIntProperty("table", term.table);
    }
}

void* TabulatedBondedForceProxy::deserialize(const SerializationNode& node) const {
    const int version = node.getIntProperty("version");
    if (version > proxyVersion)
        throw OpenMMException("TabulatedBondedForce: this XML has version " + std::to_string(version) +
                              "; upgrade openmm-cg to read it");
    auto force = std::make_unique<TabulatedBondedForce>(node.getStringProperty("kind"));
    force->setName(node.getStringProperty("name", force->getName()));
    force->setForceGroup(node.getIntProperty("forceGroup", 0));
    force->setUsesPeriodicBoundaryConditions(node.getBoolProperty("periodic"));
    for (const SerializationNode& table : node.getChildNode("Tables").getChildren()) {
        std::vector<double> energies;
        for (const SerializationNode& energy : table.getChildren()) energies.push_back(energy.getDoubleProperty("e"));
        force->addTable(table.getDoubleProperty("start"), table.getDoubleProperty("stop"), energies);
    }
    for (const SerializationNode& term : node.getChildNode("Terms").getChildren()) {
        std::vector<int> particles(force->getNumParticlesPerTerm());
        for (size_t i = 0; i < particles.size(); i++) particles[i] = term.getIntProperty(particleName(i));
        force->addTerm(particles, term.getIntProperty("table"));
    }
    return force.release();
}

}  // namespace OpenMMCG
