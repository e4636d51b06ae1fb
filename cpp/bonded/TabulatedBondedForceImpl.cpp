#include "TabulatedBondedForceImpl.h"

#include <algorithm>
#include <optional>

#include "../neighbors/PeriodicBox.h"
#include "CompoundBondForces.h"
#include "InternalCoordinates.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/kernels.h"

using namespace OpenMM;

namespace OpenMMCG {

namespace {

/** Displacements between particles, of the minimum image where there is a box. */
class Displacements {
public:
    Displacements(const std::vector<Vec3>& positions, const PeriodicBox* box) : positions(positions), box(box) {
    }
    Vec3 operator()(int from, int to) const {
        Vec3 d = positions[to] - positions[from];
        if (box != nullptr)
            box->wrap(d[0], d[1], d[2]);
        return d;
    }

private:
    const std::vector<Vec3>& positions;
    const PeriodicBox* box;
};

struct Distance {
    static constexpr size_t particles = 2;
    InternalCoordinate<2> operator()(const Displacements& between, const std::array<int, 4>& p) const {
        return computeDistance(between(p[0], p[1]));
    }
};

struct Angle {
    static constexpr size_t particles = 3;
    InternalCoordinate<3> operator()(const Displacements& between, const std::array<int, 4>& p) const {
        return computeAngle(between(p[1], p[0]), between(p[1], p[2]));
    }
};

struct Dihedral {
    static constexpr size_t particles = 4;
    InternalCoordinate<4> operator()(const Displacements& between, const std::array<int, 4>& p) const {
        return computeDihedral(between(p[1], p[0]), between(p[2], p[1]), between(p[2], p[3]));
    }
};

/** Add the forces of terms of one kind, and return their energy. */
template <class Coordinate, class Term>
double addTerms(const std::vector<Term>& terms, const std::vector<UniformSpline>& splines, const Displacements& between,
                std::vector<Vec3>& forces) {
    double energy = 0;
    for (const Term& term : terms) {
        const auto coordinate = Coordinate()(between, term.particles);
        double derivative;
        energy += splines[term.table].evaluate(coordinate.value, derivative);
        for (size_t i = 0; i < Coordinate::particles; i++)
            forces[term.particles[i]] -= coordinate.gradient[i] * derivative;
    }
    return energy;
}

}  // namespace

TabulatedBondedForceImpl::TabulatedBondedForceImpl(const TabulatedBondedForce& owner)
    : CustomCPPForceImpl(owner), owner(owner) {
}

void TabulatedBondedForceImpl::initialize(ContextImpl& context) {
    checkTerms(context.getSystem().getNumParticles());
    const std::string& platform = context.getPlatform().getName();
    if (platform != "Reference" && platform != "CPU") {
        for (auto& force : makeCompoundBondForces(owner)) {
            auto impl = std::make_unique<CustomCompoundBondForceImpl>(*force);
            impl->initialize(context);
            substitutes.push_back({std::move(force), std::move(impl)});
        }
        return;
    }
    CustomCPPForceImpl::initialize(context);
    for (const auto& table : owner.getTables())
        splines.emplace_back(table.start, table.stop, table.energies, owner.hasPeriodicTables());
    for (const auto& term : owner.getTerms()) {
        Term copy{{}, term.table};
        std::copy(term.particles.begin(), term.particles.end(), copy.particles.begin());
        terms.push_back(copy);
    }
}

void TabulatedBondedForceImpl::checkTerms(int particlesOfSystem) const {
    for (size_t index = 0; index < owner.getTerms().size(); index++) {
        const std::string where = "TabulatedBondedForce: term " + std::to_string(index) + " of the " + owner.getKind();
        const auto& particles = owner.getTerms()[index].particles;
        for (auto particle = particles.begin(); particle != particles.end(); ++particle) {
            if (*particle >= particlesOfSystem)
                throw OpenMMException(where + " names particle " + std::to_string(*particle) +
                                      ", which is not in the System; it has " + std::to_string(particlesOfSystem) +
                                      " particles");
            if (std::find(particles.begin(), particle, *particle) != particle)
                throw OpenMMException(where + " names particle " + std::to_string(*particle) +
                                      " twice; give a particle of its own for each place");
        }
    }
}

std::vector<std::string> TabulatedBondedForceImpl::getKernelNames() {
    return {CalcCustomCPPForceKernel::Name(), CalcCustomCompoundBondForceKernel::Name()};
}

std::vector<std::pair<int, int>> TabulatedBondedForceImpl::getBondedParticles() const {
    std::vector<std::pair<int, int>> bonds;
    if (owner.getNumParticlesPerTerm() == 2)
        for (const auto& term : owner.getTerms()) bonds.emplace_back(term.particles[0], term.particles[1]);
    return bonds;
}

double TabulatedBondedForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy,
                                                     int groups) {
    if (terms.empty() && substitutes.empty())
        return 0;
    if (substitutes.empty())
        return CustomCPPForceImpl::calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
    double energy = 0;
    for (auto& substitute : substitutes)
        energy += substitute.impl->calcForcesAndEnergy(context, includeForces, includeEnergy, groups);
    return energy;
}

double TabulatedBondedForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                              std::vector<Vec3>& forces) {
    std::fill(forces.begin(), forces.end(), Vec3());
    std::optional<PeriodicBox> box;
    if (owner.usesPeriodicBoundaryConditions()) {
        Vec3 vectors[3];
        context.getPeriodicBoxVectors(vectors[0], vectors[1], vectors[2]);
        box.emplace(vectors);
    }
    const Displacements between(positions, box ? &*box : nullptr);
    if (owner.getNumParticlesPerTerm() == 2)
        return addTerms<Distance>(terms, splines, between, forces);
    if (owner.getNumParticlesPerTerm() == 3)
        return addTerms<Angle>(terms, splines, between, forces);
    return addTerms<Dihedral>(terms, splines, between, forces);
}

}  // namespace OpenMMCG
