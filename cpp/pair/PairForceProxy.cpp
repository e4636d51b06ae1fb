#include "PairForceProxy.h"

#include <memory>

#include "PairForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

const int proxyVersion = 1;
const std::string baseName = "CustomNonbondedForce";

}  // namespace

PairForceProxy::PairForceProxy() : SerializationProxy("PairForce") {
}

void PairForceProxy::serialize(const void* object, SerializationNode& node) const {
    const PairForce& force = *static_cast<const PairForce*>(object);
    getProxy(baseName).serialize(static_cast<const CustomNonbondedForce*>(&force), node);
    node.setIntProperty("pairForceVersion", proxyVersion);
    node.setIntProperty("replicas", force.getReplicas());
}

void* PairForceProxy::deserialize(const SerializationNode& node) const {
    const int version = node.getIntProperty("pairForceVersion");
    if (version > proxyVersion)
        throw OpenMMException("PairForce: this XML has version " + std::to_string(version) +
                              "; upgrade openmm-cg to read it");
    const std::unique_ptr<CustomNonbondedForce> definition(
        static_cast<CustomNonbondedForce*>(getProxy(baseName).deserialize(node)));
    return new PairForce(*definition, node.getIntProperty("replicas"));
}

}  // namespace OpenMMCG
