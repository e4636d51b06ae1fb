"""Priors against their formulas."""

import numpy as np
import openmm
import pytest
from conftest import energy_and_forces, images, scatter, system_of

from openmmcg.frames import Frames, FrameWriter
from openmmcg.potentials import PriorForces, Repulsion
from openmmcg.potentials.priors import add_priors, to_xml

SIGMAS = np.array([[0.25, 0.3], [0.3, 0.2]])
EXPONENT, CUTOFF = 9.0, 0.6


def repulsion_energy(positions, types, box, excluded=()):
    """Equation 6b of Husic et al. with value and slope shifted to zero at the cutoff."""
    total = 0.0
    for i in range(len(positions)):
        for j in range(i):
            r = np.linalg.norm(images(positions[i] - positions[j], box))
            if r < CUTOFF and (j, i) not in excluded:
                at_cutoff = (SIGMAS[types[i], types[j]] / CUTOFF) ** EXPONENT
                slope = -EXPONENT / CUTOFF * at_cutoff
                total += (SIGMAS[types[i], types[j]] / r) ** EXPONENT - at_cutoff - slope * (r - CUTOFF)
    return total


def context_with(prior, types, box, bonds=()):
    system = system_of(beads=len(types), box=box)
    add_priors(system, [to_xml(prior)], types, bonds, periodic=box is not None)
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)


def test_repulsion_is_that_of_its_formula(box):
    positions, types = scatter(30, box), [i % 2 for i in range(30)]
    context = context_with(Repulsion(SIGMAS.tolist(), EXPONENT, CUTOFF), types, box)
    context.setPositions(positions)
    assert energy_and_forces(context)[0] == pytest.approx(repulsion_energy(positions, types, box), rel=1e-6)


def test_repulsion_and_its_force_vanish_continuously_at_the_cutoff():
    context = context_with(Repulsion([[0.4]], 6.0, CUTOFF), [0, 0], None)
    context.setPositions([[0, 0, 0], [CUTOFF - 1e-5, 0, 0]])
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(0, abs=1e-8)
    assert forces == pytest.approx(np.zeros((2, 3)), abs=1e-3)
    context.setPositions([[0, 0, 0], [0.4, 0, 0]])
    assert 0.3 < energy_and_forces(context)[0] < 1  # the shift takes something off the 1 kJ/mol at sigma


def test_beads_one_or_two_bonds_apart_do_not_repel():
    positions = np.array([[0.0, 0, 0], [0.2, 0, 0], [0.3, 0.2, 0], [0.5, 0.2, 0.1]])
    types = [0, 1, 0, 1]
    context = context_with(Repulsion(SIGMAS.tolist(), EXPONENT, CUTOFF), types, None, [(0, 1), (1, 2)])
    context.setPositions(positions)
    expected = repulsion_energy(positions, types, None, excluded={(0, 1), (1, 2), (0, 2)})
    assert energy_and_forces(context)[0] == pytest.approx(expected, rel=1e-6)


def test_prior_forces_follow_the_box_of_each_frame():
    types = [0, 1]
    forces = PriorForces([Repulsion(SIGMAS.tolist(), EXPONENT, CUTOFF)], types, periodic=True)
    positions = np.array([[0.1, 0, 0], [1.9, 0, 0]])
    for width in (2.0, 2.05):
        r, step = width - 1.8, 1e-6
        box = np.eye(3) * width
        ends = [repulsion_energy(positions + [[d, 0, 0], [0, 0, 0]], types, box) for d in (step, -step)]
        assert r < CUTOFF
        assert forces(positions, box)[0, 0] == pytest.approx(-(ends[0] - ends[1]) / (2 * step), rel=1e-5)
    assert forces(positions, np.eye(3) * 4) == pytest.approx(np.zeros((2, 3)))


def test_without_priors_there_are_no_prior_forces():
    assert PriorForces([], [0, 0], periodic=False)(np.zeros((2, 3)), None) == pytest.approx(np.zeros((2, 3)))


