"""Lennard-Jones and high-frequency priors against their formulas, from file to Context."""

import warnings

import numpy as np
import openmm
import pytest
from conftest import GPU_PLATFORMS, energy_and_forces, images, scatter, system_of

from openmmcg.forces import pair_force
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, HighFrequency, LennardJones
from openmmcg.potentials.priors import add_priors, to_xml
from openmmcg.simulation import minimise, run
from openmmcg.simulation.landscape import longest_time_step

CUTOFF, SWITCH = 0.6, 0.5
C12, C6 = np.array([[3e-6, 5e-6], [5e-6, 8e-6]]), np.array([[2e-3, 0.0], [0.0, 5e-3]])


def switching(r):
    x = np.clip((r - SWITCH) / (CUTOFF - SWITCH), 0, 1)
    return 1 - 10 * x**3 + 15 * x**4 - 6 * x**5


def pair_sum(positions, types, box, energy):
    total = 0.0
    for i in range(len(positions)):
        for j in range(i):
            r = np.linalg.norm(images(positions[i] - positions[j], box))
            if r < CUTOFF:
                total += switching(r) * energy(r, types[i], types[j])
    return total


def context_with(prior, types, box, platform):
    system = system_of(beads=len(types), box=box)
    add_priors(system, [to_xml(prior)], types, [], periodic=box is not None)
    return openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))


@pytest.mark.parametrize("platform", ["Reference", "CPU", *GPU_PLATFORMS])
def test_lennard_jones_is_that_of_its_formula(box, platform):
    positions, types = scatter(30, box), [i % 2 for i in range(30)]
    context = context_with(LennardJones(C12.tolist(), C6.tolist(), CUTOFF, SWITCH), types, box, platform)
    context.setPositions(positions)
    expected = pair_sum(positions, types, box, lambda r, a, b: C12[a, b] / r**12 - C6[a, b] / r**6)
    assert energy_and_forces(context)[0] == pytest.approx(expected, rel=2e-5 if platform in GPU_PLATFORMS else 3e-6)


@pytest.mark.parametrize("platform", ["Reference", "CPU", *GPU_PLATFORMS])
def test_the_landscape_is_that_of_its_formula_and_changes_in_a_running_context(box, platform):
    positions, types = scatter(30, box), [0] * 30
    context = context_with(HighFrequency(0.05, 1000.0, CUTOFF, SWITCH), types, box, platform)
    context.setPositions(positions)
    expected = pair_sum(positions, types, box, lambda r, a, b: np.sin(1000.0 * r) / r**2)
    scale = pair_sum(positions, types, box, lambda r, a, b: 1 / r**2)
    error = 1e-4 if platform in GPU_PLATFORMS else 1e-5
    for amplitude in (context.getParameter("high_frequency_amplitude"), 0.11):
        context.setParameter("high_frequency_amplitude", amplitude)
        assert energy_and_forces(context)[0] == pytest.approx(amplitude * expected, abs=error * amplitude * scale)
    assert context.getParameter("high_frequency_wavenumber") == 1000.0


def test_energy_of_both_is_conserved_across_the_cutoff():
    """No jump in energy or force where pairs come within reach."""
    for prior in (LennardJones([[1e-6]], [[2e-3]], CUTOFF), HighFrequency(0.1, 500.0, CUTOFF)):
        context = context_with(prior, [0, 0], None, "Reference")
        context.setPositions([[0, 0, 0], [CUTOFF - 1e-6, 0, 0]])
        energy, forces = energy_and_forces(context)
        assert abs(energy) < 1e-9 and np.abs(forces).max() < 1e-3


