"""TabulatedBondedForce against splines of scipy, OpenMM's CustomCompoundBondForce, and itself on other platforms."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import BOXES, PLATFORMS, difference, energy_and_forces, system_of
from openmm import app, unit
from scipy.interpolate import CubicSpline

from openmmcg import CGPotential, TabulatedBondedForce
from openmmcg.geometry.internal_coordinates import angles, dihedrals, distances
from openmmcg.potentials import TabulatedAngles, TabulatedBonds, TabulatedDihedrals
from openmmcg.potentials.priors import scale_prior
from openmmcg.simulation.replicas import replicate_system

KINDS = {"bonds": (2, distances), "angles": (3, angles), "dihedrals": (4, dihedrals)}
BEADS = 12
REFERENCE = openmm.Platform.getPlatformByName("Reference")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def random_table(kind, seed, places=31):
    """A smooth table over a part of what the coordinates of `molecule` cover."""
    random = np.random.default_rng(seed)
    start, stop = {"bonds": (0.2, 0.4), "angles": (0.8, 2.4), "dihedrals": (-np.pi, np.pi)}[kind]
    if kind != "dihedrals":
        start, stop = start + 0.02 * random.normal(), stop + 0.02 * random.normal()
    turns = np.linspace(0, 2 * np.pi, places)
    waves = random.normal(size=(2, 3))
    energies = 10 * sum(a * np.cos(n * turns) + b * np.sin(n * turns) for n, (a, b) in enumerate(waves.T, 1))
    energies[-1] = energies[0]
    if kind != "dihedrals":
        energies = energies + np.linspace(0, 20, places)
    return start, stop, energies


def curve(kind, table):
    """The spline of a table, by scipy."""
    start, stop, energies = table
    boundary = "periodic" if kind == "dihedrals" else "natural"
    spline = CubicSpline(np.linspace(start, stop, len(energies)), energies, bc_type=boundary)

    def energy(x):
        inside = np.clip(x, start, stop)
        return float(spline(inside) + spline(inside, 1) * (x - inside))

    return energy


def molecule(seed=1):
    """A chain that does not coil up: its bonds and angles are inside the tables and beyond both ends."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(BEADS, 3)) + [1.0, 0, 0]
    lengths = random.uniform(0.15, 0.5, size=(BEADS, 1))
    return np.cumsum(steps * lengths / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def chain_of(kind):
    """Terms along the chain: particles, and the number of a table."""
    size = KINDS[kind][0]
    return [(tuple(range(first, first + size)), [0, 1, 2, 1][first % 4]) for first in range(BEADS - size + 1)]


def coordinates(kind, positions):
    """The coordinate of each term."""
    return KINDS[kind][1](positions[None], [particles for particles, _ in chain_of(kind)])[0]


def chain_force(kind, tables=None):
    force = TabulatedBondedForce(kind)
    for table in tables or [random_table(kind, seed) for seed in range(3)]:
        force.addTable(*table)
    for particles, table in chain_of(kind):
        force.addTerm(particles, table)
    return force


def fading(positions, particles):
    """The weight of a dihedral: 1 unless one of its angles is within 15° of a straight line."""
    values = angles(positions[None], [particles[:3], particles[1:]])[0]
    s = np.minimum(1, (np.sin(values) / np.sin(np.radians(15))) ** 2)
    return np.prod(s**2 * (3 - 2 * s))


def expected_energy(kind, positions, tables=None):
    tables = tables or [random_table(kind, seed) for seed in range(3)]
    total = 0.0
    for (particles, table), value in zip(chain_of(kind), coordinates(kind, positions), strict=True):
        weight = fading(positions, particles) if kind == "dihedrals" else 1.0
        total += weight * curve(kind, tables[table])(value)
    return total


def expected_forces(energy, positions, step=1e-5):
    """Central differences, of fourth order."""
    forces = np.zeros_like(positions)
    for place in np.ndindex(positions.shape):
        for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = positions.copy()
            moved[place] += shift * step
            forces[place] -= weight * energy(moved) / (12 * step)
    return forces


def compound_bond_force(kind, tables, terms):
    """OpenMM's force of the same energy: its table is a function of the number of the table and the place.

    Terms are particles and the number of a table. The priors of earlier versions were such forces.
    """
    size = KINDS[kind][0]
    rows = [energies for _, _, energies in [*tables, tables[0], tables[0]]]
    values = np.array(rows).ravel("F").tolist()
    if kind == "dihedrals":
        force = openmm.CustomCompoundBondForce(
            4,
            "u(table, dihedral(p1, p2, p3, p4))*s^2*(3 - 2*s)*t^2*(3 - 2*t);"
            "s = min(1, (sin(angle(p1, p2, p3))/sin(0.2617993877991494))^2);"
            "t = min(1, (sin(angle(p2, p3, p4))/sin(0.2617993877991494))^2)",
        )
        ends, names = (-np.pi, np.pi, True), ["table"]
    else:
        coordinate = "distance(p1, p2)" if kind == "bonds" else "angle(p1, p2, p3)"
        force = openmm.CustomCompoundBondForce(
            size,
            "u(table, min(max(place, 0), 1)) + before*min(place, 0) + after*max(place - 1, 0);"
            f"place = ({coordinate} - start)/width",
        )
        ends, names = (0.0, 1.0, False), ["table", "start", "width", "before", "after"]
    function = openmm.Continuous2DFunction(len(rows), len(rows[0]), values, 0.0, len(rows) - 1.0, *ends)
    force.addTabulatedFunction("u", function)
    for name in names:
        force.addPerBondParameter(name)
    for particles, index in terms:
        start, stop, energies = tables[index]
        spline = CubicSpline(np.linspace(0, 1, len(energies)), energies, bc_type="natural")
        parameters = [index, start, stop - start, float(spline(0, 1)), float(spline(1, 1))]
        force.addBond(particles, parameters[: len(names)])
    return force


def reference_context(*forces, beads=BEADS, box=None):
    return openmm.Context(system_of(*forces, beads=beads, box=box), openmm.VerletIntegrator(0.001), REFERENCE)


def test_energy_and_forces_are_those_of_the_splines(case, kind):
    tolerance = 1e-5 if case.platform not in ("Reference", "CPU") else 1e-11
    positions = molecule()
    if kind != "dihedrals":
        start, stop, _ = random_table(kind, 0)
        values = coordinates(kind, positions)
        assert values.min() < start < np.median(values) < stop < values.max()
    context = case.context(system_of(chain_force(kind), beads=BEADS), positions)
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(expected_energy(kind, positions), rel=tolerance)
    # The differences are exact to about 1e-9 of the forces.
    expected = expected_forces(lambda moved: expected_energy(kind, moved), positions)
    assert difference(forces, expected) < max(tolerance, 2e-8)


def test_it_is_the_compound_bond_force_of_openmm(kind, box):
    """Another program: the same splines, parsed expressions and their derivatives."""
    tables = [random_table(kind, seed) for seed in range(3)]
    pair = [chain_force(kind), compound_bond_force(kind, tables, chain_of(kind))]
    for force in pair:
        force.setUsesPeriodicBoundaryConditions(box is not None)
    contexts = [reference_context(force, box=box) for force in pair]
    for seed in range(20):
        results = []
        for context in contexts:
            context.setPositions(molecule(seed) + (0 if box is None else np.eye(3)[seed % 3] @ box * (seed % 2)))
            results.append(energy_and_forces(context))
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-10)
        # OpenMM takes dihedrals and angles close to their ends from arccosines, which are less exact there.
        assert difference(results[0][1], results[1][1]) < 1e-8


