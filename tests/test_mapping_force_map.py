"""Force maps against statistical mechanics: equal mean forces, and the least noise where it is known."""

import numpy as np
import openmm
import pytest
from openmm import app

from openmmcg.frames import Frames, FrameWriter
from openmmcg.mapping import (
    Mapping,
    aggregate_force_map,
    constraint_aware_force_map,
    map_frames,
    mean_square_force,
    optimal_force_map,
)

KT = 2.5


def carbons(count):
    topology = app.Topology()
    residue = topology.addResidue("C", topology.addChain())
    for index in range(count):
        topology.addAtom(f"C{index}", app.element.carbon, residue)
    return topology


def system_with(count, *rigid, massless=()):
    system = openmm.System()
    for index in range(count):
        system.addParticle(0.0 if index in massless else 12.0)
    for first, second in rigid:
        system.addConstraint(first, second, 0.1)
    return system


class HarmonicChain:
    """Atoms tied to their neighbours and to their places: a Gaussian distribution, and forces −K r."""

    def __init__(self, atoms, seed=0):
        random = np.random.default_rng(seed)
        springs = random.uniform(5e3, 2e4, atoms - 1)
        self.stiffness = np.diag(random.uniform(200.0, 800.0, atoms))
        for index, spring in enumerate(springs):
            self.stiffness[index : index + 2, index : index + 2] += spring * np.array([[1, -1], [-1, 1]])
        self.covariance = np.linalg.inv(self.stiffness)

    def sample(self, frames, seed=1):
        root = np.linalg.cholesky(KT * self.covariance)
        positions = np.einsum("ij,fjd->fid", root, np.random.default_rng(seed).normal(size=(frames, len(root), 3)))
        return positions, -np.einsum("ij,fjd->fid", self.stiffness, positions)

    def mean_force_slope(self, matrix):
        """−dF/dR of the mean force on the beads: the potential of mean force of a Gaussian is quadratic."""
        return np.linalg.inv(matrix @ self.covariance @ matrix.T)


CHAIN = HarmonicChain(6)
BEADS = [1, 4]


def slope(mapping, positions, forces):
    """Least-squares slope of the mapped forces over the beads' positions."""
    beads = np.moveaxis(mapping.map_positions(positions), 1, 2).reshape(-1, mapping.number_of_beads)
    mapped = np.moveaxis(mapping.map_forces(forces), 1, 2).reshape(-1, mapping.number_of_beads)
    return -np.linalg.lstsq(beads, mapped)[0].T


def maps_of_the_chain(forces):
    sliced = Mapping.slice(carbons(6), BEADS)
    return {
        "slice": sliced,
        "aggregate": aggregate_force_map(sliced, [[0, 1, 2], [3, 4, 5]]),
        "constraint-aware": constraint_aware_force_map(sliced, system_with(6, (0, 1))),
        "optimal": optimal_force_map(sliced, forces),
        "regularized": optimal_force_map(sliced, forces, regularization=1e4),
    }


def test_all_maps_have_the_gradient_of_the_potential_of_mean_force():
    positions, forces = CHAIN.sample(40000)
    expected = CHAIN.mean_force_slope(np.eye(6)[BEADS])
    for name, mapping in maps_of_the_chain(forces).items():
        halves = [slope(mapping, positions[half::2], forces[half::2]) for half in (0, 1)]
        error = abs(halves[0] - halves[1]) / 2 + 1e-6 * abs(expected)
        assert (abs(np.mean(halves, axis=0) - expected) < 5 * error + 0.02 * abs(expected).max()).all(), name


def test_the_optimal_map_of_a_harmonic_chain_has_no_noise():
    """B = (M K⁻¹ Mᵀ)⁻¹ M K⁻¹ gives the mean force itself, which no other map can be less noisy than."""
    # As many frames as atoms, with exactly the second moments of the ensemble, ⟨f fᵀ⟩ = k_B T K.
    forces = np.tile(np.linalg.cholesky(6 * KT * CHAIN.stiffness).T[..., None], 3)
    for mapping in (
        Mapping.slice(carbons(6), BEADS),
        Mapping.center_of_mass(carbons(6), [[0, 1, 2], [3, 4, 5]], names="AB"),
    ):
        matrix = mapping.position_matrix.toarray()
        optimal = optimal_force_map(mapping, forces)
        expected = CHAIN.mean_force_slope(matrix) @ matrix @ CHAIN.covariance
        np.testing.assert_allclose(optimal.force_matrix.toarray(), expected, atol=1e-6)
        np.testing.assert_array_equal(optimal.position_matrix.toarray(), matrix)


