#pragma once
#include <cstdint>

#include "Export.h"
#include "openmm/Force.h"

namespace OpenMMCG {

/**
 * A member of every force of the plugin: it gives the force a number of its own, by which the force can be found as
 * long as it exists.
 *
 * A System deletes its forces, and whoever holds the address of one does not learn of it. Python therefore holds
 * numbers.
 */
class OPENMMCG_EXPORT LivingForce {
public:
    explicit LivingForce(OpenMM::Force& force);
    ~LivingForce();
    LivingForce(const LivingForce&) = delete;
    /** A force that becomes equal to another keeps its number. */
    LivingForce& operator=(const LivingForce&) {
        return *this;
    }
    /** The number of the force at an address; 0 where there is no force of the plugin. */
    static uint64_t numberAt(const void* address);
    /** Null where the force exists no more. */
    static OpenMM::Force* find(uint64_t number);

private:
    uint64_t number;
};

}  // namespace OpenMMCG