@pytest.mark.parametrize("box", [BOXES["rectangular"], BOXES["triclinic"]], ids=["rectangular", "triclinic"])
def test_terms_across_the_faces_of_a_periodic_box_are_those_of_the_minimum_image(case, kind, box):
    whole = molecule() * 0.6
    force = chain_force(kind)
    force.setUsesPeriodicBoundaryConditions(True)
    assert force.usesPeriodicBoundaryConditions()
    shifts = np.random.default_rng(2).integers(-1, 2, size=(BEADS, 3)) @ box
    context = case.context(system_of(force, beads=BEADS, box=box), whole)
    energy, forces = energy_and_forces(context)
    tolerance = 1e-5 if case.platform not in ("Reference", "CPU") else 1e-11
    assert energy == pytest.approx(expected_energy(kind, whole), rel=tolerance)
    context.setPositions(whole + shifts)
    assert energy_and_forces(context)[0] == pytest.approx(energy, rel=100 * tolerance)
    assert difference(energy_and_forces(context)[1], forces) < 100 * tolerance


def test_reference_and_cpu_are_equal_to_the_last_digit_and_so_are_repetitions(kind):
    results = []
    for platform in ("Reference", "CPU", "CPU"):
        context = openmm.Context(
            system_of(chain_force(kind), beads=BEADS),
            openmm.VerletIntegrator(0.001),
            openmm.Platform.getPlatformByName(platform),
        )
        context.setPositions(molecule())
        results.append(energy_and_forces(context))
    for energy, forces in results[1:]:
        assert energy == pytest.approx(results[0][0], rel=1e-15)
        # The CPU platform adds up the forces of its threads in single precision where there are any; here are none.
        assert np.array_equal(forces, results[0][1])


