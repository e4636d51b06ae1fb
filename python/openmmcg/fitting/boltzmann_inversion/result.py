"""What an inversion found, as it goes on and in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmmcg.fitting.boltzmann_inversion.convergence import Criterion, evaluate, sampling_noise
from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate, Counts
from openmmcg.fitting.boltzmann_inversion.reference_distributions import ReferenceDistributions
from openmmcg.potentials import CGPotential

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BoltzmannInversionResult:
    """What Boltzmann inversion found.

    Attributes
    ----------
    potential : CGPotential
        Of the best iteration.
    best : int
        The iteration whose largest deviation, in multiples of its tolerance, is least; 0 is the direct inversion, or
        the potential to be corrected.
    criteria : tuple of Criterion
        What is measured of the distributions, and tolerated: of bonded coordinates the Jensen-Shannon divergence in
        bits, of pairs the largest and the mean difference of g(r).
    deviations : array [iterations, criteria]
        What was measured after each iteration.
    noise : array [iterations, criteria]
        What it would be, on average, if the potential were perfect, from the frames there are of reference and
        simulation.
    divergences : array [iterations, coordinates]
        Jensen-Shannon divergence of each distribution from the reference's, in bits.
    coordinates : tuple of Coordinate
        What has these distributions.
    reference, simulated : tuple of arrays [bins]
        Of the reference and of the best iteration: g(r) of pairs, otherwise probability densities per nm or radian.
    """

    potential: CGPotential
    best: int
    criteria: tuple[Criterion, ...]
    deviations: FloatArray
    noise: FloatArray
    divergences: FloatArray
    coordinates: tuple[Coordinate, ...]
    reference: tuple[FloatArray, ...]
    simulated: tuple[FloatArray, ...]

    @property
    def converged(self) -> bool:
        """Whether all deviations of the best iteration are within their tolerances."""
        return not self._unmet().any()

    @property
    def limited_by_sampling(self) -> bool:
        """Whether it is not converged for want of frames: noise is the greater part of what is out of tolerance."""
        unmet = self._unmet()
        # The squares of noise and of the potential's own error add up.
        noisy = self.deviations[self.best] <= np.sqrt(2) * self.noise[self.best]
        return bool(unmet.any() and noisy[unmet].all())

    def _unmet(self) -> NDArray[np.bool_]:
        return self.deviations[self.best] > [criterion.tolerance for criterion in self.criteria]

    @property
    def verdict(self) -> str:
        """Whether it converged, and if not, in what, and what would help, in a sentence."""
        number, last = self.best, len(self.deviations) - 1
        begin = f"iteration {number} of {last} is the best"
        if self.converged:
            return f"{begin}, and converged"
        unmet = [
            f"{criterion.label}: {deviation:.3g}, tolerance {criterion.tolerance:g}, sampling alone {noise:.2g}"
            for criterion, deviation, noise, out in zip(
                self.criteria, self.deviations[number], self.noise[number], self._unmet(), strict=True
            )
            if out
        ]
        remedy = (
            "the frames, not the potential, limit this: take a longer duration, more replicas, more frames of the "
            "reference, or larger tolerances"
            if self.limited_by_sampling
            else "more iterations or more patience may help"
        )
        return f"{begin}, but not converged ({'; '.join(unmet)}); {remedy}"

    def summary(self) -> dict[str, Any]:
        """Deviations of the first and of the best iteration by the labels of the criteria, as JSON can hold them."""
        return {
            "converged": self.converged,
            "limited_by_sampling": self.limited_by_sampling,
            "verdict": self.verdict,
            "iterations": len(self.divergences),
            "best": self.best,
            "divergences": {
                coordinate.label: {"first": float(first), "best": float(best)}
                for coordinate, first, best in zip(
                    self.coordinates, self.divergences[0], self.divergences[self.best], strict=True
                )
            },
            "deviations": {
                criterion.label: {
                    "first": float(self.deviations[0, index]),
                    "best": float(self.deviations[self.best, index]),
                    "noise": float(self.noise[self.best, index]),
                    "tolerance": criterion.tolerance,
                }
                for index, criterion in enumerate(self.criteria)
            },
        }


class Record:
    """The iterations so far.

    Parameters
    ----------
    reference : ReferenceDistributions
        What is to be reproduced.
    criteria : sequence of Criterion
        How well.

    Attributes
    ----------
    best : int
        The iteration whose largest deviation, in multiples of its tolerance, is least.
    scores : list of float
        That deviation, of each iteration.
    """

    def __init__(self, reference: ReferenceDistributions, criteria: Sequence[Criterion]) -> None:
        self._reference, self._criteria = reference, tuple(criteria)
        self._tolerances = np.array([criterion.tolerance for criterion in criteria])
        self._target = reference.distributions(reference.counts)
        self._energies: list[Sequence[FloatArray]] = []
        self._counts: list[Counts] = []
        self._deviations: list[list[float]] = []
        self._noise: list[list[float]] = []
        self.scores: list[float] = []
        self.best = 0

    def add(self, energies: Sequence[FloatArray], counts: Counts) -> None:
        """Take in what was sampled with these energies."""
        simulated = self._reference.distributions(counts)
        self._energies.append(energies)
        self._counts.append(counts)
        self._deviations.append(evaluate(self._criteria, simulated, self._target))
        self._noise.append(sampling_noise(self._criteria, counts, self._reference.counts, self._reference.factors))
        self.scores.append(float(np.max(self._deviations[-1] / self._tolerances)))
        self.best = int(np.argmin(self.scores))

    def next_energies(self, damping: float) -> list[FloatArray]:
        """Those to begin with, or the best ones, corrected."""
        if not self._energies:
            return self._reference.first_energies()
        return self._reference.correct(self._energies[self.best], self._counts[self.best], damping)

    def line(self) -> str:
        """About the last iteration, of each measure the worst, for a log."""
        worst: dict[str, tuple[float, str]] = {}
        for criterion, deviation, noise in zip(self._criteria, self._deviations[-1], self._noise[-1], strict=True):
            text = f"{criterion.label} {deviation:.3g} (tolerance {criterion.tolerance:g}, sampling {noise:.2g})"
            score = deviation / criterion.tolerance
            worst[criterion.measure] = max(worst.get(criterion.measure, (-1.0, "")), (score, text))
        return f"iteration {len(self.scores) - 1}: {'; '.join(text for _, text in worst.values())}"

    def result(self, settings: dict[str, Any]) -> BoltzmannInversionResult:
        """What came of it; the potential's provenance will hold these settings."""
        return BoltzmannInversionResult(
            potential=self._reference.make_potential(self._energies[self.best], settings),
            best=self.best,
            criteria=self._criteria,
            deviations=np.array(self._deviations),
            noise=np.array(self._noise),
            divergences=np.array([self._reference.divergences(counts) for counts in self._counts]),
            coordinates=tuple(self._reference.coordinates),
            reference=tuple(self._target),
            simulated=tuple(self._reference.distributions(self._counts[self.best])),
        )