@pytest.fixture
def trajectory(tmp_path, box):
    path = tmp_path / "beads.h5md"
    types = [i % 2 for i in range(40)]
    names = ["AB"[i] for i in types]
    masses = [[20.0, 30.0][i] for i in types]
    particles = {"names": names, "types": types, "type_names": ["A", "B"], "masses": masses}
    options = {"temperature": 300.0, "forces": False, "periodic": box is not None}
    with FrameWriter(path, **particles, **options) as writer:
        for time in range(3):
            writer.append(scatter(40, box, seed=time), box, time=float(time))
    return path


def test_repulsion_reaches_thermal_energy_at_the_shortest_distance_sampled(trajectory):
    with Frames(trajectory) as frames:
        prior = Repulsion.from_frames(frames, exponent=12, search=CUTOFF)
        shortest = np.full((2, 2), CUTOFF)
        for index in range(len(frames)):
            box = None if frames.boxes is None else frames.boxes[index]
            positions = np.asarray(frames.positions[index], float)
            lengths = np.linalg.norm(images(positions[:, None] - positions, box), axis=2)
            np.fill_diagonal(lengths, np.inf)
            for i, j in np.ndindex(2, 2):
                shortest[i, j] = min(shortest[i, j], lengths[frames.types == i][:, frames.types == j].min())
    thermal = 8.314462618e-3 * 300
    assert (np.array(prior.sigmas) / shortest) ** 12 == pytest.approx(np.full((2, 2), thermal), rel=1e-5)


def test_types_never_seen_together_are_kept_apart_by_the_distance_searched(tmp_path):
    particles = {"names": ["A", "B"], "types": [0, 1], "type_names": ["A", "B"], "masses": [20.0, 20.0]}
    options = {"temperature": 300.0, "forces": False, "periodic": False}
    with FrameWriter(tmp_path / "f.h5md", **particles, **options) as writer:
        writer.append(np.array([[0.0, 0, 0], [0.4, 0, 0]]), None, time=0.0)
    with Frames(tmp_path / "f.h5md") as frames:
        sigmas = np.array(Repulsion.from_frames(frames, exponent=12, search=CUTOFF).sigmas)
    factor = (8.314462618e-3 * 300) ** (1 / 12)
    assert sigmas == pytest.approx(np.array([[CUTOFF, 0.4], [0.4, CUTOFF]]) * factor, rel=1e-5)


def test_the_distances_of_beads_one_or_two_bonds_apart_do_not_count(tmp_path):
    particles = {"names": list("AAAA"), "types": [0] * 4, "type_names": ["A"], "masses": [20.0] * 4}
    options = {"temperature": 300.0, "forces": False, "periodic": False, "bonds": [(1, 0), (1, 2), (2, 3)]}
    with FrameWriter(tmp_path / "f.h5md", **particles, **options) as writer:
        writer.append(np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.35, 0, 0]]), None, time=0.0)
    with Frames(tmp_path / "f.h5md") as frames:
        prior = Repulsion.from_frames(frames, exponent=12, search=CUTOFF)
    assert prior.sigmas[0][0] == pytest.approx(0.35 * (8.314462618e-3 * 300) ** (1 / 12), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"sigmas": [[0.2, 0.3], [0.1, 0.2]]}, "symmetric"),
        ({"sigmas": [[-0.2]]}, "not negative"),
        ({"sigmas": [[0.2]], "exponent": 0.5}, "exponent above 1"),
        ({"sigmas": [[0.2]], "cutoff": 0.0}, "positive cutoff"),
    ],
)
def test_bad_repulsions_are_refused(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        Repulsion(**arguments)


def test_only_templates_are_priors():
    with pytest.raises(ValueError, match="a prior must be"):
        to_xml(openmm.HarmonicBondForce())
    with pytest.raises(ValueError, match="a prior must be"):
        to_xml(openmm.NonbondedForce())
    force = Repulsion([[0.25]]).template()
    force.addParticle([0])
    with pytest.raises(ValueError, match="without particles"):
        to_xml(force)
