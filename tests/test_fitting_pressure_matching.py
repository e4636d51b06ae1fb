"""Pressure matching: a correction that is known, densities under a barostat, and what is refused."""

import json

import numpy as np
import pytest

from openmmcg.fitting import PressureMatching
from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, LennardJones, VolumePotential
from openmmcg.simulation import run

QUIET = {"threads": 1, "progress": False}
LIQUID = LennardJones.from_sigma_epsilon([0.3405], [0.996], cutoff=0.8)
KILOBAR = VolumePotential.from_pressures([0.045, 0.055], [800.0, 1200.0])
FAST = {"duration": 20.0, "interval": 0.2, "time_step": 0.004, "replicas": 2}


def argon(priors):
    return CGPotential(None, [("Ar", 39.95)], priors=priors)


def simulate(priors, path, spacing=0.36, duration=40.0, **options):
    box = 5 * spacing * np.eye(3)
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3) * spacing
    system = argon(priors).create_system(cg_topology(["Ar"] * 125, box))
    defaults = {"interval": 0.4, "equilibration": 10.0, "time_step": 0.004, "temperature": 120.0}
    return run(
        system, grid, box, path, duration=duration, types=[0] * 125, type_names=["Ar"], **defaults, **QUIET, **options
    )


@pytest.fixture(scope="module")
def liquid(tmp_path_factory):
    path = tmp_path_factory.mktemp("liquid") / "argon.h5md"
    result = simulate([LIQUID], path, pressures=True)
    return path, result


def test_what_was_added_is_found_and_taken_out(liquid, tmp_path):
    path, atoms = liquid
    wrong = argon([LIQUID, KILOBAR])
    fit = PressureMatching(**FAST)
    result = fit.fit(wrong, path, tmp_path / "fit", pressures=path, **QUIET)
    volume = 0.36**3
    error = np.hypot(result.bead_errors[0], atoms.pressure_error)
    assert result.correction.pressures([volume])[0] == pytest.approx(-KILOBAR.pressures([volume])[0], abs=4 * error)
    assert error < 100 and result.pressures[0] == pytest.approx(atoms.mean_pressure, abs=1e-6)
    assert len(result.correction.coefficients) == 1 and "compressibility" in result.verdict
    again = fit.fit(wrong, path, tmp_path / "fit", pressures=path, **QUIET)
    assert np.array_equal(again.beads, result.beads)
    assert (tmp_path / "fit" / "pressure.png").exists()
    written = json.loads((tmp_path / "fit" / "pressure_matching.json").read_text())
    assert written["beads"] == result.beads.tolist()
    assert len(CGPotential.load(tmp_path / "fit" / "potential.pt").priors) == 3


@pytest.mark.slow
def test_the_density_under_a_barostat_is_that_of_the_frames(liquid, tmp_path):
    path, atoms = liquid
    # Half of it, since spheres as large would freeze.
    repulsion = argon([LennardJones([[LIQUID.c12[0][0] / 2]], None, 0.8)])
    fit = PressureMatching(compressibility=2e-4, **FAST)
    result = fit.fit(repulsion, path, tmp_path / "fit", pressures=atoms.mean_pressure, **QUIET)
    assert result.beads[0] > 1000 + atoms.mean_pressure
    assert result.compressibility == pytest.approx(2e-4, rel=0.1)
    with Frames(path) as frames:
        positions, box = frames.positions[-1], frames.boxes[-1]
    system = result.potential.create_system(cg_topology(["Ar"] * 125, box))
    held = run(
        system, positions, box, tmp_path / "npt.h5md", duration=100.0, interval=0.4, equilibration=20.0,
        time_step=0.004, temperature=120.0, ensemble="NPT", pressure=atoms.mean_pressure, **QUIET,
    )  # fmt: skip
    density = 39.95 / 602.214 / 0.36**3
    assert held.mean_density == pytest.approx(density, rel=0.01)


@pytest.mark.slow
def test_several_volumes_are_matched_together(liquid, tmp_path):
    path, atoms = liquid
    wide = tmp_path / "wide.h5md"
    other = simulate([LIQUID], wide, spacing=0.37, pressures=True)
    fit = PressureMatching(**FAST)
    result = fit.fit(argon([LIQUID, KILOBAR]), [path, wide], tmp_path / "fit", pressures=[path, wide], **QUIET)
    assert len(result.correction.coefficients) == 2
    volumes = np.array([0.36, 0.37]) ** 3
    errors = np.hypot(result.bead_errors, [atoms.pressure_error, other.pressure_error])
    away = result.correction.pressures(volumes) + KILOBAR.pressures(volumes)
    assert (np.abs(away) < 4 * errors).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compressibility": 0.0}, "compressibility must be positive"),
        ({"strain": 0.5}, "between 0 and 0.5"),
        ({"replicas": 0}, "at least 1 replica"),
        ({"duration": 0.3}, "four intervals or more"),
        ({"duration": 1.1}, "must be a whole number of times"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PressureMatching(**options)


def test_frames_and_pressures_that_do_not_fit_are_refused(liquid, tmp_path):
    path, _ = liquid
    fit, potential = PressureMatching(**FAST), argon([LIQUID])
    with pytest.raises(ValueError, match="a pressure for each file"):
        fit.fit(potential, path, tmp_path / "fit", pressures=[1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        fit.fit(potential, path, tmp_path / "fit", pressures=np.nan)
    silent = tmp_path / "silent.h5md"
    simulate([LIQUID], silent, duration=0.8)
    with pytest.raises(ValueError, match="has no pressures; sample with pressures=True"):
        fit.fit(potential, path, tmp_path / "fit", pressures=silent)
    with pytest.raises(ValueError, match="bead types"):
        fit.fit(CGPotential(None, [("W", 18.0)], priors=[LIQUID]), path, tmp_path / "fit", pressures=1.0)
    assert not (tmp_path / "fit").exists()
