"""Particles in one place that act on each other are named before any work; those that do not may coincide."""

import numpy as np
import openmm
import pytest
from conftest import BOXES, random_potential, scatter, system_of

from openmmcg import CGForce
from openmmcg.simulation import minimise, run
from openmmcg.simulation.coinciding import check_coinciding


def repelling(particles=6, exclusions=(), groups=(), periodic=False):
    force = openmm.CustomNonbondedForce("0.001/r^6")
    force.setNonbondedMethod(force.CutoffPeriodic if periodic else force.NoCutoff)
    force.setCutoffDistance(0.6)
    for _ in range(particles):
        force.addParticle([])
    for pair in exclusions:
        force.addExclusion(*pair)
    for pair in groups:
        force.addInteractionGroup(*pair)
    return force


def charged(exception=None):
    force = openmm.NonbondedForce()
    for particle in range(6):
        force.addParticle(0.1, 0.3, 0.5 if particle < 4 else 0.0)
    if exception is not None:
        force.addException(0, 3, exception, 0.3, 0.0)
    return force


def network(replicas=1):
    return CGForce(random_potential().to_bytes(), types=[0, 1] * 3, replicas=replicas)


def spring(length):
    force = openmm.HarmonicBondForce()
    force.addBond(3, 0, length, 100.0)
    return force


def with_particles(positions, second, at=(0, 3)):
    """The second of two particles where the first is, but for this."""
    positions = positions.copy()
    positions[at[1]] = positions[at[0]] + second
    return positions


@pytest.mark.parametrize(
    "force",
    [repelling(), charged(), charged(exception=0.1), network(), spring(0.1), repelling(groups=[({0}, {3})])],
    ids=["pairs", "charges", "an exception", "a network", "a bond", "groups"],
)
def test_two_that_act_on_each_other_are_named(tmp_path, force):
    system = system_of(force, beads=6)
    positions = with_particles(scatter(6), [0, 0, 3e-5])
    message = r"particles 0 and 3 coincide: they are 3e-05 nm apart, where .* no direction .* Move one of them"
    with pytest.raises(ValueError, match=message):
        minimise(system, positions, None)
    with pytest.raises(ValueError, match=message):
        run(system, positions, None, tmp_path / "run.h5md", duration=1.0, interval=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_constraint_is_an_interaction():
    system = system_of(beads=6)
    system.addConstraint(0, 3, 0.1)
    with pytest.raises(ValueError, match=r"particles 0 and 3 coincide: .* \(a constraint\)"):
        check_coinciding(system, with_particles(scatter(6), 0.0), None)


@pytest.mark.parametrize(
    "force",
    [
        openmm.CustomExternalForce("x^2"),
        repelling(exclusions=[(3, 0)]),
        repelling(groups=[({0, 1}, {4, 5})]),
        charged(exception=0.0),
        network(replicas=2),
        spring(0.0),
    ],
    ids=["an ideal gas", "an exclusion", "other groups", "an exception", "replicas", "a spring of no length"],
)
def test_two_that_do_not_may_coincide(force):
    check_coinciding(system_of(force, beads=6), with_particles(scatter(6), 0.0), None)


def test_particles_without_mass_may_coincide():
    system = system_of(repelling(), beads=6)
    system.setParticleMass(3, 0.0)
    check_coinciding(system, with_particles(scatter(6), 0.0), None)


def test_near_is_not_coinciding():
    check_coinciding(system_of(repelling(), beads=6), with_particles(scatter(6), [1e-3, 0, 0]), None)


@pytest.mark.parametrize("name", [name for name in BOXES if name != "no box"])
@pytest.mark.parametrize("image", [(1, 0, 0), (0, -1, 2), (3, 1, -1)])
def test_they_coincide_through_the_faces_of_any_box(name, image):
    box = BOXES[name]
    system = system_of(repelling(periodic=True), beads=6, box=box)
    # On a face, where rounding decides between both sides.
    positions = scatter(6, box)
    positions[0] = [0.0, 0.3, 0.0]
    for offset in ([0, 0, 0], [2e-5, 0, 0], [-2e-5, 0, -2e-5]):
        moved = with_particles(positions, image @ box + offset)
        with pytest.raises(ValueError, match="particles 0 and 3 coincide: .* through the periodic box"):
            check_coinciding(system, moved, box)
    check_coinciding(system, with_particles(positions, image @ box + [0.01, 0, 0]), box)


def test_the_bottom_has_to_exist():
    """Without a minimum a minimiser ends wherever it can count no further."""
    hill = openmm.CustomExternalForce("-exp(x^2)")
    hill.addParticle(0)
    with pytest.raises(ValueError, match="no minimum near these positions"):
        minimise(system_of(hill, beads=1), [[3.0, 0.0, 0.0]], None, platform="Reference")
    with pytest.raises(ValueError, match="tolerance must be positive"):
        minimise(system_of(beads=1), [[0.0, 0.0, 0.0]], None, tolerance=0.0)


def test_minimisation_is_the_same_to_the_last_digit_each_time():
    system = system_of(repelling(60, periodic=True), beads=60, box=BOXES["cubic"])
    start = scatter(60, BOXES["cubic"], closest=0.1)
    first, again = (minimise(system, start, BOXES["cubic"]) for _ in range(2))
    assert np.array_equal(first, again)
