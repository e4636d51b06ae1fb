#pragma once
#include "openmm/serialization/SerializationProxy.h"

namespace OpenMMCG {

/** Writes a TabulatedBondedForce to XML and reads it back. */
class TabulatedBondedForceProxy : public OpenMM::SerializationProxy {
public:
    TabulatedBondedForceProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

}  // namespace OpenMMCG
