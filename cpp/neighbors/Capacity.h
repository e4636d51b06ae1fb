#pragma once
#include <cstdint>
#include <limits>
#include <string>

#include "openmm/OpenMMException.h"

namespace OpenMMCG {

/**
 * The number of entries of a list whose indices are 32-bit integers; throws where those do not suffice.
 *
 * @param what  the list, and what it holds
 */
inline int requireCapacity(int64_t entries, const std::string& what) {
    const int64_t most = std::numeric_limits<int>::max();
    if (entries > most)
        throw OpenMM::OpenMMException("CGForce: " + what + " would have " + std::to_string(entries) +
                                      " entries, more than the " + std::to_string(most) +
                                      " that can be counted; simulate fewer beads or replicas in one Context, or at a "
                                      "lower density");
    return static_cast<int>(entries);
}

}  // namespace OpenMMCG
