"""All-atom water: the boxes are what they claim, and sampling can be stopped at any moment."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import openmm
import pytest
from openmm import unit

from openmmcg.frames import Frames
from openmmcg.mapping import Mapping
from openmmcg.reference import sample, time_per_step, water_box
from openmmcg.simulation.resumable import log_path, read_log

WATER_MASS = 18.015


def distances(positions):
    """O-H, O-H and H-H of every molecule."""
    molecules = positions.reshape(-1, 3, 3)
    return np.linalg.norm(molecules[:, [1, 2, 2]] - molecules[:, [0, 0, 1]], axis=-1)


@pytest.fixture(scope="module")
def small_box():
    return water_box("spce", molecules=64)


@pytest.mark.parametrize(
    ("model", "bond", "hydrogens"),
    [("spce", 0.1, 2 * 0.1 * np.sin(np.radians(109.47 / 2))), ("tip3p", 0.09572, 0.15139)],
)
def test_a_water_box_has_the_number_the_density_and_the_geometry_it_should(model, bond, hydrogens):
    molecules, density = 130, 0.98
    topology, system, positions = water_box(model, molecules, density)
    assert topology.getNumResidues() == molecules
    assert topology.getNumAtoms() == system.getNumParticles() == len(positions) == 3 * molecules
    mass = sum(system.getParticleMass(i)._value for i in range(system.getNumParticles()))
    assert mass == pytest.approx(molecules * WATER_MASS, rel=1e-4)
    box = np.array([vector.value_in_unit(unit.nanometer) for vector in system.getDefaultPeriodicBoxVectors()])
    np.testing.assert_allclose(box, topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer))
    volume = np.linalg.det(box) * 1e-21  # cm³
    assert mass / 6.02214076e23 / volume == pytest.approx(density, rel=1e-6)
    np.testing.assert_allclose(
        distances(positions), np.broadcast_to([bond, bond, hydrogens], (molecules, 3)), atol=1e-4
    )
    nonbonded = next(force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.PME
    assert nonbonded.getCutoffDistance()._value == pytest.approx(min(0.9, 0.49 * box[0, 0]))


def test_no_molecules_overlap_even_where_the_shipped_liquid_is_repeated():
    topology, system, positions = water_box("spce", molecules=1000)
    width = topology.getPeriodicBoxVectors()[0][0]._value
    oxygens = positions[::3]
    d = oxygens[:, None] - oxygens[None]
    d -= width * np.round(d / width)
    separations = np.linalg.norm(d, axis=-1) + np.eye(len(d))
    assert separations.min() > 0.22
    # And they fill the box: no cube of an eighth of its volume lacks its share.
    octants = ((oxygens % width) // (width / 2)).astype(int) @ [4, 2, 1]
    assert np.bincount(octants, minlength=8).min() > 1000 / 8 * 0.8


def test_seeds_give_different_boxes_and_the_same_seed_the_same(small_box):
    again, other = water_box(molecules=64), water_box(molecules=64, seed=1)
    np.testing.assert_array_equal(again.positions, small_box.positions)
    assert np.abs(other.positions - small_box.positions).max() > 0.1


def test_impossible_boxes_are_refused():
    with pytest.raises(ValueError, match="unknown water model 'spc'; known are spce, tip3p"):
        water_box("spc")
    with pytest.raises(ValueError, match="at 0.997 g/cm³ make a box too small for a cutoff .* take at least 36"):
        water_box(molecules=20)
    assert len(water_box(molecules=36).positions) == 108
    with pytest.raises(ValueError, match="density must be positive"):
        water_box(density=0.0)


def run(box, path, frames, **options):
    settings = {"interval": 0.02, "equilibration": 0.1, "platform": "CPU", "threads": 1, "progress": False}
    return sample(box.system, box.topology, box.positions, path, frames=frames, **{**settings, **options})


def reference_forces(system, positions):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(positions)
    state = context.getState(forces=True)
    return state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)


def test_sampled_frames_hold_whole_molecules_and_the_forces_of_their_positions(small_box, tmp_path):
    result = run(small_box, tmp_path / "water.h5md", frames=3)
    assert result.frames == 3 and result.path == tmp_path / "water.h5md"
    with Frames(result.path) as frames:
        assert frames.names[:3] == ["O", "H1", "H2"] and frames.type_names == ["O", "H"]
        assert frames.types[:4].tolist() == [0, 1, 1, 0]
        assert frames.masses[:3].sum() == pytest.approx(WATER_MASS, abs=1e-3)
        np.testing.assert_allclose(frames.times, [0.02, 0.04, 0.06])
        box = small_box.topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer)
        np.testing.assert_allclose(frames.boxes[2], box)
        positions, forces = frames.positions[2].astype(float), frames.forces[2].astype(float)
        np.testing.assert_allclose(distances(positions), distances(small_box.positions), atol=1e-4)
        exact = reference_forces(small_box.system, positions)
        # Both use the same Ewald mesh: what differs is rounding, and the CPU platform's fast erfc.
        assert np.linalg.norm(forces - exact) < 1e-3 * np.linalg.norm(exact)
        # Newton's third law, up to the Ewald mesh.
        assert np.abs(forces.sum(axis=0)).max() < 1e-2 * np.abs(forces).sum(axis=0).max()

        mapping = Mapping.center_of_mass(small_box.topology, names=["W"] * 64)
        mapping.check_constraints(small_box.system)
        np.testing.assert_allclose(mapping.map_forces(forces), forces.reshape(64, 3, 3).sum(axis=1), atol=1e-8)
        np.testing.assert_allclose(mapping.masses, WATER_MASS, atol=1e-3)


def test_the_force_on_a_bead_is_the_derivative_of_the_energy_along_it(small_box):
    """Shifting a whole rigid molecule by x changes the energy by -F x."""
    mapping = Mapping.center_of_mass(small_box.topology)
    force = mapping.map_forces(reference_forces(small_box.system, small_box.positions))[7]
    context = openmm.Context(small_box.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    for axis in range(3):
        energies = []
        for step in (1e-4, -1e-4):
            positions = small_box.positions.copy()
            positions[21:24, axis] += step
            context.setPositions(positions)
            energies.append(context.getState(energy=True).getPotentialEnergy()._value)
        assert (energies[0] - energies[1]) / -2e-4 == pytest.approx(force[axis], abs=2e-3 * np.linalg.norm(force))


def test_the_temperature_is_that_of_the_thermostat(small_box, tmp_path):
    path = tmp_path / "water.h5md"
    run(small_box, path, frames=60, interval=0.05, equilibration=2.0, friction=10.0)
    temperatures = read_log(path)["temperature_K"]
    # One frame fluctuates by √(2/381) of 300 K, 22 K.
    assert np.mean(temperatures) == pytest.approx(300, abs=15)
    assert 10 < np.std(temperatures) < 40


def test_a_finished_run_returns_at_once_and_knows_its_speed(small_box, tmp_path, monkeypatch):
    first = run(small_box, tmp_path / "water.h5md", frames=2)
    assert 0 < first.milliseconds_per_step < 1000
    with monkeypatch.context() as patch:
        patch.setattr(openmm, "Context", lambda *_: pytest.fail("there is nothing to simulate"))
        assert run(small_box, tmp_path / "water.h5md", frames=2) == first
    longer = run(small_box, tmp_path / "water.h5md", frames=4)
    assert longer.frames == 4
    with Frames(first.path) as frames:
        np.testing.assert_allclose(frames.times, [0.02, 0.04, 0.06, 0.08])


SAMPLE = """
from openmmcg.reference import sample, water_box
box = water_box(molecules=64)
sample(box.system, box.topology, box.positions, {path!r}, frames=100000, interval=0.02, equilibration=0.1,
       platform="CPU", threads=1, progress=False)
