"""The graph network of TorchMD-Net runs natively; here on modules of the same parts, with its equations."""

import math

import numpy as np
import pytest
import torch
from conftest import Case, difference, energy_and_forces, liquid
from torch import nn

from openmmcg import CGPotential
from openmmcg.mapping import cg_topology
from openmmcg.potentials.external.torchmd_graph_network import convert_graph_network

LENGTH, ENERGY = 0.1, 4.184  # Å and kcal/mol
UPPER, CHANNELS, FILTERS, FUNCTIONS = 6.0, 12, 8, 10
ACTIVATIONS = {"silu": nn.SiLU, "tanh": nn.Tanh}


class CosineCutoff(nn.Module):
    def __init__(self):
        super().__init__()
        self.cutoff_lower, self.cutoff_upper = 0.0, UPPER

    def forward(self, r):
        return 0.5 * (torch.cos(r * math.pi / UPPER) + 1) * (r < UPPER)


class ExpNormalSmearing(nn.Module):
    def __init__(self):
        super().__init__()
        self.cutoff_fn, self.cutoff_lower, self.alpha = CosineCutoff(), 0.0, 5 / UPPER
        self.means = nn.Parameter(torch.linspace(0.01, 1, FUNCTIONS) + 0.01 * torch.randn(FUNCTIONS))
        self.betas = nn.Parameter(30 + 3 * torch.rand(FUNCTIONS))

    def forward(self, r):
        r = r[:, None]
        return self.cutoff_fn(r) * torch.exp(-self.betas * (torch.exp(-self.alpha * r) - self.means) ** 2)


class GaussianSmearing(nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.linspace(0, UPPER, FUNCTIONS) + 0.1 * torch.randn(FUNCTIONS))
        self.coeff = nn.Parameter(torch.tensor(-1.1))

    def forward(self, r):
        return torch.exp(self.coeff * (r[:, None] - self.offset) ** 2)


class Parts(nn.Module):
    """A module that is nothing but its parts."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class TorchMD_GN(Parts):  # noqa: N801 (as TorchMD-Net names it)
    pass


class Scalar(Parts):
    pass


def make_model(basis=ExpNormalSmearing, activation="silu", neighbor_embedding=True, std=None):
    torch.manual_seed(0)
    act = ACTIVATIONS[activation]

    def block():
        mlp = nn.Sequential(nn.Linear(FUNCTIONS, FILTERS), act(), nn.Linear(FILTERS, FILTERS))
        convolution = Parts(
            lin1=nn.Linear(CHANNELS, FILTERS, bias=False),
            lin2=nn.Linear(FILTERS, CHANNELS),
            cutoff=CosineCutoff(),
        )
        return Parts(mlp=mlp, conv=convolution, act=act(), lin=nn.Linear(CHANNELS, CHANNELS))

    neighbors = Parts(
        embedding=nn.Embedding(9, CHANNELS),
        distance_proj=nn.Linear(FUNCTIONS, CHANNELS),
        combine=nn.Linear(2 * CHANNELS, CHANNELS),
        cutoff=CosineCutoff(),
    )
    network = TorchMD_GN(
        embedding=nn.Embedding(9, CHANNELS),
        distance_expansion=basis(),
        neighbor_embedding=neighbors if neighbor_embedding else None,
        interactions=nn.ModuleList([block(), block()]),
        cutoff_upper=UPPER,
        aggr="add",
    )
    layers = nn.Sequential(nn.Linear(CHANNELS, 6), act(), nn.Linear(6, 1))
    head = Scalar(output_network=Parts(act=layers[1], layers=layers), reduce_op="sum")
    model = Parts(representation_model=network, output_model=head, prior_model=None, mean=None, std=std)
    with torch.no_grad():  # initial weights are so small that beads would hardly notice each other
        for part in model.modules():
            if isinstance(part, nn.Linear):
                part.weight *= 2
    return model.double()


def energy_of(model, z, positions):
    """By the equations, over all ordered pairs, in the model's units."""
    network = model.representation_model
    i, j = (~torch.eye(len(z), dtype=torch.bool)).nonzero().T
    r = (positions[i] - positions[j]).norm(dim=1)
    i, j, r = (values[r < UPPER] for values in (i, j, r))
    radial, x = network.distance_expansion(r), network.embedding(z)

    def sums(values, filters, cutoff):
        messages = filters * cutoff(r)[:, None] * values[j]
        return torch.zeros(len(z), messages.shape[1], dtype=x.dtype).index_add(0, i, messages)

    if (part := network.neighbor_embedding) is not None:
        others = sums(part.embedding(z), part.distance_proj(radial), part.cutoff)
        x = part.combine(torch.cat([x, others], 1))
    for block in network.interactions:
        others = sums(block.conv.lin1(x), block.mlp(radial), block.conv.cutoff)
        x = x + block.lin(block.act(block.conv.lin2(others)))
    energies = model.output_model.output_network.layers(x)
    return (energies if model.std is None else energies * model.std).sum()


@pytest.mark.parametrize("case", [Case("Reference"), Case("CPU", 1)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"basis": GaussianSmearing, "activation": "tanh"},
        {"neighbor_embedding": False, "std": torch.tensor(2.5)},
    ],
    ids=str,
)
def test_a_graph_network_is_that_of_its_equations(options, case):
    model, z = make_model(**options), [3, 7]
    positions = liquid(12)
    potential = CGPotential(convert_graph_network(model, z, LENGTH, ENERGY), [("A", 10.0), ("B", 12.0)])
    assert potential.cutoff == pytest.approx(UPPER * LENGTH)
    x = torch.tensor(positions / LENGTH, requires_grad=True)
    energy = energy_of(model, torch.tensor(z * 6), x)
    forces = -torch.autograd.grad(energy, x)[0].numpy() * ENERGY / LENGTH
    exact = case.is_double
    system = potential.create_system(cg_topology(["A", "B"] * 6), engine="torchscript" if exact else "native")
    found, found_forces = energy_and_forces(case.context(system, positions))
    assert found == pytest.approx(ENERGY * energy.item(), rel=1e-12 if exact else 3e-6)
    assert difference(found_forces, forces) < (1e-12 if exact else 2e-5)
    assert (np.abs(forces).max(1) > 0.1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: setattr(model.representation_model, "aggr", "mean"), "the 'mean' of neighbours"),
        (lambda model: setattr(model.output_model, "reduce_op", "mean"), "of beads the 'mean'"),
        (lambda model: setattr(model, "prior_model", nn.ModuleList([nn.Identity()])), "a prior model"),
        (lambda model: setattr(model, "mean", torch.tensor(3.0)), "a mean energy"),
        (lambda model: setattr(model, "output_model", Parts()), "a TorchMD_GN with the output Parts"),
        (
            lambda model: setattr(model.representation_model, "distance_expansion", Parts()),
            "the radial basis Parts; ours are expnorm",
        ),
        (
            lambda model: setattr(model.representation_model.interactions[0], "act", nn.Mish()),
            "the activation Mish; ours can be",
        ),
    ],
)
def test_what_is_not_made_of_the_primitives_is_refused(change, message):
    model = make_model()
    change(model)
    with pytest.raises(ValueError, match=message):
        convert_graph_network(model, [0, 1], LENGTH, ENERGY)