def test_mixing_rules_and_tables_of_pairs():
    mixed = LennardJones.from_sigma_epsilon([0.3, 0.4], [1.0, 0.25])
    np.testing.assert_allclose(mixed.sigmas, [[0.3, 0.35], [0.35, 0.4]])
    np.testing.assert_allclose(mixed.epsilons, [[1.0, 0.5], [0.5, 0.25]])
    geometric = LennardJones.from_sigma_epsilon([0.3, 0.4], [1.0, 0.25], mixing="geometric")
    assert geometric.sigmas[0, 1] == pytest.approx(0.12**0.5)
    table = LennardJones.from_sigma_epsilon(mixed.sigmas, mixed.epsilons)
    np.testing.assert_allclose(table.c12, mixed.c12)
    assert np.isnan(LennardJones([[1e-6]]).sigmas).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LennardJones([[1.0, 2.0], [1.0, 1.0]]), "C12 .* symmetric"),
        (lambda: LennardJones([[1.0]], [[1.0, 1.0], [1.0, 1.0]]), "C6 .* symmetric"),
        (lambda: LennardJones([[-1.0]]), "not be negative"),
        (lambda: LennardJones([[1.0]], cutoff=0.5, switch=0.5), "switching distance below it"),
        (lambda: LennardJones.from_sigma_epsilon([0.3], [1.0, 2.0]), "of each type, or of each pair"),
        (lambda: LennardJones.from_sigma_epsilon([0.3], [-1.0]), "not negative"),
        (lambda: LennardJones.from_sigma_epsilon([0.3], [1.0], mixing="none"), "mixing must be"),
        (lambda: HighFrequency(np.nan), "amplitude .* finite"),
        (lambda: HighFrequency(0.1, 0.0), "wavenumber .* positive"),
        (lambda: HighFrequency(0.1, cutoff=-1.0), "positive cutoff"),
    ],
)
def test_impossible_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def fluid(*priors, beads=125, width=1.6):
    potential = CGPotential(None, [("W", 18.0)], priors=priors)
    side = round(beads ** (1 / 3))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3) * width / side
    topology = cg_topology(["W"] * beads, width * np.eye(3))
    return potential, topology, grid, width * np.eye(3)


def test_files_ensembles_and_replicas_take_them(tmp_path):
    priors = LennardJones.from_sigma_epsilon([0.3], [0.5], cutoff=0.7), HighFrequency(0.02, 500.0, 0.7)
    potential, topology, grid, box = fluid(*priors)
    potential.save(tmp_path / "x.pt")
    loaded = CGPotential.load(tmp_path / "x.pt")
    system = loaded.create_system(topology, replicas=3)
    assert all(isinstance(pair_force.PairForce.of(force), pair_force.PairForce) for force in system.getForces())
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(np.concatenate([grid] * 3) + np.random.default_rng(0).normal(0, 0.01, (375, 3)))
    three = energy_and_forces(context)[0]
    halves = openmm.Context(
        loaded.scaled(0.5).create_system(topology, replicas=3), openmm.VerletIntegrator(0.001), platform
    )
    halves.setPositions(context.getState(positions=True).getPositions())
    assert energy_and_forces(halves)[0] == pytest.approx(0.5 * three, rel=1e-5)


@pytest.mark.parametrize(("amplitude", "wavenumber"), [(0.05, 1000.0), (0.1, 500.0)])
def test_the_longest_time_step_keeps_energy_and_twice_as_long_a_one_does_not(amplitude, wavenumber):
    repulsion = LennardJones([[2 * 0.29**12]], cutoff=0.6)
    potential, topology, grid, box = fluid(repulsion, HighFrequency(amplitude, wavenumber), beads=216, width=1.865)
    system = potential.create_system(topology)
    start = minimise(system, grid + np.random.default_rng(0).normal(0, 0.01, grid.shape), box, tolerance=100.0)
    longest = longest_time_step(system, start, box)
    drifts = []
    for step in (longest, 2 * longest):
        integrator = openmm.CompoundIntegrator()
        warm = openmm.LangevinMiddleIntegrator(300, 10.0, 0.0004)
        warm.setRandomNumberSeed(1)
        integrator.addIntegrator(warm)
        integrator.addIntegrator(openmm.VerletIntegrator(step))
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
        context.setPositions(start)
        context.setVelocitiesToTemperature(300, 1)
        integrator.step(2500)
        integrator.setCurrentIntegrator(1)
        energies = []
        for _ in range(20):
            integrator.step(round(0.25 / step))
            state = context.getState(energy=True)
            energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
        slope = np.polyfit(0.25 * np.arange(20), energies, 1)[0]
        drifts.append(abs(slope) / (1.5 * 216 * 0.0083145))  # K/ps
    assert drifts[0] < 0.2
    assert not drifts[1] < 1


def test_run_warns_of_a_time_step_too_long_for_the_landscape_and_of_no_other(tmp_path):
    repulsion = LennardJones([[2 * 0.29**12]], cutoff=0.6)
    potential, topology, grid, box = fluid(repulsion, HighFrequency(0.05, 1000.0))
    system = potential.create_system(topology)
    options = {"duration": 0.008, "interval": 0.004, "progress": False}
    with pytest.warns(UserWarning, match="too long for the landscape of high frequency"):
        run(system, grid, box, tmp_path / "long.h5md", time_step=0.002, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(system, grid, box, tmp_path / "short.h5md", time_step=0.0005, **options)
        for quiet in (HighFrequency(0.0), LennardJones([[1e-9]], cutoff=0.6)):
            potential, topology, grid, box = fluid(quiet)
            assert longest_time_step(potential.create_system(topology), grid, box) is None
