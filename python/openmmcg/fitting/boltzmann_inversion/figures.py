"""Figures of a Boltzmann inversion: its distributions beside the reference's, and how it converged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openmmcg.optional import optional_imports

with optional_imports():
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from openmmcg.fitting.boltzmann_inversion.boltzmann_inversion import BoltzmannInversionResult

# As in `openmmcg.analysis.figures`: the reference is black; the kinds are told apart also with colour-blind eyes.
_REFERENCE, _SIMULATED = "black", "#0072B2"
_COLORS = {"bonds": "#0072B2", "angles": "#D55E00", "dihedrals": "#009E73", "pairs": "#CC79A7"}
_ANGSTROM = 10.0


def distributions(result: BoltzmannInversionResult) -> Figure:
    """Every distribution of the best iteration and of the reference, with the divergence in bits.

    Lengths are in Å and angles in degrees, densities per Å or degree.
    """
    number = len(result.coordinates)
    columns = min(4, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(3.0 * columns, 2.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[number:]:
        axes.set_axis_off()
    for index, coordinate in enumerate(result.coordinates):
        is_length = coordinate.kind in ("bonds", "pairs")
        unit = _ANGSTROM if is_length else float(np.degrees(1.0))
        axes, x = panels[index], unit * coordinate.centers
        axes.fill_between(x, result.reference[index] / unit, color="0.85", linewidth=0)
        axes.plot(x, result.reference[index] / unit, color=_REFERENCE, linewidth=1.2, label="reference")
        axes.plot(x, result.simulated[index] / unit, color=_SIMULATED, linewidth=1.2, label="inversion")
        axes.set_title(f"{coordinate.label}: {result.divergences[result.best, index]:.4f}", fontsize="small")
        axes.set_xlabel("Å" if is_length else "degrees", fontsize="small")
        axes.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def convergence(result: BoltzmannInversionResult) -> Figure:
    """Jensen-Shannon divergence of every distribution against the iteration; the grey line is the tolerance."""
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    iterations = np.arange(len(result.divergences))
    labelled = set()
    for coordinate, values in zip(result.coordinates, result.divergences.T, strict=True):
        label = None if coordinate.kind in labelled else coordinate.kind
        labelled.add(coordinate.kind)
        axes.plot(iterations, values, color=_COLORS[coordinate.kind], linewidth=1.0, alpha=0.7, label=label)
    axes.plot(iterations, result.divergences.max(1), color="black", linewidth=1.6, marker="o", label="largest")
    axes.axhline(result.tolerance, color="0.6", linestyle="--", label=f"tolerance {result.tolerance:g}")
    axes.axvline(result.best, color="0.85", zorder=0)
    axes.set(xlabel="iteration", ylabel="Jensen-Shannon divergence (bits)", yscale="log")
    axes.legend(frameon=False, fontsize="small")
    return figure
