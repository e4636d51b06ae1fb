"""Beads at the same place have no direction and no force on each other, for every engine, platform and training."""

import itertools

import numpy as np
import openmm
import pytest
import torch
from conftest import (
    CASES,
    GPU_PLATFORMS,
    Case,
    difference,
    energy_and_forces,
    exact,
    random_network,
    random_potential,
    scatter,
    system_of,
)

from openmmcg import CGForce, _openmmcg
from openmmcg.fitting import filter_tables
from openmmcg.potentials import CGPotential
from openmmcg.potentials.networks import CGnet, distances_and_directions

NETWORKS = ["schnet", "painn", "painn of degree 2"]
TYPES = [0, 1] * 10
#: nm; 0, what float64 and float32 hold no square of, and what is nearer than any two beads of a simulation
DISTANCES = [0.0, 1e-310, 1e-200, 1e-30, 1e-12, 9e-7]


@pytest.fixture(scope="module")
def potentials():
    return {network: random_potential(network=network) for network in NETWORKS}


def places(distance):
    """Beads 0 and 1 at this distance about the origin, others around."""
    positions = scatter(20, closest=0.15) - 0.5
    positions[:2] = 0
    positions[1, 1] = distance
    return positions


def force_of(potential, engine):
    return CGForce(potential.to_bytes(), types=TYPES, engine=engine)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("engine", ["native", "torchscript"])
def test_energy_and_forces_are_the_same_on_every_platform(potentials, case, engine, network):
    assert_energy_and_forces_are_those_of_the_network(potentials[network], case, engine)


@pytest.mark.parametrize("kernels", _openmmcg.get_kernel_sets())
def test_energy_and_forces_are_the_same_with_every_kernel_set(potentials, kernels, monkeypatch):
    monkeypatch.setenv("OPENMMCG_KERNELS", kernels)
    for network, threads in itertools.product(("painn", "painn of degree 2"), (1, 2)):
        assert_energy_and_forces_are_those_of_the_network(potentials[network], Case("CPU", threads), "native")


def assert_energy_and_forces_are_those_of_the_network(potential, case, engine):
    context = case.context(system_of(force_of(potential, engine), beads=20), places(0))
    expected_energy, expected_forces = exact(potential, places(0), TYPES, None)
    assert np.isfinite(expected_forces).all()
    for distance in DISTANCES:
        context.setPositions(places(distance))
        energy, forces = energy_and_forces(context)
        assert energy == pytest.approx(expected_energy, rel=1e-5)
        assert difference(forces, expected_forces) < 3e-5
    alone = places(0)
    alone[2:] += 10 * np.arange(2, 20)[:, None]
    context.setPositions(alone)
    energy, forces = energy_and_forces(context)
    assert np.isfinite(energy)
    assert not forces.any()


@pytest.mark.skipif(not GPU_PLATFORMS, reason="OpenMM has no GPU platform here; on Debian, install PoCL")
@pytest.mark.parametrize("engine", ["native", "torchscript"])
def test_forces_are_those_of_the_network_in_single_precision(potentials, engine):
    context = openmm.Context(
        system_of(force_of(potentials["painn"], engine), beads=20),
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName(GPU_PLATFORMS[0]),
        {"Precision": "single"},
    )
    expected = exact(potentials["painn"], places(0), TYPES, None)[1]
    for distance in DISTANCES:
        context.setPositions(places(distance))
        assert difference(energy_and_forces(context)[1], expected) < 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_a_little_further_apart_the_force_is_that_of_the_network(potentials, network):
    positions = places(2e-6)
    expected = exact(potentials[network], positions, TYPES, None)[1]
    forces = energy_and_forces(
        CASES[0].context(system_of(force_of(potentials[network], "native"), beads=20), positions)
    )[1]
    assert difference(forces, expected) < 1e-5


@pytest.mark.parametrize("distance", DISTANCES)
def test_lengths_have_derivatives_of_every_order(distance):
    displacements = torch.tensor([[0.0, distance, 0.0], [0.1, 0.2, 0.2]], dtype=torch.float64, requires_grad=True)
    distances, directions = distances_and_directions(displacements)
    assert distances.tolist() == pytest.approx([0, 0.3])
    assert directions[0].tolist() == [0, 0, 0]
    (first,) = torch.autograd.grad(distances.sum() + directions.sum(), displacements, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), displacements)
    assert not first[0].any() and not second[0].any()
    assert first[1].isfinite().all() and second[1].isfinite().all()


def test_a_displacement_that_is_not_a_number_stays_so():
    distances, directions = distances_and_directions(torch.tensor([[0.0, float("nan"), 0.0]]))
    assert distances.isnan().all() and directions.isnan().all()


@pytest.mark.parametrize(("dtype", "cells", "tolerance"), [(torch.float64, 8192, 2e-4), (torch.float32, 512, 3e-2)])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("distance", [0.0, 1e-30, 9e-7])
def test_training_sees_the_forces_of_the_network(network, distance, dtype, cells, tolerance, monkeypatch):
    """Those by adjoints written by hand are those by automatic differentiation, and so are gradients of the loss."""
    monkeypatch.setattr(filter_tables, "_CELLS", cells)
    torch.manual_seed(0)
    model = random_network(2, network=network).to(dtype)
    positions = torch.tensor(places(distance), dtype=torch.float64, requires_grad=True)
    rows, columns = torch.triu_indices(20, 20, 1)
    near = (positions[columns] - positions[rows]).norm(dim=1) < model.cutoff
    rows, columns, types = rows[near], columns[near], torch.tensor(TYPES)
    displacements = (positions[columns] - positions[rows]).to(dtype)
    energy = model(displacements, types, rows, columns).sum()
    forces = -torch.autograd.grad(energy, positions, create_graph=True)[0]
    by_hand = filter_tables.tabulated_forces(model, displacements.detach(), types, rows, columns)
    assert difference(by_hand.detach(), forces.detach().numpy()) < tolerance
    weights = [weight for name, weight in model.named_parameters() if not name.endswith("bias")]
    gradients = [
        torch.cat([gradient.flatten() for gradient in torch.autograd.grad((f - 1).square().sum(), weights)])
        for f in (by_hand, forces)
    ]
    assert difference(gradients[0], gradients[1].numpy()) < tolerance


def test_a_network_of_a_molecule_has_finite_forces():
    torch.manual_seed(0)
    potential = CGPotential(CGnet([0, 0, 0, 0], channels=8, layers=2), [("A", 20.0)], temperature=300)
    positions = scatter(4)
    for pair in ((0, 3), (0, 1)):
        positions[pair[1]] = positions[pair[0]]
        context = CASES[0].context(system_of(CGForce(potential.to_bytes()), beads=4), positions)
        assert np.isfinite(energy_and_forces(context)[1]).all()
