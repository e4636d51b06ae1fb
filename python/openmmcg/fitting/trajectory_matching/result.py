"""What a fit through the trajectory found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmmcg.model_file import finite_or_null
from openmmcg.optional import optional_imports
from openmmcg.potentials import CGPotential

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TrajectoryMatchingResult:
    """What a fit through the trajectory found.

    Attributes
    ----------
    potential : CGPotential
        The network with the least loss, of those that were simulated, and the priors.
    losses : array [simulations]
        Of each simulation; NaN where it left all bounds.
    effective : array [simulations]
        Effective number of frames after the step that followed, as a part of them; 1 by the adjoint method, and where
        there was nothing to be gained.
    best : int
        Which simulation's network it is.
    labels : list of str
        What the observables are called.
    means, targets : lists of array
        Of each observable, in the best simulation, and what is wanted.
    """

    potential: CGPotential
    losses: FloatArray
    effective: FloatArray
    best: int
    labels: list[str]
    means: list[FloatArray]
    targets: list[FloatArray]

    @property
    def differences(self) -> dict[str, float]:
        """Mean absolute difference of each observable, by its label."""
        return {
            label: float(np.abs(mean - target).mean())
            for label, mean, target in zip(self.labels, self.means, self.targets, strict=True)
        }

    @property
    def verdict(self) -> str:
        """What was reached, in a sentence."""
        parts = ", ".join(f"mean |Δ| of {label} {value:.3g}" for label, value in self.differences.items())
        return (
            f"loss {self.losses[self.best]:.3g} in simulation {self.best} of {len(self.losses)}, "
            f"{self.losses[0]:.3g} at first; {parts}"
        )

    def summary(self) -> dict[str, Any]:
        """All but the potential, as JSON can hold it."""
        found: dict[str, Any] = finite_or_null(
            {
                "verdict": self.verdict,
                "best": self.best,
                "losses": self.losses.tolist(),
                "effective": self.effective.tolist(),
                "differences": self.differences,
                "observables": [
                    {"label": label, "mean": mean.tolist(), "target": target.tolist()}
                    for label, mean, target in zip(self.labels, self.means, self.targets, strict=True)
                ],
            }
        )
        return found


def convergence(result: TrajectoryMatchingResult) -> Figure:
    """The loss by simulation, and what was reached of each observable beside what is wanted."""
    with optional_imports():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * (1 + len(result.labels)), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(result.labels), squeeze=False)[0]
    axes[0].semilogy(np.arange(len(result.losses)), result.losses, color="black", marker=".")
    axes[0].axvline(result.best, color="0.8", zorder=0)
    axes[0].set(xlabel="simulation", ylabel="loss")
    for panel, label, mean, target in zip(axes[1:], result.labels, result.means, result.targets, strict=True):
        style = "" if len(mean) > 2 else "o"
        panel.plot(target, "k" + (style or "-"), label="wanted")
        panel.plot(mean, "C0" + (style or "--"), label="found")
        panel.set(xlabel="bin", ylabel=label)
        panel.legend(frameon=False)
    return figure
