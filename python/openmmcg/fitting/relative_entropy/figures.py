"""Figures of a minimisation of the relative entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openmmcg.optional import optional_imports

with optional_imports():
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from openmmcg.fitting.relative_entropy.result import RelativeEntropyResult

# More numbers than this, such as a table's, are no curves that one could tell apart.
_MOST = 12


def convergence(result: RelativeEntropyResult) -> Figure:
    """What is left of the relative entropy, and the numbers of the priors relative to their last, by simulation."""
    names = list(result.parameters)[:_MOST]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    simulations = np.arange(len(result.gains))
    left.plot(simulations, result.gains, color="black", marker="o", label="left to be gained")
    left.fill_between(simulations, result.noise.min() / 3, result.noise, color="0.9", label="by noise alone")
    left.plot(simulations, result.tolerance * result.noise, color="0.4", linestyle="--", label="tolerated")
    left.set(yscale="log", xlabel="simulation", ylabel="relative entropy ($k_B$)")
    left.legend(frameon=False, fontsize="small")
    for index, name in enumerate(names):
        value, error = result.parameters[name]
        if value:
            right.plot(simulations, result.values[:, index] / value, marker=".", label=name)
            right.errorbar([simulations[-1] + 0.3], [1.0], [abs(error / value)], color=right.lines[-1].get_color())
    right.axhline(1.0, color="0.8", zorder=0)
    right.set(xlabel="simulation", ylabel="parameter / what was found")
    if names:
        right.legend(frameon=False, fontsize="x-small")
    return figure
