"""Energies and forces of a filter-convolution network for training: tabulated filters, adjoints written by hand.

What makes the native engine fast serves training as well. Filters depend on the distance alone, so they are
evaluated at some hundred knots instead of at every pair, and interpolated. Where all beads of a type have the
same features, as at the first convolution, the sum over neighbours is one of interpolation weights, which
has no parameters. And as the forces come from adjoints instead of automatic differentiation, the gradient of
the loss needs automatic differentiation once instead of twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openmmcg.fitting.pair_sums import convolve, multiply
from openmmcg.potentials.networks import (
    Filter,
    FilterConvolutionNetwork,
    activate,
    distances_and_directions,
    inner_product,
    quadrupole_adjoint,
    quadrupoles,
)

# Filters and their slopes are interpolated linearly, which is far more exact than training data are.
_CELLS = 512
# With fewer pairs than these for each bead and type, sums over the neighbours of each type cost more than they save.
_FEWEST_PAIRS = 6


def tabulated_forces(
    network: FilterConvolutionNetwork, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Forces on beads, differentiable once with respect to the network's parameters.

    Parameters
    ----------
    network
        Describes itself by primitives.
    displacements, types, rows, columns
        As in `SchNet.forward`.

    Returns
    -------
    Tensor, shape [N, 3]
        kJ/mol/nm. The error of interpolation is some 1e-4 of the forces.
    """
    program = _Forces(displacements, types, rows, columns, network.types, network.cutoff)
    network.describe(program)
    return program.forces()


