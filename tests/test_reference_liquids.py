"""Argon and methane: what is in the box, and whether it is a liquid."""

import numpy as np
import openmm
import pytest

from openmmcg.mapping import Mapping
from openmmcg.reference import argon_box, methane_box, sample


def pressure(box, temperature, time_step, duration=20.0):
    """Mean pressure at this volume, bar, and its standard error."""
    barostat = openmm.MonteCarloBarostat(1.0, temperature, 0)  # never tries
    box.system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, time_step)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(box.system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(box.positions)
    context.setVelocitiesToTemperature(temperature, 1)
    integrator.step(round(10 / time_step))
    values = []
    for _ in range(40):
        integrator.step(round(duration / 40 / time_step))
        values.append(barostat.computeCurrentPressure(context)._value)
    return np.mean(values), np.std(values) / 40**0.5


def test_argon_is_a_liquid_with_kilocalories_and_under_pressure_with_kilojoules():
    liquid, error = pressure(argon_box(216), 94.4, 0.004)
    assert abs(liquid) < 250 + 3 * error
    assert pressure(argon_box(216, epsilon=0.238), 94.4, 0.004)[0] > 800


@pytest.mark.slow
def test_methane_is_no_liquid_in_either_unit():
    assert 300 < pressure(methane_box(64), 111.7, 0.001, duration=5.0)[0] < 700


def test_methane_has_the_geometry_the_mass_and_the_charges_it_should():
    topology, system, positions = methane_box(70, density=0.4)
    assert topology.getNumResidues() == 70 and system.getNumParticles() == 350
    width = topology.getPeriodicBoxVectors()[0][0]._value
    mass = sum(system.getParticleMass(i)._value for i in range(350))
    assert mass / 602.214076 / width**3 == pytest.approx(0.4, rel=1e-6)
    molecules = positions.reshape(70, 5, 3)
    bonds = molecules[:, 1:] - molecules[:, :1]
    np.testing.assert_allclose(np.linalg.norm(bonds, axis=-1), 0.109, atol=1e-4)
    cosines = np.einsum("mad,mbd->mab", bonds, bonds) / 0.109**2
    np.testing.assert_allclose(cosines[:, ~np.eye(4, dtype=bool)], -1 / 3, atol=0.15)
    force = next(force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    charges = [force.getParticleParameters(i)[0]._value for i in range(5)]
    assert charges == [-0.24, 0.06, 0.06, 0.06, 0.06]
    # Orientations are random: bonds point nowhere on average.
    assert np.linalg.norm(bonds[:, 0].mean(0)) < 0.109 * 0.4


def test_molecules_are_sampled_and_mapped_to_their_centers(tmp_path):
    box = methane_box(64)
    sample(
        box.system,
        box.topology,
        box.positions,
        tmp_path / "a.h5md",
        frames=2,
        interval=0.01,
        time_step=0.001,
        progress=False,
    )
    centers = Mapping.center_of_mass(box.topology, names=["M"] * 64).map_positions(box.positions[None])[0]
    np.testing.assert_allclose(centers, box.positions[::5], atol=0.02)


@pytest.mark.parametrize("make", [argon_box, methane_box])
def test_any_number_and_seed_but_not_too_few(make):
    a, b = make(131, seed=1), make(131, seed=2)
    assert a.positions.shape == b.positions.shape and not np.allclose(a.positions, b.positions)
    with pytest.raises(ValueError, match="too small for a cutoff"):
        make(4)
    with pytest.raises(ValueError, match="positive density"):
        make(100, density=0.0)