def test_tables_of_one_force_may_differ_in_length_and_ends(case, kind):
    tables = [random_table(kind, seed, places) for seed, places in enumerate([31, 8, 57])]
    positions = molecule()
    context = case.context(system_of(chain_force(kind, tables), beads=BEADS), positions)
    tolerance = 1e-5 if case.platform not in ("Reference", "CPU") else 1e-11
    assert energy_and_forces(context)[0] == pytest.approx(expected_energy(kind, positions, tables), rel=tolerance)


@pytest.mark.parametrize("bend", [0.0, 1e-9, 1e-6, 1e-3])
def test_a_straight_angle_has_finite_forces_that_turn_into_those_of_a_bent_one(bend):
    slope = 50.0  # kJ/mol/rad, still at the end of the table
    force = TabulatedBondedForce("angles")
    force.addTerm([0, 1, 2], force.addTable(1.0, np.pi, slope * np.linspace(1.0, np.pi, 9)))
    context = reference_context(force, beads=3)
    context.setPositions([[0.3, 0, 0], [0, 0, 0], [-0.2 * np.cos(bend), 0.2 * np.sin(bend), 0]])
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(slope * (np.pi - bend), rel=1e-12)
    # At π itself the gradient has no direction.
    size = {0.0: 0.0, 1e-9: 0.1}.get(bend, 1.0) * slope
    across = [-size / 0.3, size / 0.3 + size / 0.2, -size / 0.2]
    assert forces[:, 1] == pytest.approx(-np.array(across), rel=1e-2 if bend == 1e-3 else 1e-5, abs=1e-12)


@pytest.mark.parametrize("bend", [14.9, 10.0, 3.0, 0.1, 1e-5])
def test_a_dihedral_fades_and_its_forces_stay_bounded_where_an_angle_becomes_straight(case, bend):
    """Without fading they are larger than the first by sin 15° / sin(bend)."""
    radians = np.radians(bend)
    positions = np.array(
        [
            [0.2 * np.cos(1.0), 0, 0.2 * np.sin(1.0)],
            [0, 0, 0],
            [0.2, 0, 0],
            [0.2 + 0.2 * np.cos(radians), 0.2 * np.sin(radians), 0],
        ]
    )
    table = random_table("dihedrals", 4)
    force = TabulatedBondedForce("dihedrals")
    force.addTerm([0, 1, 2, 3], force.addTable(*table))
    context = case.context(system_of(force, beads=4), positions)
    energy, forces = energy_and_forces(context)
    exact = case.platform in ("Reference", "CPU")
    weight = fading(positions, [0, 1, 2, 3])
    (dihedral,) = dihedrals(positions[None], [[0, 1, 2, 3]])[0]
    assert energy == pytest.approx(weight * curve("dihedrals", table)(dihedral), rel=1e-9 if exact else 1e-4, abs=1e-6)
    assert weight < 1 and (weight < 1e-8) == (bend <= 0.1)
    steepest = np.abs(np.gradient(table[2], 2 * np.pi / 30)).max()
    assert np.abs(forces).max() < 2 * steepest / np.sin(np.radians(15)) / 0.2 + 10 * np.abs(table[2]).max() / 0.2
    if bend > 1e-3:

        def moved_energy(moved):
            (value,) = dihedrals(moved[None], [[0, 1, 2, 3]])[0]
            return fading(moved, [0, 1, 2, 3]) * curve("dihedrals", table)(value)

        expected = expected_forces(moved_energy, positions, step=1e-5 if bend > 1 else 1e-7)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(forces, expected, atol=(1e-6 if exact else 1e-3) * scale)
    else:
        assert np.abs(forces).max() < 1e-3


