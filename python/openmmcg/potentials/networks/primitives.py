"""The torch side of the primitives that networks are made of, under the names of the compiled network.

The primitives are those of the compiled network in ``docs/design.md``: `Embedding`, `Dense`, `activate`,
`Convolution`, `VectorConvolution`, `TensorConvolution`, product, `inner_product`, sum and `Readout`. A value is one
row of channels for each bead, ``[N, channels]``, or one for each component of a vector, ``[N, 3, channels]``, or of
a tensor, ``[N, 5, channels]``. All modules script and follow the dtype they are moved to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ACTIVATIONS = ("identity", "tanh", "shifted_softplus", "silu")  # of layers


def activate(values: Tensor, activation: str) -> Tensor:
    """Apply an activation function by name, one of `ACTIVATIONS` or ``"square_root"``.

    The shifted softplus is :math:`\\ln(\\frac12 e^x + \\frac12)`, Schütt et al., J. Chem. Phys. 148, 241722 (2018);
    silu is :math:`x/(1 + e^{-x})`. The square root is :math:`\\sqrt{x + 10^{-8}}`, which has a derivative at zero;
    that of an inner product of a vector with itself is its norm.
    """
    if activation == "tanh":
        return torch.tanh(values)
    if activation == "shifted_softplus":
        return nn.functional.softplus(values) - math.log(2.0)
    if activation == "silu":
        return nn.functional.silu(values)
    if activation == "square_root":
        return torch.sqrt(values + 1e-8)
    return values


def distances_and_directions(displacements: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths ``[...]`` in nm and unit vectors ``[..., 3]`` of displacements ``[..., 3]``.

    Beads nearer than 10⁻⁶ nm coincide: their distance counts as 0, and they have no direction (a zero vector) and no
    force on each other, as all derivatives are zero. Without this, forces that turn a direction grow as ``1/r`` beyond
    what OpenMM's numbers hold, and are not a number in the end.
    """
    squares = displacements.square().sum(-1)
    coincide = squares < 1e-12  # so that what is not a number stays so
    distances = squares.masked_fill(coincide, 1.0).sqrt()
    directions = (displacements / distances.unsqueeze(-1)).masked_fill(coincide.unsqueeze(-1), 0.0)
    return distances.masked_fill(coincide, 0.0), directions


def quadrupoles(directions: Tensor) -> Tensor:
    """The spherical harmonics of degree 2 of unit vectors, ``[..., 3]`` to ``[..., 5]``; of a zero vector, zeros.

    ``√3 xy, √3 yz, √3 xz, z² − (x² + y²)/2, √3 (x² − y²)/2``, so that the inner product of those of two directions is
    the Legendre polynomial (3 cos² θ − 1)/2 of the angle between them.
    """
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    root = 3.0**0.5
    mixed = [root * x * y, root * y * z, root * x * z]
    return torch.stack(mixed + [z * z - 0.5 * (x * x + y * y), 0.5 * root * (x * x - y * y)], -1)


def quadrupole_adjoint(directions: Tensor, gradients: Tensor) -> Tensor:
    """∂E/∂r̂ ``[..., 3]`` of ∂E/∂Y ``[..., 5]``; only what is at right angles to the direction has a meaning."""
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    root = 3.0**0.5
    xy, yz, xz = root * gradients[..., 0], root * gradients[..., 1], root * gradients[..., 2]
    zz, difference = gradients[..., 3], root * gradients[..., 4]
    return torch.stack(
        [
            xy * y + xz * z - zz * x + difference * x,
            xy * x + yz * z - zz * y - difference * y,
            yz * y + xz * x + 2 * zz * z,
        ],
        -1,
    )


def inner_product(first: Tensor, second: Tensor) -> Tensor:
    """``y_i = Σ_d a_id ∘ b_id`` of two vectors or two tensors, to ``[N, channels]``."""
    return (first * second).sum(1)


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

    A dense layer with activation and one without act on a radial basis, or the latter alone; the result is
    multiplied by the cutoff function.

    Parameters
    ----------
    basis
        A radial basis, with its number of functions as ``size``.
    cutoff
        A cutoff function.
    channels
        Number of filters.
    activation
        That of the first layer; None leaves that layer out, and filters are linear in the basis functions.
    neighbors
        About how many neighbours a convolution sums over; filters are divided by its square root.
    """

    def __init__(
        self, basis: nn.Module, cutoff: nn.Module, channels: int, activation: str | None, neighbors: float
    ) -> None:
        super().__init__()
        self.basis = basis
        self.cutoff = cutoff
        size = int(basis.size)  # type: ignore[arg-type]
        self.hidden = nn.Identity() if activation is None else Dense(size, channels, activation)
        self.output = Dense(size if activation is None else channels, channels)
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
    filter is evaluated once and used in both directions. Each component of a vector gets the same filter.
    """

    def __init__(self, filter: Filter) -> None:
        super().__init__()
        self.filter = filter

    def forward(self, features: Tensor, distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        filters = self.filter(distances)
        if features.dim() == 3:
            filters = filters.unsqueeze(1)
        sums = torch.zeros_like(features)
        sums = sums.index_add(0, rows, features.index_select(0, columns) * filters)
        return sums.index_add(0, columns, features.index_select(0, rows) * filters)


class VectorConvolution(nn.Module):
    """A convolution with directions, ``y_i = Σ_j (x_j ∘ W(r_ij)) r̂_ij``, from a scalar to a vector.

    The unit vector ``r̂_ij`` points from bead ``i`` to its neighbour ``j``.
    """

    def __init__(self, filter: Filter) -> None:
        super().__init__()
        self.filter = filter

    def forward(self, features: Tensor, distances: Tensor, directions: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        filters = self.filter(distances).unsqueeze(1) * directions.unsqueeze(2)
        return _directed_sums(features, filters, rows, columns, -1.0)


class TensorConvolution(nn.Module):
    """A convolution with `quadrupoles`, ``y_i = Σ_j (x_j ∘ W(r_ij)) Y(r̂_ij)``, from a scalar to a tensor."""

    def __init__(self, filter: Filter) -> None:
        super().__init__()
        self.filter = filter

    def forward(self, features: Tensor, distances: Tensor, directions: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        filters = self.filter(distances).unsqueeze(1) * quadrupoles(directions).unsqueeze(2)
        return _directed_sums(features, filters, rows, columns, 1.0)


def _directed_sums(features: Tensor, filters: Tensor, rows: Tensor, columns: Tensor, parity: float) -> Tensor:
    """Sums of features ``[N, channels]`` times filters of pairs ``[E, components, channels]``.

    The parity is what the filters are multiplied by for the pair's second bead, for which the direction is opposite.
    """
    sums = torch.zeros(
        features.shape[0], filters.shape[1], features.shape[1], dtype=features.dtype, device=features.device
    )
    sums = sums.index_add(0, rows, features.index_select(0, columns).unsqueeze(1) * filters)
    return sums.index_add(0, columns, features.index_select(0, rows).unsqueeze(1) * (parity * filters))


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
