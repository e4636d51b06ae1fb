"""Atoms sampled with the beads held in place, where p(r|R) is a normal distribution that is known."""

import numpy as np
import openmm
import pytest
from openmm import app, unit
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from openmmcg.frames import Frames
from openmmcg.mapping import Mapping
from openmmcg.reference.sampling.constrained import (
    STIFFNESS,
    frames_nearby,
    release_weights,
    restrain_beads,
    restraint_energy,
    sample_constrained,
)

KT = 0.00831446261815324 * 300
BONDS = {(0, 1): 2e4, (1, 2): 1e4, (2, 3): 3e4, (3, 4): 1e4, (4, 5): 2e4, (1, 4): 5e3}  # kJ/mol/nm²
ELEMENTS = ("C", "H", "O", "C", "N", "H")


@pytest.fixture(scope="module")
def chain():
    """Six atoms and springs of no length: the energy is a quadratic form, the same for x, y and z."""
    topology, system, springs = app.Topology(), openmm.System(), openmm.HarmonicBondForce()
    residue = topology.addResidue("MOL", topology.addChain())
    for symbol in ELEMENTS:
        element = app.Element.getBySymbol(symbol)
        topology.addAtom(symbol, element, residue)
        system.addParticle(element.mass)
    stiffness = np.zeros((6, 6))
    for (first, second), constant in BONDS.items():
        springs.addBond(first, second, 0.0, constant)
        stiffness[[first, second], [first, second]] += constant
        stiffness[[first, second], [second, first]] -= constant
    system.addForce(springs)
    system.addForce(openmm.CMMotionRemover())
    return topology, system, stiffness


@pytest.fixture(scope="module")
def beads(chain):
    return Mapping.center_of_mass(chain[0], [[0, 1], [2, 3], [4, 5]], names=["A", "B", "C"])


@pytest.fixture(scope="module")
def sampled(chain, beads, tmp_path_factory):
    topology, system, _ = chain
    start = np.random.default_rng(0).normal(scale=0.02, size=(6, 3))
    result = sample_constrained(
        system,
        topology,
        start,
        beads,
        tmp_path_factory.mktemp("constrained") / "atoms.h5md",
        frames=2500,
        interval=0.05,
        equilibration=0.5,
        time_step=5e-4,
        friction=20.0,
        progress=False,
    )
    with Frames(result.path) as frames:
        return beads.map_positions(start), frames.positions[:].astype(float)


def conditional(stiffness, matrix, targets):
    """Mean and covariance of the atoms for fixed beads: in the null space Z of the map, k_B T Z (Zᵀ K Z)⁻¹ Zᵀ."""
    null = np.linalg.svd(matrix)[2][len(matrix) :].T
    covariance = null @ np.linalg.solve(null.T @ stiffness @ null, null.T)
    particular = np.linalg.pinv(matrix) @ targets
    return particular - covariance @ stiffness @ particular, KT * covariance


def held(stiffness, matrix, targets, spring):
    """The same for beads on springs of any strength k: k_B T (K + k MᵀM)⁻¹."""
    inverse = np.linalg.inv(stiffness + spring * matrix.T @ matrix)
    return spring * inverse @ matrix.T @ targets, KT * inverse


def test_the_atoms_have_the_distribution_of_springs_and_molecule(chain, beads, sampled):
    targets, positions = sampled
    mean, covariance = held(chain[2], beads.position_matrix.toarray(), targets, STIFFNESS)
    moved = positions - mean
    blocks = np.array([np.einsum("fix,fjx->ij", block, block) / (3 * len(block)) for block in np.split(moved, 10)])
    found, error = blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(10)
    assert (abs(found - covariance) < 5 * error).all()
    np.testing.assert_allclose(np.diag(found), np.diag(covariance), rtol=0.12)
    spread = np.sqrt(np.diag(covariance))[:, None]
    np.testing.assert_allclose(moved.mean(axis=0) / spread, np.zeros((6, 3)), atol=0.15)


