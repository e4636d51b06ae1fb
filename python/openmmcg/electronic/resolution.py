"""The average noise, and what it depends on: resolution, temperature, map.

Averages over frames are root mean squares unless said otherwise, so that predicted noise, noise found in clusters or
with the beads in place, and the root mean square error of the means are the same where all is well (Maier & Jackson,
figures 4 and 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.electronic.density_of_states import Estimate
from openmmcg.electronic.noise import checked

FloatArray = NDArray[np.float64]


def average_noise(values: ArrayLike, *, blocks: int = 10, power: float = 2.0) -> Estimate:
    """Average over frames of predicted standard deviations or of errors E − μ, with its error from blocks, eV.

    Parameters
    ----------
    values : array [frames]
    blocks : int
        Of consecutive frames. With `blocks` equal to their number frames count as independent, for instance the noises
        of several constrained configurations.
    power : float
        2 for the root mean square, 1 for the mean of the absolute values.

    Examples
    --------
    >>> print("%.1f ± %.1f" % average_noise([3.0, -3.0, 3.0, -3.0], blocks=2))
    3.0 ± 0.0
    """
    raised = np.abs(checked(len(np.atleast_1d(values)), {"values": values})[0]) ** power
    if not 1 <= blocks <= len(raised):
        raise ValueError(f"{len(raised)} values cannot be cut into {blocks} blocks; give 1 to {len(raised)}")
    average = raised.mean()
    means = np.array([block.mean() for block in np.array_split(raised, blocks)])
    error = means.std(ddof=1) / np.sqrt(blocks) if blocks > 1 else np.nan
    value = average ** (1 / power)
    return Estimate(value, error * value / (power * average) if average else error)


class NoiseCurve(NamedTuple):
    """Noise against what it depends on: the number of beads, or the temperature in K.

    `x`, `value` and `error` are arrays [points]; `x` increases.
    """

    x: FloatArray
    value: FloatArray
    error: FloatArray

    def largest_rise(self) -> tuple[float, float, float]:
        """The neighbouring points between which the noise changes by the largest factor: both x and the factor.

        The factor is larger than one, whichever side has more noise. Against the number of beads, this is where a
        degree of freedom that the energy depends on is lost.
        """
        steps = np.diff(np.log(self.value))
        step = int(np.argmax(abs(steps)))
        return float(self.x[step]), float(self.x[step + 1]), float(np.exp(abs(steps[step])))


def noise_curves(estimates: Mapping[float, Mapping[str, Estimate]]) -> dict[str, NoiseCurve]:
    """Estimates of the noise at several resolutions or temperatures, sorted into a curve for each kind (figures 4, 6).

    Parameters
    ----------
    estimates : mapping from number of beads or temperature to a mapping from the kind of estimate to its value
        A kind may be missing at some points.

    Examples
    --------
    >>> ten, four = {"RMSE": Estimate(0.08, 0.01)}, {"RMSE": Estimate(0.12, 0.01), "clusters": Estimate(0.11, 0.01)}
    >>> curves = noise_curves({10: ten, 4: four})
    >>> curves["RMSE"].x.tolist(), curves["RMSE"].largest_rise()[:2]
    ([4.0, 10.0], (4.0, 10.0))
    """
    kinds = dict.fromkeys(kind for each in estimates.values() for kind in each)
    curves = {}
    for kind in kinds:
        points = sorted((x, *each[kind]) for x, each in estimates.items() if kind in each)
        curves[kind] = NoiseCurve(*np.array(points, dtype=np.float64).T)
    return curves


class RankedMap(NamedTuple):
    """A map, its mean predictive noise, and by how much that exceeds the best map's, both in eV."""

    name: str
    noise: Estimate
    excess: Estimate


def rank_maps(standard_deviations: Mapping[str, ArrayLike], blocks: int = 10) -> list[RankedMap]:
    """Maps in the order of their mean predictive noise, the one that keeps most information first.

    Maier & Jackson, section III: many maps can be tried on one set of labels by training a predictor for each. The
    maps are judged on the same frames, so that the error of a difference is smaller than those of its two terms.

    Parameters
    ----------
    standard_deviations : mapping from name to array [frames]
        Predicted for the same test frames, eV.
    blocks : int
        Of frames, for the errors.

    Examples
    --------
    >>> ranking = rank_maps({"6 beads": np.full(100, 0.12), "with dihedral": np.full(100, 0.08)})
    >>> [(map.name, round(float(map.excess.value), 2)) for map in ranking]
    [('with dihedral', 0.0), ('6 beads', 0.04)]
    """
    if not standard_deviations:
        raise ValueError("there are no maps to rank")
    frames = len(np.atleast_1d(next(iter(standard_deviations.values()))))
    widths = dict(zip(standard_deviations, checked(frames, standard_deviations), strict=True))
    if not 1 <= blocks <= frames:
        raise ValueError(f"{frames} frames cannot be cut into {blocks} blocks; give 1 to {frames}")
    best = min(widths.values(), key=np.mean)

    def mean(values: FloatArray) -> Estimate:
        means = [block.mean() for block in np.array_split(values, blocks)]
        return Estimate(values.mean(), np.std(means, ddof=1) / np.sqrt(blocks) if blocks > 1 else np.nan)

    ranked = [RankedMap(name, mean(width), mean(width - best)) for name, width in widths.items()]
    return sorted(ranked, key=lambda each: float(each.noise.value))
