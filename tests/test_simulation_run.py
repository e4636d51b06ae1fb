"""Runs of Systems whose thermodynamics is known, and runs that are interrupted, refused or explode."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import openmm
import pytest
from openmm import unit

import openmmcg.simulation.resumable.run
import openmmcg.simulation.resumable.trajectories
from openmmcg import CGForce
from openmmcg.analysis import (
    angle_distribution,
    mean_squared_displacement,
    radial_distribution,
    series_average,
)
from openmmcg.frames import Frames, FrameWriter
from openmmcg.simulation import UnstableSimulationError, minimise, read_log, read_result, run
from openmmcg.simulation.resumable import checkpoint_path, degrees_of_freedom, log_path

GAS_CONSTANT = 0.00831446261815324


def trap(beads=20, stiffness=1000.0, mass=18.0, center=0.0):
    """Independent beads, each in a harmonic trap ½k|x−c|²."""
    system = openmm.System()
    force = openmm.CustomExternalForce(f"{stiffness / 2}*((x-{center})^2+y^2+z^2)")
    for _ in range(beads):
        force.addParticle(system.addParticle(mass))
    system.addForce(force)
    return system


def argon(beads=64, width=1.5):
    """Lennard-Jones beads on a grid in a periodic box."""
    system = openmm.System()
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.7)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.5)
    force.setUseDispersionCorrection(False)
    for _ in range(beads):
        system.addParticle(39.95)
        force.addParticle(0.0, 0.3, 0.8)
    system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*(width * np.eye(3)))
    side = round(beads ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3) * width / side
    return system, grid, width * np.eye(3)


def short_run(path, system=None, **changes):
    system = trap() if system is None else system
    arguments = dict(duration=1.0, interval=0.1, seed=1, platform="Reference", progress=False) | changes
    return run(system, np.zeros((system.getNumParticles(), 3)), None, path, **arguments)


def positions_of(path):
    with Frames(path) as frames:
        return frames.positions[:]


def test_harmonic_trap_has_the_temperature_and_width_of_theory(tmp_path):
    system = trap(beads=100, stiffness=1000.0)
    result = short_run(
        tmp_path / "trap.h5",
        system,
        duration=100.0,
        interval=0.5,
        equilibration=5.0,
        time_step=0.01,
        friction=5.0,
    )
    assert result.frames == 200
    assert result.stable
    assert result.temperature_error < 3
    assert abs(result.mean_temperature - 300) < 4 * result.temperature_error
    width, error = series_average((positions_of(tmp_path / "trap.h5") ** 2).mean(axis=(1, 2)))
    expected = GAS_CONSTANT * 300 / 1000
    assert error < 0.02 * expected
    assert abs(width - expected) < 4 * error


def test_rigid_dumbbells_have_the_temperature_of_their_degrees_of_freedom(tmp_path):
    system = openmm.System()
    positions = []
    for dumbbell in range(60):
        pair = system.addParticle(10.0), system.addParticle(20.0)
        system.addConstraint(*pair, 0.2)
        # 0.21 nm apart: constraints are applied to the start.
        positions += [[dumbbell, 0.0, 0.0], [dumbbell, 0.21, 0.0]]
    system.addForce(openmm.CMMotionRemover())
    positions.append([0.0, 5.0, 0.0])
    system.addParticle(0.0)
    assert degrees_of_freedom(system) == 3 * 120 - 60 - 3
    path = tmp_path / "dumbbells.h5"
    result = run(
        system, positions, None, path, duration=60.0, interval=0.5, friction=5.0, platform="Reference",
        seed=4, progress=False,
    )  # fmt: skip
    assert result.temperature_error < 6
    assert abs(result.mean_temperature - 300) < 4 * result.temperature_error
    frames = positions_of(path)
    lengths = np.linalg.norm(frames[:, 0:120:2] - frames[:, 1:120:2], axis=-1)
    assert lengths == pytest.approx(0.2, rel=1e-4)
    assert np.all(frames[:, -1] == [0.0, 5.0, 0.0])


def test_energy_is_conserved_without_thermostat(tmp_path):
    system, positions, box = argon()
    path = tmp_path / "argon.h5"
    result = run(
        system, positions, box, path, duration=10.0, interval=0.05, ensemble="NVE", temperature=120.0,
        platform="Reference", progress=False,
    )  # fmt: skip
    log = read_log(path)
    energy = log["potential_energy_kJ_mol"] + log["kinetic_energy_kJ_mol"]
    thermal = GAS_CONSTANT * 120
    assert np.ptp(log["potential_energy_kJ_mol"]) > 10 * thermal
    assert np.ptp(energy) < 0.5 * thermal
    assert abs(np.polyfit(log["time_ps"], energy, 1)[0]) < 0.02 * thermal
    with Frames(path) as frames:
        assert frames.times == pytest.approx(log["time_ps"])
        assert frames.boxes == pytest.approx(np.tile(box, (200, 1, 1)))
        # The file may be analysed as it is; beads that repel below 0.34 nm have their neighbours there.
        distribution = radial_distribution(frames.positions, frames.boxes, maximum=0.75, bin_width=0.01)
        assert distribution.first_peak().position == pytest.approx(0.34, abs=0.02)
        assert angle_distribution(frames.positions, frames.boxes).probability.sum() == pytest.approx(1)
        motion = mean_squared_displacement(frames.positions, frames.times, maximum=1.0)
        ballistic = 3 * GAS_CONSTANT * result.mean_temperature / 39.95 * motion.time[1] ** 2
        assert motion.value[1] == pytest.approx(ballistic, rel=0.1)
    assert result.stable


def test_frames_come_at_every_interval_with_names_types_and_masses(tmp_path):
    result = short_run(tmp_path / "trap.h5", trap(beads=3), types=[0, 1, 0], type_names=["A", "B"])
    with Frames(tmp_path / "trap.h5") as frames:
        assert frames.times == pytest.approx(0.1 * np.arange(1, 11))
        assert frames.names == ["A", "B", "A"]
        assert frames.types.tolist() == [0, 1, 0]
        assert frames.masses.tolist() == [18.0, 18.0, 18.0]
        assert frames.temperature == 300
        assert frames.boxes is None
        assert not frames.has_forces
    assert result.nanoseconds_per_day == pytest.approx(0.002e-3 * 86400e3 / result.milliseconds_per_step)
    assert result.path == tmp_path / "trap.h5"


def test_bead_types_are_those_of_the_cg_force(tmp_path):
    torch = pytest.importorskip("torch")

    class Trap(torch.nn.Module):
        def forward(self, positions: torch.Tensor):
            return 500.0 * (positions**2).sum()

    description = {
        "format": "openmm-cg potential",
        "format_version": 1,
        "contract": "plain",
        "bead_types": [{"name": "A", "mass": 10.0}, {"name": "B", "mass": 20.0}],
        "dtype": "any",
        "outputs_forces": False,
        "global_parameters": [],
        "temperature": 300.0,
        "provenance": {},
    }
    model = tmp_path / "trap.pt"
    contents = {"model.json": json.dumps(description), "priors.json": "[]"}
    torch.jit.save(torch.jit.script(Trap()), model, _extra_files=contents)
    system = openmm.System()
    for mass in (20.0, 10.0, 20.0):
        system.addParticle(mass)
    system.addForce(CGForce(model, types=["B", "A", "B"]))
    assert short_run(tmp_path / "trap.h5", system).frames == 10
    with Frames(tmp_path / "trap.h5") as frames:
        assert frames.names == ["B", "A", "B"]
        assert frames.type_names == ["A", "B"]


def test_the_seed_decides_the_trajectory(tmp_path):
    first, again, other = (tmp_path / f"{name}.h5" for name in ("first", "again", "other"))
    short_run(first, seed=1)
    short_run(again, seed=1)
    short_run(other, seed=2)
    assert np.array_equal(positions_of(first), positions_of(again))
    assert not np.array_equal(positions_of(first), positions_of(other))


class Interruption(BaseException):
    """Like KeyboardInterrupt, which pytest would take for itself."""


@pytest.mark.parametrize("moment", ["before the checkpoint", "before the frame", "before the log", "inside the log"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, moment):
    """At constant energy, the continuation must be the same trajectory."""
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    short_run(whole, ensemble="NVE")

    calls = iter(range(100))
    target, name = {
        "before the checkpoint": (openmmcg.simulation.resumable.run, "write_checkpoint"),
        "before the frame": (FrameWriter, "append"),
        "before the log": (openmmcg.simulation.resumable.trajectories, "append_to_log"),
        "inside the log": (openmmcg.simulation.resumable.trajectories, "append_to_log"),
    }[moment]
    original = getattr(target, name)

    def interrupted(*arguments):
        if next(calls) == 4:
            if moment == "inside the log":
                with open(log_path(parts), "a") as log:
                    log.write("0.5,12.")
            raise Interruption
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, interrupted)
        with pytest.raises(Interruption):
            short_run(parts, ensemble="NVE")
    result = short_run(parts, ensemble="NVE")
    assert result.frames == 10
    assert positions_of(parts) == pytest.approx(positions_of(whole), abs=1e-6)
    for column, values in read_log(whole).items():
        assert read_log(parts)[column] == pytest.approx(values, rel=1e-9), column


@pytest.mark.parametrize("calls", [1, 3, 5, 6])  # of the start, parts of the equilibration, and the first frame
def test_an_interrupted_equilibration_goes_on(tmp_path, monkeypatch, calls):
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    options = {"ensemble": "NVE", "equilibration": 0.45, "duration": 0.3}
    short_run(whole, **options)
    steps, made = [], []
    original = openmmcg.simulation.resumable.run.write_checkpoint

    def interrupted(path, checkpoint):
        original(path, checkpoint)
        made.append(checkpoint)
        if len(made) == calls:
            raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(openmmcg.simulation.resumable.run, "write_checkpoint", interrupted)
        with pytest.raises(Interruption):
            short_run(parts, **options)
    integrate = openmm.VerletIntegrator.step
    monkeypatch.setattr(openmm.VerletIntegrator, "step", lambda self, n: steps.append(n) or integrate(self, n))
    short_run(parts, **options)
    # What had been done is not done again: 225 steps before the frames, 150 for them.
    assert sum(steps) == 375 - [0, 50, 100, 150, 200, 225, 275][calls - 1]
    assert positions_of(parts) == pytest.approx(positions_of(whole), abs=1e-6)
    with Frames(parts) as frames:
        assert frames.times == pytest.approx(0.1 * np.arange(1, 4))


def test_a_start_that_is_minimised_is_where_forces_are_small(tmp_path):
    system = trap(beads=5, stiffness=1e5)
    start = np.full((5, 3), 0.1)
    options = {"duration": 0.002, "interval": 0.002, "platform": "Reference", "progress": False, "temperature": 1.0}
    run(system, start, None, tmp_path / "trap.h5", minimisation=0.1, **options)
    assert np.abs(positions_of(tmp_path / "trap.h5")).max() < 1e-3
    with pytest.raises(UnstableSimulationError):
        run(system, start, None, tmp_path / "other.h5", **options | {"duration": 0.02})


def test_a_longer_duration_makes_a_run_longer_with_other_noise(tmp_path):
    path = tmp_path / "trap.h5"
    system = trap(beads=100)
    short_run(path, system, duration=1.0, friction=50.0)
    first = positions_of(path)
    assert short_run(path, system, duration=2.0, friction=50.0).frames == 20
    both = positions_of(path)
    assert np.array_equal(both[:10], first)
    with Frames(path) as frames:
        assert frames.times == pytest.approx(0.1 * np.arange(1, 21))
    # With the same random numbers again, motion in the overdamped trap would repeat itself.
    steps = np.diff(both, axis=0)
    correlation = np.corrcoef(steps[:8].ravel(), steps[10:18].ravel())[0, 1]
    assert abs(correlation) < 0.1


def test_a_killed_process_is_resumed(tmp_path):
    path = tmp_path / "trap.h5"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_simulation_run;"
        "test_simulation_run.short_run(sys.argv[1], duration=10000.0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path), os.path.dirname(__file__)])
    try:
        waited = time.monotonic()
        while not log_path(path).exists() or log_path(path).stat().st_size < 1000:
            assert process.poll() is None
            assert time.monotonic() - waited < 60
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = read_result(path).frames
    result = short_run(path, duration=0.1 * (done + 5))
    assert result.frames == done + 5
    with Frames(path) as frames:
        assert len(frames) == done + 5
        assert frames.times == pytest.approx(0.1 * np.arange(1, done + 6))


def test_a_finished_run_returns_at_once_with_the_same_result(tmp_path, monkeypatch):
    path = tmp_path / "trap.h5"
    result = short_run(path)
    monkeypatch.setattr(openmm, "Context", None)
    assert short_run(path) == result
    assert read_result(path) == result


@pytest.mark.parametrize("change", [{"temperature": 310.0}, {"time_step": 0.001}, {"seed": 2}, {"friction": 2.0}])
def test_other_settings_are_refused(tmp_path, change):
    path = tmp_path / "trap.h5"
    short_run(path)
    (name, value), *_ = change.items()
    with pytest.raises(ValueError, match=rf"other inputs \({name} .* there, {value} here"):
        short_run(path, **change)


def test_another_potential_is_refused(tmp_path):
    path = tmp_path / "trap.h5"
    short_run(path)
    with pytest.raises(ValueError, match=r"other inputs \(system: force 0 .* there, 500.5"):
        short_run(path, trap(stiffness=1001.0))


def test_existing_files_are_refused_and_kept(tmp_path):
    for name in ("trap.h5", "trap.csv"):
        file = tmp_path / name
        file.write_text("precious")
        with pytest.raises(FileExistsError, match=f"{name} exists and is not of a run to be resumed"):
            short_run(tmp_path / "trap.h5")
        assert file.read_text() == "precious"
        file.unlink()
    short_run(tmp_path / "trap.h5")
    with pytest.raises(FileExistsError, match="trap.h5 exists"):
        short_run(tmp_path / "trap.h5", resume=False)


def test_frames_of_another_run_are_refused(tmp_path):
    short_run(tmp_path / "one.h5", duration=1.0)
    short_run(tmp_path / "two.h5", duration=0.5)
    os.replace(tmp_path / "two.h5", tmp_path / "one.h5")
    with pytest.raises(ValueError, match="one.h5 holds 5 frames, its checkpoint 10; they do not belong together"):
        short_run(tmp_path / "one.h5", duration=2.0)
    os.remove(tmp_path / "one.h5")
    with pytest.raises(FileNotFoundError, match="one.h5 is missing although it has a checkpoint"):
        short_run(tmp_path / "one.h5")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "trap.h5"
    short_run(path)
    whole = checkpoint_path(path).read_text()
    for damaged, message in (
        (whole[:100], "is damaged, or not a checkpoint"),
        ("[]", "is not a checkpoint"),
        (whole.replace("frames", "colours"), "is damaged"),
        ('{"format": "other"}', "is not a checkpoint"),
        (whole.replace('"format_version": 2', '"format_version": 3'), "was written by a newer version"),
        (whole.replace('"format_version": 2', '"format_version": 1'), "was written by an older version .* begin anew"),
    ):
        checkpoint_path(path).write_text(damaged)
        with pytest.raises(ValueError, match=f"trap.checkpoint.json {message}"):
            short_run(path)


def test_an_exploding_simulation_stops_and_keeps_its_frames(tmp_path):
    path = tmp_path / "hill.h5"
    hill = trap(stiffness=-100.0)
    with pytest.raises(
        UnstableSimulationError, match="temperature is .* K, beyond .* frames before it are kept"
    ) as error:
        short_run(path, hill, duration=20.0)
    frame = int(re.search(r"on the way to frame (\d+)", str(error.value)).group(1))
    result = read_result(path)
    assert not result.stable
    assert 2 <= result.frames == frame < 200
    assert len(positions_of(path)) == frame
    assert np.isfinite(positions_of(path)).all()
    assert result.mean_temperature > 300


def test_positions_that_become_nan_stop_the_simulation(tmp_path):
    path = tmp_path / "nan.h5"
    system = trap(beads=1)
    # Not a number beyond x = 0.3 nm, where the bead gets to sooner or later.
    wall = openmm.CustomExternalForce("1e-6*sqrt(0.3-x)")
    wall.addParticle(0)
    system.addForce(wall)
    with pytest.raises(UnstableSimulationError, match=r"on the way to frame \d+: "):
        short_run(path, system, duration=50.0, interval=0.5, temperature=3000.0)
    assert not read_result(path).stable
    assert len(positions_of(path)) == read_result(path).frames


def test_minimisation_finds_the_bottom_of_the_trap():
    system = trap(beads=5, center=0.3)
    start = np.random.default_rng(1).normal(size=(5, 3))
    bottom = minimise(system, start, None, tolerance=0.01, platform="Reference")
    assert bottom == pytest.approx(np.tile([0.3, 0.0, 0.0], (5, 1)), abs=1e-4)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.full((20, 3), np.nan), "positions of 20 particles are not finite, the first is particle 0"),
        (np.zeros((19, 3)), r"shape \[19, 3\], but the System has 20 particles"),
    ],
)
def test_bad_positions_are_refused_before_anything_is_written(tmp_path, positions, message):
    with pytest.raises(ValueError, match=message):
        run(trap(), positions, None, tmp_path / "trap.h5", duration=1.0, interval=0.1)
    with pytest.raises(ValueError, match=message):
        minimise(trap(), positions, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (None, "periodic; give its box"),
        (np.zeros((3, 3)), "reduced form"),
        (np.full((3, 3), np.nan), "three finite vectors"),
        ([[1.5, 0, 0], [1.2, 1.5, 0], [0, 0, 1.5]], "reducePeriodicBoxVectors"),
    ],
)
def test_bad_boxes_are_refused_before_anything_is_written(tmp_path, box, message):
    system, positions, _ = argon()
    with pytest.raises(ValueError, match=message):
        run(system, positions, box, tmp_path / "argon.h5", duration=1.0, interval=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_box_for_a_system_without_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not periodic, but a box was given"):
        run(trap(), np.zeros((20, 3)), np.eye(3), tmp_path / "trap.h5", duration=1.0, interval=0.1)


def test_overlapping_beads_are_refused_before_anything_is_written(tmp_path):
    system, positions, box = argon()
    positions[1] = positions[0]
    with pytest.raises(ValueError, match="particles 0 and 1 coincide: they are 0 nm apart, .* and minimise"):
        run(system, positions, box, tmp_path / "argon.h5", duration=1.0, interval=0.1, platform="Reference")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interval": 0.0501}, "interval, 0.0501 ps, must be a whole number of times"),
        ({"duration": 0.0}, "duration, 0 ps, must be a whole number of times, 1 or more"),
        ({"equilibration": 0.003}, "equilibration, 0.003 ps"),
        ({"temperature": 0.0}, "temperature and friction must be positive"),
        ({"ensemble": "NPH"}, "'NVT', 'NPT', 'NVE' or 'overdamped', not 'NPH'"),
        ({"platform": "Abacus"}, "no platform 'Abacus' here; choose one of .*CPU"),
        ({"threads": 2}, "Reference platform has no number of threads"),
        ({"platform": "CPU", "threads": 0}, "threads must be at least 1"),
        ({"types": [0, 1]}, "2 bead types for 20 particles"),
        ({"types": [1] * 20}, "bead type 1 has no name"),
        ({"types": [0.9] * 20}, "bead types are whole numbers, indices into type_names, not 0.9"),
        ({"minimisation": 0.0}, "minimisation must be a positive force"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        short_run(tmp_path / "trap.h5", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        short_run(tmp_path / "missing" / "trap.h5")


def test_threads_are_those_of_the_cpu_platform(tmp_path, monkeypatch):
    made = []
    original = openmm.Context

    def context(*arguments):
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(openmm, "Context", context)
    short_run(tmp_path / "trap.h5", platform="CPU", threads=1)
    platform = made[0].getPlatform()
    assert platform.getName() == "CPU"
    assert platform.getPropertyValue(made[0], "Threads") == "1"
    assert made[0].getIntegrator().getStepSize() == 0.002 * unit.picosecond