def test_the_noise_falls_from_slice_to_optimal_on_unseen_frames():
    maps = maps_of_the_chain(CHAIN.sample(2000)[1])
    noise = {name: mean_square_force(mapping, CHAIN.sample(5000, seed=5)[1]) for name, mapping in maps.items()}
    # The mean square of the mean force is k_B T times the curvature of the potential of mean force.
    floor = KT * np.diag(CHAIN.mean_force_slope(np.eye(6)[BEADS]))
    np.testing.assert_allclose(noise["optimal"], floor, rtol=0.05)
    for name in ("slice", "aggregate", "constraint-aware", "regularized"):
        assert (noise[name] > noise["optimal"]).all(), name
    np.testing.assert_allclose(noise["slice"], KT * np.diag(CHAIN.stiffness)[BEADS], rtol=0.05)


def test_independent_noise_is_averaged_by_inverse_variances():
    variances = np.array([1.0, 4.0, 0.25, 9.0])
    forces = np.random.default_rng(2).normal(size=(200_000, 4, 3)) * np.sqrt(variances)[:, None]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    mapping = Mapping.linear(carbons(4), [weights], names="A")
    optimal = optimal_force_map(mapping, forces)
    expected = weights / variances / (weights**2 / variances).sum()
    np.testing.assert_allclose(optimal.force_matrix.toarray()[0], expected, atol=0.01)
    np.testing.assert_allclose(mean_square_force(optimal, forces), 1 / (weights**2 / variances).sum(), rtol=0.01)
    # The penalty λ adds to every variance; a very large one gives the smallest coefficients.
    for penalty in (2.0, 1e9):
        regular = optimal_force_map(mapping, forces, regularization=penalty).force_matrix.toarray()[0]
        noisy = variances + penalty
        np.testing.assert_allclose(regular, weights / noisy / (weights**2 / noisy).sum(), atol=0.01)
    np.testing.assert_allclose(regular, weights / (weights**2).sum(), rtol=1e-6)


def test_atoms_of_a_rigid_group_share_their_coefficient():
    forces = np.random.default_rng(3).normal(size=(5000, 5, 3)) * np.array([1.0, 2.0, 3.0, 1.0, 2.0])[:, None]
    system = system_with(5, (0, 1), (3, 4))
    sliced = Mapping.slice(carbons(5), [0])
    with pytest.raises(ValueError, match="atoms 0 and 1 are joined by a rigid bond .* optimal_force_map"):
        sliced.check_constraints(system)
    for mapping in (constraint_aware_force_map(sliced, system), optimal_force_map(sliced, forces, system=system)):
        mapping.check_constraints(system)
    np.testing.assert_array_equal(
        constraint_aware_force_map(sliced, system).force_matrix.toarray(), [[1.0, 1.0, 0.0, 0.0, 0.0]]
    )
    allowed = optimal_force_map(sliced, forces, system=system, atoms=[0, 1, 2]).force_matrix.toarray()[0]
    assert allowed[3] == allowed[4] == 0 and allowed[2] != 0


def test_the_mean_force_on_an_end_of_a_rigid_dumbbell_is_that_of_its_potential_of_mean_force():
    """Both ends are tied to the origin; the free energy of one end follows from the orientations of the other."""
    spring, other, length, place = 300.0, 500.0, 0.15, 0.1
    pull = other * place * length / KT  # the orientation u has the weight exp(−pull u_x)
    random = np.random.default_rng(4)
    cosines = -np.log(np.exp(-pull) + random.random(100_000) * 2 * np.sinh(pull)) / pull
    around = random.uniform(0, 2 * np.pi, len(cosines))
    sines = np.sqrt(1 - cosines**2)
    direction = np.stack([cosines, sines * np.cos(around), sines * np.sin(around)], axis=1)
    first = np.tile([place, 0.0, 0.0], (len(cosines), 1))
    forces = np.stack([-spring * first, -other * (first + length * direction)], axis=1)
    mapping = constraint_aware_force_map(Mapping.slice(carbons(2), [0]), system_with(2, (0, 1)))
    mapped = mapping.map_forces(forces)[:, 0, 0]

    def free_energy(x):
        turn = other * x * length / KT
        return (spring + other) / 2 * x**2 - KT * np.log(np.sinh(turn) / turn)

    expected = -(free_energy(place + 1e-5) - free_energy(place - 1e-5)) / 2e-5
    assert mapped.mean() == pytest.approx(expected, abs=4 * mapped.std() / np.sqrt(len(mapped)))


