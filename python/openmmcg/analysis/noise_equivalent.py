"""How much noise on the coordinates of the reference does as much harm to its free energy as a model does.

Husic et al., J. Chem. Phys. 153, 194101 (2020), figures 5 and 8: the reference, its positions perturbed by Gaussian
noise of a standard deviation σ, is compared with itself. The σ at which this curve reaches the measure of a
coarse-grained model is the model's noise-equivalent σ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.analysis.free_energy import (
    Histogram,
    count_frames,
    draw_blocks,
    histogram,
    kl_divergence,
    missed_probability,
    pieces,
    trajectory_list,
)
from openmmcg.geometry.neighbors import FrameSequence
from openmmcg.progress import tqdm

FloatArray = NDArray[np.float64]
# Reference and trial probabilities to a number: `kl_divergence` or `mean_squared_difference`.
Measure: TypeAlias = Callable[[FloatArray, FloatArray], float]

_ANGSTROM = 10.0
# Frames perturbed at once.
_CHUNK = 10_000


@dataclass(frozen=True)
class NoiseEquivalent:
    """The noise-equivalent σ of a model; as text, a statement in Å.

    Attributes
    ----------
    sigma : float
        nm; infinite where the curve does not reach the value of the model, or the model was never where the reference
        was.
    error : float
        Standard error, nm, of the bootstrap samples that the curve reaches; NaN where there are fewer than two.
    value : float
        The measure of the model.
    largest_sigma, largest_value : float
        Where the curve ends.
    beyond : float
        Share of the bootstrap samples beyond the end of the curve.
    missed : float
        Share of the reference in bins that the model never visits, which the measures leave out: a model without one of
        the basins can have a small σ.
    """

    sigma: float
    error: float
    value: float
    largest_sigma: float
    largest_value: float
    beyond: float
    missed: float

    def __str__(self) -> str:
        return self._statement() + (f"; {100 * self.missed:.1f} % of the reference missed" if self.missed else "")

    def _statement(self) -> str:
        if not np.isfinite(self.sigma):
            return (
                f"above {_ANGSTROM * self.largest_sigma:.2f} Å: the model's {self.value:.3g} exceeds the curve's "
                f"{self.largest_value:.3g} at its largest noise"
            )
        text = f"{_ANGSTROM * self.sigma:.3f} ± {_ANGSTROM * self.error:.3f} Å"
        if self.sigma == 0:
            text += f": the model's {self.value:.3g} does not exceed the curve without noise"
        if self.beyond > 0:
            end = f"{_ANGSTROM * self.largest_sigma:.2f} Å"
            text += f", {100 * self.beyond:.0f} % of the bootstrap samples beyond {end}"
        return text


@dataclass(frozen=True)
class NoiseCurve:
    """The reference, and the reference perturbed by more and more noise.

    Attributes
    ----------
    sigma : array [S]
        Standard deviations of the noise on each Cartesian coordinate, nm, increasing from 0.
    reference : Histogram
        Unperturbed.
    perturbed : array [trials, S, blocks, *bins]
        Counts, as `reference.counts`, for every draw of the noise.
    """

    sigma: FloatArray
    reference: Histogram
    perturbed: FloatArray

    def measured(self, measure: Measure) -> FloatArray:
        """A measure of the reference against its perturbed selves, ``[trials, S]``."""
        reference = self.reference.probability
        return np.array([[measure(reference, counts.sum(axis=0)) for counts in trial] for trial in self.perturbed])

    def at(self, sigma: float) -> Histogram:
        """The reference with noise of this standard deviation, nm, or the nearest there is; of the first draw."""
        return Histogram(self.reference.edges, self.perturbed[0, np.abs(self.sigma - sigma).argmin()])

    def equivalent(
        self, trial: Histogram, measure: Measure = kl_divergence, resamples: int = 100, seed: int = 0
    ) -> NoiseEquivalent:
        """The σ at which the curve, the mean over its trials, first reaches the measure of a model.

        Between points of the curve σ is interpolated. For the error, the blocks of the reference, with the curve that
        belongs to them, and those of the model are drawn with replacement, and the draw of the noise is chosen at
        random: the σ of these samples scatter by `error`. A model that is right, but another finite sample than the
        reference, has a σ above zero, since the curve compares the reference with its own frames.

        Parameters
        ----------
        trial : Histogram
            Of the model, in the bins of the reference.
        measure
            `kl_divergence` or `mean_squared_difference`, in units of k_B T.
        resamples, seed : int
            Of the bootstrap.

        Raises
        ------
        ValueError
            When the model was counted in other bins.
        """
        if len(trial.edges) != len(self.reference.edges) or not all(map(np.array_equal, trial.edges, self._edges)):
            raise ValueError("the model was counted in other bins than the reference; use the same edges")
        curve = self.measured(measure).mean(axis=0)
        value = _compare(measure, self.reference.probability, trial.probability)
        sigma = _crossing(self.sigma, curve, value)
        sigmas = np.array(self._resampled_sigmas(trial, measure, resamples, seed))
        reached = sigmas[np.isfinite(sigmas)]
        return NoiseEquivalent(
            sigma=sigma,
            error=float(reached.std()) if len(reached) > 1 else np.nan,
            value=value,
            largest_sigma=float(self.sigma[-1]),
            largest_value=float(curve[-1]),
            beyond=float(np.isinf(sigmas).mean()) if len(sigmas) else 0.0,
            missed=missed_probability(self.reference.probability, trial.probability),
        )

    @property
    def _edges(self) -> tuple[FloatArray, ...]:
        return self.reference.edges

    def _resampled_sigmas(self, trial: Histogram, measure: Measure, resamples: int, seed: int) -> list[float]:
        if len(self.reference.counts) == 1 or len(trial.counts) == 1:
            return []
        random = np.random.default_rng(seed)
        sigmas = []
        for _ in range(resamples):
            model = draw_blocks(trial.counts, random)
            perturbed = self.perturbed[random.integers(len(self.perturbed))]
            # One draw of the reference's blocks serves the unperturbed and all perturbed counts.
            reference, *curve = draw_blocks(np.concatenate([self.reference.counts[None], perturbed]), random, axis=1)
            values = np.array([measure(reference, counts) for counts in curve])
            sigmas.append(_crossing(self.sigma, values, _compare(measure, reference, model)))
        return sigmas


def noise_curve(
    positions: FrameSequence | Sequence[FrameSequence],
    coordinates: Callable[[FloatArray], FloatArray],
    edges: Sequence[ArrayLike],
    *,
    sigma: ArrayLike | None = None,
    weights: NDArray | Sequence[NDArray] | None = None,
    trials: int = 5,
    blocks: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> NoiseCurve:
    """Perturb the positions of a reference by noise and count its frames in bins again.

    Parameters
    ----------
    positions : array-like [F, N, 3], or a list of such
        The reference, nm, at the resolution of the model: its beads.
    coordinates : function
        Positions [F, N, 3] to the coordinates that are binned, [F, D]: dihedrals, or slow coordinates.
    edges, weights
        As in `histogram`.
    blocks : int
        For the errors; as in `histogram`, but more trajectories than that are put together into so many blocks, since
        all perturbed counts of all blocks are kept.
    sigma : array [S], optional
        Standard deviations of the noise on each Cartesian coordinate, nm, increasing from 0; by default 0, 0.001, …
        0.03 nm, the paper's 0 to 0.30 Å. Within a trial the noise is drawn once and scaled, so that the curve is
        smooth.
    trials : int
        Draws of the noise (50 in the paper).
    seed : int
        Of the noise.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        As `histogram`, and for a σ that does not increase from 0.

    Examples
    --------
    A bead in a harmonic well of the width 0.02 nm. A model with a well of the width √(0.02² + 0.01²) nm differs from it
    as much as a noise of 0.01 nm:

    >>> random = np.random.default_rng(1)
    >>> beads = random.normal(scale=0.02, size=(20000, 1, 3))
    >>> edges = [np.linspace(-0.12, 0.12, 61)]
    >>> curve = noise_curve(beads, lambda positions: positions[:, 0, :1], edges, progress=False)
    >>> model = histogram(random.normal(scale=np.hypot(0.02, 0.01), size=20000), edges)
    >>> print(f"{10 * curve.equivalent(model).sigma:.1f} Å")
    0.1 Å
    """
    widths = np.asarray(np.arange(31) * 1e-3 if sigma is None else sigma, dtype=np.float64)
    if widths.ndim != 1 or len(widths) < 2 or widths[0] != 0 or not (np.diff(widths) > 0).all():
        raise ValueError("sigma must be two or more values, nm, that increase from 0")
    runs = trajectory_list(positions)
    counted = histogram(
        [np.concatenate([coordinates(chunk) for chunk in _chunks(run, slice(0, len(run)))]) for run in runs],
        edges,
        weights=weights,
        blocks=blocks,
    )
    loads = [np.ones(len(run)) for run in runs] if weights is None else trajectory_list(weights)
    parts = [
        (run, load, part) for run, load in zip(runs, loads, strict=True) for part in pieces(len(run), len(runs), blocks)
    ]
    block_of_part = np.arange(len(parts)) * min(blocks, len(parts)) // len(parts)
    together = np.zeros((block_of_part[-1] + 1, *counted.counts.shape[1:]))
    np.add.at(together, block_of_part, counted.counts)
    reference = Histogram(counted.edges, together)
    perturbed = np.zeros((trials, len(widths), len(together), counted.counts[0].size))
    random = np.random.default_rng(seed)
    with tqdm(
        total=trials * len(parts), desc="perturbing the reference", delay=2, leave=False, disable=not progress
    ) as bar:
        for trial in range(trials):
            for block, (run, load, part) in zip(block_of_part, parts, strict=True):
                first = part.start
                for chunk in _chunks(run, part):
                    noise = random.standard_normal(chunk.shape)
                    heavy = load[first : first + len(chunk)]
                    for index, width in enumerate(widths):
                        values = coordinates(chunk + width * noise)
                        values = values.reshape(len(chunk), len(reference.edges))
                        perturbed[trial, index, block] += count_frames(values, reference.edges, heavy)
                    first += len(chunk)
                bar.update()
    shape = (trials, len(widths), *reference.counts.shape)
    return NoiseCurve(widths, reference, perturbed.reshape(shape))


def _chunks(positions: FrameSequence, part: slice) -> Iterator[FloatArray]:
    for first in range(part.start, part.stop, _CHUNK):
        yield np.asarray(positions[first : min(first + _CHUNK, part.stop)], dtype=np.float64)


def _compare(measure: Measure, reference: FloatArray, trial: FloatArray) -> float:
    """The measure; infinite where the trial has not been where the reference was."""
    return measure(reference, trial) if ((reference > 0) & (trial > 0)).any() else np.inf


def _crossing(sigma: FloatArray, curve: FloatArray, value: float) -> float:
    """Where a curve first reaches a value, interpolated; infinity where it never does."""
    reached = curve >= value
    if not reached.any():
        return np.inf
    point = int(np.argmax(reached))
    if point == 0:
        return float(sigma[0])
    return float(np.interp(value, curve[point - 1 : point + 1], sigma[point - 1 : point + 1]))
