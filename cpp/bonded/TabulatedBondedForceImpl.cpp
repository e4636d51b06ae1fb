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

/** The energy of a term, and its gradient with respect to the position of each particle. */
template <size_t particles>
struct TermEnergy {
    double value;
    std::array<Vec3, particles> gradient;
};

template <size_t particles>
TermEnergy<particles> evaluate(const UniformSpline& spline, const InternalCoordinate<particles>& coordinate) {
    TermEnergy<particles> energy;
    double derivative;
    energy.value = spline.evaluate(coordinate.value, derivative);
    for (size_t i = 0; i < particles; i++) energy.gradient[i] = coordinate.gradient[i] * derivative;
    return energy;
}

TermEnergy<2> evaluateBond(const UniformSpline& spline, const Displacements& between, const std::array<int, 4>& p) {
    return evaluate(spline, computeDistance(between(p[0], p[1])));
}

TermEnergy<3> evaluateAngle(const UniformSpline& spline, const Displacements& between, const std::array<int, 4>& p) {
    return evaluate(spline, computeAngle(between(p[1], p[0]), between(p[1], p[2])));
}

TermEnergy<4> evaluateDihedral(const UniformSpline& spline, const Displacements& between, const std::array<int, 4>& p) {
    const Vec3 f = between(p[1], p[0]), g = between(p[2], p[1]), h = between(p[2], p[3]);
    TermEnergy<4> energy = evaluate(spline, computeDihedral(f, g, h));
    const AngleWeight first = computeAngleWeight(f, g), second = computeAngleWeight(h, g);
    const double weight = first.value * second.value;
    if (weight == 1)
        return energy;
    for (Vec3& gradient : energy.gradient) gradient *= weight;
    const double ofFirst = energy.value * second.value, ofSecond = energy.value * first.value;
    const Vec3 gradientF = first.first * ofFirst, gradientH = second.first * ofSecond;
    const Vec3 gradientG = first.second * ofFirst + second.second * ofSecond;
    energy.gradient[0] += gradientF;
    energy.gradient[1] += gradientG - gradientF;
    energy.gradient[2] -= gradientG + gradientH;
    energy.gradient[3] += gradientH;
    energy.value *= weight;
    return energy;
}

/** Add the forces of terms of one kind, and return their energy. */
template <class Evaluate, class Term>
double addTerms(Evaluate evaluateTerm, const std::vector<Term>& terms, const std::vector<UniformSpline>& splines,
                const Displacements& between, std::vector<Vec3>& forces) {
    double sum = 0;
    for (const Term& term : terms) {
        const auto energy = evaluateTerm(splines[term.table], between, term.particles);
        sum += energy.value;
        for (size_t i = 0; i < energy.gradient.size(); i++) forces[term.particles[i]] -= energy.gradient[i];
    }
    return sum;
}

}  // namespace

TabulatedBondedForceImpl::TabulatedBondedForceImpl(const TabulatedBondedForce& owner)
    : CustomCPPForceImpl(owner), owner(owner), periodic(owner.usesPeriodicBoundaryConditions()) {
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
    if (periodic) {
        Vec3 vectors[3];
        context.getPeriodicBoxVectors(vectors[0], vectors[1], vectors[2]);
        box.emplace(vectors);
    }
    const Displacements between(positions, box ? &*box : nullptr);
    if (owner.getNumParticlesPerTerm() == 2)
        return addTerms(evaluateBond, terms, splines, between, forces);
    if (owner.getNumParticlesPerTerm() == 3)
        return addTerms(evaluateAngle, terms, splines, between, forces);
    return addTerms(evaluateDihedral, terms, splines, between, forces);
}

}  // namespace OpenMMCG
