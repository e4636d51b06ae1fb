"""Runs of replicas: frames and energies of each, and as a run of one where interrupted, continued or refused."""

import numpy as np
import openmm
import pytest
from conftest import BOXES, bonded_topology, energy_and_forces, scatter, system_of

import openmmcg.simulation.resumable.trajectories
from openmmcg.frames import Frames, FrameWriter
from openmmcg.mapping import cg_topology
from openmmcg.simulation import UnstableSimulationError, read_log, read_result, run

STIFFNESS = 1000.0


def trap(beads=4):
    """Independent beads of 18 amu, each in a harmonic trap ½k|x|²."""
    force = openmm.CustomExternalForce(f"{STIFFNESS / 2}*(x^2+y^2+z^2)")
    for bead in range(beads):
        force.addParticle(bead)
    return system_of(force, beads=beads, mass=18.0)


def starts(replicas=3, beads=4):
    return np.random.default_rng(5).normal(scale=0.05, size=(replicas, beads, 3))


def short_run(path, system=None, positions=None, **changes):
    options = {"duration": 1.0, "interval": 0.1, "seed": 1, "platform": "Reference", "progress": False, **changes}
    system = trap() if system is None else system
    return run(system, starts() if positions is None else positions, options.pop("box", None), path, **options)


def files_of(path, replicas=3):
    return [path.with_name(f"{path.stem}.{replica}{path.suffix}") for replica in range(replicas)]


def positions_in(path):
    with Frames(path) as frames:
        return frames.positions[:]


def test_each_replica_has_its_frames_and_its_energies(tmp_path):
    path = tmp_path / "trap.h5md"
    result = short_run(path, ensemble="NVE", time_step=0.001, types=[0, 1, 0, 1], type_names=["A", "B"])
    assert [replica.path for replica in result.replicas] == files_of(path)
    assert sorted(tmp_path.iterdir()) == sorted(
        [tmp_path / "trap.checkpoint.json", *files_of(path), *(file.with_suffix(".csv") for file in files_of(path))]
    )
    for file in files_of(path):
        log = read_log(file)
        with Frames(file) as frames:
            assert frames.times == pytest.approx(0.1 * np.arange(1, 11))
            assert frames.names == ["A", "B", "A", "B"]
            potential = STIFFNESS / 2 * (frames.positions[:].astype(float) ** 2).sum((1, 2))
        assert log["potential_energy_kJ_mol"] == pytest.approx(potential, rel=1e-4)
        total = log["potential_energy_kJ_mol"] + log["kinetic_energy_kJ_mol"]
        assert np.ptp(log["kinetic_energy_kJ_mol"]) > 1
        assert total == pytest.approx(np.full(10, total[0]), rel=2e-4)
    totals = [read_log(file)["kinetic_energy_kJ_mol"][0] for file in files_of(path)]
    assert len(set(totals)) == 3


def test_the_result_is_that_of_all_replicas_together(tmp_path):
    result = short_run(tmp_path / "trap.h5md", duration=4.0)
    assert (result.frames, result.stable) == (40, True)
    temperatures = [replica.mean_temperature for replica in result.replicas]
    logs = [read_log(replica.path)["temperature_K"].mean() for replica in result.replicas]
    assert temperatures == pytest.approx(logs)
    assert result.mean_temperature == pytest.approx(np.mean(temperatures))
    assert result.temperature_error > 0
    assert result.nanoseconds_per_day == pytest.approx(3 * result.replicas[0].nanoseconds_per_day)
    assert read_result(tmp_path / "trap.h5md") == result


@pytest.mark.parametrize("ensemble", ["NVE", "NVT"])
def test_one_replica_is_a_plain_run(tmp_path, ensemble):
    short_run(tmp_path / "one.h5md", positions=starts(1), ensemble=ensemble)
    short_run(tmp_path / "plain.h5md", positions=starts(1)[0], ensemble=ensemble)
    assert np.array_equal(positions_in(tmp_path / "one.0.h5md"), positions_in(tmp_path / "plain.h5md"))
    for column, values in read_log(tmp_path / "plain.h5md").items():
        assert read_log(tmp_path / "one.0.h5md")[column] == pytest.approx(values, rel=1e-12), column


def test_a_replica_does_not_notice_what_another_does(tmp_path, potential_with_prior):
    box = BOXES["cubic"]
    types = [i * 7 % 3 % 2 for i in range(50)]
    system = potential_with_prior.create_system(bonded_topology(types, box), remove_center_of_mass_motion=False)
    positions = np.array([scatter(len(types), box, seed, closest=0.25) for seed in (1, 2, 3)])
    options = {"box": box, "duration": 0.05, "interval": 0.01, "time_step": 0.001, "ensemble": "NVE"}
    short_run(tmp_path / "a.h5md", system, positions, **options)
    positions[1] = scatter(len(types), box, 4, closest=0.25)
    short_run(tmp_path / "b.h5md", system, positions, **options)
    first, second = (
        np.array([positions_in(file) for file in files_of(tmp_path / name)]) for name in ("a.h5md", "b.h5md")
    )
    assert np.allclose(first[[0, 2]], second[[0, 2]], atol=1e-6)
    assert np.abs(first[1] - second[1]).max() > 0.1
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    for file, frames in zip(files_of(tmp_path / "b.h5md"), second, strict=True):
        context.setPositions(frames[-1])
        assert read_log(file)["potential_energy_kJ_mol"][-1] == pytest.approx(energy_and_forces(context)[0], rel=1e-4)


