"""Runs sample the ensemble that they name: the tests of the package physical_validation.

By Merz and Shirts, PLoS ONE 13, e0202764 (2018), of a liquid and a chain as `run` simulates them. Kinetic energies are
those of the temperature, potential energies at two temperatures differ by the Boltzmann factors between them, and the
fluctuations at constant energy go with the square of the time step, as they do for a symplectic integrator and forces
that are the gradient of the energy.
"""

from typing import NamedTuple

import numpy as np
import openmm
import pytest
from conftest import GPU_PLATFORMS, liquid, random_potential
from physical_validation import ensemble, integrator, kinetic_energy
from physical_validation.data import EnsembleData, ObservableData, SimulationData, SystemData, UnitData

from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.potentials import HarmonicAngles, HarmonicBonds, PeriodicDihedrals, Repulsion
from openmmcg.simulation import minimise, read_log, run

MASS = 20.0
UNITS = UnitData(
    kb=8.31446261815324e-3,
    energy_conversion=1,
    length_conversion=1,
    volume_conversion=1,
    temperature_conversion=1,
    pressure_conversion=1,
    time_conversion=1,
)


class Model(NamedTuple):
    system: openmm.System
    positions: np.ndarray
    box: np.ndarray | None


def small_network(priors):
    return random_potential(channels=8, blocks=1, bead_types=[("A", MASS)], priors=priors)


def liquid_model():
    box = np.eye(3) * 1.8
    potential = small_network([Repulsion([[0.3]], exponent=8, cutoff=0.7)])
    system = potential.create_system(cg_topology("A" * 100, box), remove_center_of_mass_motion=False)
    return Model(system, liquid(100, box), box)


def chain_model():
    priors = [
        HarmonicBonds({(0, 0): (0.35, 3000.0)}),
        HarmonicAngles({(0, 0, 0): (2.0, 60.0)}),
        PeriodicDihedrals({(0, 0, 0, 0): [(1, 0.5, 3.0), (2, 0.0, 2.0)]}),
    ]
    topology = cg_topology("A" * 10)
    beads = list(topology.atoms())
    for pair in zip(beads, beads[1:], strict=False):
        topology.addBond(*pair)
    system = small_network(priors).create_system(topology, remove_center_of_mass_motion=False)
    steps = 0.35 * np.array([[np.cos(0.55), (-1) ** bead * np.sin(0.55), 0.1 * (bead % 3)] for bead in range(10)])
    return Model(system, np.cumsum(steps, 0), None)


REPLICAS = {"liquid": 4, "chain": 20}
# ps, so that fluctuations at constant energy are known to some percent
DURATION = {"liquid": 12.8, "chain": 1.6}
MODELS = {"liquid": liquid_model, "chain": chain_model}
QUICK, SLOW = [("chain", "CPU")], [("liquid", "CPU"), *((name, gpu) for gpu in GPU_PLATFORMS for name in MODELS)]


@pytest.fixture(
    scope="module", params=QUICK + [pytest.param(case, marks=pytest.mark.slow) for case in SLOW], ids="-".join
)
def simulate(request):
    """What runs a model on a platform: the logs of all replicas, ``{column: [replicas, frames]}``."""
    name, platform = request.param
    system, positions, box = MODELS[name]()
    starts = np.array([minimise(system, positions, box, platform="Reference")] * REPLICAS[name])

    def simulate(path, **options):
        run(system, starts, box, path, platform=platform, seed=1, progress=False, **options)
        logs = [read_log(path.with_suffix(f".{replica}{path.suffix}")) for replica in range(len(starts))]
        return {column: np.array([log[column] for log in logs]) for column in logs[0]}

    simulate.duration = DURATION[name]
    return simulate


@pytest.fixture(scope="module")
def canonical(simulate, tmp_path_factory):
    """Samples at two temperatures, as far apart as the widths of their distributions of energies."""

    def samples(temperature):
        options = {"friction": 5.0, "time_step": 0.004, "interval": 0.4, "equilibration": 4.0, "duration": 10.0}
        path = tmp_path_factory.mktemp("canonical") / "frames.h5md"
        logs = simulate(path, temperature=temperature, **options)
        kinetic, potential = (logs[f"{part}_energy_kJ_mol"].ravel() for part in ("kinetic", "potential"))
        with Frames(path.with_suffix(".0.h5md")) as frames:
            beads = frames.number_of_particles
        return SimulationData(
            units=UNITS,
            system=SystemData(beads, 0, 0, 0, np.full(beads, MASS)),
            ensemble=EnsembleData("NVT", natoms=beads, volume=1.0, temperature=temperature),
            observables=ObservableData(kinetic_energy=kinetic, potential_energy=potential),
        )

    return [samples(temperature) for temperature in (300.0, 400.0)]


ERRORS = 3.5  # standard errors that one may be off
OPTIONS = {"verbosity": 0, "bootstrap_seed": 1, "data_is_uncorrelated": True}


def test_kinetic_energies_have_the_mean_and_the_width_of_the_temperature(canonical):
    for samples in canonical:
        assert np.abs(kinetic_energy.distribution(samples, **OPTIONS)).max() < ERRORS


def test_potential_energies_at_two_temperatures_differ_by_boltzmann_factors(canonical):
    assert np.abs(ensemble.check(*canonical, **OPTIONS)).max() < ERRORS


def test_fluctuations_at_constant_energy_go_with_the_square_of_the_time_step(simulate, tmp_path):
    def samples(step):
        options = {"ensemble": "NVE", "time_step": step, "interval": 0.064, "duration": simulate.duration}
        logs = simulate(tmp_path / f"{step}.h5md", **options)
        total = logs["kinetic_energy_kJ_mol"] + logs["potential_energy_kJ_mol"]
        # Of each replica about its own mean, so that they are as many samples.
        deviations = (total - total.mean(1, keepdims=True)).ravel()
        return SimulationData(units=UNITS, dt=step, observables=ObservableData(constant_of_motion=deviations))

    assert integrator.convergence([samples(step) for step in (0.008, 0.004, 0.002)], verbose=False) < 0.1
