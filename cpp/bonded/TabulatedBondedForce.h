#pragma once
#include <string>
#include <vector>

#include "../force/Export.h"
#include "../force/LivingForce.h"
#include "openmm/Force.h"

namespace OpenMMCG {

/**
 * Bonds, angles or dihedrals whose energies are tabulated, as one Force of an OpenMM System.
 *
 * A table is energies in kJ/mol at equally spaced values of the coordinate, in nm or radians. Between them is a cubic
 * spline: for bonds and angles a natural one, which goes on linearly beyond both ends; for dihedrals a periodic one
 * over the whole turn from -π to π. Every term names its particles and its table.
 *
 * The energy of a dihedral fades to zero where one of its two angles comes within 15° of a straight line, see
 * AngleWeight: so tables should be relative to the energy of free rotation.
 *
 *     auto* bonds = new OpenMMCG::TabulatedBondedForce("bonds");
 *     const int table = bonds->addTable(0.1, 0.2, {12.0, 3.0, 0.0, 3.0, 12.0});
 *     bonds->addTerm({0, 1}, table);
 *     system.addForce(bonds);
 *
 * Errors are OpenMM::OpenMMException: bad tables and terms where they are added, particles that are not in the System
 * when the Context is made.
 */
class OPENMMCG_EXPORT TabulatedBondedForce : public OpenMM::Force {
public:
    /** Energies at equally spaced places. */
    struct Table {
        double start, stop;
        std::vector<double> energies;
    };
    struct Term {
        std::vector<int> particles;
        int table;
    };
    /** @param kind  "bonds", "angles" or "dihedrals" */
    explicit TabulatedBondedForce(const std::string& kind);
    const std::string& getKind() const {
        return kind;
    }
    /** 2, 3 or 4. */
    int getNumParticlesPerTerm() const {
        return particlesPerTerm;
    }
    /** Whether they are those of dihedrals. */
    bool hasPeriodicTables() const {
        return particlesPerTerm == 4;
    }
    /**
     * Add a table.
     *
     * @param start, stop  the first and the last place, nm or radians; of dihedrals -π and π
     * @param energies  at least 4, kJ/mol; of dihedrals the last is that of the first
     * @return its index
     */
    int addTable(double start, double stop, const std::vector<double>& energies);
    void setTableParameters(int index, double start, double stop, const std::vector<double>& energies);
    const std::vector<Table>& getTables() const {
        return tables;
    }
    /**
     * Add a term.
     *
     * @param particles  those of a bond, an angle (the vertex in the middle) or a dihedral
     * @param table  index of a table that has been added
     * @return its index
     */
    int addTerm(const std::vector<int>& particles, int table);
    const std::vector<Term>& getTerms() const {
        return terms;
    }
    bool usesPeriodicBoundaryConditions() const override {
        return periodic;
    }
    /** Whether displacements between the particles of a term are those of the minimum image. */
    void setUsesPeriodicBoundaryConditions(bool periodic) {
        this->periodic = periodic;
    }

protected:
    OpenMM::ForceImpl* createImpl() const override;

private:
    Table checkTable(double start, double stop, const std::vector<double>& energies) const;
    LivingForce living{*this};
    std::string kind;
    int particlesPerTerm;
    bool periodic = false;
    std::vector<Table> tables;
    std::vector<Term> terms;
};

}  // namespace OpenMMCG
