#pragma once
#include <memory>
#include <vector>

#include "TabulatedBondedForce.h"
#include "openmm/CustomCompoundBondForce.h"

namespace OpenMMCG {

/**
 * OpenMM's own forces that have the energy of a TabulatedBondedForce: one for all tables of the same length.
 *
 * The tables of a force are one Continuous2DFunction, of the number of the table and the place on it. At whole numbers
 * it is the spline of that table exactly.
 */
std::vector<std::unique_ptr<OpenMM::CustomCompoundBondForce>> makeCompoundBondForces(const TabulatedBondedForce& force);

}  // namespace OpenMMCG