def test_beads_in_a_line_or_in_one_place_have_finite_energies_and_forces(kind):
    straight = np.arange(BEADS)[:, None] * np.array([0.11, -0.07, 0.05])
    context = reference_context(chain_force(kind))
    for positions in (straight, np.zeros((BEADS, 3))):
        context.setPositions(positions)
        energy, forces = energy_and_forces(context)
        assert np.isfinite(energy) and np.isfinite(forces).all()
        assert np.abs(forces.sum(0)).max() < 1e-6 * max(1, np.abs(forces).max())


def test_positions_that_are_no_numbers_give_an_energy_that_is_none(kind):
    context = reference_context(chain_force(kind))
    positions = molecule()
    positions[4] = np.nan
    context.setPositions(positions)
    assert np.isnan(context.getState(energy=True).getPotentialEnergy()._value)


def test_the_groups_of_forces_are_kept_apart_and_contexts_made_again(case):
    positions = molecule()
    forces = [chain_force(kind) for kind in KINDS]
    for group, force in enumerate(forces):
        force.setForceGroup(3 * group)
    context = case.context(system_of(*forces, beads=BEADS), positions)
    tolerance = 1e-5 if case.platform not in ("Reference", "CPU") else 1e-11
    alone = [energy_and_forces(context, groups={3 * group}) for group in range(3)]
    for kind, (energy, _) in zip(KINDS, alone, strict=True):
        assert energy == pytest.approx(expected_energy(kind, positions), rel=tolerance)
    assert energy_and_forces(context, groups={1})[0] == 0
    total, all_forces = energy_and_forces(context)
    assert total == pytest.approx(sum(energy for energy, _ in alone), rel=tolerance)
    assert difference(sum(each for _, each in alone), all_forces) < tolerance
    held = TabulatedBondedForce.of(context.getSystem().getForce(0))
    held.setTableParameters(0, *random_table("bonds", 7))
    assert energy_and_forces(context)[0] == total  # until the Context is made again
    context.reinitialize(preserveState=True)
    tables = [random_table("bonds", seed) for seed in (7, 1, 2)]
    assert energy_and_forces(context, groups={0})[0] == pytest.approx(
        expected_energy("bonds", positions, tables), rel=tolerance
    )


def test_a_force_without_terms_has_no_energy(case, kind):
    context = case.context(system_of(TabulatedBondedForce(kind), beads=2), np.eye(3)[:2])
    energy, forces = energy_and_forces(context)
    assert energy == 0 and not forces.any()


def test_bonds_make_molecules(case):
    """So that barostats and periodic boxes move them as one."""
    context = case.context(system_of(chain_force("bonds"), beads=BEADS + 1), np.vstack([molecule(), np.zeros(3)]))
    assert sorted(map(tuple, context.getMolecules())) == [tuple(range(BEADS)), (BEADS,)]


def test_xml_and_copies_are_the_same_force(kind):
    force = chain_force(kind)
    force.setName("tables")
    force.setForceGroup(5)
    force.setUsesPeriodicBoundaryConditions(True)
    xml = openmm.XmlSerializer.serialize(force)
    holder = system_of(force, beads=BEADS)
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(holder))
    again = TabulatedBondedForce.of(openmm.XmlSerializer.deserialize(xml))
    for other in (again, TabulatedBondedForce.of(system.getForce(0)), copy.copy(force), copy.deepcopy(force)):
        assert openmm.XmlSerializer.serialize(other) == xml
        assert (other.getName(), other.getForceGroup(), other.getKind()) == ("tables", 5, kind)
        assert other.usesPeriodicBoundaryConditions()
        assert (other.getNumTables(), other.getNumTerms()) == (3, len(chain_of(kind)))
        assert other.getTermParameters(1) == (list(chain_of(kind)[1][0]), 1)
        start, stop, energies = other.getTableParameters(2)
        assert (start, stop) == random_table(kind, 2)[:2]
        assert np.array_equal(energies, random_table(kind, 2)[2])
    newer = xml.replace('version="1"', 'version="2"')
    with pytest.raises(openmm.OpenMMException, match="upgrade openmm-cg"):
        openmm.XmlSerializer.deserialize(newer)
    with pytest.raises(TypeError, match="HarmonicBondForce is not a TabulatedBondedForce"):
        TabulatedBondedForce.of(openmm.HarmonicBondForce())


