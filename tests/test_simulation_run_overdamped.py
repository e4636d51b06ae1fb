"""Overdamped dynamics samples the ensemble of theory and diffuses as it should, and so does Langevin dynamics."""

import numpy as np
import openmm
import pytest

import openmmcg.simulation.resumable.trajectories
from openmmcg.analysis import mean_squared_displacement, series_average
from openmmcg.frames import Frames
from openmmcg.simulation import UnstableSimulationError, read_log, read_result, run

THERMAL = 0.00831446261815324 * 300
STIFFNESS, MASS, FRICTION = 1000.0, 18.0, 50.0


def particles(*masses, energy=None):
    """Independent beads, in an external potential or free."""
    system = openmm.System()
    for mass in masses:
        system.addParticle(mass)
    if energy is not None:
        force = openmm.CustomExternalForce(energy)
        for bead in range(len(masses)):
            force.addParticle(bead)
        system.addForce(force)
    return system


def trap(beads=20):
    return particles(*[MASS] * beads, energy=f"{STIFFNESS / 2}*(x^2+y^2+z^2)")


def overdamped(system, path, *, start=None, **changes):
    arguments = dict(
        duration=2.0, interval=0.2, time_step=0.01, friction=FRICTION, ensemble="overdamped", seed=1,
        platform="Reference", progress=False,
    )  # fmt: skip
    start = np.zeros((system.getNumParticles(), 3)) if start is None else start
    return run(system, start, None, path, **(arguments | changes))


def positions_of(path):
    with Frames(path) as frames:
        return frames.positions[:].astype(float)


@pytest.mark.parametrize("share", [0.02, 0.5])  # of a relaxation time, in one step
def test_a_harmonic_oscillator_has_the_variance_of_theory_and_of_its_time_step(tmp_path, share):
    relaxation = MASS * FRICTION / STIFFNESS
    time_step = share * relaxation
    interval = 2 * relaxation
    path = tmp_path / "trap.h5md"
    result = overdamped(
        trap(), path, start=np.zeros((5, 20, 3)), time_step=time_step, interval=interval, duration=120 * interval,
        equilibration=5 * interval,
    )  # fmt: skip
    assert [replica.path.name for replica in result.replicas] == [f"trap.{i}.h5md" for i in range(5)]
    # The chain x -> (1 - a) x + noise has the variance k_B T/k/(1 - a/2).
    excess = 1 / (1 - share / 2)
    variances = np.array([(positions_of(replica.path) ** 2).mean(axis=(0, 2)) for replica in result.replicas]).ravel()
    error = variances.std(ddof=1) / np.sqrt(len(variances))
    assert error < 0.02 * THERMAL / STIFFNESS
    assert abs(variances.mean() - excess * THERMAL / STIFFNESS) < 4 * error
    # So is the temperature of its displacements, and kinetic energy there is none.
    assert abs(result.mean_temperature - excess * 300) < 4 * result.temperature_error
    assert result.temperature_error < 0.03 * 300
    for replica in result.replicas:
        assert np.isnan(read_log(replica.path)["kinetic_energy_kJ_mol"]).all()
    energies = np.concatenate([read_log(replica.path)["potential_energy_kJ_mol"] for replica in result.replicas])
    assert np.mean(energies) == pytest.approx(excess * 20 * 1.5 * THERMAL, rel=0.02)


def test_free_beads_diffuse_by_their_mass_and_friction(tmp_path):
    path = tmp_path / "free.h5md"
    result = overdamped(particles(*[18.0] * 100, *[72.0] * 100), path, duration=50.0, interval=0.1, time_step=0.02)
    with Frames(path) as frames:
        positions, times = frames.positions[:].astype(float), frames.times
    for mass, group in ((18.0, positions[:, :100]), (72.0, positions[:, 100:])):
        motion = mean_squared_displacement(group, times, maximum=2.0)
        expected = 6 * THERMAL / (mass * FRICTION) * motion.time  # 2 D t along each axis
        assert motion.value[1] == pytest.approx(expected[1], rel=0.01)
        assert motion.value[10] == pytest.approx(expected[10], rel=0.05)
    # Each frame is of 600 displacements, whose squares have the relative spread √2.
    assert result.mean_temperature == pytest.approx(300, abs=4 * 300 * np.sqrt(2 / 600 / 500))


