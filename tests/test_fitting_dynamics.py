"""Fits of the dynamics: the search for a known answer, diffusion of a liquid, and what is refused."""

import json
import math

import numpy as np
import pytest

from openmmcg.analysis import mean_squared_displacement
from openmmcg.analysis.mean_squared_displacement import Diffusion, MeanSquaredDisplacement
from openmmcg.constants import GAS_CONSTANT
from openmmcg.fitting import DiffusionMatching, Friction, Landscape
from openmmcg.fitting import dynamics as module
from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, HighFrequency, LennardJones
from openmmcg.simulation import run
from openmmcg.simulation.landscape import longest_time_step

QUIET = {"threads": 1, "progress": False}
LIQUID = LennardJones.from_sigma_epsilon([0.3405], [0.996], cutoff=0.7)
BOX = 4 * 0.37 * np.eye(3)
FAST = {"window": (0.4, 1.2), "duration": 4.8, "interval": 0.04, "replicas": 2}


def argon(priors=(LIQUID,)):
    return CGPotential(None, [("Ar", 39.95)], priors=list(priors))


@pytest.fixture(scope="module")
def liquid(tmp_path_factory):
    path = tmp_path_factory.mktemp("liquid") / "argon.h5md"
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3) * 0.37
    system = argon().create_system(cg_topology(["Ar"] * 64, BOX))
    run(
        system, grid, BOX, path, duration=6.0, interval=0.1, equilibration=10.0, time_step=0.004, temperature=120.0,
        types=[0] * 64, type_names=["Ar"], thermostat="Nose-Hoover", **QUIET,
    )  # fmt: skip
    return path


def pretend(monkeypatch, constant, error=0.02):
    """Simulations whose diffusion constant is known: what they were asked for is returned."""
    asked = []

    def attempt(self, number, value):
        asked.append(value)
        found = constant(value)
        made = module.Attempt(value, found, error * found, 120.0, 0.1, 0.0, 0.0, 0.002, 1.0)
        time = np.linspace(0, 1, 3)
        return made, MeanSquaredDisplacement(time, np.tile(6 * found * time, (2, 1)))

    monkeypatch.setattr(module._Search, "_attempt", attempt)
    return asked


@pytest.mark.parametrize("curve", [1.0, 1.4, 2.0])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.1])
def test_an_amplitude_is_found_in_few_simulations(monkeypatch, liquid, tmp_path, curve, share):
    asked = pretend(monkeypatch, lambda a: 2.5e-3 * math.exp(-((a / 0.03) ** curve)))
    wanted = Diffusion(share * 2.5e-3, 0.01 * share * 2.5e-3)
    result = DiffusionMatching(**FAST).fit(argon(), liquid, tmp_path, diffusion=wanted, **QUIET)
    assert result.converged and len(asked) <= 7
    assert result.attempts[-1].diffusion == pytest.approx(wanted.constant, rel=0.0224)
    exact = 0.03 * (-math.log(share)) ** (1 / curve)
    assert abs(result.value - exact) < 4 * result.error


def test_a_friction_is_found_and_has_its_error(monkeypatch, liquid, tmp_path):
    asked = pretend(monkeypatch, lambda g: 1 / (400.0 + 90.0 * g))
    fit = DiffusionMatching(Friction(), **FAST)
    result = fit.fit(argon(), liquid, tmp_path, diffusion=1e-3, **QUIET)
    assert result.converged and len(asked) <= 4
    assert result.value == pytest.approx(600 / 90, abs=2 * 0.02 * 1000 / 90)
    assert result.error == pytest.approx(0.02 * 1000 / 90, rel=0.1)
    written = json.loads((tmp_path / "diffusion_matching.json").read_text())
    assert [each["value"] for each in written["attempts"]] == asked
    assert (tmp_path / "diffusion.png").exists()


def test_beads_that_are_not_faster_need_nothing(monkeypatch, liquid, tmp_path):
    asked = pretend(monkeypatch, lambda _: 1e-3)
    result = DiffusionMatching(**FAST).fit(argon(), liquid, tmp_path, diffusion=1.1e-3, **QUIET)
    assert result.value == 0 and asked == [0.0] and result.converged
    assert "do not diffuse faster" in result.verdict
    assert len(result.potential.priors) == 1


def test_what_is_never_reached_is_said(monkeypatch, liquid, tmp_path):
    asked = pretend(monkeypatch, lambda _: 3e-3)
    result = DiffusionMatching(iterations=3, **FAST).fit(argon(), liquid, tmp_path, diffusion=1e-3, **QUIET)
    assert not result.converged and "not reached" in result.verdict
    assert len(asked) == 4 and asked == sorted(asked)


def test_the_search_is_safe_against_noise(monkeypatch, liquid, tmp_path):
    random = np.random.default_rng(0)
    for number in range(20):
        asked = pretend(
            monkeypatch, lambda a: 2.5e-3 * math.exp(-a / 0.03) * math.exp(random.normal(scale=0.1)), error=0.1
        )
        fit = DiffusionMatching(seed=number, iterations=12, **FAST)
        result = fit.fit(argon(), liquid, tmp_path / str(number), diffusion=1e-3, **QUIET)
        assert all(value >= 0 for value in asked)
        assert result.converged and result.value == pytest.approx(0.03 * math.log(2.5), rel=0.4)


