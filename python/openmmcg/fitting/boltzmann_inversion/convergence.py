"""How far simulated distributions are from the reference's, in what people look at, and how much of that is noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate, Counts, jensen_shannon_divergence

FloatArray = NDArray[np.float64]

_DRAWS = 100


@dataclass(frozen=True)
class Criterion:
    """A measure of how far a distribution is from the reference's, and what is tolerated.

    Attributes
    ----------
    coordinate : int
        Index of the coordinate.
    label : str
        Of the coordinate and the measure, for people.
    measure : str
        One of `MEASURES`.
    tolerance : float
        Bits of a divergence, none of g(r).
    """

    coordinate: int
    label: str
    measure: str
    tolerance: float


# Of two distributions [bins], the simulated and the reference's: densities of bonded coordinates, g(r) of pairs.
MEASURES: dict[str, Callable[[FloatArray, FloatArray], float]] = {
    "divergence": jensen_shannon_divergence,
    "largest |Δg|": lambda simulated, reference: float(np.abs(simulated - reference).max()),
    "mean |Δg|": lambda simulated, reference: float(np.abs(simulated - reference)[_begin(reference) :].mean()),
}


def make_criteria(coordinates: Sequence[Coordinate], tolerances: Mapping[str, float]) -> tuple[Criterion, ...]:
    """Of bonded coordinates the divergence, of pairs the largest and the mean difference of g(r).

    The mean is over the distances from the shortest that the reference has to the cutoff.

    Parameters
    ----------
    coordinates
        What has distributions.
    tolerances
        Of each measure.
    """
    return tuple(
        Criterion(index, f"{coordinate.label}, {measure}", measure, tolerances[measure])
        for index, coordinate in enumerate(coordinates)
        for measure in MEASURES
        if (measure == "divergence") == (coordinate.kind != "pairs")
    )


def evaluate(
    criteria: Sequence[Criterion], simulated: Sequence[FloatArray], reference: Sequence[FloatArray]
) -> list[float]:
    """Each criterion's measure of distributions that stand in the order of the coordinates, ``[criteria]``."""
    return [MEASURES[c.measure](simulated[c.coordinate], reference[c.coordinate]) for c in criteria]


def sampling_noise(
    criteria: Sequence[Criterion],
    simulated: Counts,
    reference: Counts,
    factors: Sequence[FloatArray],
) -> list[float]:
    """What each criterion's measure would be on average if nothing but sampling made a difference, ``[criteria]``.

    Noise is drawn with the covariance that the blocks of frames have among each other: their differences from the
    mean, added up with random signs (the wild bootstrap; Wu, Ann. Stat. 14, 1261 (1986)).

    Parameters
    ----------
    criteria
        What is measured.
    simulated, reference
        Frames of each.
    factors
        For each coordinate ``[bins]``, what makes its distribution of counts per frame.
    """
    random = np.random.default_rng(0)
    result = {}
    for index in dict.fromkeys(criterion.coordinate for criterion in criteria):
        (one, its), (other, others) = (
            _noise(counts, index, factors[index], random) for counts in (simulated, reference)
        )
        middle, both = (one + other) / 2, (its + others) / 2
        for criterion in criteria:
            if criterion.coordinate == index:
                measure = MEASURES[criterion.measure]
                draws = [measure(np.maximum(middle + n, 0), np.maximum(middle - n, 0)) for n in both]
                result[criterion] = float(np.mean(draws))
    return [result[criterion] for criterion in criteria]


def _noise(
    counts: Counts, index: int, factor: FloatArray, random: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Mean distribution ``[bins]`` and noise of it ``[draws, bins]``."""
    blocks = len(counts.frames)
    weights = counts.frames / counts.frames.sum()
    ours = np.split(counts.blocks, np.cumsum(counts.sizes)[:-1], axis=1)[index]
    each = ours / counts.frames[:, None] * factor
    mean = weights @ each
    signs = random.choice([-1.0, 1.0], (_DRAWS, blocks))
    return mean, (signs * weights) @ (each - mean) * np.sqrt(blocks / (blocks - 1))


def _begin(distribution: FloatArray) -> int:
    return int(np.argmax(distribution > 0))
