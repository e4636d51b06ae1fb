#include "PairExpression.h"

#include <memory>

#include "lepton/Parser.h"
#include "openmm/reference/ReferenceTabulatedFunction.h"

using namespace OpenMM;

namespace OpenMMCG {

PairExpression::PairExpression(const Lepton::ParsedExpression& expression, const CustomNonbondedForce& definition,
                               const std::map<std::string, double>& parameters)
    : switched(definition.getUseSwitchingFunction()),
      switchingDistance(definition.getSwitchingDistance()),
      cutoff(definition.getCutoffDistance()) {
    // What depends on the particles alone becomes a number, functions of their types too, which have no derivative.
    const Lepton::ParsedExpression ofPair = expression.optimize(parameters);
    energy = ofPair.createProgram();
    slope = ofPair.differentiate("r").optimize().createProgram();
}

EnergyAndSlope PairExpression::evaluate(double distance) const {
    std::map<std::string, double> values = variables;
    values["r"] = distance;
    EnergyAndSlope result{energy.evaluate(values), slope.evaluate(values)};
    if (switched && distance > switchingDistance) {
        // As in CustomNonbondedForce.
        const double width = cutoff - switchingDistance, t = (distance - switchingDistance) / width;
        const double factor = 1 + t * t * t * (-10 + t * (15 - t * 6));
        const double derivative = t * t * (-30 + t * (60 - t * 30)) / width;
        result.slope = result.slope * factor + result.energy * derivative;
        result.energy *= factor;
    }
    return result;
}

Lepton::ParsedExpression parseEnergy(const CustomNonbondedForce& definition) {
    std::vector<std::unique_ptr<Lepton::CustomFunction>> owners;
    std::map<std::string, Lepton::CustomFunction*> functions;
    for (int i = 0; i < definition.getNumTabulatedFunctions(); i++) {
        owners.emplace_back(createReferenceTabulatedFunction(definition.getTabulatedFunction(i)));
        functions[definition.getTabulatedFunctionName(i)] = owners.back().get();
    }
    return Lepton::Parser::parse(definition.getEnergyFunction(), functions).optimize();
}

}  // namespace OpenMMCG
