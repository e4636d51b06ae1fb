#pragma once
#include <map>
#include <string>
#include <vector>

#include "lepton/ExpressionProgram.h"
#include "lepton/ParsedExpression.h"
#include "openmm/CustomNonbondedForce.h"

namespace OpenMMCG {

/** An energy, or its derivative with respect to a parameter, and what it changes by with the distance. */
struct EnergyAndSlope {
    double energy, slope;
};

/**
 * The energy of a pair of particles as a function of their distance, as a CustomNonbondedForce defines it: its
 * expression times its switching function.
 */
class PairExpression {
public:
    /**
     * @param expression  of the force, or its derivative with respect to a global parameter
     * @param definition  for the switching function
     * @param parameters  of the two particles, under the names that they have in the expression
     */
    PairExpression(const Lepton::ParsedExpression& expression, const OpenMM::CustomNonbondedForce& definition,
                   const std::map<std::string, double>& parameters);
    /** Values of the global parameters. */
    void setParameters(const std::map<std::string, double>& globals) {
        variables = globals;
    }
    EnergyAndSlope evaluate(double distance) const;

private:
    Lepton::ExpressionProgram energy, slope;
    std::map<std::string, double> variables;
    bool switched;
    double switchingDistance, cutoff;
};

/** The energy expression of a force, with its tabulated functions. */
Lepton::ParsedExpression parseEnergy(const OpenMM::CustomNonbondedForce& definition);

}  // namespace OpenMMCG
