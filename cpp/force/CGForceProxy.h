#pragma once
#include "openmm/serialization/SerializationProxy.h"

namespace OpenMMCG {

/** Writes a CGForce to XML and reads it back. The model's bytes travel along, so the XML needs no other file. */
class CGForceProxy : public OpenMM::SerializationProxy {
public:
    CGForceProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

}  // namespace OpenMMCG
