"""Compiling a network: tabulated filters and a list of primitives, as ``docs/design.md`` specifies them."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmmcg.potentials.networks.primitives import Filter
from openmmcg.potentials.networks.program import FilterConvolutionNetwork

_FEWEST_CELLS, _MOST_CELLS = 256, 8192
_VALUE_TOLERANCE, _SLOPE_TOLERANCE = 1e-6, 1e-5
# Where in a cell the error of cubic Hermite interpolation is largest: of the value, and of the slope.
_PROBES = (0.5, 0.2113, 0.7887)


def compile_network(network: FilterConvolutionNetwork) -> tuple[str, bytes]:
    """Compile a network that describes itself by primitives.

    Parameters
    ----------
    network : Module
        With the attributes ``types`` and ``cutoff`` and the method ``describe`` of `FilterConvolutionNetwork`.

    Returns
    -------
    str, bytes
        The contents of ``compiled_network.json`` and ``compiled_network.bin``.

    Raises
    ------
    ValueError
        A weight or a filter is not finite, or a filter varies too fast to be tabulated.

    Examples
    --------
    >>> from openmmcg.potentials.networks import SchNet
    >>> operations, numbers = compile_network(SchNet(types=1, channels=4, blocks=1, cutoff=0.6))
    >>> [operation["operation"] for operation in json.loads(operations)["operations"]]
    ['embedding', 'dense', 'convolution', 'dense', 'dense', 'sum', 'dense', 'readout']
    """
    builder = _Builder(network.cutoff)
    with torch.no_grad():
        copy.deepcopy(network).to("cpu", torch.float64).describe(builder)  # type: ignore[attr-defined]
    description = {"cutoff": network.cutoff, "types": network.types, "operations": builder.operations}
    return json.dumps(description), b"".join(builder.chunks)


def tabulate(filter: Filter, cutoff: float) -> NDArray[np.float64]:
    """Tabulate a float64 filter for cubic Hermite interpolation.

    Returns
    -------
    ndarray, shape [cells + 1, 2, channels]
        At knot ``k``, distance ``k cutoff / cells``: value, and slope times cell width. The number of cells
        is doubled from 256 until values between the knots are within 1e-6 of the largest, and slopes within
        1e-5 of the steepest.

    Raises
    ------
    ValueError
        8192 cells do not suffice, or the filter is not finite.
    """
    cells = _FEWEST_CELLS
    while True:
        width = cutoff / cells
        knots = torch.linspace(0.0, cutoff, cells + 1, dtype=torch.float64)
        values, slopes = (part.detach() for part in filter.with_slopes(knots))
        table = torch.stack([values, slopes * width], 1)
        _check_finite(table)
        error, slope_error = _interpolation_errors(filter, table, width)
        if error < _VALUE_TOLERANCE and slope_error < _SLOPE_TOLERANCE:
            return table.numpy()
        if cells == _MOST_CELLS:
            raise ValueError(
                f"a filter varies so fast that a table of {cells} cells reproduces it to {error:.0e} only, and "
                f"its slopes to {slope_error:.0e}; use fewer or wider radial basis functions"
            )
        cells *= 2


def _interpolation_errors(filter: Filter, table: Tensor, width: float) -> tuple[float, float]:
    """Largest errors of values and slopes between the knots, relative to the largest of each."""
    left, right = table[:-1], table[1:]
    errors, slope_errors = [], []
    for t in _PROBES:
        distances = (torch.arange(len(left), dtype=torch.float64) + t) * width
        values, slopes = (part.detach() for part in filter.with_slopes(distances))
        interpolated = (
            (1 + 2 * t) * (1 - t) ** 2 * left[:, 0]
            + t * (1 - t) ** 2 * left[:, 1]
            + t**2 * (3 - 2 * t) * right[:, 0]
            + t**2 * (t - 1) * right[:, 1]
        )
        interpolated_slopes = (
            6 * t * (t - 1) * (left[:, 0] - right[:, 0])
            + (1 - t) * (1 - 3 * t) * left[:, 1]
            + t * (3 * t - 2) * right[:, 1]
        ) / width
        errors.append(float((interpolated - values).abs().max()))
        slope_errors.append(float((interpolated_slopes - slopes).abs().max()))
    smallest = torch.finfo(torch.float64).tiny  # of filters that are zero throughout
    largest = max(float(table[:, 0].abs().max()), smallest)
    steepest = max(float(table[:, 1].abs().max()) / width, smallest)
    return max(errors) / largest, max(slope_errors) / steepest


def _check_finite(array: Tensor) -> None:
    if not bool(torch.isfinite(array).all()):
        raise ValueError("the network has weights or filters that are not finite; did its training diverge?")


class _Builder:
    """A program that writes itself down; a value is its number."""

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff
        self.operations: list[dict[str, Any]] = []
        self.chunks: list[bytes] = []
        self._values = 0
        self._numbers = 0

    def embedding(self, weight: Tensor) -> int:
        return self._add("embedding", weight=self._store(weight))

    def dense(self, value: int, weight: Tensor, bias: Tensor | None, activation: str) -> int:
        arrays = {"weight": self._store(weight.t())}
        if bias is not None:
            arrays["bias"] = self._store(bias)
        return self._add("dense", input=value, **arrays, activation=activation)

    def activation(self, value: int, activation: str) -> int:
        return self._add("activation", input=value, activation=activation)

    def convolution(self, value: int, filter: Filter) -> int:
        return self._add("convolution", input=value, table=self._tabulate(filter))

    def vector_convolution(self, value: int, filter: Filter) -> int:
        return self._add("vector_convolution", input=value, table=self._tabulate(filter))

    def product(self, scalar: int, value: int) -> int:
        return self._add("product", inputs=[scalar, value])

    def inner_product(self, first: int, second: int) -> int:
        return self._add("inner_product", inputs=[first, second])

    def sum(self, *values: int) -> int:
        return self._add("sum", inputs=list(values))

    def readout(self, value: int, weight: Tensor) -> None:
        arrays = {"weight": self._store(weight), "bias": self._store(torch.zeros(1))}
        self.operations.append({"operation": "readout", "input": value, **arrays})

    def _add(self, operation: str, **arguments: Any) -> int:
        number = self._values
        self.operations.append({"operation": operation, "output": number, **arguments})
        self._values += 1
        return number

    def _tabulate(self, filter: Filter) -> dict[str, Any]:
        return self._store(torch.from_numpy(tabulate(filter, self.cutoff)))

    def _store(self, array: Tensor) -> dict[str, Any]:
        _check_finite(array)
        numbers = np.ascontiguousarray(array.detach().numpy(), dtype="<f4")
        reference = {"offset": self._numbers, "shape": list(numbers.shape)}
        self.chunks.append(numbers.tobytes())
        self._numbers += numbers.size
        return reference
