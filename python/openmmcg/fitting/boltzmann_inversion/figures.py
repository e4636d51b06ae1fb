"""Figures of a Boltzmann inversion: its distributions beside the reference's, and how it converged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openmmcg.optional import optional_imports

with optional_imports():
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from openmmcg.fitting.boltzmann_inversion.result import BoltzmannInversionResult

# As in `openmmcg.analysis.figures`: the reference is black; the kinds are told apart also with colour-blind eyes.
_REFERENCE, _SIMULATED = "black", "#0072B2"
_COLORS = {"bonds": "#0072B2", "angles": "#D55E00", "dihedrals": "#009E73", "pairs": "#CC79A7"}
_AXES = {
    "divergence": "Jensen-Shannon divergence (bits)",
    "largest |Δg|": "largest |Δg| of g(r)",
    "mean |Δg|": "mean |Δg| of g(r)",
}
_ANGSTROM = 10.0


def distributions(result: BoltzmannInversionResult) -> Figure:
    """Every distribution of the best iteration and of the reference, with its deviations.

    Of bonded coordinates densities per Å or degree, and their divergence in bits; of pairs g(r), and the largest and
    the mean |Δg|.
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
        scale = 1.0 if coordinate.kind == "pairs" else 1 / unit
        axes, x = panels[index], unit * coordinate.centers
        axes.fill_between(x, scale * result.reference[index], color="0.85", linewidth=0)
        axes.plot(x, scale * result.reference[index], color=_REFERENCE, linewidth=1.2, label="reference")
        axes.plot(x, scale * result.simulated[index], color=_SIMULATED, linewidth=1.2, label="inversion")
        found = [
            f"{deviation:.3g}"
            for criterion, deviation in zip(result.criteria, result.deviations[result.best], strict=True)
            if criterion.coordinate == index
        ]
        axes.set_title(f"{coordinate.label}: {', '.join(found)}", fontsize="small")
        axes.set_xlabel("Å" if is_length else "degrees", fontsize="small")
        axes.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def convergence(result: BoltzmannInversionResult) -> Figure:
    """Every deviation against the iteration, a panel for each measure.

    The dashed line is the tolerance, the grey area what sampling alone makes of the worst.
    """
    measures = list(dict.fromkeys(criterion.measure for criterion in result.criteria))
    figure = Figure(figsize=(4.0 * len(measures), 4.0), layout="constrained")
    iterations = np.arange(len(result.deviations))
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        ours = [index for index, criterion in enumerate(result.criteria) if criterion.measure == measure]
        labelled = set()
        for index in ours:
            kind = result.coordinates[result.criteria[index].coordinate].kind
            label = None if kind in labelled else kind
            labelled.add(kind)
            axes.plot(iterations, result.deviations[:, index], color=_COLORS[kind], linewidth=1, alpha=0.7, label=label)
        worst = result.deviations[:, ours].max(axis=1)
        tolerance = result.criteria[ours[0]].tolerance
        axes.plot(iterations, worst, color="black", linewidth=1.6, marker="o", label="largest")
        axes.axhline(tolerance, color="0.4", linestyle="--", label=f"tolerance {tolerance:g}")
        axes.set_yscale("log")
        lowest = axes.get_ylim()[0]
        noise = result.noise[:, ours].max(axis=1)
        axes.fill_between(iterations, lowest, noise, color="0.9", zorder=0, linewidth=0, label="sampling alone")
        axes.axvline(result.best, color="0.85", zorder=0)
        axes.set(xlabel="iteration", ylabel=_AXES[measure], ylim=(min(lowest, noise.min() / 2), None))
        axes.legend(frameon=False, fontsize="small")
    return figure
