"""Replicas that become unstable: one stops the run, or is dropped, kept up to there and reported."""

import numpy as np
import openmm
import pytest
from conftest import system_of

import openmmcg.simulation.resumable.run
from openmmcg.frames import Frames
from openmmcg.simulation import UnstableSimulationError, read_log, read_result, run

pytestmark = pytest.mark.filterwarnings("ignore:replica .* became unstable")

HEATED, NOT_A_NUMBER = "-50000*step(x-5)*(x-5)^2", "1e-6*sqrt(5.5-x)"


def slope(end=HEATED):
    """A trap at the origin, and beyond x = 2 nm a slope that ends in an abyss, or where the energy is not defined."""
    force = openmm.CustomExternalForce(f"select(step(x-2), -20*(x-3) + {end}, 500*x^2) + 500*(y^2+z^2)")
    force.addParticle(0)
    return system_of(force, beads=1, mass=18.0)


def starts(*places):
    positions = np.zeros((len(places), 1, 3))
    positions[:, 0, 0] = places
    return positions


# The second is at the end of the slope after some frames, the others stay in the trap.
PLACES = (0.0, 3.0, 0.05)


def short_run(path, system=None, places=PLACES, **changes):
    options = {"duration": 4.0, "interval": 0.1, "ensemble": "NVE", "seed": 2, **changes}
    options = {"platform": "Reference", "progress": False, "on_unstable": "drop", **options}
    return run(system or slope(), starts(*places), options.pop("box", None), path, **options)


def frames_of(path):
    with Frames(path) as frames:
        return frames.positions[:]


@pytest.mark.parametrize("platform", ["Reference", "CPU"])  # the CPU platform ends such a step with an error
@pytest.mark.parametrize(("energy", "reason"), [(HEATED, "temperature is .* beyond"), (NOT_A_NUMBER, "not finite|NaN")])
def test_a_dropped_replica_keeps_its_frames_and_says_why_and_the_others_go_on(tmp_path, energy, reason, platform):
    path = tmp_path / "slope.h5md"
    system = slope(energy)
    with pytest.warns(UserWarning, match=rf"replica 1 of slope.h5md became unstable \(.*({reason}).*the other 2 go on"):
        result = short_run(path, system, platform=platform)
    first, dropped, last = result.replicas
    assert (first.stable, dropped.stable, last.stable, result.stable) == (True, False, True, False)
    assert first.failure is None and result.failure == f"replica 1: {dropped.failure}"
    assert f"on the way to frame {dropped.frames}" in dropped.failure
    assert [each.frames for each in result.replicas] == [40, dropped.frames, 40] and result.frames == 40
    assert 0 < dropped.frames < 40
    assert [len(frames_of(each.path)) for each in result.replicas] == [40, dropped.frames, 40]
    assert [len(read_log(each.path)["time_ps"]) for each in result.replicas] == [40, dropped.frames, 40]
    assert np.isfinite(frames_of(dropped.path)).all()
    assert result == read_result(path) == short_run(path, system)


def test_the_others_are_as_without_it(tmp_path):
    short_run(tmp_path / "three.h5md")
    short_run(tmp_path / "two.h5md", places=PLACES[::2])
    with_it, without = (frames_of(tmp_path / f"{name}.0.h5md") for name in ("three", "two"))
    assert with_it == pytest.approx(without, abs=1e-5)


def test_a_replica_in_a_box_of_its_own_is_dropped_with_its_context(tmp_path):
    system = slope()
    bond = openmm.HarmonicBondForce()
    bond.setUsesPeriodicBoundaryConditions(True)
    system.addForce(bond)
    system.setDefaultPeriodicBoxVectors(*(20 * np.eye(3)))
    boxes = np.array([20.0, 21.0, 20.0])[:, None, None] * np.eye(3)
    result = short_run(tmp_path / "slope.h5md", system, box=boxes)
    assert [each.stable for each in result.replicas] == [True, False, True]
    assert [len(frames_of(each.path)) for each in result.replicas] == [40, result.replicas[1].frames, 40]


class Interruption(BaseException):
    """Like KeyboardInterrupt, which pytest would take for itself."""


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_it_is_the_same_whether_interrupted_or_not(tmp_path, monkeypatch, offset):
    """Also right before and right after the moment at which a replica is dropped."""
    whole, parts = tmp_path / "whole.h5md", tmp_path / "parts.h5md"
    dropped_at = short_run(whole).replicas[1].frames
    original, calls = openmmcg.simulation.resumable.run.write_checkpoint, []

    def interrupted(*arguments):
        original(*arguments)
        calls.append(arguments)
        # The first is that of the start.
        if len(calls) == 1 + dropped_at + offset:
            raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(openmmcg.simulation.resumable.run, "write_checkpoint", interrupted)
        with pytest.raises(Interruption):
            short_run(parts)
    short_run(parts)
    for number in range(3):
        expected, found = (frames_of(tmp_path / f"{name}.{number}.h5md") for name in ("whole", "parts"))
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_stopped_run_can_be_gone_on_with_without_the_one_that_stopped_it(tmp_path):
    path = tmp_path / "slope.h5md"
    with pytest.raises(UnstableSimulationError, match="in replica 1, "):
        short_run(path, on_unstable="stop")
    stopped = read_result(path)
    assert not stopped.stable and not stopped.replicas[0].stable and "in replica 1" in stopped.failure
    result = short_run(path)
    assert [each.stable for each in result.replicas] == [True, False, True] and result.frames == 40
    assert result.replicas[1].frames == stopped.frames
    # Once dropped it stays so.
    assert short_run(path, on_unstable="stop", duration=4.5).replicas[1].frames == stopped.frames


def test_a_run_without_any_stable_replica_stops(tmp_path):
    path = tmp_path / "slope.h5md"
    with pytest.warns(UserWarning, match="replica"), pytest.raises(UnstableSimulationError, match="in replica "):
        short_run(path, places=(3.0, 3.5))
    assert not any(each.stable for each in read_result(path).replicas)
    with pytest.raises(UnstableSimulationError, match="became unstable on the way"):
        run(slope(), starts(3.0)[0], None, tmp_path / "one.h5md", duration=4.0, interval=0.1, platform="Reference",
            ensemble="NVE", on_unstable="drop", progress=False)  # fmt: skip


def test_an_unstable_equilibration_drops_a_replica_without_frames(tmp_path):
    result = short_run(tmp_path / "slope.h5md", equilibration=4.0, duration=0.5)
    assert [each.frames for each in result.replicas] == [5, 0, 5]
    assert "in the equilibration" in result.replicas[1].failure
    assert len(frames_of(result.replicas[1].path)) == 0


def test_there_are_two_choices(tmp_path):
    with pytest.raises(ValueError, match="on_unstable must be 'stop' or 'drop', not 'ignore'"):
        short_run(tmp_path / "slope.h5md", on_unstable="ignore")


def test_an_error_that_no_replica_shows_stops_all(tmp_path, monkeypatch):
    """Nobody knows which of the replicas that share a Context to drop."""
    calls = []

    def step(self, steps):
        calls.append(steps)
        if len(calls) > 3:
            raise openmm.OpenMMException("Particle coordinate is NaN")
        steps_as_ever(self, steps)

    steps_as_ever = openmm.VerletIntegrator.step
    monkeypatch.setattr(openmm.VerletIntegrator, "step", step)
    with pytest.raises(UnstableSimulationError, match="Particle coordinate is NaN"):
        short_run(tmp_path / "trap.h5md", places=(0.0, 0.1, 0.05))
    assert len(calls) == 4