def test_only_the_product_of_mass_and_friction_matters(tmp_path):
    overdamped(particles(18.0, energy="500*x^2"), tmp_path / "light.h5md", friction=50.0)
    overdamped(particles(36.0, energy="500*x^2"), tmp_path / "heavy.h5md", friction=25.0)
    np.testing.assert_allclose(positions_of(tmp_path / "light.h5md"), positions_of(tmp_path / "heavy.h5md"), atol=1e-6)


@pytest.mark.parametrize("ensemble", ["NVT", "overdamped"])
def test_the_wells_of_a_double_well_have_the_populations_of_boltzmann(tmp_path, ensemble):
    def energy(x):
        return 5.0 * ((x / 0.1) ** 2 - 1) ** 2 + 1.2 * x / 0.1

    grid = np.linspace(-0.3, 0.3, 20001)
    weights = np.exp(-energy(grid) / THERMAL)
    expected = weights[grid > 0].sum() / weights.sum()
    assert 0.2 < expected < 0.4
    system = particles(*[MASS] * 40, energy="5*((x/0.1)^2-1)^2+1.2*x/0.1+500*(y^2+z^2)")
    start = np.zeros((40, 3))
    start[:, 0] = np.where(np.arange(40) % 2, 0.1, -0.1)
    overdamped(
        system, tmp_path / "wells.h5md", start=start, ensemble=ensemble, duration=80.0, interval=0.2,
        equilibration=10.0, time_step=0.005, friction=20.0,
    )  # fmt: skip
    right = (positions_of(tmp_path / "wells.h5md")[:, :, 0] > 0).mean(axis=0)  # of each bead, all of them independent
    error = right.std(ddof=1) / np.sqrt(40)
    assert error < 0.03
    assert abs(right.mean() - expected) < 4 * error


class Interruption(BaseException):
    """Like KeyboardInterrupt, which pytest would take for itself."""


def test_an_interrupted_run_goes_on_from_its_last_frame_with_other_noise(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole.h5md", tmp_path / "parts.h5md"
    system = trap(beads=100)
    overdamped(system, whole)
    calls = iter(range(100))
    original = openmmcg.simulation.resumable.trajectories.append_to_log

    def interrupted(*arguments):
        if next(calls) == 4:  # the fifth frame is written, and its line in the log is not
            raise Interruption
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(openmmcg.simulation.resumable.trajectories, "append_to_log", interrupted)
        with pytest.raises(Interruption):
            overdamped(system, parts)
    assert overdamped(system, parts).frames == 10
    before, after = positions_of(whole), positions_of(parts)
    np.testing.assert_array_equal(after[:5], before[:5])
    with Frames(parts) as frames:
        np.testing.assert_allclose(frames.times, 0.2 * np.arange(1, 11))
    for column in ("time_ps", "potential_energy_kJ_mol"):
        np.testing.assert_allclose(read_log(parts)[column][:5], read_log(whole)[column][:5], rtol=1e-6)
    # The sixth frame begins where the fifth was: what is left of its positions is exp(-t/τ) of them.
    decay = (after[5] * after[4]).sum() / (after[4] ** 2).sum()
    assert decay == pytest.approx(np.exp(-0.2 * STIFFNESS / (MASS * FRICTION)), abs=0.15)
    assert abs(np.corrcoef((after[5:] - after[4:9]).ravel(), (after[:5] - before[4:9]).ravel())[0, 1]) < 0.5
    assert np.abs(after[5:] - before[5:]).max() > 0.01
    assert read_result(parts) == overdamped(system, parts)
    with pytest.raises(ValueError, match="ensemble overdamped there, NVT here"):
        overdamped(system, parts, ensemble="NVT")


def test_a_time_step_beyond_the_relaxation_time_is_found_unstable(tmp_path):
    path = tmp_path / "trap.h5md"
    with pytest.raises(UnstableSimulationError, match="take a smaller time step"):
        overdamped(trap(), path, time_step=2.5, interval=50.0, duration=5000.0)
    assert not read_result(path).stable


def test_the_average_temperature_comes_with_its_error(tmp_path):
    result = overdamped(trap(beads=60), tmp_path / "trap.h5md", duration=20.0)
    mean, error = series_average(read_log(tmp_path / "trap.h5md")["temperature_K"])
    assert (result.mean_temperature, result.temperature_error) == (mean, error)