def test_replicas_have_the_sum_of_their_energies(case):
    frames = np.array([molecule(seed) for seed in range(4)])
    system = replicate_system(system_of(*map(chain_force, KINDS), beads=BEADS), 4)
    context = case.context(system, frames.reshape(-1, 3))
    tolerance = 1e-5 if case.platform not in ("Reference", "CPU") else 1e-11
    total = sum(expected_energy(kind, positions) for kind in KINDS for positions in frames)
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(total, rel=tolerance)
    alone = reference_context(*map(chain_force, KINDS))
    for positions, each in zip(frames, forces.reshape(frames.shape), strict=True):
        alone.setPositions(positions)
        assert difference(each, energy_and_forces(alone)[1]) < tolerance


@pytest.mark.parametrize(
    ("kind", "table", "problem"),
    [
        ("bonds", (0.3, 0.2, np.zeros(5)), "from 0.300000 to 0.200000; give a finite start below a finite stop"),
        ("bonds", (0.1, np.inf, np.zeros(5)), "finite start below a finite stop"),
        ("angles", (0.1, 0.2, np.zeros(3)), "3 energies; a spline needs at least 4"),
        ("angles", (0.1, 0.2, [0.0, 1.0, np.nan, 2.0]), "energy 2 of the table is not finite"),
        ("dihedrals", (0.0, np.pi, np.zeros(5)), "from -pi to pi"),
        ("dihedrals", (-np.pi, np.pi, [0.0, 1.0, 2.0, 3.0]), "end with the energy it begins with"),
    ],
)
def test_bad_tables_are_refused(kind, table, problem):
    force = chain_force(kind)
    with pytest.raises(openmm.OpenMMException, match=problem):
        force.addTable(*table)
    with pytest.raises(openmm.OpenMMException, match=problem):
        force.setTableParameters(0, *table)
    assert force.getNumTables() == 3


def test_bad_terms_are_refused():
    with pytest.raises(openmm.OpenMMException, match="no kind 'impropers'; choose bonds, angles or dihedrals"):
        TabulatedBondedForce("impropers")
    force = TabulatedBondedForce("angles")
    force.addTable(*random_table("angles", 0))
    with pytest.raises(openmm.OpenMMException, match="between 3 particles, not 2"):
        force.addTerm([0, 1], 0)
    with pytest.raises(openmm.OpenMMException, match="index -1 is negative"):
        force.addTerm([0, 1, -1], 0)
    with pytest.raises(openmm.OpenMMException, match="no table 1 among the 1 .* before the terms"):
        force.addTerm([0, 1, 2], 1)
    with pytest.raises(openmm.OpenMMException, match="no table 1 among the 1"):
        force.setTableParameters(1, *random_table("angles", 0))
    for getter, name in ((force.getTermParameters, "term"), (force.getTableParameters, "table")):
        with pytest.raises(IndexError, match=f"no {name} 4"):
            getter(4)
    assert force.getNumTerms() == 0


@pytest.mark.parametrize(
    ("particles", "problem"), [([0, 1, 4], "4, which is not in the System; it has 3"), ([0, 1, 0], "0 twice")]
)
def test_terms_that_do_not_fit_the_system_are_refused(case, particles, problem):
    force = TabulatedBondedForce("angles")
    force.addTable(*random_table("angles", 0))
    force.addTerm([0, 1, 2], 0)
    force.addTerm(particles, 0)
    with pytest.raises(openmm.OpenMMException, match=f"term 1 of the angles names particle {problem}"):
        case.context(system_of(force, beads=3), np.eye(3))


def smooth_chain(seed=3):
    """Forces and positions of a chain in wells."""
    positions = molecule(seed)
    forces = []
    for kind in KINDS:
        force = TabulatedBondedForce(kind)
        for (particles, _), value in zip(chain_of(kind), coordinates(kind, positions), strict=True):
            if kind == "dihedrals":
                turn = np.linspace(-np.pi, np.pi, 41)
                table = (-np.pi, np.pi, 5 * (1 - np.cos(turn - value)))
            else:
                width, stiffness = {"bonds": (0.1, 2e4), "angles": (0.6, 150.0)}[kind]
                places = np.linspace(-width / 2, width / 2, 41)
                table = (value - width / 2, value + width / 2, 0.5 * stiffness * places**2)
            force.addTerm(particles, force.addTable(*table))
        forces.append(force)
    return forces, positions