def test_aggregates_equal_the_maps_there_were():
    topology = carbons(6)
    groups = [[0, 1, 2], [3, 5]]
    com = Mapping.center_of_mass(topology, groups, names="AB")
    sliced = Mapping.slice(topology, [0, 3])
    np.testing.assert_array_equal(aggregate_force_map(com, groups).force_matrix.toarray(), com.force_matrix.toarray())
    np.testing.assert_array_equal(
        aggregate_force_map(sliced, groups).force_matrix.toarray(), com.force_matrix.toarray()
    )
    # Without rigid bonds, the smallest aggregates are the bead's own atoms.
    for mapping in (com, sliced):
        aware = constraint_aware_force_map(mapping, system_with(6))
        np.testing.assert_array_equal(aware.force_matrix.toarray(), mapping.force_matrix.toarray())


def test_the_forces_on_massless_sites_are_not_used():
    forces = np.random.default_rng(6).normal(size=(50, 3, 3))
    forces[:, 2] = -forces[:, 0]  # would cancel the whole force
    system = system_with(3, massless=[2])
    optimal = optimal_force_map(Mapping.slice(carbons(3), [0]), forces, system=system)
    assert optimal.force_matrix.toarray()[0, 2] == 0


def test_forces_that_always_sum_to_zero_leave_the_smallest_coefficients():
    random = np.random.default_rng(7)
    forces = random.normal(size=(100, 3, 3))
    forces -= forces.mean(axis=1, keepdims=True)
    mapping = Mapping.center_of_mass(carbons(3))
    np.testing.assert_allclose(optimal_force_map(mapping, forces).force_matrix.toarray(), 1.0, atol=1e-8)


def test_a_trajectory_is_mapped_with_the_optimal_forces(tmp_path):
    positions, forces = CHAIN.sample(30)
    particles = {"names": ["C"] * 6, "types": [0] * 6, "type_names": ["C"], "masses": [12.0] * 6}
    with FrameWriter(tmp_path / "atoms.h5md", **particles, temperature=300.0, periodic=False) as writer:
        for time, frame in enumerate(positions):
            writer.append(frame, None, time, forces[time])
    with Frames(tmp_path / "atoms.h5md") as source:
        mapping = optimal_force_map(Mapping.slice(carbons(6), BEADS), source.forces)
        map_frames(source, mapping, tmp_path / "beads.h5md", progress=False)
        with pytest.raises(ValueError, match="beads.h5md exists and does not hold"):
            map_frames(source, Mapping.slice(carbons(6), BEADS), tmp_path / "beads.h5md", progress=False)
    with Frames(tmp_path / "beads.h5md") as beads:
        np.testing.assert_allclose(beads.positions[:], positions[:, BEADS], atol=1e-6)
        np.testing.assert_allclose(beads.forces[:], mapping.map_forces(forces), rtol=1e-4, atol=1e-2)


SLICED = Mapping.slice(carbons(4), [0, 2])
FORCES = np.ones((3, 4, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: aggregate_force_map(SLICED, [[0]]), "1 groups of atoms for 2 beads"),
        (lambda: aggregate_force_map(SLICED, [[0], [2, 4]]), "group 1 has atom 4; the map has atoms 0 to 3"),
        (lambda: aggregate_force_map(SLICED, [[0, 2], [2]]), "must be the identity and is 1 off"),
        (lambda: SLICED.with_force_matrix(np.eye(3)), r"shape \(3, 3\); the map needs \(2, 4\)"),
        (lambda: constraint_aware_force_map(SLICED, system_with(3)), "3 particles, the map is for 4 atoms"),
        (
            lambda: constraint_aware_force_map(SLICED, system_with(4, (0, 1), (1, 2))),
            r"rigid group of atoms \[0, 1, 2\] is part of the beads \[0, 1\]",
        ),
        (
            lambda: optimal_force_map(SLICED, FORCES, system=system_with(4, (0, 2))),
            r"no force map is consistent with the beads \[0, 1\] \(C0, C2\)",
        ),
        (lambda: optimal_force_map(SLICED, FORCES, atoms=[0, 1]), r"consistent with the beads \[1\] \(C2\)"),
        (lambda: optimal_force_map(SLICED, FORCES, atoms=[0, 2, 4]), "no atom 4; the map has atoms 0 to 3"),
        (
            lambda: optimal_force_map(SLICED, FORCES, atoms=[0, 2], system=system_with(4, (2, 3))),
            r"part of the rigid group of atoms \[2, 3\]",
        ),
        (lambda: optimal_force_map(SLICED, FORCES, regularization=-1.0), "must not be negative, it is -1"),
        (lambda: optimal_force_map(SLICED, np.ones((3, 5, 3))), r"\[frames, 4, 3\], not \[3, 5, 3\]"),
        (lambda: mean_square_force(SLICED, np.ones((0, 4, 3))), r"\[frames, 4, 3\], not \[0, 4, 3\]"),
        (lambda: optimal_force_map(SLICED, FORCES * [1, np.nan, 1]), "frame 0 has forces that are not finite"),
    ],
)
def test_force_maps_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