def test_which_is_the_conditional_one_but_for_the_small_motion_of_the_beads(chain, beads, sampled):
    targets, matrix = sampled[0], beads.position_matrix.toarray()
    mean, covariance = held(chain[2], matrix, targets, STIFFNESS)
    exact_mean, exact = conditional(chain[2], matrix, targets)
    np.testing.assert_allclose(mean, exact_mean, atol=2e-4)
    # The beads' own motion adds k_B T/k, or less, to what the atoms do for fixed beads.
    assert abs(covariance - exact).max() < 2 * KT / STIFFNESS < 0.01 * exact.max()


def test_the_beads_move_as_the_springs_let_them(beads, sampled):
    """√(k_B T/k) in each direction, 0.0035 Å; what holds the molecule together is far softer."""
    targets, positions = sampled
    moved = beads.map_positions(positions) - targets
    np.testing.assert_allclose(moved.std(axis=(0, 2)), np.sqrt(KT / STIFFNESS), rtol=0.05)
    assert np.sqrt(KT / STIFFNESS) == pytest.approx(0.00035, rel=0.02)
    energy = restraint_energy(positions, beads, targets)
    assert energy.mean() == pytest.approx(9 / 2 * KT, rel=0.05)


def test_springs_are_the_energy_they_say_for_any_linear_map(chain, beads):
    topology, system, _ = chain
    random = np.random.default_rng(1)
    rows = random.normal(size=(2, 6))
    general = Mapping.linear(topology, rows / rows.sum(axis=1, keepdims=True), names=["P", "Q"])
    positions = random.normal(size=(6, 3))
    for mapping in (beads, general):
        targets = random.normal(size=(mapping.number_of_beads, 3))
        restrained = restrain_beads(system, mapping, targets, stiffness=321.0)
        energies = []
        for each in (restrained, system):
            context = openmm.Context(each, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
            context.setPositions(positions)
            energies.append(context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
        expected = restraint_energy(positions[None], mapping, targets, 321.0)[0]
        assert energies[0] - energies[1] == pytest.approx(expected, rel=1e-9)
        assert expected == pytest.approx(0.5 * 321 * ((mapping.map_positions(positions) - targets) ** 2).sum())


def test_the_system_itself_stays_as_it_is_and_the_centre_of_mass_is_free_in_the_copy(chain, beads):
    system = chain[1]
    restrained = restrain_beads(system, beads, np.zeros((3, 3)))
    assert [type(force).__name__ for force in system.getForces()] == ["HarmonicBondForce", "CMMotionRemover"]
    assert [type(force).__name__ for force in restrained.getForces()] == [
        "HarmonicBondForce",
        "CustomCentroidBondForce",
    ]


def test_weights_release_the_springs_exactly(chain, beads):
    """Equation 17 against the exact answer: atoms in a trap, beads on springs softer than it.

    Samples are drawn from the normal distribution of springs and trap; their weighted average has to be that of the
    trap alone.
    """
    trap, soft = 1000.0, 600.0
    free, matrix = chain[2] + trap * np.eye(6), beads.position_matrix.toarray()
    targets = np.random.default_rng(2).normal(scale=0.01, size=(3, 3))
    mean, covariance = held(free, matrix, targets, soft)
    random = np.random.default_rng(3)
    draws = random.multivariate_normal(np.zeros(6), covariance, size=(40_000, 3), method="cholesky")
    positions = mean + np.moveaxis(draws, 1, 2)
    weights = release_weights(restraint_energy(positions, beads, targets, soft))
    assert weights.max() == 1
    variance, weighted = (
        np.average((positions**2).mean(axis=2), axis=0, weights=each) for each in (np.ones(40_000), weights)
    )
    exact = KT * np.diag(np.linalg.inv(free))
    samples = weights.sum() ** 2 / (weights**2).sum()
    tolerance = 5 * np.sqrt(2 / (3 * samples))
    np.testing.assert_allclose(weighted, exact, rtol=tolerance)
    assert abs(variance / exact - 1).max() > 3 * tolerance


def test_stiff_springs_are_not_to_be_released(beads, sampled):
    """What the notes of `release_weights` warn of: a few frames get all the weight."""
    targets, positions = sampled
    weights = release_weights(restraint_energy(positions, beads, targets))
    assert weights.sum() ** 2 / (weights**2).sum() < 0.05 * len(positions)


def test_a_run_goes_on_and_is_not_mixed_with_another(chain, beads, tmp_path):
    topology, system, _ = chain
    start = np.random.default_rng(4).normal(scale=0.02, size=(6, 3))
    arguments = (system, topology, start, beads, tmp_path / "atoms.h5md")
    options = {"interval": 0.001, "progress": False}
    assert sample_constrained(*arguments, frames=3, **options).frames == 3
    assert sample_constrained(*arguments, frames=5, **options).frames == 5
    with pytest.raises(ValueError, match="with other inputs .*system"):
        sample_constrained(*arguments, frames=5, stiffness=1e6, **options)
    with pytest.raises(ValueError, match="with other inputs .*system"):
        sample_constrained(system, topology, 1.01 * start, beads, arguments[-1], frames=5, **options)


def test_atoms_of_other_beads_are_moved_to_the_beads_that_are_to_be_held(chain, beads, sampled, tmp_path):
    """From any start the run has the distribution of springs and molecule that is known of the beads held."""
    topology, system, stiffness = chain
    targets, _ = sampled
    start = np.random.default_rng(5).normal(scale=0.05, size=(6, 3))
    result = sample_constrained(
        system,
        topology,
        start,
        beads,
        tmp_path / "atoms.h5md",
        bead_positions=targets,
        frames=1000,
        interval=0.05,
        equilibration=1.0,
        time_step=5e-4,
        friction=20.0,
        progress=False,
    )
    with Frames(result.path) as frames:
        positions = frames.positions[:].astype(float)
    np.testing.assert_allclose(beads.map_positions(positions), np.tile(targets, (1000, 1, 1)), atol=3e-3)
    mean, covariance = held(stiffness, beads.position_matrix.toarray(), targets, STIFFNESS)
    deviations = np.sqrt(np.diag(covariance))[:, None]
    np.testing.assert_allclose((positions.mean(axis=0) - mean) / deviations, np.zeros((6, 3)), atol=0.2)
    np.testing.assert_allclose(positions.var(axis=0).mean(axis=1), np.diag(covariance), rtol=0.15)


def test_frames_nearby_are_those_with_the_same_shape_of_the_beads_wherever_and_however_turned(beads):
    random = np.random.default_rng(6)
    atoms = random.normal(scale=0.1, size=(50, 6, 3))
    targets = beads.map_positions(atoms[17])
    turn = Rotation.random(random_state=7)
    atoms = turn.apply(atoms.reshape(-1, 3)).reshape(atoms.shape) + random.normal(size=(50, 1, 3))
    nearest = frames_nearby(atoms, beads, targets, 5)
    np.testing.assert_allclose(beads.map_positions(nearest[0]), targets, atol=1e-9)
    np.testing.assert_allclose(pdist(nearest[0]), pdist(atoms[17]))  # not mirrored, nor deformed
    distances = np.linalg.norm(beads.map_positions(nearest) - targets, axis=(1, 2))
    assert (np.diff(distances) > 0).all()
    every = frames_nearby(atoms, beads, targets, 50)
    assert np.linalg.norm(beads.map_positions(every) - targets, axis=(1, 2))[5:].min() >= distances.max()
    with pytest.raises(ValueError, match="of 50 frames 51 were asked for"):
        frames_nearby(atoms, beads, targets, 51)
    with pytest.raises(ValueError, match=r"of shape \[3, 3\] for this map"):
        frames_nearby(atoms, beads, targets[:2], 5)


def test_what_makes_no_sense_is_refused(chain, beads, tmp_path):
    topology, system, _ = chain
    for arguments, message in (
        ((beads, np.zeros((2, 3))), r"of shape \[3, 3\] for this map, got \[2, 3\]"),
        ((beads, np.full((3, 3), np.nan)), "must be finite"),
        ((beads, np.zeros((3, 3)), -1.0), "stiffness must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            restrain_beads(system, *arguments)
    other = openmm.System()
    other.addParticle(1.0)
    with pytest.raises(ValueError, match="map is for 6 atoms, the System has 1"):
        restrain_beads(other, beads, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="springs of .* need time steps below 0.0016 ps .* got 0.002 ps"):
        sample_constrained(
            system, topology, np.zeros((6, 3)), beads, tmp_path / "a.h5md", frames=1, interval=0.1, time_step=0.002
        )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="temperature must be positive"):
        release_weights([1.0], temperature=0.0)