def tabulated_energies(
    network: FilterConvolutionNetwork,
    displacements: Tensor,
    types: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    gradients: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Energies of beads, ``[N]``, kJ/mol, and on demand their gradients, ``[E, 3]``, with respect to displacements.

    Both are differentiable once with respect to the network's parameters. Arguments and errors are those of
    `tabulated_forces`.
    """
    program = _Forces(displacements, types, rows, columns, network.types, network.cutoff)
    network.describe(program)
    assert program.energies is not None
    slopes = program.gradients() if gradients else None
    program.forget()
    return program.energies, slopes


@dataclass
class _Value:
    """Features ``[N, channels]``, or ``[types, channels]`` where they depend on the type alone.

    Those of a vector are ``[N, 3, channels]``, those of a tensor ``[N, 5, channels]``.
    """

    features: Tensor
    of_types: bool
    adjoint: Tensor | None = None

    def add_to_adjoint(self, term: Tensor) -> None:
        self.adjoint = term if self.adjoint is None else self.adjoint + term


class _Forces:
    """A program that runs forward as it is described, and backward in the end."""

    def __init__(
        self,
        displacements: Tensor,
        types: Tensor,
        rows: Tensor,
        columns: Tensor,
        number_of_types: int,
        cutoff: float,
    ) -> None:
        lengths, self.directions = distances_and_directions(displacements)
        self.distances = distances = lengths.unsqueeze(1)
        self.types, self.rows, self.columns = types, rows, columns
        self.number_of_types = number_of_types
        self.width = cutoff / _CELLS
        places = distances / self.width
        cells = places.to(torch.int64).clamp_(max=_CELLS - 1)
        self.fractions = places - cells
        self.cells = cells.squeeze(1)
        # dE/dr of every pair, and dE/dr̂ where there are convolutions with directions.
        self.slopes = torch.zeros_like(distances).squeeze(1)
        self.direction_gradients = torch.zeros_like(displacements)
        self.energies: Tensor | None = None
        self._adjoints: list[Callable[[], None]] = []

    def forget(self) -> None:
        """Drop the adjoints.

        They refer to this object, which refers to them: all features of all batches would wait for Python's collector.
        """
        self._adjoints.clear()

    def gradients(self) -> Tensor:
        """Of the energy with respect to the displacements, once: the adjoints are forgotten as they run."""
        while self._adjoints:
            self._adjoints.pop()()
        along = (self.direction_gradients * self.directions).sum(1, keepdim=True)
        inverses = self.distances.reciprocal().masked_fill(self.distances == 0, 0.0)
        across = (self.direction_gradients - along * self.directions) * inverses
        return self.slopes.unsqueeze(1) * self.directions + across

    def forces(self) -> Tensor:
        """Once, as `gradients`."""
        gradients = self.gradients()
        forces = gradients.new_zeros(len(self.types), 3)
        return forces.index_add(0, self.rows, gradients).index_add(0, self.columns, -gradients)

    def embedding(self, weight: Tensor) -> _Value:
        return _Value(weight, of_types=True)

    def dense(self, value: _Value, weight: Tensor, bias: Tensor | None, activation: str) -> _Value:
        result = _Value(torch.nn.functional.linear(value.features, weight, bias), value.of_types)

        def adjoint() -> None:
            if result.adjoint is not None and not value.of_types:
                value.add_to_adjoint(result.adjoint @ weight)

        self._adjoints.append(adjoint)
        return result if activation == "identity" else self.activation(result, activation)

    def activation(self, value: _Value, activation: str) -> _Value:
        result = _Value(activate(value.features, activation), value.of_types)

        def adjoint() -> None:
            if result.adjoint is not None and not value.of_types:
                derivative = _derivative(activation, value.features, result.features)
                value.add_to_adjoint(result.adjoint * derivative)

        self._adjoints.append(adjoint)
        return result

    def convolution(self, value: _Value, filter: Filter) -> _Value:
        filters, slopes = self._tabulate(filter)
        if value.of_types and len(self.rows) >= _FEWEST_PAIRS * self.number_of_types * len(self.types):
            return self._convolution_of_types(value.features, filters, slopes)
        features = self._of_beads(value)
        pairs = self.rows, self.columns
        filters_of_pairs = self._interpolate(filters)
        result = _Value(_by_component(features, lambda x: convolve(x, filters_of_pairs, *pairs)), of_types=False)

        def adjoint() -> None:
            if result.adjoint is None:
                return
            slopes_of_pairs = self._interpolate(slopes)
            for x, y in zip(_components(features), _components(result.adjoint), strict=True):
                self.slopes = self.slopes + (multiply(x, y, *pairs) * slopes_of_pairs).sum(1)
            if not value.of_types:
                value.add_to_adjoint(_by_component(result.adjoint, lambda y: convolve(y, filters_of_pairs, *pairs)))

        self._adjoints.append(adjoint)
        return result

    def vector_convolution(self, value: _Value, filter: Filter) -> _Value:
        return self._directed_convolution(value, filter, self.directions, -1, lambda gradients: gradients)

    def tensor_convolution(self, value: _Value, filter: Filter) -> _Value:
        def to_directions(gradients: Tensor) -> Tensor:
            return quadrupole_adjoint(self.directions, gradients)

        return self._directed_convolution(value, filter, quadrupoles(self.directions), 1, to_directions)

    def _directed_convolution(
        self,
        value: _Value,
        filter: Filter,
        harmonics: Tensor,
        parity: int,
        to_directions: Callable[[Tensor], Tensor],
    ) -> _Value:
        """Harmonics ``[E, components]`` of the pairs' directions; the function makes dE/dr̂ of dE/dharmonics."""
        filters, slopes = map(self._interpolate, self._tabulate(filter))
        features = self._of_beads(value)
        directed = [filters * harmonic.unsqueeze(1) for harmonic in harmonics.unbind(1)]
        pairs = self.rows, self.columns
        result = _Value(torch.stack([convolve(features, w, *pairs, sign=parity) for w in directed], 1), of_types=False)

        def adjoint() -> None:
            if result.adjoint is None:
                return
            adjoints = result.adjoint.unbind(1)
            products = torch.stack([multiply(y, features, *pairs, sign=parity) for y in adjoints], 1)
            self.direction_gradients = self.direction_gradients + to_directions(
                (products * filters.unsqueeze(1)).sum(2)
            )
            self.slopes = self.slopes + ((products * harmonics.unsqueeze(2)).sum(1) * slopes).sum(1)
            if not value.of_types:
                terms = [convolve(y, w, *pairs, sign=parity) for y, w in zip(adjoints, directed, strict=True)]
                value.add_to_adjoint(parity * torch.stack(terms).sum(0))

        self._adjoints.append(adjoint)
        return result

    def product(self, scalar: _Value, value: _Value) -> _Value:
        of_types = scalar.of_types and value.of_types
        a, b = (x.features if of_types else self._of_beads(x) for x in (scalar, value))
        is_vector = b.dim() == 3
        result = _Value(a.unsqueeze(1) * b if is_vector else a * b, of_types)

        def adjoint() -> None:
            if result.adjoint is None:
                return
            if not scalar.of_types:
                terms = b * result.adjoint
                scalar.add_to_adjoint(terms.sum(1) if is_vector else terms)
            if not value.of_types:
                value.add_to_adjoint((a.unsqueeze(1) if is_vector else a) * result.adjoint)

        self._adjoints.append(adjoint)
        return result

    def inner_product(self, first: _Value, second: _Value) -> _Value:
        result = _Value(inner_product(first.features, second.features), of_types=False)

        def adjoint() -> None:
            if result.adjoint is not None:
                first.add_to_adjoint(result.adjoint.unsqueeze(1) * second.features)
                second.add_to_adjoint(result.adjoint.unsqueeze(1) * first.features)

        self._adjoints.append(adjoint)
        return result

    def sum(self, *values: _Value) -> _Value:
        of_types = all(value.of_types for value in values)
        features = [value.features if of_types else self._of_beads(value) for value in values]
        result = _Value(torch.stack(features).sum(0), of_types)

        def adjoint() -> None:
            for value in values:
                if result.adjoint is not None and not value.of_types:
                    value.add_to_adjoint(result.adjoint)

        self._adjoints.append(adjoint)
        return result

    def readout(self, value: _Value, weight: Tensor, bias: Tensor | None = None) -> None:
        features = self._of_beads(value)
        self.energies = features @ weight.reshape(-1) + (0.0 if bias is None else bias.sum())
        self._adjoints.append(lambda: value.add_to_adjoint(weight.expand_as(value.features)))

    def _of_beads(self, value: _Value) -> Tensor:
        return value.features.index_select(0, self.types) if value.of_types else value.features

    def _tabulate(self, filter: Filter) -> tuple[Tensor, Tensor]:
        """Filters at the knots and their slopes, by central differences; both ``[knots, channels]``."""
        numbers = torch.arange(-1, _CELLS + 2, dtype=self.fractions.dtype, device=self.fractions.device)
        filters = filter(numbers * self.width)
        return filters[1:-1], (filters[2:] - filters[:-2]) / (2 * self.width)

    def _interpolate(self, table: Tensor) -> Tensor:
        """Rows of a table ``[knots, channels]`` at the distances of the pairs, ``[E, channels]``."""
        left, right = table.index_select(0, self.cells), table.index_select(0, self.cells + 1)
        return torch.lerp(left, right, self.fractions)

    def _convolution_of_types(self, features: Tensor, filters: Tensor, slopes: Tensor) -> _Value:
        histogram, places = self._neighbors_of_types()
        result = _Value(((histogram @ filters) * features.unsqueeze(1)).sum(0), of_types=False)

        def adjoint() -> None:
            if result.adjoint is None:
                return
            # dE/dr of a neighbour of each type at each knot, interpolated at the pairs from both of its ends.
            at_knots = ((result.adjoint * features.unsqueeze(1)) @ slopes.t()).flatten()
            ends = at_knots.take(places)
            self.slopes = self.slopes + torch.lerp(ends[0], ends[1], self.fractions.squeeze(1)).sum(0)

        self._adjoints.append(adjoint)
        return result

    def _neighbors_of_types(self) -> tuple[Tensor, Tensor]:
        """Interpolation weights summed over the neighbours of each type, ``[types, N, knots]``.

        The other array, ``[2, 2, E]``, says where in the first the weights of a pair are: for the lower and
        the upper knot, for the row's and the column's neighbours.
        """
        beads, knots = len(self.types), _CELLS + 1
        lower = [
            (self.types.index_select(0, there) * beads + here) * knots + self.cells
            for here, there in ((self.rows, self.columns), (self.columns, self.rows))
        ]
        places = torch.stack([torch.stack(lower), torch.stack(lower) + 1])
        upper = self.fractions.squeeze(1)
        weights = torch.stack([1 - upper, upper]).unsqueeze(1).expand_as(places)
        counts = upper.new_zeros(self.number_of_types * beads * knots)
        counts.index_add_(0, places.flatten(), weights.flatten())
        return counts.view(self.number_of_types, beads, knots), places


def _derivative(activation: str, values: Tensor, activated: Tensor) -> Tensor:
    """Derivative of an activation function, whose values are there already."""
    if activation == "tanh":
        return 1 - activated * activated
    if activation == "shifted_softplus":
        return torch.sigmoid(values)
    if activation == "silu":
        logistic = torch.sigmoid(values)
        return logistic + activated * (1 - logistic)
    if activation == "square_root":
        return 0.5 / activated
    return torch.ones_like(values)


def _components(features: Tensor) -> Sequence[Tensor]:
    """The components of a vector; a scalar is its own only one."""
    return features.unbind(1) if features.dim() == 3 else [features]


def _by_component(features: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([function(x) for x in features.unbind(1)], 1) if features.dim() == 3 else function(features)
