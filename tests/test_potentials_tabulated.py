"""Tabulated priors against splines and finite differences, and potentials that are made of priors alone."""

import subprocess
import sys

import numpy as np
import openmm
import pytest
from conftest import energy_and_forces, system_of
from openmm import app
from scipy.interpolate import CubicSpline

from openmmcg import CGForce, CGPotential
from openmmcg.geometry.internal_coordinates import angles, dihedrals, distances
from openmmcg.potentials import (
    BeadType,
    Table,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
    TabulatedPairs,
)
from openmmcg.potentials.priors import add_priors, to_xml

KNOTS = 41


def random_energies(seed, ends=False):
    energies = np.cumsum(np.random.default_rng(seed).normal(size=KNOTS))
    if ends:
        energies -= np.linspace(0, energies[-1] - energies[0], KNOTS)
    return energies


BONDS = {(0, 0): Table(0.2, 0.4, random_energies(1)), (0, 1): Table(0.1, 0.35, random_energies(2))}
ANGLES = {(0, 0, 1): Table(0.5, 2.6, random_energies(3)), (0, 1, 0): Table(1.0, 3.0, random_energies(4))}
DIHEDRALS = {
    (0, 0, 1, 0): Table(-np.pi, np.pi, random_energies(5, ends=True)),
    (1, 0, 1, 0): Table(-np.pi, np.pi, random_energies(6, ends=True)),
    (0, 0, 0, 0): Table(-np.pi, np.pi, random_energies(7, ends=True)),
}


def context_with(prior, types, bonds):
    system = system_of(beads=len(types))
    add_priors(system, [to_xml(prior)], types, bonds, periodic=False)
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)


def spline(table):
    """The natural spline of a table, which goes on linearly."""
    curve = CubicSpline(np.linspace(table.start, table.stop, KNOTS), table.energies, bc_type="natural")

    def energy(x):
        inside = np.clip(x, table.start, table.stop)
        return float(curve(inside) + curve(inside, 1) * (x - inside))

    return energy


def periodic_spline(table):
    return CubicSpline(np.linspace(-np.pi, np.pi, KNOTS), table.energies, bc_type="periodic")


def assert_forces_are_minus_the_gradient(context, positions):
    context.setPositions(positions)
    forces = energy_and_forces(context)[1]
    step = 1e-6
    for place in np.ndindex(positions.shape):
        ends = []
        for sign in (1, -1):
            moved = positions.copy()
            moved[place] += sign * step
            context.setPositions(moved)
            ends.append(energy_and_forces(context)[0])
        assert forces[place] == pytest.approx(-(ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("kinds", BONDS)
@pytest.mark.parametrize("length", [0.05, 0.1001, 0.2, 0.2537, 0.3999, 0.41, 0.9])
def test_a_bond_has_the_energy_of_its_spline_and_goes_on_linearly(kinds, length):
    context = context_with(TabulatedBonds(BONDS), list(kinds), [(0, 1)])
    context.setPositions([[0, 0, 0], [length, 0, 0]])
    assert energy_and_forces(context)[0] == pytest.approx(spline(BONDS[kinds])(length), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("angle", [0.3, 0.7, 1.9, 2.8, 3.1])
@pytest.mark.parametrize("kinds", [*ANGLES, (1, 0, 0)])
def test_an_angle_has_the_energy_of_its_spline_whatever_the_order_of_its_beads(kinds, angle):
    context = context_with(TabulatedAngles(ANGLES), list(kinds), [(0, 1), (1, 2)])
    positions = np.array([[0.3, 0, 0], [0, 0, 0], [0.25 * np.cos(angle), 0.25 * np.sin(angle), 0]])
    context.setPositions(positions)
    expected = spline(ANGLES.get(kinds) or ANGLES[kinds[::-1]])(angle)
    assert energy_and_forces(context)[0] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("angle", [-np.pi, -3.13, -1.0, 0.0, 0.4, 2.9, 3.14, np.pi])
@pytest.mark.parametrize("kinds", DIHEDRALS)
def test_a_dihedral_has_the_energy_of_its_periodic_spline(kinds, angle):
    context = context_with(TabulatedDihedrals(DIHEDRALS), list(kinds), [(0, 1), (1, 2), (2, 3)])
    positions = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [np.cos(angle), np.sin(angle), 1]]) * 0.3
    context.setPositions(positions)
    measured = dihedrals(positions[None], [[0, 1, 2, 3]])[0, 0]
    expected = float(periodic_spline(DIHEDRALS[kinds])(measured))
    assert energy_and_forces(context)[0] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_terms_of_one_force_are_each_of_their_own_table():
    types, bonds = [0, 0, 1, 0, 1], [(0, 1), (1, 2), (2, 3), (3, 4)]
    positions = np.random.default_rng(0).normal(scale=0.2, size=(5, 3))
    context = context_with(TabulatedDihedrals(DIHEDRALS), types, bonds)
    context.setPositions(positions)
    measured = dihedrals(positions[None], [[0, 1, 2, 3], [1, 2, 3, 4]])[0]
    expected = [periodic_spline(DIHEDRALS[0, 0, 1, 0])(measured[0])]
    assert (0, 1, 0, 1)[::-1] in DIHEDRALS
    expected.append(periodic_spline(DIHEDRALS[1, 0, 1, 0])(measured[1]))
    assert energy_and_forces(context)[0] == pytest.approx(float(sum(expected)), rel=1e-6)


def test_tables_may_have_different_numbers_of_energies():
    few = Table(0.2, 0.4, [3.0, 0.0, 1.0, 2.0, 5.0])
    context = context_with(TabulatedBonds({(0, 0): few, (0, 1): BONDS[0, 1]}), [0, 0, 1], [(0, 1), (1, 2)])
    context.setPositions([[0, 0, 0], [0.33, 0, 0], [0.33, 0.27, 0]])
    curve = CubicSpline(np.linspace(0.2, 0.4, 5), few.energies, bc_type="natural")
    expected = float(curve(0.33)) + spline(BONDS[0, 1])(0.27)
    assert energy_and_forces(context)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "prior",
    [
        TabulatedBonds(BONDS),
        TabulatedAngles(ANGLES),
        TabulatedDihedrals(DIHEDRALS),
        TabulatedDihedrals({(0, 0, 1, 0): DIHEDRALS[0, 0, 1, 0]}),
    ],
    ids=lambda prior: f"{len(prior.terms)} {prior.what}",
)
def test_forces_are_minus_the_gradient_inside_and_beyond_the_tables(prior):
    types, bonds = [0, 0, 1, 0, 1], [(0, 1), (1, 2), (2, 3), (3, 4)]
    context = context_with(prior, types, bonds)
    for seed, width in ((1, 0.1), (2, 0.2), (3, 0.6)):
        assert_forces_are_minus_the_gradient(context, np.random.default_rng(seed).normal(scale=width, size=(5, 3)))


