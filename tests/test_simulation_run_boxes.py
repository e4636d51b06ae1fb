"""Replicas in boxes of their own: each is in its box what it would be alone."""

import numpy as np
import openmm
import pytest
from conftest import GPU_PLATFORMS, energy_and_forces, system_of

from openmmcg.frames import Frames
from openmmcg.simulation import read_log, read_result, run

BOX = 1.5 * np.eye(3)
BOXES = np.array([BOX, 1.1 * BOX, BOX, [[1.6, 0, 0], [0.3, 1.7, 0], [-0.2, 0.4, 1.8]]])


def fluid():
    """Repelling beads, whose pressure and energy are those of their box."""
    force = openmm.CustomNonbondedForce("0.001/r^6")
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.7)
    for _ in range(8):
        force.addParticle([])
    return system_of(force, beads=8, box=BOX)


def starts():
    grid = 0.35 * np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    random = np.random.default_rng(3)
    return grid + 0.03 * random.normal(size=(4, 8, 3))


def short_run(path, positions, box, **changes):
    options = {"duration": 0.5, "interval": 0.1, "seed": 1, "platform": "Reference", "progress": False, **changes}
    return run(fluid(), positions, box, path, **options)


def frames_of(path):
    with Frames(path) as frames:
        return frames.positions[:], frames.boxes


def test_every_replica_moves_and_conserves_energy_in_its_own_box(tmp_path):
    result = short_run(tmp_path / "all.h5md", starts(), BOXES, ensemble="NVE", time_step=0.0005, duration=1.0)
    system = fluid()
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    for number, replica in enumerate(result.replicas):
        positions, boxes = frames_of(replica.path)
        assert np.array_equal(boxes, np.tile(BOXES[number], (10, 1, 1)))
        log = read_log(replica.path)
        for frame, energy in zip(positions, log["potential_energy_kJ_mol"], strict=True):
            context.setPeriodicBoxVectors(*BOXES[number])
            context.setPositions(frame)
            assert energy == pytest.approx(energy_and_forces(context)[0], rel=1e-4)
        total = log["potential_energy_kJ_mol"] + log["kinetic_energy_kJ_mol"]
        assert np.ptp(log["potential_energy_kJ_mol"]) > 20 * np.ptp(total)


def test_equal_boxes_share_a_context_and_others_have_noise_of_their_own(tmp_path, monkeypatch):
    made = []
    original = openmm.Context
    monkeypatch.setattr(openmm, "Context", lambda *arguments: made.append(original(*arguments)) or made[-1])
    short_run(tmp_path / "all.h5md", np.array([starts()[0]] * 4), BOXES)
    # Two replicas of the first box, and one of each other; besides them one in which records are taken.
    assert sorted(context.getSystem().getNumParticles() for context in made) == [8, 8, 8, 16]
    moves = [frames_of(tmp_path / f"all.{number}.h5md")[0][0] - starts()[0] for number in range(4)]
    for first in range(4):
        for second in range(first):
            assert abs(np.corrcoef(moves[first].ravel(), moves[second].ravel())[0, 1]) < 0.7


def test_a_run_of_several_boxes_goes_on_as_if_nothing_had_been(tmp_path):
    short_run(tmp_path / "whole.h5md", starts(), BOXES, ensemble="NVE")
    short_run(tmp_path / "parts.h5md", starts(), BOXES, ensemble="NVE", duration=0.2)
    result = short_run(tmp_path / "parts.h5md", starts(), BOXES, ensemble="NVE")
    assert result == read_result(tmp_path / "parts.h5md")
    for number in range(4):
        whole, parts = (frames_of(tmp_path / f"{name}.{number}.h5md") for name in ("whole", "parts"))
        assert parts[0] == pytest.approx(whole[0], abs=1e-6)
        assert np.array_equal(parts[1], whole[1])


def test_frames_of_changing_boxes_are_starts(tmp_path):
    system = fluid()
    system.addForce(openmm.MonteCarloBarostat(50.0, 300.0, 5))
    options = {"duration": 1.0, "interval": 0.1, "platform": "Reference", "progress": False}
    run(system, starts()[0], BOX, tmp_path / "npt.h5md", **options)
    with Frames(tmp_path / "npt.h5md") as frames:
        assert len({box.tobytes() for box in frames.boxes}) > 2
        short_run(tmp_path / "all.h5md", frames.positions[::3], frames.boxes[::3])
        for number, box in enumerate(frames.boxes[::3]):
            assert np.array_equal(frames_of(tmp_path / f"all.{number}.h5md")[1][-1], box)


def test_the_cutoff_is_compared_with_the_box_of_the_run(tmp_path):
    system = fluid()
    system.setDefaultPeriodicBoxVectors(*np.eye(3))  # too small for it
    options = {"duration": 0.1, "interval": 0.1, "platform": "Reference", "progress": False}
    assert run(system, starts()[0], BOXES[3], tmp_path / "one.h5md", **options).stable
    assert system.getDefaultPeriodicBoxVectors()[0][0]._value == 1.0
    with pytest.raises(openmm.OpenMMException, match="cutoff"):
        run(system, starts()[0], np.eye(3), tmp_path / "small.h5md", **options)


@pytest.mark.slow
@pytest.mark.parametrize("platform", GPU_PLATFORMS)
def test_gpus_take_boxes_with_and_without_right_angles(tmp_path, platform):
    result = short_run(tmp_path / "all.h5md", starts(), BOXES[[0, 3, 3, 0]], platform=platform)
    for number, replica in zip((0, 3, 3, 0), result.replicas, strict=True):
        assert np.array_equal(frames_of(replica.path)[1][-1], BOXES[number])


@pytest.mark.parametrize(
    ("positions", "box", "message"),
    [
        (starts(), BOXES[:3], "there are 3 boxes, but 4 replicas; give one box, or one for each replica"),
        (starts()[0], BOXES, "there are 4 boxes, but one of the system"),
        (starts(), np.array([*BOXES[:3], np.zeros((3, 3))]), r"replica 3: the box .* is not in OpenMM's reduced form"),
    ],
)
def test_boxes_that_fit_no_replica_are_refused_before_anything_is_written(tmp_path, positions, box, message):
    with pytest.raises(ValueError, match=message):
        short_run(tmp_path / "all.h5md", positions, box)
    assert list(tmp_path.iterdir()) == []
