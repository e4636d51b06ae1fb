"""Pair priors that know fewer bead types than a potential has."""

import numpy as np
import openmm
import pytest

from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, LennardJones, PriorForces, Repulsion, TabulatedPairs

KINDS = [("A", 10.0), ("B", 10.0), ("C", 10.0)]
TABLE = TabulatedPairs({(0, 0): np.linspace(4.0, 0.0, 12).tolist()}, 0.6)


def energy(system, positions):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


@pytest.mark.parametrize("later", [False, True])
def test_a_table_acts_between_the_types_that_it_is_given_for(later):
    potential = CGPotential(None, KINDS, priors=[Repulsion([[1e-3] * 3] * 3) if later else TABLE])
    if later:
        potential = potential.with_priors([TABLE])
    pair = [[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]
    found = {}
    for names in ("AA", "AB", "BB", "CC"):
        system = potential.create_system(cg_topology(list(names)), remove_center_of_mass_motion=False)
        found[names] = energy(system, pair)
    assert found["AA"] > 1.0
    assert np.abs([found["AB"], found["BB"], found["CC"]]).max() < 1e-9


def test_forces_that_training_subtracts_are_of_these_types_as_well():
    positions = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 0.3, 0.0]])
    forces = PriorForces([TABLE], [0, 0, 1], periodic=False)(positions, None)
    assert np.abs(forces[:2]).max() > 1.0 and np.abs(forces[2]).max() < 1e-9


@pytest.mark.parametrize("prior", [Repulsion([[0.3]]), LennardJones([[1e-6, 0.0], [0.0, 1e-6]])])
def test_numbers_for_too_few_types_are_refused(prior):
    with pytest.raises(ValueError, match=f"a {type(prior).__name__} for {prior.types} bead types is among 3"):
        CGPotential(None, KINDS, priors=[prior])
    with pytest.raises(ValueError, match="is among 3"):
        CGPotential(None, KINDS, priors=[TABLE]).with_priors([prior])
    with pytest.raises(ValueError, match="is among 3"):
        PriorForces([prior], [0, 1, 2], periodic=False)
