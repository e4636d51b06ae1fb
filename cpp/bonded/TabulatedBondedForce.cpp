#include "TabulatedBondedForce.h"

#include <algorithm>
#include <cmath>

#include "TabulatedBondedForceImpl.h"
#include "openmm/OpenMMException.h"

using OpenMM::OpenMMException;

namespace OpenMMCG {

namespace {

const std::string kinds[] = {"bonds", "angles", "dihedrals"};
const size_t fewestEnergies = 4;
/** How well the ends of a whole turn must agree, relative to their size and absolutely: what rounding leaves. */
const double relativeTolerance = 1e-5, absoluteTolerance = 1e-8;

bool isClose(double a, double b) {
    return std::abs(a - b) <= absoluteTolerance + relativeTolerance * std::abs(b);
}

}  // namespace

TabulatedBondedForce::TabulatedBondedForce(const std::string& kind) : kind(kind) {
    const auto* found = std::find(std::begin(kinds), std::end(kinds), kind);
    if (found == std::end(kinds))
        throw OpenMMException("TabulatedBondedForce: there is no kind '" + kind +
                              "'; choose bonds, angles or dihedrals");
    particlesPerTerm = 2 + static_cast<int>(found - kinds);
    setName("TabulatedBondedForce");
}

TabulatedBondedForce::Table TabulatedBondedForce::checkTable(double start, double stop,
                                                             const std::vector<double>& energies) const {
    if (!(std::isfinite(start) && std::isfinite(stop) && start < stop))
        throw OpenMMException("TabulatedBondedForce: the table goes from " + std::to_string(start) + " to " +
                              std::to_string(stop) + "; give a finite start below a finite stop");
    if (energies.size() < fewestEnergies)
        throw OpenMMException("TabulatedBondedForce: the table has " + std::to_string(energies.size()) +
                              " energies; a spline needs at least " + std::to_string(fewestEnergies));
    for (size_t i = 0; i < energies.size(); i++)
        if (!std::isfinite(energies[i]))
            throw OpenMMException("TabulatedBondedForce: energy " + std::to_string(i) +
                                  " of the table is not finite; give a number for every place");
    if (!hasPeriodicTables())
        return {start, stop, energies};
    if (!isClose(start, -M_PI) || !isClose(stop, M_PI) || !isClose(energies.back(), energies.front()))
        throw OpenMMException(
            "TabulatedBondedForce: the table of a dihedral must go from -pi to pi and end with the energy it begins "
            "with; it goes from " +
            std::to_string(start) + " to " + std::to_string(stop) + " and from " + std::to_string(energies.front()) +
            " to " + std::to_string(energies.back()) + " kJ/mol");
    Table turn{-M_PI, M_PI, energies};
    turn.energies.back() = turn.energies.front();
    return turn;
}

int TabulatedBondedForce::addTable(double start, double stop, const std::vector<double>& energies) {
    tables.push_back(checkTable(start, stop, energies));
    return static_cast<int>(tables.size()) - 1;
}

void TabulatedBondedForce::setTableParameters(int index, double start, double stop,
                                              const std::vector<double>& energies) {
    if (index < 0 || index >= static_cast<int>(tables.size()))
        throw OpenMMException("TabulatedBondedForce: there is no table " + std::to_string(index) + " among the " +
                              std::to_string(tables.size()) + " that were added");
    tables[index] = checkTable(start, stop, energies);
}

int TabulatedBondedForce::addTerm(const std::vector<int>& particles, int table) {
    if (static_cast<int>(particles.size()) != particlesPerTerm)
        throw OpenMMException("TabulatedBondedForce: a term of " + kind + " is between " +
                              std::to_string(particlesPerTerm) + " particles, not " + std::to_string(particles.size()));
    for (int particle : particles)
        if (particle < 0)
            throw OpenMMException("TabulatedBondedForce: the particle index " + std::to_string(particle) +
                                  " is negative");
    if (table < 0 || table >= static_cast<int>(tables.size()))
        throw OpenMMException("TabulatedBondedForce: there is no table " + std::to_string(table) + " among the " +
                              std::to_string(tables.size()) + " that were added; add the tables before the terms");
    terms.push_back({particles, table});
    return static_cast<int>(terms.size()) - 1;
}

OpenMM::ForceImpl* TabulatedBondedForce::createImpl() const {
    return new TabulatedBondedForceImpl(*this);
}

}  // namespace OpenMMCG
