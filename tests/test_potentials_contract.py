"""Modules under the two contracts: the same energies, whoever finds the neighbours."""

import numpy as np
import pytest
import torch
from conftest import BOXES, difference, exact, images, random_potential, scatter
from torch import Tensor, nn

from openmmcg import CGPotential
from openmmcg.geometry.cells import cell_pairs, near_pairs

LARGE_BOXES = {name: None if box is None else 1.7 * box for name, box in BOXES.items()}


def pair_set(rows, columns):
    return {tuple(sorted(pair)) for pair in zip(rows.tolist(), columns.tolist(), strict=True)}


def plain(potential, tmp_path, types, box):
    potential.export_openmm_torch(tmp_path / "plain.pt", types, periodic=box is not None)
    return torch.jit.load(tmp_path / "plain.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beads", [2, 40])
def test_the_plain_module_has_the_energy_and_forces_of_the_network(box, beads, dtype, potential, tmp_path):
    positions, types = scatter(beads, box), [i % 2 for i in range(beads)]
    if beads == 2:
        positions[1] = positions[0] + [0.3, 0, 0]
    module = plain(potential, tmp_path, types, box).to(dtype)
    places = torch.tensor(positions, dtype=dtype, requires_grad=True)
    energy = module(*[places] if box is None else [places, torch.tensor(box, dtype=dtype)])
    (gradient,) = torch.autograd.grad(energy, places)
    expected_energy, expected_forces = exact(potential, positions, types, box)
    tolerance = 3e-5 if dtype == torch.float32 else 1e-10
    assert difference(energy.item(), expected_energy) < tolerance
    assert difference(-gradient.numpy(), expected_forces) < tolerance


def test_the_neighbor_list_module_has_the_energy_and_forces_of_the_network(box, potential):
    positions, types = scatter(40, box), [i % 2 for i in range(40)]
    places = torch.tensor(positions, requires_grad=True)
    vectors = torch.empty(0, dtype=torch.float64) if box is None else torch.tensor(box)
    rows, columns = near_pairs(places.detach(), vectors, potential.cutoff)
    energy = potential.module.to(torch.float64)(places, vectors, torch.tensor(types), rows, columns)
    (gradient,) = torch.autograd.grad(energy, places)
    expected_energy, expected_forces = exact(potential, positions, types, box)
    assert energy.shape == ()
    assert difference(energy.item(), expected_energy) < 1e-10
    assert difference(-gradient.numpy(), expected_forces) < 1e-10


@pytest.mark.parametrize("cutoff", [0.3, 0.6, 1.1])
@pytest.mark.parametrize("name", LARGE_BOXES)
def test_cells_list_every_near_pair_once(name, cutoff):
    box = LARGE_BOXES[name]
    positions = scatter(250, box, closest=0.05)
    vectors = torch.empty(0, dtype=torch.float64) if box is None else torch.tensor(box)
    rows, columns = near_pairs(torch.tensor(positions), vectors, cutoff)
    upper = np.triu_indices(len(positions), 1)
    near = np.linalg.norm(images(positions[upper[1]] - positions[upper[0]], box), axis=1) < cutoff
    assert len(rows) == near.sum()
    assert pair_set(rows, columns) == pair_set(upper[0][near], upper[1][near])


def test_cells_list_far_fewer_pairs_than_there_are():
    beads = 2000
    positions = torch.rand(beads, 3, dtype=torch.float64) * 6
    rows, _ = cell_pairs(positions, 6 * torch.eye(3, dtype=torch.float64), 0.6)
    assert len(rows) < 0.03 * beads * (beads - 1) / 2


def test_a_few_beads_far_apart_do_not_fill_the_memory_with_cells():
    positions = torch.tensor([[0.0, 0, 0], [1e6, 0, 0], [1e6, 0.2, 0], [0, 1e6, 1e6]])
    rows, columns = near_pairs(positions, torch.empty(0), 0.6)
    assert pair_set(rows, columns) == {(1, 2)}


