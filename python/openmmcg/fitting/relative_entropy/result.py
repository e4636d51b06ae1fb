"""What a minimisation of the relative entropy found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmmcg.model_file import finite_or_null
from openmmcg.potentials import CGPotential

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RelativeEntropyResult:
    """What a minimisation of the relative entropy found.

    Attributes
    ----------
    potential : CGPotential
        With the priors found.
    parameters : dict of (float, float)
        The numbers of the priors and their standard errors, by name; from the noise of both ensembles.
    gains : array [iterations]
        What a Newton step would still have lowered the relative entropy by, in k_B, after each simulation.
    noise : array [iterations]
        What that would be, on average, with perfect parameters, from the frames there are.
    effective : array [iterations]
        Effective sample size at the parameters of the next simulation, as a part of the frames.
    values : array [iterations, parameters]
        The numbers of the priors with which each simulation ran, in the order of `parameters`; NaN where it failed.
    steps : int
        Of simulation, by all replicas together, equilibration included.
    tolerance : float
        Multiple of the noise at which it ends.
    """

    potential: CGPotential
    parameters: dict[str, tuple[float, float]]
    gains: FloatArray
    noise: FloatArray
    effective: FloatArray
    values: FloatArray
    steps: int
    tolerance: float

    @property
    def converged(self) -> bool:
        """Whether what is left to be gained cannot be told from noise."""
        return bool(self.gains[-1] <= self.tolerance * self.noise[-1])

    @property
    def verdict(self) -> str:
        """Whether it converged, and if not, what would help, in a sentence."""
        left = f"a relative entropy of {self.gains[-1]:.3g} k_B is left, {self.noise[-1]:.3g} of it by noise alone"
        if self.converged:
            return f"converged after {len(self.gains)} simulations: {left}"
        return (
            f"not converged after {len(self.gains)} simulations: {left}, and {self.tolerance:g} times the noise is "
            "tolerated; more iterations help"
        )

    def summary(self) -> dict[str, Any]:
        """All but the potential, as JSON can hold it: null is what is not defined, such as σ without attraction."""
        found: dict[str, Any] = finite_or_null(
            {
                "converged": self.converged,
                "verdict": self.verdict,
                "steps": self.steps,
                "gains": self.gains.tolist(),
                "noise": self.noise.tolist(),
                "parameters": {name: {"value": v, "error": e} for name, (v, e) in self.parameters.items()},
            }
        )
        return found


def with_errors(
    describe: Callable[[FloatArray], dict[str, float]], parameters: FloatArray, covariance: FloatArray
) -> dict[str, tuple[float, float]]:
    """Numbers that follow from parameters, with their standard errors, to first order."""
    values = describe(parameters)
    variances = dict.fromkeys(values, 0.0)
    # Along the axes of the covariance, so that a step of one error is small in every number.
    lengths, axes = np.linalg.eigh(covariance)
    for length, axis in zip(lengths, axes.T, strict=True):
        step = 1e-3 * np.sqrt(max(length, 0.0)) * axis
        if np.any(step):
            try:
                moved = describe(parameters + step)
            except ValueError:  # beyond the last prior there is
                moved = dict.fromkeys(values, np.nan)
            for name, value in moved.items():
                variances[name] += ((value - values[name]) * 1e3) ** 2
    return {name: (value, float(np.sqrt(variances[name]))) for name, value in values.items()}
