r"""The density of states p(E): what all frames of a trajectory say about an energy, each with its own error bar.

Every frame contributes the normal distribution that a predictor gives it, so p(E) is smooth and reaches as far as the
molecule's hidden coordinates do (Maier & Jackson, equation 20). A plain sample of energies, for instance the labels of
all-atom frames or the predicted means alone, is the limit of no width, so that all are of one class and compared by the
same functions: cumulative probabilities, probabilities of bins, quantiles, overlap.

Errors come from blocks of consecutive frames drawn again with replacement (bootstrap). Blocks should be longer than the
memory of the system; with runs of equal length one after the other, take a multiple of their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

FloatArray = NDArray[np.float64]
# Of an energy, a mean and a standard deviation.
_Kernel: TypeAlias = "Callable[[FloatArray, FloatArray, FloatArray], FloatArray]"

_ELEMENTS_AT_ONCE = 2_000_000
_RESAMPLES = 200
_BISECTIONS = 60  # halve an interval down to rounding


class Estimate(NamedTuple):
    """A number, or an array of them, with its standard error."""

    value: Any
    error: Any


@dataclass(frozen=True)
class DensityOfStates:
    r"""p(E), the average over frames of a normal distribution for each.

    .. math:: p(E) = \frac{1}{N} \sum_i \mathcal{N}(E; \mu_i, \sigma_i^2)

    Maier & Jackson, equation 20.

    Parameters
    ----------
    mean : array [frames] or [frames, molecules]
        Predicted means μ, eV.
    standard_deviation : array of the same shape, or float
        Predicted standard deviations σ, eV. Zero, the default, makes it the distribution of `mean` itself, as of a
        sample of labels.
    blocks : int
        Blocks of consecutive frames for the errors; 1 for none, errors are then NaN.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, negative standard deviations, or more blocks than
        frames.

    Examples
    --------
    One in ten frames is in a state of higher energy, where the energy is also less certain:

    >>> mean = np.where(np.arange(1000) % 10 == 0, -5.0, -6.0)
    >>> states = DensityOfStates(mean, np.where(mean == -5.0, 0.2, 0.1))
    >>> print(f"{states.quantile(0.95).value:.3f}")
    -5.000
    >>> for each in (states, states.means_alone()):
    ...     print(f"{each.tail(-4.9, upper=True).value:.3f}")
    0.031
    0.000
    """

    mean: FloatArray
    standard_deviation: FloatArray | float = 0.0
    blocks: int = 10

    def __post_init__(self) -> None:
        mean = np.asarray(self.mean, dtype=np.float64)
        if mean.ndim not in (1, 2) or mean.size == 0:
            raise ValueError(
                f"means have the shape {list(mean.shape)}; give [frames] or [frames, molecules], no empty ones"
            )
        deviation = np.asarray(self.standard_deviation, dtype=np.float64)
        if deviation.ndim and deviation.shape != mean.shape:
            raise ValueError(
                f"there are means of shape {list(mean.shape)} and standard deviations of shape "
                f"{list(deviation.shape)}; give one for each"
            )
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation >= 0).all()):
            raise ValueError(
                "means and standard deviations must be finite and the latter not negative; leave out frames whose "
                "label or prediction failed"
            )
        if not 1 <= self.blocks <= len(mean):
            raise ValueError(f"{len(mean)} frames cannot be cut into {self.blocks} blocks; choose 1 to {len(mean)}")
        object.__setattr__(self, "mean", mean.reshape(len(mean), -1))
        object.__setattr__(self, "standard_deviation", np.broadcast_to(deviation, mean.shape).reshape(len(mean), -1))

    def density(self, energy: ArrayLike) -> Estimate:
        """p(E), 1/eV, with its standard error.

        Parameters
        ----------
        energy : array [...]
            eV.

        Raises
        ------
        ValueError
            When a frame has no width: a plain sample has probabilities of bins, no density.
        """
        if not np.all(self.standard_deviation):
            raise ValueError("a sample without standard deviations has no density; take probabilities of bins")
        return self._estimate(energy, _normal_density)

    def cumulative(self, energy: ArrayLike) -> Estimate:
        """Probability that an energy is at most `energy` (array [...], eV), with its standard error."""
        return self._estimate(energy, _normal_cumulative)

    def tail(self, energy: ArrayLike, *, upper: bool = False) -> Estimate:
        """Probability below `energy` (array [...], eV), or above it, with its standard error.

        The upper tail is summed by itself, not as one minus the rest, so that small probabilities keep their digits.
        """
        return self._estimate(energy, _normal_exceeding if upper else _normal_cumulative)

    def bin_probabilities(self, edges: ArrayLike) -> Estimate:
        """Probability of each bin, ``[bins]``, with its standard error; `edges` are ``[bins + 1]``, eV."""
        probability = self._bins(np.asarray(edges, dtype=np.float64))
        return _with_error(probability, self._block_sizes)

    def quantile(self, probability: ArrayLike) -> Estimate:
        """Energies, eV, below which the given probabilities lie, with their standard errors.

        The error is half the distance between the quantiles at the probability plus and minus the standard error of the
        cumulative probability there (Woodruff, J. Am. Stat. Assoc. 47, 635 (1952)).

        Parameters
        ----------
        probability : array [...]
            Between 0 and 1, both excluded.
        """
        wanted = np.asarray(probability, dtype=np.float64)
        if not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"quantiles are of probabilities between 0 and 1, both excluded, not {wanted.tolist()}")
        value = self._inverse(wanted)
        spread = self.cumulative(value).error
        smallest = 0.5 / self.mean.size
        bounds = [self._inverse(np.clip(wanted + sign * spread, smallest, 1 - smallest)) for sign in (1, -1)]
        return Estimate(value, (bounds[0] - bounds[1]) / 2)

    def overlap(self, other: DensityOfStates, edges: ArrayLike | None = None) -> Estimate:
        """Integral of the smaller of two densities: 1 for equal ones, 0 for such that share nothing.

        Parameters
        ----------
        other : DensityOfStates
        edges : array [bins + 1], optional
            Bins, eV, on which both are integrated first; `common_edges` by default. Probability outside counts as a bin
            on each side.

        Notes
        -----
        Finite samples overlap less than the distributions they are from: n independent energies in B equally filled
        bins by about 0.4 √(B/n), 0.025 for 10 000 energies in 40 bins. A mixture of wide normals hardly does.
        """
        limits = common_edges(self, other) if edges is None else np.asarray(edges, dtype=np.float64)
        limits = np.concatenate([[-np.inf], limits, [np.inf]])
        pairs = [(each._bins(limits), each._block_sizes) for each in (self, other)]
        first, second = (np.average(bins, axis=0, weights=sizes) for bins, sizes in pairs)
        draws = [_resampled(bins, sizes, seed) for seed, (bins, sizes) in enumerate(pairs)]
        return Estimate(np.minimum(first, second).sum(), np.minimum(*draws).sum(axis=1).std())

    def sample(self, draws: int, seed: int = 0) -> FloatArray:
        """Energies drawn from p(E), ``[draws]``, eV: a frame by chance, then from its normal distribution."""
        random = np.random.default_rng(seed)
        frames = random.integers(self.mean.size, size=draws)
        return random.normal(self.mean.ravel()[frames], np.ravel(self.standard_deviation)[frames])

    def means_alone(self) -> DensityOfStates:
        """The distribution of the means without their widths, which has too little in its tails."""
        return DensityOfStates(self.mean, blocks=self.blocks)

    @property
    def average(self) -> float:
        """Mean energy, eV."""
        return float(self.mean.mean())

    @property
    def spread(self) -> float:
        """Standard deviation of p(E), eV: that of the means and the mean width, added in quadrature."""
        return float(np.sqrt(self.mean.var() + np.mean(np.square(self.standard_deviation))))

    @property
    def _block_sizes(self) -> FloatArray:
        return np.array([len(block) for block in np.array_split(self.mean, self.blocks)], dtype=np.float64)

    def _estimate(self, energy: ArrayLike, function: _Kernel) -> Estimate:
        return _with_error(
            self._averages(np.asarray(energy, dtype=np.float64), function, self.blocks), self._block_sizes
        )

    def _averages(self, energy: FloatArray, function: _Kernel, blocks: int) -> FloatArray:
        """Averages of `function(E, μ, σ)` over the frames of each of some blocks, ``[blocks, ...]``."""
        points = energy.ravel()
        averages = np.empty((blocks, len(points)))
        means = np.array_split(self.mean, blocks)
        deviations = np.array_split(np.asarray(self.standard_deviation), blocks)
        for row, mean, deviation in zip(averages, means, deviations, strict=True):
            step = max(1, _ELEMENTS_AT_ONCE // mean.size)
            for begin in range(0, len(points), step):
                chunk = points[begin : begin + step, None]
                row[begin : begin + step] = function(chunk, mean.ravel(), deviation.ravel()).mean(axis=1)
        return averages.reshape(blocks, *energy.shape)

    def _bins(self, edges: FloatArray) -> FloatArray:
        """Probability of each bin in each block, ``[blocks, bins]``."""
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError("edges of bins are two or more increasing energies")
        return np.asarray(np.diff(self._averages(edges, _normal_cumulative, self.blocks), axis=1))

    def _inverse(self, probability: FloatArray) -> FloatArray:
        """Where the cumulative probability reaches `probability`, by bisection."""
        # Beyond nine standard deviations there is less of a normal distribution than of any frame in a trajectory.
        low = np.full(probability.shape, np.min(self.mean - 9 * self.standard_deviation))
        high = np.full(probability.shape, np.max(self.mean + 9 * self.standard_deviation))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            reached = self._averages(middle, _normal_cumulative, blocks=1)[0] >= probability
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return (low + high) / 2


def common_edges(*distributions: DensityOfStates, bins: int = 40) -> FloatArray:
    """Edges, ``[bins + 1]``, eV, of equal bins that hold all but 0.1 % on each side of every distribution."""
    ends = [each._inverse(np.array([0.001, 0.999])) for each in distributions]
    return np.linspace(min(low for low, _ in ends), max(high for _, high in ends), bins + 1)


def _normal_density(energy: FloatArray, mean: FloatArray, deviation: FloatArray) -> FloatArray:
    return np.exp(-0.5 * ((energy - mean) / deviation) ** 2) / (np.sqrt(2 * np.pi) * deviation)


def _normal_cumulative(energy: FloatArray, mean: FloatArray, deviation: FloatArray) -> FloatArray:
    return ndtr(_standardised(energy - mean, deviation))


def _normal_exceeding(energy: FloatArray, mean: FloatArray, deviation: FloatArray) -> FloatArray:
    return ndtr(-_standardised(energy - mean, deviation))


def _standardised(difference: FloatArray, deviation: FloatArray) -> FloatArray:
    """`difference` over `deviation`; a sample without width at the energy itself counts as below it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((difference == 0) & (deviation == 0), np.inf, difference / deviation)


def _with_error(block_averages: FloatArray, sizes: FloatArray) -> Estimate:
    value = np.average(block_averages, axis=0, weights=sizes)
    if len(sizes) == 1:
        return Estimate(value, np.full_like(value, np.nan))
    return Estimate(value, _resampled(block_averages, sizes, seed=0).std(axis=0))


def _resampled(block_averages: FloatArray, sizes: FloatArray, seed: int) -> FloatArray:
    """Averages over blocks drawn with replacement, ``[resamples, ...]``; NaN if there is one block."""
    blocks = len(sizes)
    if blocks == 1:
        return np.full((_RESAMPLES, *block_averages.shape[1:]), np.nan)
    # B − 1 of B blocks: drawing B gives errors that are √(1 − 1/B) too small (Rao & Wu, J. Am. Stat. Assoc. 83, 231).
    drawn = np.random.default_rng(seed).multinomial(blocks - 1, np.full(blocks, 1 / blocks), size=_RESAMPLES) * sizes
    return np.asarray(np.tensordot(drawn / drawn.sum(axis=1, keepdims=True), block_averages, axes=1))
