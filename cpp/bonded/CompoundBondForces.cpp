#include "CompoundBondForces.h"

#include <cmath>
#include <iomanip>
#include <map>
#include <sstream>

#include "InternalCoordinates.h"
#include "UniformSpline.h"
#include "openmm/TabulatedFunction.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

using Table = TabulatedBondedForce::Table;

/** u(number of the table, place), of tables that all go from start to stop. */
Continuous2DFunction* makeFunction(const std::vector<const Table*>& tables, double start, double stop, bool periodic) {
    std::vector<const Table*> rows = tables;
    // There are at least two rows; a periodic function is periodic in both variables, with at least three points.
    rows.push_back(tables.front());
    if (periodic && rows.size() < 3)
        rows.push_back(tables.front());
    const size_t length = tables.front()->energies.size();
    std::vector<double> values;
    for (size_t place = 0; place < length; place++)
        for (const Table* row : rows) values.push_back(row->energies[place]);
    return new Continuous2DFunction(static_cast<int>(rows.size()), static_cast<int>(length), values, 0.0,
                                    rows.size() - 1.0, start, stop, periodic);
}

/** @param tables  all of one length */
std::unique_ptr<CustomCompoundBondForce> makeForce(const TabulatedBondedForce& force,
                                                   const std::vector<const Table*>& tables) {
    const bool dihedrals = force.hasPeriodicTables();
    const std::string coordinate = force.getNumParticlesPerTerm() == 2 ? "distance(p1, p2)" : "angle(p1, p2, p3)";
    std::ostringstream fading;
    fading << std::setprecision(17) << fadingSquaredSine;
    const std::string expression = dihedrals ? "u(table, dihedral(p1, p2, p3, p4))*s^2*(3 - 2*s)*t^2*(3 - 2*t); "
                                               "s = min(1, sin(angle(p1, p2, p3))^2/" +
                                                   fading.str() + "); t = min(1, sin(angle(p2, p3, p4))^2/" +
                                                   fading.str() + ")"
                                             : "u(table, min(max(place, 0), 1)) + before*min(place, 0) + "
                                               "after*max(place - 1, 0); place = (" +
                                                   coordinate + " - start)/width";
    auto result = std::make_unique<CustomCompoundBondForce>(force.getNumParticlesPerTerm(), expression);
    result->setForceGroup(force.getForceGroup());
    result->setUsesPeriodicBoundaryConditions(force.usesPeriodicBoundaryConditions());
    result->addTabulatedFunction(
        "u", dihedrals ? makeFunction(tables, -M_PI, M_PI, true) : makeFunction(tables, 0, 1, false));
    result->addPerBondParameter("table");
    if (!dihedrals)
        for (const char* name : {"start", "width", "before", "after"}) result->addPerBondParameter(name);
    std::map<const Table*, std::vector<double>> parameters;
    for (size_t i = 0; i < tables.size(); i++) {
        const Table& table = *tables[i];
        parameters[&table] = {static_cast<double>(i)};
        if (!dihedrals) {
            const double width = table.stop - table.start;
            const UniformSpline spline(table.start, table.stop, table.energies, false);
            parameters[&table].insert(parameters[&table].end(), {table.start, width, width * spline.getStartSlope(),
                                                                 width * spline.getStopSlope()});
        }
    }
    for (const auto& term : force.getTerms()) {
        const auto found = parameters.find(&force.getTables()[term.table]);
        if (found != parameters.end())
            result->addBond(term.particles, found->second);
    }
    return result;
}

}  // namespace

std::vector<std::unique_ptr<CustomCompoundBondForce>> makeCompoundBondForces(const TabulatedBondedForce& force) {
    std::map<size_t, std::vector<const Table*>> tablesOfLength;
    for (const Table& table : force.getTables()) tablesOfLength[table.energies.size()].push_back(&table);
    std::vector<std::unique_ptr<CustomCompoundBondForce>> result;
    for (const auto& tables : tablesOfLength) result.push_back(makeForce(force, tables.second));
    return result;
}

}  // namespace OpenMMCG
