#pragma once
#include "openmm/serialization/SerializationProxy.h"

namespace OpenMMCG {

/** A PairForce in XML: all that OpenMM writes of a CustomNonbondedForce, and the number of replicas. */
class PairForceProxy : public OpenMM::SerializationProxy {
public:
    PairForceProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

}  // namespace OpenMMCG
