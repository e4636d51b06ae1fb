"""Compiling a network: tabulated filters and a list of primitives, as ``docs/design.md`` specifies them."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline
from torch import Tensor

from openmmcg.potentials.networks.primitives import Filter
from openmmcg.potentials.networks.program import FilterConvolutionNetwork

_CELLS = (192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
_VALUE_TOLERANCE, _SLOPE_TOLERANCE = 1e-6, 1e-5
_ALMOST = 0.5  # of what that says: no number of cells that would do is passed over
# Where in a cell the error of cubic interpolation is largest: of the value, and of the slope.
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
    """Tabulate a float64 filter as a cubic spline.

    Returns
    -------
    ndarray, shape [cells + 3, channels]
        Coefficients of the cubic B-splines of equal cells: in cell ``k``, from distance ``k cutoff / cells``, the
        filter is the sum of rows ``k`` to ``k + 3`` times the four splines that are not zero there. It is exact at the
        knots, and so are the slopes at both ends. There are 192 cells or more, until values between the knots are
        within 1e-6 of the largest, and slopes within 1e-5 of the steepest.

    Raises
    ------
    ValueError
        16384 cells do not suffice, or the filter is not finite.
    """
    needed = 0.0
    for cells in _CELLS:
        if cells < needed:
            continue
        knots = np.arange(-3.0, cells + 4.0) * (cutoff / cells)
        inner = knots[3:-3]
        values, slopes = _evaluate(filter, inner)
        spline = make_interp_spline(inner, values, t=knots, bc_type=([(1, slopes[0])], [(1, slopes[-1])]))
        error, slope_error = _interpolation_errors(filter, spline, inner)
        if error < _VALUE_TOLERANCE and slope_error < _SLOPE_TOLERANCE:
            return spline.c
        # Errors fall as the fourth and third power of the width of a cell, or not yet so fast.
        excess = max((error / _VALUE_TOLERANCE) ** (1 / 4), (slope_error / _SLOPE_TOLERANCE) ** (1 / 3))
        needed = min(_ALMOST * excess * cells, _CELLS[-1])
    raise ValueError(
        f"a filter varies so fast that a table of {cells} cells reproduces it to {error:.0e} only, and "
        f"its slopes to {slope_error:.0e}; use fewer or wider radial basis functions"
    )


def _evaluate(filter: Filter, distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and slopes, ``[distances, channels]``."""
    values, slopes = (part.detach() for part in filter.with_slopes(torch.from_numpy(distances)))
    _check_finite(values)
    _check_finite(slopes)
    return values.numpy(), slopes.numpy()


def _interpolation_errors(filter: Filter, spline: BSpline, knots: NDArray[np.float64]) -> tuple[float, float]:
    """Largest errors of values and slopes between the knots, relative to the largest of each."""
    places = np.concatenate([(1 - t) * knots[:-1] + t * knots[1:] for t in _PROBES])
    parts = zip(_evaluate(filter, places), (spline(places), spline.derivative()(places)), strict=True)
    smallest = np.finfo(float).tiny  # of filters that are zero throughout
    error, slope_error = (
        float(np.abs(interpolated - exact).max() / max(np.abs(exact).max(), smallest)) for exact, interpolated in parts
    )
    return error, slope_error


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

    def tensor_convolution(self, value: int, filter: Filter) -> int:
        return self._add("tensor_convolution", input=value, table=self._tabulate(filter))

    def product(self, scalar: int, value: int) -> int:
        return self._add("product", inputs=[scalar, value])

    def inner_product(self, first: int, second: int) -> int:
        return self._add("inner_product", inputs=[first, second])

    def sum(self, *values: int) -> int:
        return self._add("sum", inputs=list(values))

    def readout(self, value: int, weight: Tensor, bias: Tensor | None = None) -> None:
        arrays = {"weight": self._store(weight), "bias": self._store(torch.zeros(1) if bias is None else bias)}
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
