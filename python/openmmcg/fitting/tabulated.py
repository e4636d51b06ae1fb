"""Forces of a filter-convolution network for training: tabulated filters, and adjoints written by hand.

What makes the native engine fast serves training as well. Filters depend on the distance alone, so they are
evaluated at some hundred knots instead of at every pair, and interpolated. Where all beads of a type have the
same features, as at the first convolution, the sum over neighbours is one of interpolation weights, which
has no parameters. And as the forces come from adjoints instead of automatic differentiation, the gradient of
the loss needs automatic differentiation once instead of twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from openmmcg.fitting.pair_sums import convolve, multiply
from openmmcg.potentials.networks import Filter, FilterConvolutionNetwork

# Filters and their slopes are interpolated linearly, which is far more exact than training data are.
_CELLS = 512
# With more types than these, sums over the neighbours of each type cost more than they save.
_MOST_TYPES = 4


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


@dataclass
class _Value:
    """Features ``[N, channels]``, or ``[types, channels]`` where they depend on the type alone."""

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
        distances = displacements.square().sum(1, keepdim=True).sqrt()
        self.directions = displacements / distances
        self.types, self.rows, self.columns = types, rows, columns
        self.number_of_types = number_of_types
        self.width = cutoff / _CELLS
        places = distances / self.width
        cells = places.to(torch.int64).clamp_(max=_CELLS - 1)
        self.fractions = places - cells
        self.cells = cells.squeeze(1)
        self.slopes = torch.zeros_like(distances).squeeze(1)  # dE/dr of every pair
        self._adjoints: list[Callable[[], None]] = []

    def forces(self) -> Tensor:
        for adjoint in reversed(self._adjoints):
            adjoint()
        gradients = self.slopes.unsqueeze(1) * self.directions
        forces = gradients.new_zeros(len(self.types), 3)
        return forces.index_add(0, self.rows, gradients).index_add(0, self.columns, -gradients)

    def embedding(self, weight: Tensor) -> _Value:
        return _Value(weight, of_types=True)

    def dense(self, value: _Value, weight: Tensor, bias: Tensor | None, activation: str) -> _Value:
        linear = torch.nn.functional.linear(value.features, weight, bias)
        if activation == "tanh":
            features = torch.tanh(linear)
        elif activation == "shifted_softplus":
            features = torch.nn.functional.softplus(linear) - torch.log(linear.new_tensor(2.0))
        else:
            features = linear
        result = _Value(features, value.of_types)

        def adjoint() -> None:
            if result.adjoint is None or value.of_types:
                return
            term = result.adjoint
            if activation == "tanh":
                term = term * (1 - features * features)
            elif activation == "shifted_softplus":
                term = term * torch.sigmoid(linear)
            value.add_to_adjoint(term @ weight)

        self._adjoints.append(adjoint)
        return result

    def convolution(self, value: _Value, filter: Filter) -> _Value:
        filters, slopes = self._tabulate(filter)
        if value.of_types and self.number_of_types <= _MOST_TYPES:
            return self._convolution_of_types(value.features, filters, slopes)
        features = self._of_beads(value)
        filters_of_pairs = self._interpolate(filters)
        result = _Value(convolve(features, filters_of_pairs, self.rows, self.columns), of_types=False)

        def adjoint() -> None:
            if result.adjoint is None:
                return
            products = multiply(features, result.adjoint, self.rows, self.columns)
            self.slopes = self.slopes + (products * self._interpolate(slopes)).sum(1)
            if not value.of_types:
                value.add_to_adjoint(convolve(result.adjoint, filters_of_pairs, self.rows, self.columns))

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

    def readout(self, value: _Value, weight: Tensor) -> None:
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
