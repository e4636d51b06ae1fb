"""Pressures by differences of energies, constant pressure, and the energy of the volume."""

import numpy as np
import openmm
import pytest

from openmmcg.constants import BAR, GAS_CONSTANT, GRAM_PER_CUBIC_CENTIMETER
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, HarmonicBonds, LennardJones, VolumePotential
from openmmcg.reference import argon_box, methane_box, sample
from openmmcg.simulation import read_log, run
from openmmcg.simulation.pressure import pressures
from openmmcg.simulation.replicas import replicate_system

QUIET = {"threads": 1, "progress": False}
ARGON = LennardJones.from_sigma_epsilon([0.3405], [0.996], cutoff=0.8)


def fluid(replicas=1, seed=0, cells=5, spacing=0.37):
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3), axis=-1).reshape(-1, 3) * spacing
    noise = np.random.default_rng(seed).normal(scale=0.01, size=(replicas, *grid.shape))
    box = cells * spacing * np.eye(3)
    return grid + noise, box


def argon_system(box, number=125, priors=(ARGON,), **options):
    potential = CGPotential(None, [("Ar", 39.95)], priors=list(priors))
    return potential.create_system(cg_topology(["Ar"] * number, box), **options)


def test_the_pressure_of_beads_is_that_of_their_virial():
    positions, box = fluid()
    system = argon_system(box)
    found = pressures(system, positions, box[None], 120.0, platform="Reference", progress=False)
    # The same by hand: U' of every pair, with OpenMM's switching function.
    width, cutoff, switch = box[0, 0], 0.8, 0.72
    delta = positions[0][:, None] - positions[0]
    delta -= width * np.round(delta / width)
    r = np.linalg.norm(delta, axis=-1)[np.triu_indices(125, 1)]
    r = r[r < cutoff]

    def energy(x):
        t = np.clip((x - switch) / (cutoff - switch), 0, 1)
        return 4 * 0.996 * ((0.3405 / x) ** 12 - (0.3405 / x) ** 6) * (1 - t**3 * (10 - 15 * t + 6 * t**2))

    step = 1e-6
    slopes = (energy(r + step) - energy(r - step)) / (2 * step)
    volume = np.linalg.det(box)
    exact = (125 * GAS_CONSTANT * 120.0 - (slopes * r).sum() / 3) / volume / BAR
    ideal = 125 * GAS_CONSTANT * 120.0 / volume / BAR
    assert found[0] == pytest.approx(exact, abs=1e-5 * abs(exact - ideal))


def test_the_pressure_of_molecules_is_openmms():
    # Whose energies go to zero smoothly: pairs that cross a cutoff make noise, by another step another.
    topology, system, positions = methane_box(64)
    barostat = openmm.MonteCarloBarostat(1.0, 111.7, 0)
    system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(111.7, 1.0, 0.001)
    integrator.setRandomNumberSeed(1)
    quick = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    quick.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(quick, 10.0, 200)
    quick.setVelocitiesToTemperature(111.7, 1)
    integrator.step(500)
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
    context.setState(quick.getState(positions=True, velocities=True))
    state = context.getState(positions=True, velocities=True)
    places, box = (
        state.getPositions(asNumpy=True)._value,
        np.array(state.getPeriodicBoxVectors(asNumpy=True)._value),
    )
    system.removeForce(system.getNumForces() - 1)
    found = pressures(system, places[None], box[None], 111.7, platform="Reference", progress=False)[0]
    # OpenMM takes the kinetic energy of the molecules' centres instead of the temperature.
    masses = np.array([system.getParticleMass(i)._value for i in range(320)]).reshape(64, 5)
    velocities = state.getVelocities(asNumpy=True)._value.reshape(64, 5, 3)
    momenta = (masses[..., None] * velocities).sum(1)
    kinetic = (momenta**2).sum() / masses.sum(1)[0] / 3
    volume = np.linalg.det(box)
    expected = barostat.computeCurrentPressure(context)._value
    virial = expected - kinetic / volume / BAR
    assert found - 64 * GAS_CONSTANT * 111.7 / volume / BAR == pytest.approx(virial, rel=2e-3, abs=1.0)