def test_a_bead_without_neighbours_is_no_problem(tmp_path):
    potential = random_potential(bead_types=[("A", 20.0)])
    energy = plain(potential, tmp_path, [0], None)(torch.zeros(1, 3))
    assert np.isfinite(energy.item())


def test_export_refuses_types_the_potential_does_not_have(potential, tmp_path):
    with pytest.raises(ValueError, match=r"no bead types \[2\]"):
        potential.export_openmm_torch(tmp_path / "plain.pt", [0, 2], periodic=False)


class PairEnergies(nn.Module):
    """A small network of one's own: a harmonic repulsion, half of it for each bead."""

    def __init__(self, strength=3.0, cutoff=0.6):
        super().__init__()
        self.cutoff = cutoff
        self.strength = nn.Parameter(torch.tensor(strength))

    def pairs(self, displacements: Tensor) -> Tensor:
        return self.strength * (0.6 - displacements.square().sum(1).sqrt()) ** 2

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        halves = 0.5 * self.pairs(displacements)
        energies = torch.zeros(types.shape[0], dtype=halves.dtype)
        return energies.index_add(0, rows, halves).index_add(0, columns, halves)


class OneEnergy(PairEnergies):
    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self.pairs(displacements).sum()


class Column(PairEnergies):
    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self.pairs(displacements).unsqueeze(1)


class EnergiesOfPairs(PairEnergies):
    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self.pairs(displacements)


class OfOnePrecision(PairEnergies):
    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return torch.zeros(types.shape[0]).index_add(0, rows, self.pairs(displacements))


class AlwaysSingle(PairEnergies):
    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return torch.zeros(types.shape[0]).index_add(0, rows, self.pairs(displacements).to(torch.float32))


class Detached(PairEnergies):
    def pairs(self, displacements: Tensor) -> Tensor:
        return self.strength * displacements.detach().square().sum(1)


class Infinite(PairEnergies):
    def pairs(self, displacements: Tensor) -> Tensor:
        return self.strength / (0 * displacements).square().sum(1)


class InfiniteForces(PairEnergies):
    def pairs(self, displacements: Tensor) -> Tensor:
        return self.strength * (0 * displacements).square().sum(1).sqrt()


class Unscriptable(PairEnergies):
    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        import math

        return displacements.new_zeros(len(types)) + math.pi


def test_a_network_of_ones_own_is_taken():
    for types in (1, 2, 7):
        network = PairEnergies()
        network.types = types
        assert CGPotential(network, [(f"type {i}", 1.0) for i in range(types)]).cutoff == 0.6


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (OneEnergy, r"OneEnergy returns the shape \[\]; it must return .* shape \[5\] for 5 beads with 10 pairs"),
        (Column, r"returns the shape \[10, 1\]; it must return energies of the beads"),
        (EnergiesOfPairs, r"returns the shape \[10\]; .*; add energies of pairs to those of their beads by index_add"),
        (OfOnePrecision, r"cannot be evaluated for 5 beads with 10 pairs in float64: "),
        (AlwaysSingle, r"returns torch.float32 for displacements and parameters in torch.float64"),
        (Detached, r"do not depend on displacements: there are no forces"),
        (Infinite, r"the energies of the network Infinite are not finite"),
        (InfiniteForces, r"the forces of the network InfiniteForces are not finite"),
        (Unscriptable, r"cannot be translated to TorchScript.* import statements aren't supported"),
    ],
)
def test_networks_that_break_the_contract_are_refused_each_time_by_what_is_wrong(network, words):
    for _ in range(2):
        with pytest.raises(ValueError, match=words):
            CGPotential(network(), [("A", 1.0)])


@pytest.mark.parametrize("cutoff", [None, 0.0, -1.0, float("nan"), "0.6"])
def test_a_network_says_its_cutoff(cutoff):
    with pytest.raises(ValueError, match=r"PairEnergies needs the attribute 'cutoff', a distance in nm"):
        CGPotential(PairEnergies(cutoff=cutoff), [("A", 1.0)])