PAIRS = {(0, 0): np.append(random_energies(8), 0), (0, 1): np.append(random_energies(9), 0)}


@pytest.mark.parametrize("kinds", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_pairs_have_the_energy_of_their_spline_and_none_where_none_is_given(kinds):
    context = context_with(TabulatedPairs(PAIRS, 0.8), list(kinds), [])
    energies = PAIRS.get(kinds, PAIRS.get(kinds[::-1], np.zeros(KNOTS + 1)))
    curve = CubicSpline(np.linspace(0, 0.8, KNOTS + 1), energies, bc_type="natural")
    for distance in (0.01, 0.3, 0.5555, 0.799):
        context.setPositions([[0, 0, 0], [0, distance, 0]])
        assert energy_and_forces(context)[0] == pytest.approx(float(curve(distance)), rel=1e-6, abs=1e-6)
    context.setPositions([[0, 0, 0], [0, 0.81, 0]])
    assert energy_and_forces(context)[0] == 0


def test_forces_of_pairs_are_minus_the_gradient():
    context = context_with(TabulatedPairs(PAIRS, 0.8), [0, 1, 0, 1], [])
    assert_forces_are_minus_the_gradient(context, np.random.default_rng(1).normal(scale=0.2, size=(4, 3)))


@pytest.mark.parametrize(
    ("kind", "terms", "problem"),
    [
        (TabulatedBonds, {}, "at least one term"),
        (TabulatedBonds, {(0, 1, 2): Table(0, 1, np.zeros(5))}, "between 2 bead types"),
        (TabulatedBonds, {(0, 1): Table(1, 1, np.zeros(5))}, "goes from 1 to 1"),
        (TabulatedBonds, {(0, 1): Table(0, 1, [0.0, np.nan, 0, 0])}, "all finite"),
        (TabulatedAngles, {(0, 1, 0): Table(0, 1, [0.0, 0])}, "at least 4 energies"),
        (TabulatedDihedrals, {(0, 0, 0, 0): Table(0, np.pi, np.zeros(5))}, "from -pi to pi"),
        (TabulatedDihedrals, {(0, 0, 0, 0): Table(-np.pi, np.pi, [0.0, 1, 2, 3])}, "end as it begins"),
    ],
)
def test_bad_tables_are_refused(kind, terms, problem):
    with pytest.raises(ValueError, match=problem):
        kind(terms)


@pytest.mark.parametrize(
    ("terms", "cutoff", "problem"),
    [
        ({(0, 0): np.zeros(5), (0, 1): np.zeros(6)}, 0.6, "same number of energies"),
        ({(0, 0): [0.0, np.inf, 0, 0]}, 0.6, "finite"),
        ({(0, 0): np.zeros(5)}, 0.0, "cutoff of pairs must be positive"),
    ],
)
def test_bad_pairs_are_refused(terms, cutoff, problem):
    with pytest.raises(ValueError, match=problem):
        TabulatedPairs(terms, cutoff)


@pytest.fixture(scope="module")
def chain():
    """A potential without a network, and a topology for it."""
    priors = [TabulatedBonds(BONDS), TabulatedAngles(ANGLES), TabulatedPairs(PAIRS, 0.8)]
    potential = CGPotential(None, [("A", 20.0), ("B", 30.0)], priors=priors, temperature=300, provenance={"n": 1})
    topology = app.Topology()
    residue = topology.addResidue("M", topology.addChain())
    atoms = [topology.addAtom(name, None, residue) for name in "AABABA"]
    for first, second in zip(atoms, atoms[1:], strict=False):
        topology.addBond(first, second)
    return potential, topology


def test_a_potential_of_priors_alone_is_saved_and_loaded(chain, tmp_path):
    potential, _ = chain
    potential.save(tmp_path / "p.pt")
    loaded = CGPotential.load(tmp_path / "p.pt")
    assert loaded.to_bytes() == potential.to_bytes()
    assert (loaded.has_network, loaded.cutoff, loaded.temperature, loaded.provenance) == (False, 0.0, 300, {"n": 1})
    assert loaded.bead_types == [BeadType("A", 20.0), BeadType("B", 30.0)]
    assert [prior.getName() for prior in loaded.priors] == ["TabulatedBonds", "TabulatedAngles", "TabulatedPairs"]
    assert loaded.compile() is None
    more = loaded.with_priors([TabulatedDihedrals(DIHEDRALS)], provenance={"m": 2})
    assert (len(more.priors), more.provenance) == (4, {"n": 1, "m": 2})
    with pytest.raises(ValueError, match="has no network"):
        _ = loaded.module


def test_a_system_of_priors_alone_has_their_energy_in_every_replica(chain):
    potential, topology = chain
    positions = np.random.default_rng(5).normal(scale=0.3, size=(3, 6, 3))
    types = [0, 0, 1, 0, 1, 0]
    platform = openmm.Platform.getPlatformByName("Reference")
    total = 0.0
    for frame in positions:
        lengths = distances(frame[None], [[i, i + 1] for i in range(5)])[0]
        total += sum(spline(BONDS[tuple(sorted(types[i : i + 2]))])(r) for i, r in enumerate(lengths))
        bends = angles(frame[None], [[i, i + 1, i + 2] for i in range(4)])[0]
        for i, theta in enumerate(bends):
            kinds = tuple(types[i : i + 3])
            table = ANGLES.get(kinds) or ANGLES.get(kinds[::-1])
            total += spline(table)(theta) if table else 0.0
        for first in range(6):
            for second in range(first + 3, 6):
                r = np.linalg.norm(frame[first] - frame[second])
                energies = PAIRS.get(tuple(sorted((types[first], types[second]))))
                if energies is not None and r < 0.8:
                    total += float(CubicSpline(np.linspace(0, 0.8, KNOTS + 1), energies, bc_type="natural")(r))
    system = potential.create_system(topology, replicas=3)
    assert not any("CGForce" in force.getName() for force in system.getForces())
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions.reshape(-1, 3))
    assert energy_and_forces(context)[0] == pytest.approx(total, rel=1e-6)


def test_a_potential_of_priors_alone_needs_no_torch(chain, tmp_path):
    potential, _ = chain
    potential.save(tmp_path / "p.pt")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from openmmcg import CGPotential\n"
        "from openmmcg.potentials import TabulatedBonds\n"
        "from openmmcg.mapping.topology import cg_topology\n"
        f"potential = CGPotential.load({str(tmp_path / 'p.pt')!r})\n"
        "print(potential.create_system(cg_topology(['A', 'B'])).getNumForces())\n"
        "print(len(CGPotential(None, [('A', 1.0)], priors=potential.priors[:1]).priors))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "1"]


def test_a_potential_of_nothing_is_refused():
    with pytest.raises(ValueError, match="without a network needs priors"):
        CGPotential(None, [("A", 20.0)])


def test_a_cgforce_of_no_network_is_refused(chain):
    with pytest.raises(openmm.OpenMMException, match="holds priors alone, no network"):
        CGForce(chain[0].to_bytes())