"""


def test_a_killed_run_goes_on_where_it_was(small_box, tmp_path):
    path = tmp_path / "water.h5md"
    process = subprocess.Popen([sys.executable, "-c", SAMPLE.format(path=str(path))])
    deadline = time.monotonic() + 60
    while not log_path(path).exists() and time.monotonic() < deadline:  # written after the first frame
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with Frames(path) as frames:
        count = len(frames)
        before = frames.positions[:]
    assert count > 0
    assert run(small_box, path, frames=count + 3).frames == count + 3
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.times, 0.02 * (np.arange(count + 3) + 1))
        np.testing.assert_array_equal(frames.positions[:count], before)
        # The path is continuous: in 20 fs an oxygen atom moves about 0.01 nm.
        steps = np.linalg.norm(np.diff(frames.positions[:], axis=0)[:, ::3], axis=-1)
        assert steps.max() < 0.1 and steps.mean(axis=1).min() > 0.002


def test_a_full_disk_stops_sampling_and_room_lets_it_go_on(small_box, tmp_path):
    path = tmp_path / "water.h5md"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, 1_200_000))"
    process = subprocess.run(
        [sys.executable, "-c", limit + SAMPLE.format(path=str(path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "frames are kept and readable. Make room and resume" in process.stderr.splitlines()[-1]
    with Frames(path) as frames:
        count = len(frames)
    assert count > 5
    run(small_box, path, frames=count + 3)
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.times, 0.02 * (np.arange(count + 3) + 1))


def test_another_run_is_not_mixed_in(small_box, tmp_path):
    path = tmp_path / "water.h5md"
    run(small_box, path, frames=1)
    for change in ({"temperature": 310.0}, {"interval": 0.04}, {"seed": 5}):
        with pytest.raises(ValueError, match=f"with other inputs .*{next(iter(change))}"):
            run(small_box, path, frames=2, **change)
    with pytest.raises(ValueError, match="with other inputs .*system"):
        run(water_box("tip3p", molecules=64), path, frames=2)
    stranger = tmp_path / "stranger.h5md"
    stranger.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"stranger.h5md exists"):
        run(small_box, stranger, frames=1)
    assert stranger.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interval": 0.0211}, "interval, 0.0211 ps, must be a whole number of times, 1 or more, time_step"),
        ({"interval": 0.0}, "interval, 0 ps, must be a whole number"),
        ({"equilibration": -1.0}, "equilibration, -1 ps, must be a whole number of times, 0 or more"),
        ({"time_step": 0.0}, "time_step must be positive, not 0 ps"),
        ({"frames": 0}, "must be positive"),
        ({"temperature": -300.0}, "must be positive"),
        ({"platform": "Abacus"}, "no platform 'Abacus' here; choose one of"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_any_step(small_box, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(small_box, tmp_path / "water.h5md", **{"frames": 1, **change})
    assert list(tmp_path.iterdir()) == []


def test_positions_and_topology_must_fit_the_system(small_box, tmp_path):
    for positions, message in (
        (small_box.positions[:-1], r"give positions of shape \[192, 3\]"),
        (
            np.where(np.arange(192)[:, None] == 5, np.nan, small_box.positions),
            "positions of 1 particles are not finite, the first is particle 5",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run(small_box._replace(positions=positions), tmp_path / "water.h5md", frames=1)
    with pytest.raises(ValueError, match="topology has 108 atoms, the System 192"):
        run(small_box._replace(topology=water_box(molecules=36).topology), tmp_path / "water.h5md", frames=1)


def test_a_larger_box_takes_longer_per_step(small_box):
    large = water_box(molecules=512)
    small_time, large_time = (
        time_per_step(box.system, box.positions, platform="CPU", threads=1, steps=10, blocks=3, warm_up=5)
        for box in (small_box, large)
    )
    assert 0 < small_time.best <= small_time.median
    assert large_time.best > 2 * small_time.best
