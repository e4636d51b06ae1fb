"""Figures that set trajectories against each other, coarse-grained against all-atom.

Every function takes curves by their label; the first is the reference, drawn in black, and where there is a lower panel
it shows the others minus it. Bands are ± one standard error. Distances are in Å and dihedrals in degrees, as in the
papers of this field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from openmmcg.analysis.angle_distribution import AngleDistribution
from openmmcg.analysis.free_energy import Histogram, kl_divergence, mean_squared_difference
from openmmcg.analysis.mean_squared_displacement import MeanSquaredDisplacement
from openmmcg.analysis.noise_equivalent import NoiseCurve
from openmmcg.analysis.radial_distribution import RadialDistribution
from openmmcg.optional import optional_imports

with optional_imports():
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

if TYPE_CHECKING:
    from openmmcg.analysis.kinetics import ImpliedTimescales

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


def free_energies(
    samples: Mapping[str, Histogram], coordinate: str, *, degrees: bool = False, temperature: float | None = None
) -> Figure:
    """One-dimensional free energy of each sample, and below it the difference to the first.

    All are relative to the lowest value of the first. Bins that a sample never visits are gaps.

    Parameters
    ----------
    samples : mapping from label to Histogram
        Of one coordinate in equal bins (`Histogram.marginal`); the reference first.
    coordinate : str
        Its name, for instance "φ".
    degrees : bool
        Whether it is an angle in radians, to be shown in degrees.
    temperature : float, optional
        K; energies are in kJ/mol with it, and in k_B T without.
    """
    lines: dict[str, tuple[FloatArray, FloatArray, FloatArray]] = {}
    zero = np.nan
    for label, sample in samples.items():
        if len(sample.edges) != 1:
            raise ValueError(f"{label!r} has {len(sample.edges)} coordinates; choose one by its method `marginal`")
        energy = sample.free_energy(temperature)
        edges = _shown(energy.edges[0], degrees)
        value = np.where(np.isinf(energy.value), np.nan, energy.value)
        zero = np.nanmin(value) if not lines else zero
        lines[label] = ((edges[:-1] + edges[1:]) / 2, value - zero, energy.error)
    unit = _energy_unit(temperature)
    figure, main, difference = _panels(
        lines, f"{coordinate} (degrees)" if degrees else coordinate, f"free energy ({unit})", f"ΔF ({unit})"
    )
    main.set_ylim(bottom=0)
    difference.set_xlim(edges[0], edges[-1])
    return figure


def free_energy_maps(
    samples: Mapping[str, Histogram],
    coordinates: tuple[str, str],
    *,
    degrees: bool = False,
    temperature: float | None = None,
    maximum: float | None = None,
    basins: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Two-dimensional free energies beside each other, on one scale of colours: Ramachandran maps, slow coordinates.

    All are relative to the lowest value of the first; bins that were never visited are white.

    Parameters
    ----------
    samples : mapping from label to Histogram
        Of two coordinates; the reference first.
    coordinates : tuple of str
        Their names, for instance ("φ", "ψ").
    degrees : bool
        Whether they are angles in radians, to be shown in degrees.
    temperature : float, optional
        K; energies are in kJ/mol with it, and in k_B T without.
    maximum : float, optional
        Where the scale ends; by default at the highest value of the first.
    basins : mapping from name to a point (x, y), optional
        Marked in every map.
    """
    energies = {label: sample.free_energy(temperature) for label, sample in samples.items()}
    if not energies or any(len(energy.edges) != 2 for energy in energies.values()):
        raise ValueError("maps are of one or more samples with two coordinates each")
    reference = next(iter(energies.values())).value
    zero = reference.min()
    top = reference[np.isfinite(reference)].max() - zero if maximum is None else maximum
    figure = Figure(figsize=(1.0 + 3.0 * len(energies), 3.2), layout="constrained")
    panels = figure.subplots(1, len(energies), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (label, energy) in zip(panels, energies.items(), strict=True):
        x, y = (_shown(edge, degrees) for edge in energy.edges)
        value = np.ma.masked_invalid(energy.value - zero)
        image = axes.pcolormesh(x, y, value.T, cmap="viridis", vmin=0, vmax=top, rasterized=True)
        for color, (name, point) in zip(_COLORS[1:], (basins or {}).items(), strict=False):
            place = _shown(np.asarray(point, dtype=np.float64), degrees)
            axes.plot(*place, marker="*", markersize=14, color=color, markeredgecolor="white", linestyle="", label=name)
        unit = " (degrees)" if degrees else ""
        axes.set(title=label, xlabel=coordinates[0] + unit)
        if degrees:
            axes.xaxis.set_major_locator(MultipleLocator(90))
            axes.yaxis.set_major_locator(MultipleLocator(90))
    panels[0].set_ylabel(coordinates[1] + unit)
    if basins:
        panels[0].legend(fontsize="small")
    figure.colorbar(image, ax=list(panels), label=f"free energy ({_energy_unit(temperature)})", extend="max")
    return figure


def noise_curves(curve: NoiseCurve, models: Mapping[str, Histogram]) -> Figure:
    """Both measures of the reference against itself with noise, and where models meet them.

    Husic et al., J. Chem. Phys. 153, 194101 (2020), figures 5 and 8: a line for each draw of the noise, the value of
    each model (horizontal, dashed) and its noise-equivalent σ (vertical, dotted, with its error), where it has one.

    Parameters
    ----------
    curve : NoiseCurve
    models : mapping from label to Histogram
        In the bins of the reference.
    """
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    sigma = _ANGSTROM * curve.sigma
    for axes, measure, label in zip(
        figure.subplots(1, 2),
        (kl_divergence, mean_squared_difference),
        ("Kullback-Leibler divergence", "mean squared difference ($(k_BT)^2$)"),
        strict=True,
    ):
        axes.plot(sigma, curve.measured(measure).T, color=_COLORS[0], linewidth=0.8)
        for color, (name, model) in zip(_COLORS[1:], models.items(), strict=False):
            equivalent = curve.equivalent(model, measure)
            axes.axhline(equivalent.value, color=color, linestyle="--", label=f"{name}: {equivalent}")
            if np.isfinite(equivalent.sigma):
                place, error = _ANGSTROM * equivalent.sigma, _ANGSTROM * equivalent.error
                axes.axvline(place, color=color, linestyle=":")
                axes.axvspan(place - error, place + error, color=color, alpha=0.15, linewidth=0)
        axes.set(xlabel="noise σ (Å)", ylabel=label, xlim=(0, sigma[-1]))
        axes.set_ylim(bottom=0)
        if models:
            axes.legend(frameon=False, fontsize="small")
    return figure


def dihedral_series(time: FloatArray, angles: Mapping[str, FloatArray], window: int = 1) -> Figure:
    """Dihedrals of one trajectory against time; Husic et al., J. Chem. Phys. 153, 194101 (2020), figure 3.

    Parameters
    ----------
    time : array [F]
        ps.
    angles : mapping from label to array [F]
        Radians.
    window : int
        Frames of the moving average that is drawn over the frames, that of the directions, so that it has no jump at
        ±180 degrees; 1 for none.
    """
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    axes = figure.subplots()
    kernel = np.full(window, 1 / window)
    for color, (label, angle) in zip(_COLORS[1:], angles.items(), strict=False):
        if len(angle) != len(time) or not 1 <= window <= len(time):
            raise ValueError(
                f"{label!r} has {len(angle)} frames for {len(time)} times and a window of {window}; give one angle for "
                "each time, and a window of at most all"
            )
        direction = np.convolve(np.cos(angle), kernel, "valid") + 1j * np.convolve(np.sin(angle), kernel, "valid")
        middle = np.convolve(time, kernel, "valid")
        axes.plot(time, np.degrees(angle), ".", color=color, markersize=1, alpha=0.3)
        axes.plot(middle, np.degrees(np.angle(direction)), ".", color=color, markersize=2, label=label)
    axes.set(xlabel="time (ps)", ylabel="angle (degrees)", ylim=(-180, 180), xlim=(time[0], time[-1]))
    axes.yaxis.set_major_locator(MultipleLocator(90))
    axes.legend(frameon=False, markerscale=5)
    return figure


def structures(groups: Mapping[str, ArrayLike], bonds: Sequence[tuple[int, int]]) -> Figure:
    """Conformations on top of each other, a panel for each group; Husic et al., figure 9.

    Parameters
    ----------
    groups : mapping from label to array [S, N, 3], nm
        Such as ten frames of each basin. They are superposed on the first, which is drawn opaque. A group may be empty.
    bonds : sequence of pairs of int
        What lines connect.
    """
    figure = Figure(figsize=(3.0 * max(1, len(groups)), 3.2), layout="constrained")
    for number, (color, (label, positions)) in enumerate(zip(cycle(_COLORS[1:]), groups.items(), strict=False)):
        axes: Any = figure.add_subplot(1, len(groups), 1 + number, projection="3d")
        frames = np.asarray(positions, dtype=np.float64)
        if frames.ndim != 3 or frames.shape[2] != 3:
            raise ValueError(f"{label!r} has the shape {list(frames.shape)}; give [structures, beads, 3]")
        centered = frames - frames.mean(axis=1, keepdims=True)
        for index, frame in enumerate(centered):
            turned = Rotation.align_vectors(centered[0], frame)[0].apply(frame)
            for bond in bonds:
                axes.plot(*_ANGSTROM * turned[list(bond)].T, color=color, alpha=0.25 if index else 1.0, linewidth=2)
        axes.set(title=f"{label} ({len(frames)})")
        axes.set_aspect("equal")
        axes.set_axis_off()
    return figure


def implied_timescales(curves: Mapping[str, ImpliedTimescales]) -> Figure:
    """Implied time scales of each sample against the lag; in the grey a time scale is shorter than its lag.

    Parameters
    ----------
    curves : mapping from label to ImpliedTimescales
    """
    if not 1 <= len(curves) <= len(_COLORS):
        raise ValueError(f"a figure takes 1 to {len(_COLORS)} curves, not {len(curves)}")
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for color, (label, scales) in zip(_COLORS, curves.items(), strict=False):
        for process, (value, error) in enumerate(zip(scales.value.T, scales.error.T, strict=True)):
            axes.plot(scales.lags, value, color=color, marker="o", markersize=3, label=label if process == 0 else None)
            # On a logarithmic axis a band ends where its lower edge would not be positive.
            axes.fill_between(
                scales.lags, np.maximum(value - error, value / 100), value + error, color=color, alpha=0.2, linewidth=0
            )
    lags = np.concatenate([scales.lags for scales in curves.values()])
    limits = np.array([lags.min(), lags.max()])
    axes.set(xlabel="lag τ (ps)", ylabel="implied time scale (ps)", yscale="log")
    bottom = axes.get_ylim()[0]
    axes.fill_between(limits, min(bottom, limits[0]), limits, color="0.9", linewidth=0, zorder=0)
    axes.legend(frameon=False)
    return figure


def _shown(angle: FloatArray, degrees: bool) -> FloatArray:
    return np.degrees(angle) if degrees else angle


def _energy_unit(temperature: float | None) -> str:
    return "$k_BT$" if temperature is None else "kJ/mol"


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