def test_the_error_of_the_total_energy_falls_with_the_square_of_the_time_step():
    """As that of the Verlet integrator does where forces are the exact derivatives of a smooth energy."""
    spread = []
    for step in (0.004, 0.002, 0.001):
        forces, positions = smooth_chain()
        context = openmm.Context(system_of(*forces, beads=BEADS), openmm.VerletIntegrator(step), REFERENCE)
        context.setPositions(positions)
        context.setVelocitiesToTemperature(100, 1)
        energies = []
        for _ in range(200):
            context.getIntegrator().step(round(0.02 / step))
            state = context.getState(energy=True)
            total = state.getPotentialEnergy() + state.getKineticEnergy()
            energies.append(total.value_in_unit(unit.kilojoule_per_mole))
        spread.append(np.std(energies))
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.15)
    assert spread[1] / spread[2] == pytest.approx(4, rel=0.15)


PRIORS = {"bonds": TabulatedBonds, "angles": TabulatedAngles, "dihedrals": TabulatedDihedrals}


def test_potentials_of_earlier_versions_run_as_before(kind, tmp_path):
    """Their priors were compound bond forces between bead types."""
    types, table = (0,) * KINDS[kind][0], random_table(kind, 0)
    topology = app.Topology()
    residue = topology.addResidue("M", topology.addChain())
    atoms = [topology.addAtom("A", None, residue) for _ in range(BEADS)]
    for first, second in zip(atoms, atoms[1:], strict=False):
        topology.addBond(first, second)
    results = []
    for prior in (compound_bond_force(kind, [table], [(types, 0)]), PRIORS[kind]({types: table})):
        CGPotential(None, [("A", 20.0)], priors=[prior]).save(tmp_path / "potential.pt")
        system = CGPotential.load(tmp_path / "potential.pt").create_system(topology, replicas=2)
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), REFERENCE)
        context.setPositions(np.vstack([molecule(1), molecule(2)]))
        results.append(energy_and_forces(context))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-10)
    assert difference(results[0][1], results[1][1]) < 1e-8


def test_a_scaled_prior_has_its_energy_times_the_factor(kind):
    template = openmm.XmlSerializer.serialize(chain_force(kind))
    context = reference_context(openmm.XmlSerializer.deserialize(scale_prior(template, -0.3)))
    context.setPositions(molecule())
    assert energy_and_forces(context)[0] == pytest.approx(-0.3 * expected_energy(kind, molecule()), rel=1e-11)


def test_the_benchmark_prints_and_writes_what_it_measures(tmp_path):
    program = Path(__file__).resolve().parents[1] / "benchmarks" / "tabulated_bonded.py"
    options = "--copies 1 --platforms Reference --rounds 1 --json rows.json"
    done = subprocess.run(
        [sys.executable, program, *options.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["terms"] for row in rows] == [48, 48, 0]
    assert all(f"{row['ms_per_step']:.4f}" in done.stdout for row in rows)
    assert all(f"{row['us_per_term']:.3f}" in done.stdout for row in rows[:2])


def test_particles_are_integers():
    force = TabulatedBondedForce("bonds")
    table = force.addTable(0.1, 0.3, np.zeros(4))
    for wrong in ([0, 0.9], [0, True], [0, None]):
        with pytest.raises(TypeError, match=r"particles\[1\] is .*; give integers"):
            force.addTerm(wrong, table)
    with pytest.raises(TypeError):
        force.addTerm([0, 1], 0.5)
    assert force.getNumTerms() == 0


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_context_keeps_what_it_was_made_with(platform):
    """Also whether distances are those of the minimum image: the box is shorter than the bond."""
    force = TabulatedBondedForce("bonds")
    lengths = np.linspace(0.1, 2.0, 50)
    table = force.addTable(0.1, 2.0, 100 * (lengths - 0.5) ** 2)
    force.addTerm([0, 1], table)
    force.setUsesPeriodicBoundaryConditions(True)
    system = system_of(force, beads=2, box=np.diag([1.5] * 3))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions([[0, 0, 0], [1.0, 0, 0]])
    before = energy_and_forces(context)[0]
    assert before == pytest.approx(0.0, abs=1e-3)
    force.setUsesPeriodicBoundaryConditions(False)
    force.setTableParameters(table, 0.1, 2.0, np.linspace(0, 100, 50))
    assert energy_and_forces(context)[0] == pytest.approx(before, abs=1e-6)


def test_a_force_whose_system_is_gone_says_so():
    force = TabulatedBondedForce("angles")
    system = system_of(force, beads=3)
    again = TabulatedBondedForce.of(system.getForce(0))
    del system
    for use in (force.getKind, again.getNumTables, again.getName, lambda: copy.copy(force)):
        with pytest.raises(openmm.OpenMMException, match="TabulatedBondedForce: this force exists no more"):
            use()
