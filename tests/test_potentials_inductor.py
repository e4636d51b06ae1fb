"""What cannot be exported to AOTInductor is refused before anything is compiled; test_forces_inductor.py exports."""

import numpy as np
import pytest
import torch
from conftest import random_network

from openmmcg import CGPotential
from openmmcg.potentials import CGnet


def potential_of(network):
    return CGPotential(network, [("A", 20.0), ("B", 30.0)])


def test_only_the_network_of_the_potential_is_exported():
    network = random_network(2, channels=8)
    potential = potential_of(network)
    with torch.no_grad():
        network.readout.weight.mul_(1.01)
    with pytest.raises(ValueError, match="SchNet gives other forces than the potential; give the network that"):
        potential.export_inductor(network)


def test_a_precision_that_is_none_is_refused():
    network = random_network(2, channels=8)
    with pytest.raises(ValueError, match="no dtype 'float16'; choose one of 'float32', 'float64'"):
        potential_of(network).export_inductor(network, dtype="float16")


def test_a_network_that_looks_at_its_numbers_is_refused_with_what_torch_says():
    network = CGnet([0, 1, 0, 1, 0, 0], channels=8, layers=2, energy_scale=5.0)
    network.standardize(np.random.default_rng(0).normal(size=(50, 6, 3)))
    with pytest.raises(ValueError, match="CGnet cannot be compiled by AOTInductor, which needs .* aten.equal"):
        potential_of(network).export_inductor(network)