def test_the_first_simulation_is_a_run_under_a_chain_and_goes_on(monkeypatch, liquid, tmp_path):
    fit = DiffusionMatching(Landscape(500.0, 0.7), iterations=1, **FAST)
    result = fit.fit(argon(), liquid, tmp_path, diffusion=0.5e-3, **QUIET)
    runs = sorted(path.name for path in tmp_path.glob("simulation_*.0.h5md"))
    assert runs == ["simulation_0.0.h5md", "simulation_1.0.h5md"]
    free, slow = result.attempts
    assert slow.diffusion < free.diffusion and slow.value > 0 and free.structure == 0
    with Frames(tmp_path / "simulation_1.1.h5md") as frames:
        msd = mean_squared_displacement(frames.positions, frames.times, maximum=1.2, blocks=2, progress=False)
    assert msd.diffusion(0.4, 1.2).constant == pytest.approx(slow.diffusion, rel=0.6)
    terms = [HighFrequency(slow.value, 500.0, 0.7).template().getEnergyFunction()]
    assert [prior.getEnergyFunction() for prior in result.potential.priors[1:]] == terms
    with Frames(liquid) as frames:
        system = result.potential.create_system(cg_topology(["Ar"] * 64, BOX))
        assert slow.time_step <= longest_time_step(system, frames.positions[-1], BOX) or slow.time_step == 0.002
    again = fit.fit(argon(), liquid, tmp_path, diffusion=0.5e-3, **QUIET)
    assert again.attempts == result.attempts
    more = DiffusionMatching(Landscape(500.0, 0.7), iterations=2, **FAST)
    monkeypatch.setattr(module._Search, "_next", lambda self, attempts: 0.02)
    assert len(more.fit(argon(), liquid, tmp_path, diffusion=0.5e-3, **QUIET).attempts) >= 2
    with pytest.raises(ValueError, match="other inputs"):
        fit.fit(argon(), liquid, tmp_path, diffusion=0.6e-3, **QUIET)


@pytest.mark.slow
def test_free_beads_have_einsteins_diffusion(tmp_path):
    ideal = argon([LennardJones([[1e-60]], None, 0.7)])
    system = ideal.create_system(cg_topology(["Ar"] * 64, BOX))
    start = np.random.default_rng(0).random((64, 3)) * BOX[0, 0]
    run(
        system, start, BOX, tmp_path / "gas.h5md", duration=2.0, interval=0.1, temperature=120.0, time_step=0.004,
        types=[0] * 64, type_names=["Ar"], friction=5.0, **QUIET,
    )  # fmt: skip
    fit = DiffusionMatching(
        Friction(), window=(2.0, 10.0), duration=120.0, interval=0.2, time_step=0.02, replicas=4, iterations=0
    )
    monkeypatched = {"thermostat": "Langevin", "friction": 5.0}
    fit.brake = type("Fixed", (Friction,), {"settings": lambda self, value: monkeypatched})()
    result = fit.fit(ideal, tmp_path / "gas.h5md", tmp_path / "fit", diffusion=1.0, **QUIET)
    found = result.attempts[0]
    assert found.diffusion == pytest.approx(GAS_CONSTANT * 120.0 / (39.95 * 5.0), abs=4 * found.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations from 0 on"),
        ({"replicas": 0}, "replicas from 1 on"),
        ({"window": (2.0, 1.0)}, "the first before the second"),
        ({"window": (1.0, 1.01)}, "must hold two frames"),
        ({"duration": 4.0}, "four times the window's end"),
        ({"time_step": 0.003}, "must be a whole number of times"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionMatching(**{**FAST, **options})


def test_constants_and_frames_that_do_not_fit_are_refused(liquid, tmp_path):
    fit = DiffusionMatching(**FAST)
    for constant in (0.0, -1e-3, math.nan, Diffusion(1e-3, math.nan)):
        with pytest.raises(ValueError, match="must be positive, with its error"):
            fit.fit(argon(), liquid, tmp_path / "fit", diffusion=constant, **QUIET)
    far = DiffusionMatching(window=(2.0, 20.0), duration=80.0)
    with pytest.raises(ValueError, match="reaches"):
        far.fit(argon(), liquid, tmp_path / "fit", **QUIET)
    with pytest.raises(ValueError, match="no two beads"):
        short = DiffusionMatching(Landscape(500.0, 0.1), **FAST)
        short.fit(argon(), liquid, tmp_path / "fit", diffusion=1e-5, **QUIET)
    with pytest.raises(ValueError, match="bead types"):
        other = CGPotential(None, [("W", 18.0)], priors=[LIQUID])
        fit.fit(other, liquid, tmp_path / "other", diffusion=1e-3, **QUIET)
