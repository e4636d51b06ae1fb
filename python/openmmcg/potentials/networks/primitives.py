"""The torch side of the primitives that networks are made of, under the names of the compiled network.

The primitives are those of the compiled network in ``docs/design.md``: `Embedding`, `Dense`,
`Convolution`, sum and `Readout`. All modules script and follow the dtype they are moved to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ACTIVATIONS = ("identity", "tanh", "shifted_softplus")


def activate(values: Tensor, activation: str) -> Tensor:
    """Apply an activation function by name, one of `ACTIVATIONS`.

    The shifted softplus is :math:`\\ln(\\frac12 e^x + \\frac12)`, Schütt et al., J. Chem. Phys. 148, 241722 (2018).
    """
    if activation == "tanh":
        return torch.tanh(values)
    if activation == "shifted_softplus":
        return nn.functional.softplus(values) - math.log(2.0)
    return values


class Embedding(nn.Module):
    """One vector per bead type: ``y_i = weight[type_i]``, shape ``[N, channels]``."""

    def __init__(self, types: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(types, channels))

    def forward(self, types: Tensor) -> Tensor:
        return torch.index_select(self.weight, 0, types)


class Dense(nn.Module):
    """A layer ``y_i = f(x_i · weightᵀ + bias)``, initialised after Glorot and Bengio (2010)."""

    def __init__(self, inputs: int, outputs: int, activation: str = "identity", bias: bool = True) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation '{activation}'; known are {', '.join(ACTIVATIONS)}")
        self.activation = activation
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(outputs, inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, features: Tensor) -> Tensor:
        return activate(nn.functional.linear(features, self.weight, self.bias), self.activation)


class Filter(nn.Module):
    """A filter-generating network, distances ``[...]`` in nm to filters ``W(r)`` ``[..., channels]``.

    A dense layer with activation and one without act on a radial basis; the result is multiplied by the
    cutoff function.

    Parameters
    ----------
    basis
        A radial basis, with its number of functions as ``size``.
    cutoff
        A cutoff function.
    channels
        Number of filters.
    activation
        That of the first layer.
    neighbors
        About how many neighbours a convolution sums over; filters are divided by its square root.
    """

    def __init__(self, basis: nn.Module, cutoff: nn.Module, channels: int, activation: str, neighbors: float) -> None:
        super().__init__()
        self.basis = basis
        self.cutoff = cutoff
        self.hidden = Dense(int(basis.size), channels, activation)  # type: ignore[arg-type]
        self.output = Dense(channels, channels)
        self.scale = float(neighbors) ** -0.5

    def forward(self, distances: Tensor) -> Tensor:
        decay = (self.scale * self.cutoff(distances)).unsqueeze(-1)
        return self.output(self.hidden(self.basis(distances))) * decay

    def with_slopes(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Filters and their derivatives with respect to the distance, both differentiable."""
        values, slopes = torch.func.jvp(self, (distances,), (torch.ones_like(distances),))  # type: ignore[misc]
        return values, slopes


class Convolution(nn.Module):
    """A continuous-filter convolution ``y_i = Σ_j x_j ∘ W(r_ij)`` over the neighbours ``j`` of bead ``i``.

    Cited as equation 10 of Husic et al., J. Chem. Phys. 153, 194101 (2020). Pairs are listed once, so every
    filter is evaluated once and used in both directions.
    """

    def __init__(self, filter: Filter) -> None:
        super().__init__()
        self.filter = filter

    def forward(self, features: Tensor, distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        filters = self.filter(distances)
        sums = torch.zeros_like(features)
        sums = sums.index_add(0, rows, features.index_select(0, columns) * filters)
        return sums.index_add(0, columns, features.index_select(0, rows) * filters)


class Readout(nn.Module):
    """The energy of each bead, ``scale x_i · weight``, ``[N]``, kJ/mol.

    There is no bias: an energy that no force depends on cannot be learned from forces.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        bound = math.sqrt(3.0 / channels)
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(channels), -bound, bound))
        self.scale = float(scale)

    def forward(self, features: Tensor) -> Tensor:
        return torch.mv(features, self.weight) * self.scale