@pytest.mark.parametrize(("slope", "limited"), [(100.0, True), (-100.0, False)])
def test_what_would_tear_beads_apart_ends_where_it_was_measured(slope, limited):
    potential = VolumePotential.from_pressures([0.029, 0.03, 0.031], [-slope, 0.0, slope])
    assert (potential.limits is not None) == limited
    beads = CGPotential(None, [("A", 1.0)], priors=[potential])
    for volume in (0.02, 0.0295, 0.03, 0.04):
        box = (8 * volume) ** (1 / 3) * np.eye(3)
        system = beads.create_system(cg_topology(["A"] * 8, box))
        found = pressures(system, np.zeros((1, 8, 3)), box[None], 1e-9, platform="Reference", progress=False)
        expected = (
            slope * (np.clip(volume, 0.029, 0.031) - 0.03) / 0.001 if limited else slope * (volume - 0.03) / 0.001
        )
        assert found[0] == pytest.approx(expected, abs=0.01)
        assert potential.pressures([volume])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("platform", ["Reference", "CPU", "OpenCL"])
def test_the_energy_of_the_volume_adds_the_pressure_it_is_made_of(platform):
    positions, box = fluid()
    potential = VolumePotential.from_pressures([0.045, 0.05, 0.055], [-800.0, -1000.0, -1200.0])
    plain, corrected = argon_system(box), argon_system(box, priors=[ARGON, potential])
    options = {"platform": platform, "progress": False}
    before, after = (pressures(each, positions, box[None], 120.0, **options)[0] for each in (plain, corrected))
    here = potential.pressures([np.linalg.det(box) / 125])[0]
    assert after - before == pytest.approx(here, abs=1e-5 * abs(here) if platform == "Reference" else 5.0)
    assert potential.pressures([0.045, 0.05, 0.055]) == pytest.approx([-800.0, -1000.0, -1200.0])


def test_two_copies_have_twice_the_energy_of_the_volume(tmp_path):
    potential = CGPotential(None, [("A", 1.0)], priors=[VolumePotential([1.5, 2.0], 0.4)])
    potential.save(tmp_path / "volume.pt")
    potential = CGPotential.load(tmp_path / "volume.pt").scaled(2.0)
    topology = cg_topology(["A"] * 8, 2.0 * np.eye(3))
    system = potential.create_system(topology, remove_center_of_mass_motion=False)
    for copies in (1, 3):
        context = openmm.Context(replicate_system(system, copies), openmm.VerletIntegrator(0.001))
        context.setPositions(np.random.default_rng(0).random((8 * copies, 3)))
        strain = 1.0 / 0.4 - 1
        expected = copies * 2 * 8 * (1.5 * strain + 2.0 * strain**2)
        assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(expected, rel=1e-6)


def test_without_a_box_there_is_no_energy_of_it():
    potential = CGPotential(None, [("A", 1.0)], priors=[VolumePotential([1.0], 0.03)])
    with pytest.raises(ValueError, match="is an energy of the box, and there is none"):
        potential.create_system(cg_topology(["A"] * 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 0.03), "needs finite coefficients"),
        (([np.nan], 0.03), "needs finite coefficients"),
        (([1.0], 0.0), "must be positive"),
        (([1.0], 0.03, (0.1, 0.1)), "must be in order"),
    ],
)
def test_energies_of_the_volume_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VolumePotential(*arguments)
    with pytest.raises(ValueError, match="a pressure for each volume"):
        VolumePotential.from_pressures([0.03, 0.04], [1.0])


def ideal_run(path, **options):
    """Beads that do not see each other in a box."""
    prior = LennardJones([[1e-30]], None, 0.8)
    system = argon_system(4.0 * np.eye(3), 60, [prior], remove_center_of_mass_motion=False)
    positions = np.random.default_rng(1).random((2, 60, 3)) * 4.0
    defaults = {"duration": 100.0, "interval": 0.5, "equilibration": 50.0, "time_step": 0.02, "temperature": 300.0}
    return run(system, positions, 4.0 * np.eye(3), path, **{**defaults, **QUIET, **options})


def test_an_ideal_gas_has_the_density_of_its_pressure(tmp_path):
    result = ideal_run(tmp_path / "gas.h5md", ensemble="NPT", pressure=50.0, duration=400.0, pressures=True)
    # ⟨1/V⟩ of N beads is P/(N k_B T), since V^N exp(−PV/k_B T) is its distribution.
    exact = 39.95 * 50.0 * BAR / (GAS_CONSTANT * 300.0) / GRAM_PER_CUBIC_CENTIMETER
    assert result.mean_density == pytest.approx(exact, abs=4 * result.density_error)
    assert result.density_error < 0.05 * exact
    logs = [read_log(replica.path) for replica in result.replicas]
    for log in logs:
        # N k_B T/V, and the density is N m/V.
        assert log["pressure_bar"] == pytest.approx(log["density_g_cm3"] / exact * 50.0, rel=1e-5)
    assert np.abs(logs[0]["density_g_cm3"] - logs[1]["density_g_cm3"]).max() > 0.01 * exact


