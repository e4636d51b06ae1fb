"""Figures that set trajectories against each other, coarse-grained against all-atom.

Every function takes curves by their label; the first is the reference, drawn in black, and a lower panel
shows the others minus it. Bands are ± one standard error. Distances are in Å, as in the papers of this field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from openmmcg.analysis.angle_distribution import AngleDistribution
from openmmcg.analysis.mean_squared_displacement import MeanSquaredDisplacement
from openmmcg.analysis.radial_distribution import RadialDistribution

# Reference first; the others are told apart also with colour-blind eyes (Okabe and Ito).
_COLORS = ["black", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
_ANGSTROM = 10.0
# 1 nm²/ps in the unit that diffusion constants of liquids are tabulated in, 10⁻⁵ cm²/s.
_DIFFUSION_UNIT = 1e3

FloatArray = NDArray[np.float64]


def radial_distributions(curves: Mapping[str, RadialDistribution]) -> Figure:
    """g(r) of each curve, and below it the difference Δg to the first.

    Parameters
    ----------
    curves : mapping from label to RadialDistribution
        With equal bins; the reference first.
    """
    lines = {label: (_ANGSTROM * curve.distance, curve.g, curve.error) for label, curve in curves.items()}
    figure, main, difference = _panels(lines, "distance r (Å)", "g(r)", "Δg(r)")
    main.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    main.set_ylim(bottom=0)
    main.set_xlim(0, max(x[-1] for x, _, _ in lines.values()))
    return figure


def angle_distributions(curves: Mapping[str, AngleDistribution]) -> Figure:
    """P(θ) of each curve, and below it the difference to the first.

    Parameters
    ----------
    curves : mapping from label to AngleDistribution
        With equal bins; the reference first.
    """
    lines = {label: (curve.angle, curve.probability, curve.error) for label, curve in curves.items()}
    figure, main, _ = _panels(lines, "angle θ (degrees)", "P(θ) (1/degree)", "ΔP(θ)")
    main.set_ylim(bottom=0)
    angle = next(iter(lines.values()))[0]
    half_bin = (angle[1] - angle[0]) / 2
    main.set_xlim(angle[0] - half_bin, angle[-1] + half_bin)
    return figure


def mean_squared_displacements(
    curves: Mapping[str, MeanSquaredDisplacement], fit: tuple[float, float] | None = None
) -> Figure:
    """Mean squared displacement of each curve.

    Parameters
    ----------
    curves : mapping from label to MeanSquaredDisplacement
    fit : (start, stop), optional
        Range of times, ps, from which the diffusion constants in the legend are taken.
    """
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for color, (label, curve) in zip(_COLORS, curves.items(), strict=False):
        if fit is not None:
            constant, error = (_DIFFUSION_UNIT * value for value in curve.diffusion(*fit))
            label = f"{label}, D = ({constant:.2f} ± {error:.2f})·10⁻⁵ cm²/s"
        _line(axes, curve.time, _ANGSTROM**2 * curve.value, _ANGSTROM**2 * curve.error, color, label)
    if fit is not None:
        axes.axvspan(*fit, color="0.94", zorder=0)
    axes.set(xlabel="time t (ps)", ylabel="mean squared displacement (Å²)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _panels(
    lines: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]],
    x_label: str,
    y_label: str,
    difference_label: str,
) -> tuple[Figure, Axes, Axes]:
    """A panel with all lines (x, y, error of y) above a panel with their differences to the first."""
    if not 1 <= len(lines) <= len(_COLORS):
        raise ValueError(f"a figure takes 1 to {len(_COLORS)} curves, not {len(lines)}")
    reference_x, reference, reference_error = next(iter(lines.values()))
    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    shared: dict[str, Any] = {"sharex": True, "height_ratios": [3, 1]}
    main, difference = figure.subplots(2, 1, **shared)
    for color, (label, (x, y, error)) in zip(_COLORS, lines.items(), strict=False):
        if not np.array_equal(x, reference_x):
            raise ValueError(f"the curve {label!r} has other bins than the first; compute all with the same")
        _line(main, x, y, error, color, label)
        if y is reference:
            _line(difference, x, np.zeros_like(y), error, color, label)
        else:
            _line(difference, x, y - reference, np.hypot(error, reference_error), color, label)
    main.set_ylabel(y_label)
    main.legend(frameon=False)
    difference.set(xlabel=x_label, ylabel=difference_label)
    return figure, main, difference


def _line(axes: Axes, x: FloatArray, y: FloatArray, error: FloatArray, color: str, label: str) -> None:
    axes.plot(x, y, color=color, label=label, linewidth=1.4)
    axes.fill_between(x, y - error, y + error, color=color, alpha=0.2, linewidth=0)
