"""Figures of predicted energies, in the manner of Maier & Jackson, figures 2 to 7, and of how true error bars are.

Energies are in eV, noise in meV. Where functions take curves by their label, the first is the reference, drawn in
black. Bands and bars are ± one standard error, unless they are predicted standard deviations and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from openmmcg.electronic.density_of_states import DensityOfStates, common_edges
from openmmcg.electronic.noise import LocalNoise, RejectionFraction, checked
from openmmcg.electronic.resolution import NoiseCurve
from openmmcg.optional import optional_imports

with optional_imports():
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Reference first; the others are told apart also with colour-blind eyes (Okabe and Ito).
_COLORS = ["black", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
_MARKERS = ["o", "s", "^", "D", "v", "P"]
_MEV = 1000.0
_MOST_POINTS = 2000

FloatArray = NDArray[np.float64]


def normality(curves: Mapping[str, RejectionFraction], significance: float = 0.05) -> Figure:
    """Fraction of groups that are not normally distributed, against the number of samples (figure 2).

    Parameters
    ----------
    curves : mapping from label, for instance the number of beads, to RejectionFraction
    significance : float
        Of the tests, drawn dashed: the fraction where all groups are normal.
    """
    figure, axes = _single(curves)
    for color, (label, curve) in zip(_COLORS, curves.items(), strict=False):
        _band(axes, curve.samples, curve.fraction, curve.error, color, label)
    axes.axhline(significance, color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    axes.set(xlabel="number of samples", ylabel="fraction rejected by Shapiro-Wilk")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def latent_space(
    latent: ArrayLike,
    energies: ArrayLike,
    *,
    dimensions: tuple[int, int] = (0, 1),
    groups: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Latent positions coloured by energy, and where groups of frames lie among them (figure 3).

    Parameters
    ----------
    latent : array [frames, dimensions]
    energies : array [frames], eV
        Labels or predicted means.
    dimensions : tuple of int
        The two that are drawn.
    groups : mapping from label to array [frames, dimensions], optional
        Latent positions of other frames, for instance of atoms sampled with the beads in place; the label says where
        the beads were.

    Raises
    ------
    ValueError
        When there are not two dimensions, or not an energy for each frame.
    """
    places = np.asarray(latent, dtype=np.float64)
    if places.ndim != 2 or max(dimensions) >= places.shape[1] or len(set(dimensions)) != 2:
        raise ValueError(f"dimensions {dimensions} are not two of latent positions of shape {list(places.shape)}")
    (values,) = checked(len(places), {"energies": energies})
    x, y = dimensions
    figure = Figure(figsize=(6.0, 4.8), layout="constrained")
    axes = figure.subplots()
    shown = _MOST_POINTS * 10
    limits = np.percentile(values, [1, 99])
    points = axes.scatter(
        places[:shown, x],
        places[:shown, y],
        c=values[:shown],
        s=4,
        cmap="viridis",
        vmin=limits[0],
        vmax=limits[1],
        linewidths=0,
        rasterized=True,
    )
    figure.colorbar(points, ax=axes, label="energy E (eV)", extend="both")
    for number, (label, group) in enumerate((groups or {}).items()):
        color, marker = _COLORS[1 + number % 5], _MARKERS[number // 5 % 6]
        inside = np.asarray(group, dtype=np.float64)
        axes.plot(
            inside[:, x], inside[:, y], marker, color=color, markersize=3, markeredgecolor="white",
            markeredgewidth=0.2, label=label,
        )  # fmt: skip
    axes.set(xlabel=f"latent $z_{{{x + 1}}}$", ylabel=f"latent $z_{{{y + 1}}}$")
    if groups:
        axes.legend(fontsize="small", markerscale=2)
    return figure


def noise(curves: Mapping[str, NoiseCurve], label: str = "number of beads") -> Figure:
    """Estimates of the noise against resolution or temperature (figures 4, 5 and 6).

    Parameters
    ----------
    curves : mapping from the kind of estimate to NoiseCurve
        See `noise_curves`.
    label : str
        Of the horizontal axis, for instance "temperature (K)".
    """
    figure, axes = _single(curves)
    for color, marker, (kind, curve) in zip(_COLORS, _MARKERS, curves.items(), strict=False):
        axes.errorbar(
            curve.x, _MEV * curve.value, _MEV * curve.error, color=color, marker=marker, markersize=4, capsize=2,
            linewidth=1.2, label=kind,
        )  # fmt: skip
    axes.set(xlabel=label, ylabel="noise (meV)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def cluster_noise(local: LocalNoise) -> Figure:
    """Noise found in clusters of frames against the noise predicted for them.

    Parameters
    ----------
    local : LocalNoise
    """
    figure = Figure(figsize=(4.8, 4.5), layout="constrained")
    axes = figure.subplots()
    for each in np.unique(local.clustering):
        chosen = local.clustering == each
        axes.errorbar(
            _MEV * local.predicted_noise[chosen], _MEV * local.noise[chosen], _MEV * local.noise_error[chosen],
            color=_COLORS[1 + int(each) % 5], linestyle="", marker="o", markersize=3, linewidth=0.6,
            label=f"{np.count_nonzero(chosen)} clusters",
        )  # fmt: skip
    _diagonal(axes, _MEV * np.concatenate([local.noise, local.predicted_noise]))
    axes.set(xlabel="predicted noise (meV)", ylabel="noise in clusters (meV)")
    axes.legend(frameon=False, fontsize="small")
    return figure


def parity(energies: ArrayLike, mean: ArrayLike, standard_deviation: ArrayLike) -> Figure:
    """Energies against predicted means, with the predicted standard deviations as bars.

    Of more than 2000 frames, equally spaced ones are drawn; the root mean square error is of all.

    Parameters
    ----------
    energies, mean, standard_deviation : array [frames], eV
    """
    truth, center, width = _predictions(energies, mean, standard_deviation)
    rmse = np.sqrt(np.mean((truth - center) ** 2))
    chosen = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), _MOST_POINTS)).astype(int))
    figure = Figure(figsize=(4.8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        center[chosen], truth[chosen], xerr=width[chosen], color=_COLORS[1], ecolor="0.8", linestyle="", marker="o",
        markersize=2, elinewidth=0.6, rasterized=True,
        label=f"RMSE {_MEV * rmse:.0f} meV, R² {1 - rmse**2 / truth.var():.3f}",
    )  # fmt: skip
    _diagonal(axes, np.concatenate([truth, center]))
    axes.set(xlabel="predicted mean ± standard deviation (eV)", ylabel="energy E (eV)")
    axes.legend(frameon=False)
    return figure


def calibration(energies: ArrayLike, predictions: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """How many energies are in the central intervals that should hold a given fraction, and the spread of (E − μ)/σ.

    Parameters
    ----------
    energies : array [frames], eV
    predictions : mapping from label to (mean, standard deviation), arrays [frames], eV
    """
    if not 1 <= len(predictions) <= len(_COLORS):
        raise ValueError(f"a figure takes 1 to {len(_COLORS)} curves, not {len(predictions)}")
    figure = Figure(figsize=(8.5, 4.0), layout="constrained")
    coverage, spread = figure.subplots(1, 2)
    nominal = np.linspace(0, 1, 101)
    edges = np.linspace(-4, 4, 41)
    for color, (label, (mean, deviation)) in zip(_COLORS[1:] + _COLORS[:1], predictions.items(), strict=False):
        truth, center, width = _predictions(energies, mean, deviation)
        standardised = (truth - center) / width
        inside = np.sort(2 * ndtr(abs(standardised)) - 1)
        observed = np.searchsorted(inside, nominal, side="right") / len(truth)
        coverage.plot(nominal, observed, color=color, label=label)
        density = np.histogram(standardised, edges)[0] / (len(truth) * np.diff(edges))
        spread.stairs(density, edges, color=color, label=f"{label}: {standardised.std():.2f}")
    coverage.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    coverage.set(xlabel="fraction predicted", ylabel="fraction found", xlim=(0, 1), ylim=(0, 1))
    line = np.linspace(-4, 4, 201)
    spread.plot(line, np.exp(-(line**2) / 2) / np.sqrt(2 * np.pi), color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    spread.set(xlabel="(E − μ)/σ", ylabel="probability density", xlim=(-4, 4))
    coverage.legend(frameon=False)
    spread.legend(frameon=False, fontsize="small", title="standard deviation")
    return figure


def density_of_states(states: Mapping[str, DensityOfStates], bins: int = 40) -> Figure:
    """Densities of states, on a linear and a logarithmic scale, which shows the tails (figure 7).

    Plain samples (labels, means alone) are drawn as histograms, mixtures as lines; the legend gives the overlap with
    the first, and dotted lines the 1 % and 99 % quantiles.

    Parameters
    ----------
    states : mapping from label to DensityOfStates
        The reference first.
    bins : int
        Of the histograms.
    """
    if not 1 <= len(states) <= len(_COLORS):
        raise ValueError(f"a figure takes 1 to {len(_COLORS)} curves, not {len(states)}")
    edges = common_edges(*states.values(), bins=bins)
    margin = (edges[-1] - edges[0]) / 4
    width = edges[1] - edges[0]
    edges = np.arange(edges[0] - margin, edges[-1] + margin + width, width)
    energy = np.linspace(edges[0], edges[-1], 401)
    reference = next(iter(states.values()))
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    smallest = np.inf
    for color, (label, each) in zip(_COLORS, states.items(), strict=False):
        name = label if each is reference else f"{label}, overlap {each.overlap(reference).value:.3f}"
        sample = not np.all(each.standard_deviation)
        value, error = each.bin_probabilities(edges) if sample else each.density(energy)
        if sample:
            value, error = value / width, error / width
            smallest = min(smallest, value[value > 0].min())
        for axes in panels:
            if sample:
                axes.stairs(value, edges, color=color, fill=each is reference, alpha=0.3 if each is reference else 1,
                            label=name)  # fmt: skip
            else:
                _band(axes, energy, value, error, color, name)
            for quantile in each.quantile([0.01, 0.99]).value:
                axes.axvline(quantile, color=color, linestyle=":", linewidth=0.8)
    linear, logarithmic = panels
    top = max(linear.get_ylim()[1], 1e-12)
    linear.set_ylim(0, top)
    bottom = smallest / 3 if np.isfinite(smallest) else top * 1e-5
    logarithmic.set(yscale="log", ylim=(bottom, 2 * top))
    for axes in panels:
        axes.set(xlabel="energy E (eV)", xlim=(edges[0], edges[-1]))
    linear.set_ylabel("density of states p(E) (1/eV)")
    figure.legend(*linear.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _single(curves: Mapping[str, object]) -> tuple[Figure, Axes]:
    if not 1 <= len(curves) <= len(_COLORS):
        raise ValueError(f"a figure takes 1 to {len(_COLORS)} curves, not {len(curves)}")
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    return figure, figure.subplots()


def _band(axes: Axes, x: ArrayLike, y: FloatArray, error: FloatArray, color: str, label: str) -> None:
    axes.plot(x, y, color=color, label=label, linewidth=1.4)
    axes.fill_between(x, y - error, y + error, color=color, alpha=0.2, linewidth=0)


def _diagonal(axes: Axes, values: FloatArray) -> None:
    ends = [values.min(), values.max()]
    axes.plot(ends, ends, color="0.5", linestyle="--", linewidth=0.8, zorder=0)


def _predictions(energies: ArrayLike, mean: ArrayLike, deviation: ArrayLike) -> list[FloatArray]:
    given = {"energies": energies, "mean": mean, "standard_deviation": deviation}
    return checked(len(np.atleast_1d(energies)), given)
