"""The Nosé-Hoover thermostat in runs, and motions of the whole."""

import numpy as np
import openmm
import pytest

from openmmcg.analysis import mean_squared_displacement
from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, LennardJones
from openmmcg.simulation import run

BOX = 1.7 * np.eye(3)
GRID = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3) * 0.34


def fluid(remover=False):
    potential = CGPotential(None, [("W", 40.0)], priors=[LennardJones.from_sigma_epsilon([0.3], [0.8], cutoff=0.8)])
    topology = cg_topology(["W"] * len(GRID), BOX)
    return potential.create_system(topology, remove_center_of_mass_motion=remover)


def center_of(path):
    with Frames(path) as frames:
        return np.asarray(frames.positions[:], float).mean(1)


@pytest.mark.parametrize("remover", [True, False])
def test_it_has_the_temperature_and_no_motion_of_the_whole(remover, tmp_path):
    options = {"duration": 60.0, "interval": 0.1, "equilibration": 10.0, "time_step": 0.004, "temperature": 150.0}
    result = run(
        fluid(remover),
        GRID,
        BOX,
        tmp_path / "a.h5md",
        thermostat="Nose-Hoover",
        friction=5.0,
        progress=False,
        **options,
    )
    assert result.mean_temperature == pytest.approx(150.0, abs=3 * result.temperature_error + 0.5)
    center = center_of(tmp_path / "a.h5md")
    np.testing.assert_allclose(center, np.broadcast_to(center[0], center.shape), atol=2e-4)


def test_kinetic_energies_are_distributed_as_at_constant_temperature(tmp_path):
    """The variance of the temperature of f degrees of freedom is 2T²/f; at constant energy it would be smaller."""
    run(
        fluid(), GRID, BOX, tmp_path / "a.h5md", duration=100.0, interval=0.2, equilibration=10.0, time_step=0.004,
        temperature=150.0, thermostat="Nose-Hoover", friction=5.0, progress=False,
    )  # fmt: skip
    temperatures = np.genfromtxt(tmp_path / "a.csv", delimiter=",", names=True)["temperature_K"]
    degrees = 3 * len(GRID) - 3
    assert temperatures.var() == pytest.approx(2 * 150.0**2 / degrees, rel=0.2)


def test_each_replica_has_a_chain_of_its_own_and_rests_as_a_whole(tmp_path):
    starts = np.stack([GRID, GRID + 0.01, GRID])
    result = run(
        fluid(), starts, BOX, tmp_path / "a.h5md", duration=20.0, interval=0.1, equilibration=5.0, time_step=0.004,
        temperature=150.0, thermostat="Nose-Hoover", friction=5.0, progress=False,
    )  # fmt: skip
    for replica in result.replicas:
        assert replica.mean_temperature == pytest.approx(150.0, abs=4 * replica.temperature_error + 0.5)
        center = center_of(replica.path)
        np.testing.assert_allclose(center, np.broadcast_to(center[0], center.shape), atol=2e-4)
    means = [replica.mean_temperature for replica in result.replicas]
    assert len(set(means)) == 3


def test_replicas_at_constant_energy_rest_as_a_whole(tmp_path):
    result = run(
        fluid(), np.stack([GRID, GRID]), BOX, tmp_path / "a.h5md", duration=2.0, interval=0.1, time_step=0.004,
        temperature=150.0, ensemble="NVE", progress=False,
    )  # fmt: skip
    for replica in result.replicas:
        center = center_of(replica.path)
        np.testing.assert_allclose(center, np.broadcast_to(center[0], center.shape), atol=2e-4)


@pytest.mark.slow
def test_it_slows_diffusion_less_than_friction_does(tmp_path):
    constants = {}
    for name, options in {
        "Nose-Hoover": {"thermostat": "Nose-Hoover", "friction": 5.0},
        "Langevin": {"friction": 5.0},
        "NVE": {"ensemble": "NVE"},
    }.items():
        path = tmp_path / f"{name}.h5md"
        run(
            fluid(True), GRID, BOX, path, duration=80.0, interval=0.2, equilibration=20.0, time_step=0.004,
            temperature=300.0, progress=False, **options,
        )  # fmt: skip
        with Frames(path) as frames:
            msd = mean_squared_displacement(frames.positions, frames.times, progress=False, maximum=6.0)
        constants[name] = msd.diffusion(2.0, 6.0).constant
    assert constants["Langevin"] < 0.75 * constants["Nose-Hoover"]


def test_a_stopped_run_goes_on_with_its_chain(tmp_path):
    options = {
        "interval": 0.1, "time_step": 0.004, "temperature": 150.0, "thermostat": "Nose-Hoover", "progress": False,
        "platform": "Reference",
    }  # fmt: skip
    run(fluid(), GRID, BOX, tmp_path / "whole.h5md", duration=0.8, **options)
    for duration in (0.3, 0.8):
        run(fluid(), GRID, BOX, tmp_path / "parts.h5md", duration=duration, **options)
    with Frames(tmp_path / "whole.h5md") as whole, Frames(tmp_path / "parts.h5md") as parts:
        np.testing.assert_allclose(parts.positions[:], whole.positions[:], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thermostat": "Berendsen"}, "thermostat must be"),
        ({"thermostat": "Nose-Hoover", "ensemble": "NVE"}, "is for the ensembles 'NVT' and 'NPT'"),
    ],
)
def test_thermostats_that_cannot_be_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(fluid(), GRID, BOX, tmp_path / "a.h5md", duration=1.0, interval=0.1, **options)


def test_another_thermostat_does_not_go_on_with_a_run(tmp_path):
    options = {"interval": 0.1, "time_step": 0.004, "progress": False}
    run(fluid(), GRID, BOX, tmp_path / "a.h5md", duration=0.2, **options)
    with pytest.raises(ValueError, match="thermostat"):
        run(fluid(), GRID, BOX, tmp_path / "a.h5md", duration=0.4, thermostat="Nose-Hoover", **options)


def test_the_correction_for_the_size_of_the_box_is_that_of_yeh_and_hummer():
    from openmmcg.analysis import Diffusion

    corrected = Diffusion(2.0e-3, 1e-4).without_finite_size(2.0 * np.eye(3), 300.0, 1e-3)
    # In SI: 2.837297 k_B T/(6 pi eta L) = 3.1172e-10 m²/s, which is 3.1172e-4 nm²/ps.
    expected = 2.837297 * 1.380649e-23 * 300 / (6 * np.pi * 1e-3 * 2e-9) * 1e6
    assert corrected.constant - 2.0e-3 == pytest.approx(expected, rel=1e-6)
    assert corrected.error == 1e-4
    for box, viscosity, message in ((np.diag([1.0, 1, 2]), 1e-3, "cubic"), (np.eye(3), 0.0, "viscosity")):
        with pytest.raises(ValueError, match=message):
            corrected.without_finite_size(box, 300.0, viscosity)


def test_a_bead_alone_is_not_stopped(tmp_path):
    system = openmm.System()
    system.addParticle(18.0)
    run(
        system, [[0.0, 0.0, 0.0]], None, tmp_path / "a.h5md", duration=1.0, interval=0.1, ensemble="NVE", progress=False
    )
    assert np.ptp(center_of(tmp_path / "a.h5md"), axis=0).max() > 0.01