def test_a_system_of_replicas_runs_as_any_other(tmp_path, potential):
    system = potential.create_system(cg_topology("ABA"), replicas=2)
    positions = np.concatenate([scatter(3), scatter(3)])
    assert run(system, positions, None, tmp_path / "all.h5md", duration=0.01, interval=0.002, progress=False).stable
    with Frames(tmp_path / "all.h5md") as frames:
        assert frames.names == ["A", "B", "A"] * 2


def test_frames_of_a_trajectory_are_starts(tmp_path):
    short_run(tmp_path / "long.h5md", positions=starts(1)[0])
    with Frames(tmp_path / "long.h5md") as frames:
        result = short_run(tmp_path / "trap.h5md", positions=frames.positions[[0, 4, 9]])
    assert len(result.replicas) == 3


class Interruption(BaseException):
    """Like KeyboardInterrupt, which pytest would take for itself."""


# Calls before the interruption: four frames of three replicas, and some replicas of the fifth.
@pytest.mark.parametrize("calls", [12, 13, 14])
@pytest.mark.parametrize("moment", ["before a frame", "before a log"])
def test_an_interrupted_run_of_replicas_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, moment, calls):
    whole, parts = tmp_path / "whole.h5md", tmp_path / "parts.h5md"
    short_run(whole, ensemble="NVE")
    module = openmmcg.simulation.resumable.trajectories
    target, name = (FrameWriter, "append") if moment == "before a frame" else (module, "append_to_log")
    original, made = getattr(target, name), []

    def interrupted(*arguments):
        if len(made) == calls:
            raise Interruption
        made.append(original(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(target, name, interrupted)
        with pytest.raises(Interruption):
            short_run(parts, ensemble="NVE")
    assert read_result(parts).frames == 5
    assert short_run(parts, ensemble="NVE").frames == 10
    for file, expected in zip(files_of(parts), files_of(whole), strict=True):
        assert positions_in(file) == pytest.approx(positions_in(expected), abs=1e-6)
        for column, values in read_log(expected).items():
            assert read_log(file)[column] == pytest.approx(values, rel=1e-9), column


def test_a_run_of_replicas_can_be_made_longer(tmp_path, monkeypatch):
    path = tmp_path / "trap.h5md"
    short_run(path)
    before = [positions_in(file) for file in files_of(path)]
    result = short_run(path, duration=1.5)
    for file, first in zip(files_of(path), before, strict=True):
        assert len(positions_in(file)) == 15
        assert np.array_equal(positions_in(file)[:10], first)
    monkeypatch.setattr(openmm, "Context", None)
    assert short_run(path, duration=1.5) == result


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.array([*starts(2), np.full((4, 3), np.nan)]), "replica 2: the positions of 4 particles are not finite"),
        (np.zeros((3, 5, 3)), r"replica 0: positions have the shape \[5, 3\], but the System has 4 particles"),
        (np.zeros((0, 4, 3)), "at least 1 replica, not 0"),
    ],
)
def test_bad_starts_are_refused_before_anything_is_written(tmp_path, positions, message):
    with pytest.raises(ValueError, match=message):
        short_run(tmp_path / "trap.h5md", positions=positions)
    assert list(tmp_path.iterdir()) == []


def test_overlapping_beads_of_a_replica_are_refused_before_anything_is_written(tmp_path):
    repulsion = openmm.CustomNonbondedForce("0.01/r^6")
    for _ in range(4):
        repulsion.addParticle([])
    system = trap()
    system.addForce(repulsion)
    positions = starts()
    positions[1, 2] = positions[1, 0]
    with pytest.raises(ValueError, match="replica 1: particles 0 and 2 coincide: .* and minimise"):
        short_run(tmp_path / "trap.h5md", system, positions)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_what_couples_replicas_is_refused_before_anything_is_written(tmp_path):
    system = trap()
    system.addForce(openmm.CMMotionRemover())
    with pytest.raises(ValueError, match="CMMotionRemover.*couple replicas"):
        short_run(tmp_path / "trap.h5md", system)
    assert list(tmp_path.iterdir()) == []


def test_another_number_of_replicas_and_files_of_others_are_refused(tmp_path):
    path = tmp_path / "trap.h5md"
    short_run(path)
    with pytest.raises(ValueError, match=r"other inputs \(replicas 3 there, 2 here"):
        short_run(path, positions=starts(2))
    with pytest.raises(ValueError, match=r"other inputs \(replicas 3 there, None here"):
        short_run(path, positions=starts(1)[0])
    files_of(path)[1].unlink()
    with pytest.raises(FileNotFoundError, match="trap.1.h5md is missing although it has a checkpoint"):
        short_run(path, duration=2.0)
    (tmp_path / "other.2.csv").write_text("precious")
    with pytest.raises(FileExistsError, match="other.2.csv exists and is not of a run to be resumed"):
        short_run(tmp_path / "other.h5md")


def test_an_exploding_replica_is_named(tmp_path):
    force = openmm.CustomExternalForce("500*x^2 - 5000*step(x-5)*(x-5)^2 + 500*(y^2+z^2)")
    force.addParticle(0)
    positions = np.zeros((3, 1, 3))
    positions[1, 0, 0] = 6.0
    path = tmp_path / "hill.h5md"
    with pytest.raises(UnstableSimulationError, match="in replica 1, "):
        short_run(path, system_of(force, beads=1), positions, ensemble="NVE", duration=20.0)
    result = read_result(path)
    assert not result.stable
    assert [len(positions_in(replica.path)) for replica in result.replicas] == [result.frames] * 3