def test_constant_pressure_goes_on_where_it_was(tmp_path):
    options = {"ensemble": "NPT", "pressure": 50.0, "duration": 2.0, "equilibration": 0.0, "pressures": True}
    ideal_run(tmp_path / "gas.h5md", **options)
    longer = ideal_run(tmp_path / "gas.h5md", **{**options, "duration": 4.0})
    assert longer.frames == 8 and len(read_log(longer.replicas[1].path)["density_g_cm3"]) == 8
    with pytest.raises(ValueError, match=r"pressure 50.0 there, 60.0 here"):
        ideal_run(tmp_path / "gas.h5md", **{**options, "pressure": 60.0})
    with pytest.raises(ValueError, match="pressures"):
        ideal_run(tmp_path / "gas.h5md", **{**options, "pressures": False})


def test_pressures_leave_a_trajectory_as_it_is(tmp_path):
    positions, box = fluid(2)
    logs = []
    for name, asked in (("with", True), ("without", False)):
        path = tmp_path / f"{name}.h5md"
        result = run(
            argon_system(box, remove_center_of_mass_motion=False), positions, box, path, duration=1.0, interval=0.1,
            time_step=0.004 / 2, temperature=120.0, pressures=asked, platform="Reference", progress=False,
        )  # fmt: skip
        logs.append(read_log(result.replicas[1].path))
    assert "pressure_bar" not in logs[1]
    assert np.array_equal(logs[0]["potential_energy_kJ_mol"], logs[1]["potential_energy_kJ_mol"])
    assert result.mean_pressure is None and result.mean_density is None


def test_a_log_of_a_version_that_knew_fewer_columns_goes_on(tmp_path):
    topology, system, positions = argon_box(64)
    system.addForce(openmm.MonteCarloBarostat(1.0, 94.4, 25))
    options = {"interval": 0.04, "temperature": 94.4, "time_step": 0.004, **QUIET}
    path = tmp_path / "argon.h5md"
    sample(system, topology, positions, path, frames=2, **options)
    log = path.with_suffix(".csv")
    lines = log.read_text().splitlines()
    assert lines[0].endswith("temperature_K,density_g_cm3")
    log.write_text("".join(line.rsplit(",", 1)[0] + "\n" for line in lines))
    sample(system, topology, positions, path, frames=4, **options)
    assert len(read_log(path)["temperature_K"]) == 4 and "density_g_cm3" not in read_log(path)
    log.write_text("time,what\n" + "1,2\n" * 4)
    with pytest.raises(ValueError, match="damaged"):
        read_log(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "NPT"}, "needs a pressure"),
        ({"ensemble": "NVT", "pressure": 1.0}, "no other has one"),
        ({"ensemble": "NPT", "pressure": np.nan}, "must be finite"),
    ],
)
def test_pressures_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ideal_run(tmp_path / "gas.h5md", **options)


def test_pressures_of_what_has_no_box_or_another_barostat_are_refused(tmp_path):
    bond = CGPotential(None, [("A", 10.0)], priors=[HarmonicBonds({(0, 0): (0.3, 1000.0)})])
    topology = cg_topology(["A"] * 2)
    system = bond.create_system(topology)
    options = {"duration": 0.1, "interval": 0.1, **QUIET}
    positions = [[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]
    with pytest.raises(ValueError, match="needs a periodic System"):
        run(system, positions, None, tmp_path / "a.h5md", ensemble="NPT", pressure=1.0, **options)
    with pytest.raises(ValueError, match="needs a periodic System"):
        run(system, positions, None, tmp_path / "a.h5md", pressures=True, **options)
    with pytest.raises(ValueError, match="needs a periodic System"):
        pressures(system, [positions], np.eye(3)[None], 300.0)
    start, box = fluid()
    barred = argon_system(box)
    with pytest.raises(ValueError, match="and a box"):
        pressures(barred, start, np.eye(3), 300.0)
    barred.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
    with pytest.raises(ValueError, match="a barostat of its own"):
        run(barred, start[0], box, tmp_path / "a.h5md", ensemble="NPT", pressure=1.0, **options)
