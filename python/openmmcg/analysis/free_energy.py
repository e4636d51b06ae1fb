"""Free energies of a few coordinates (dihedrals, slow coordinates), how two of them differ, and basins in them.

Frames are counted in bins, block by block (`histogram`); all else follows from the counts, and its error from drawing
the blocks again with replacement (bootstrap). A block is a trajectory or a stretch of one, which should be longer than
the memory of the system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.analysis.statistics import block_slices
from openmmcg.constants import GAS_CONSTANT

FloatArray = NDArray[np.float64]
# One trajectory as an array, or several in a list.
Trajectories: TypeAlias = "NDArray | Sequence[NDArray]"


def thermal_energy(temperature: float | None) -> float:
    """k_B T in kJ/mol, or 1 without a temperature: energies are then in units of k_B T.

    Examples
    --------
    >>> round(thermal_energy(300.0), 4), thermal_energy(None)
    (2.4943, 1.0)
    """
    if temperature is None:
        return 1.0
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, in K, not {temperature:g}")
    return GAS_CONSTANT * temperature


@dataclass(frozen=True)
class FreeEnergy:
    """A free energy on bins of one or more coordinates.

    Attributes
    ----------
    edges : tuple of arrays [bins + 1]
        Of the bins, for each coordinate.
    value : array [*bins]
        −k_B T ln p, p being the probability of the bin; infinite in bins that were never visited. Subtract the
        smallest value for a surface that starts at zero.
    error : array [*bins]
        Standard error of `value`, k_B T times the relative error of p; NaN in bins that were never visited.
    """

    edges: tuple[FloatArray, ...]
    value: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class Histogram:
    """How often the bins of one or more coordinates were visited, block by block.

    Attributes
    ----------
    edges : tuple of arrays [bins + 1]
        Of the bins, for each coordinate.
    counts : array [blocks, *bins]
        Sums of the weights of frames.
    """

    edges: tuple[FloatArray, ...]
    counts: FloatArray

    @property
    def probability(self) -> FloatArray:
        """Normalised bin counts p, ``[*bins]``, their sum is 1."""
        return np.asarray(self.counts.sum(axis=0) / self.counts.sum())

    def resampled(self, resamples: int = 200, seed: int = 0) -> FloatArray:
        """Bin probabilities of blocks drawn with replacement, ``[resamples, *bins]``; NaN if there is one block."""
        return bootstrap(self.counts, resamples, seed)

    def marginal(self, coordinate: int) -> Histogram:
        """The histogram of one coordinate, whatever the others are."""
        others = tuple(axis + 1 for axis in range(len(self.edges)) if axis != coordinate)
        return Histogram((self.edges[coordinate],), self.counts.sum(axis=others))

    def free_energy(self, temperature: float | None = None, resamples: int = 200, seed: int = 0) -> FreeEnergy:
        """−k_B T ln p with its error.

        Parameters
        ----------
        temperature : float, optional
            K; the energies are then in kJ/mol, otherwise in k_B T.
        resamples : int
            Bootstrap samples for the error.
        seed : int
            Of the bootstrap.
        """
        energy, probability = thermal_energy(temperature), self.probability
        spread = self.resampled(resamples, seed).std(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return FreeEnergy(self.edges, -energy * np.log(probability), energy * spread / probability)


def dihedral_edges(bins: int = 60) -> FloatArray:
    """Edges of equal bins of a dihedral angle, from −π to π radians."""
    return np.linspace(-np.pi, np.pi, bins + 1)


def histogram(
    coordinates: Trajectories,
    edges: Sequence[ArrayLike],
    *,
    weights: Trajectories | None = None,
    blocks: int = 10,
) -> Histogram:
    """Count the frames in bins.

    Parameters
    ----------
    coordinates : array [F, D] or [F], or a list of such arrays
        One trajectory or several. Values beyond the edges are counted in the outermost bins, so that no frame is lost.
    edges : sequence of D arrays [bins + 1]
        Increasing. `dihedral_edges` for periodic angles.
    weights : array [F], or a list of such arrays, optional
        Weights of the frames, for instance `MarkovModel.frame_weights`; 1 by default. The errors take them as exact.
    blocks : int
        Least number of blocks for the errors: every trajectory is one, or is cut into so many of equal length that
        there are `blocks`. Trajectories shorter than that are cut less.

    Raises
    ------
    ValueError
        For wrong shapes, values that are not finite, edges that do not increase, or weights that are negative or all
        zero.

    Examples
    --------
    The Ramachandran map of φ and ψ, 60 × 60 bins, of two trajectories, twice as long in one place as in the other:

    >>> trajectories = [np.full((100, 2), -1.5), np.full((50, 2), 1.0)]
    >>> ramachandran = histogram(trajectories, [dihedral_edges(), dihedral_edges()])
    >>> ramachandran.counts.shape
    (10, 60, 60)
    >>> energy = ramachandran.marginal(0).free_energy(temperature=300.0).value
    >>> np.diff(energy[np.isfinite(energy)]).round(2)
    array([1.73])
    """
    limits = _check_edges(edges)
    runs = [_check_coordinates(run, len(limits)) for run in trajectory_list(coordinates)]
    loads = [np.ones(len(run)) for run in runs] if weights is None else _check_weights(weights, runs)
    bins = tuple(len(edge) - 1 for edge in limits)
    counts = [
        count_frames(run[piece], limits, load[piece])
        for run, load in zip(runs, loads, strict=True)
        for piece in pieces(len(run), len(runs), blocks)
    ]
    return Histogram(limits, np.stack(counts).reshape(len(counts), *bins))


def kl_divergence(reference: ArrayLike, trial: ArrayLike) -> float:
    """Kullback-Leibler divergence Σ p ln(p/q) of bin probabilities.

    Husic et al., J. Chem. Phys. 153, 194101 (2020), equation 14. Bins that the reference never visits add nothing
    (0 ln 0 = 0). By the equation, a bin that the reference visits and the trial never does makes the divergence
    infinite, which any finite sample would be; such bins are left out, as in equation 15. So judge it together with
    `missed_probability`: a trial without one of the basins is not the better for it.

    Two finite samples of one distribution have a divergence of about (occupied bins − 1)/2 · (1/n + 1/m), n and m
    being their numbers of independent frames.

    Parameters
    ----------
    reference, trial : arrays [*bins]
        Probabilities p and q, or counts, which are normalised.

    Raises
    ------
    ValueError
        For different shapes, negative or not finite values, or nothing but zeros.

    Examples
    --------
    >>> round(kl_divergence([0.5, 0.5, 0.0], [0.25, 0.5, 0.25]), 4)
    0.3466
    """
    p, q = _check_probabilities(reference, trial)
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log(p[both] / q[both])).sum())


def mean_squared_difference(reference: ArrayLike, trial: ArrayLike, temperature: float | None = None) -> float:
    """Mean squared difference of two free energies over the bins that both visit.

    Husic et al., J. Chem. Phys. 153, 194101 (2020), equation 15: (1/m′) Σ (P − Q)² with P = k_B T ln p of the
    normalised bin counts, over the m′ bins with p q > 0. Every bin counts the same, however rarely it is visited.

    Parameters
    ----------
    reference, trial : arrays [*bins]
        Probabilities p and q, or counts, which are normalised.
    temperature : float, optional
        K; the result is then in (kJ/mol)², otherwise in (k_B T)².

    Raises
    ------
    ValueError
        As `kl_divergence`, and when no bin is visited by both.

    Examples
    --------
    >>> round(mean_squared_difference([0.5, 0.5, 0.0], [0.25, 0.5, 0.25]), 4)
    0.2402
    """
    p, q = _check_probabilities(reference, trial)
    both = (p > 0) & (q > 0)
    if not both.any():
        raise ValueError("no bin is visited by both samples, so their free energies cannot be compared; use wider bins")
    return float((np.log(p[both] / q[both]) ** 2).mean() * thermal_energy(temperature) ** 2)


def missed_probability(reference: ArrayLike, trial: ArrayLike) -> float:
    """Share of the reference in bins that the trial never visits, which the two measures leave out.

    Examples
    --------
    >>> missed_probability([0.5, 0.25, 0.25], [0.5, 0.5, 0.0])
    0.25
    """
    p, q = _check_probabilities(reference, trial)
    return float(p[q == 0].sum())


def assign_regions(coordinates: NDArray, regions: Mapping[str, Sequence[tuple[float, float]]]) -> NDArray[np.int64]:
    """The basin of each frame, by rectangular regions.

    Parameters
    ----------
    coordinates : array [F, D] or [F]
    regions : mapping from name to D intervals (low, high)
        An interval with low > high goes through the periodic boundary: values ≥ low or < high. Where regions
        overlap, the first counts.

    Returns
    -------
    int array [F]
        Position of the basin in `regions`; −1 for frames in none.

    Examples
    --------
    >>> regions = {"alpha": [(-2.8, 0.0), (-2.0, 0.9)], "beta": [(2.9, 0.0), (2.0, -2.6)]}
    >>> assign_regions(np.array([[-1.0, -0.7], [-2.5, 3.0], [3.0, -3.0], [1.0, 1.0]]), regions)
    array([ 0,  1,  1, -1])
    """
    if not regions:
        raise ValueError("there are no regions to assign frames to; give at least one")
    for name, intervals in regions.items():
        values = _check_coordinates(coordinates, len(intervals), f"region {name!r}")
    basin = np.full(len(values), -1)
    for number, intervals in reversed(list(enumerate(regions.values()))):
        inside = np.ones(len(values), dtype=bool)
        for value, (low, high) in zip(values.T, intervals, strict=True):
            inside &= (value >= low) & (value < high) if low <= high else (value >= low) | (value < high)
        basin[inside] = number
    return basin


@dataclass(frozen=True)
class Populations:
    """How often basins are visited.

    Attributes
    ----------
    names : list of str
    value, error : arrays [basins]
        Share of all frames, and its standard error by bootstrap; the rest of the frames is in no basin.
    resampled : array [resamples, basins]
        The bootstrap samples.
    """

    names: list[str]
    value: FloatArray
    error: FloatArray
    resampled: FloatArray

    def free_energy_difference(
        self, basin: str, relative_to: str, temperature: float | None = None
    ) -> tuple[float, float]:
        """−k_B T ln(p/p₀) of a basin and another one, and its standard error.

        Parameters
        ----------
        basin, relative_to : str
            Names of basins.
        temperature : float, optional
            K; the energies are then in kJ/mol, otherwise in k_B T.

        Raises
        ------
        ValueError
            When a basin does not exist or was never visited.
        """
        for name in (basin, relative_to):
            if name not in self.names:
                raise ValueError(f"there is no basin {name!r}; there are {', '.join(self.names)}")
            if self.value[self.names.index(name)] == 0:
                raise ValueError(f"the basin {name!r} was never visited, so its free energy is unknown; sample longer")
        first, second = self.names.index(basin), self.names.index(relative_to)
        relative = self.resampled / self.value
        energy = thermal_energy(temperature)
        value = -energy * np.log(self.value[first] / self.value[second])
        return float(value), float(energy * (relative[:, first] - relative[:, second]).std())


def basin_populations(
    assignments: Trajectories,
    names: Sequence[str],
    *,
    weights: Trajectories | None = None,
    blocks: int = 10,
    resamples: int = 200,
    seed: int = 0,
) -> Populations:
    """Populations of basins.

    Parameters
    ----------
    assignments : int array [F], or a list of such arrays
        The basin of each frame, −1 for none, of one trajectory or several: from `assign_regions`, or from
        `MarkovModel.basins`.
    names : sequence of str
        Of the basins.
    weights, blocks
        As in `histogram`.
    resamples, seed : int
        Of the bootstrap.

    Raises
    ------
    ValueError
        As `histogram`, and for assignments to a basin without name.

    Examples
    --------
    >>> populations = basin_populations(np.tile([0, 0, 0, 1], 50), ["folded", "unfolded"])
    >>> populations.value.tolist()
    [0.75, 0.25]
    >>> difference, error = populations.free_energy_difference("unfolded", "folded")
    >>> round(difference, 4)
    1.0986
    """
    runs = [np.asarray(run) for run in trajectory_list(assignments)]
    smallest, largest = min(run.min() for run in runs), max(run.max() for run in runs)
    if largest >= len(names) or smallest < -1:
        raise ValueError(f"assignments run from {smallest} to {largest}; there are names for 0 to {len(names) - 1}")
    counts = histogram(runs, [np.arange(-1.5, len(names))], weights=weights, blocks=blocks)
    resampled = counts.resampled(resamples, seed)[:, 1:]
    return Populations(list(names), counts.probability[1:], resampled.std(axis=0), resampled)


def bootstrap(counts: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Normalised sums of blocks drawn with replacement, ``[resamples, ...]`` from ``[blocks, ...]``."""
    if len(counts) == 1:
        return np.full((resamples, *counts.shape[1:]), np.nan)
    random = np.random.default_rng(seed)
    sums = np.stack([draw_blocks(counts, random) for _ in range(resamples)])
    return sums / sums.sum(axis=tuple(range(1, sums.ndim)), keepdims=True)


def draw_blocks(counts: FloatArray, random: np.random.Generator, axis: int = 0) -> FloatArray:
    """Sum over as many blocks, drawn with replacement, as there are along the axis."""
    number = counts.shape[axis]
    return np.tensordot(random.multinomial(number, np.full(number, 1 / number)), counts, axes=(0, axis))


def trajectory_list(trajectories: Any) -> Sequence[Any]:
    """One trajectory or several as a sequence of them."""
    several = trajectories if isinstance(trajectories, (list, tuple)) else [trajectories]
    if len(several) == 0 or any(len(run) == 0 for run in several):
        raise ValueError("there are no frames, or a trajectory has none; leave empty trajectories out")
    return several


def pieces(frames: int, trajectories: int, blocks: int) -> list[slice]:
    """The blocks of one of several trajectories, such that all together have at least `blocks`."""
    if blocks < 1:
        raise ValueError(f"the number of blocks must be at least 1, not {blocks}")
    return block_slices(frames, min(frames, -(-blocks // trajectories)))


def count_frames(coordinates: FloatArray, edges: Sequence[FloatArray], weights: FloatArray) -> FloatArray:
    """Sums of weights in the bins, flattened; values beyond the edges go to the outermost bins."""
    shape = tuple(len(edge) - 1 for edge in edges)
    bins = [
        np.clip(np.searchsorted(edge, value, side="right") - 1, 0, size - 1)
        for edge, value, size in zip(edges, coordinates.T, shape, strict=True)
    ]
    return np.asarray(np.bincount(np.ravel_multi_index(bins, shape), weights, int(np.prod(shape))), dtype=np.float64)


def _check_edges(edges: Sequence[ArrayLike]) -> tuple[FloatArray, ...]:
    limits = tuple(np.asarray(edge, dtype=np.float64) for edge in edges)
    for number, edge in enumerate(limits):
        if edge.ndim != 1 or len(edge) < 2 or not (np.diff(edge) > 0).all():
            raise ValueError(
                f"the edges of coordinate {number} must be two or more increasing values; give a list of "
                "one array per coordinate"
            )
    return limits


def _check_coordinates(coordinates: ArrayLike, dimensions: int, what: str = "the edges") -> FloatArray:
    values = np.asarray(coordinates, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != dimensions:
        raise ValueError(f"coordinates must have the shape [frames, {dimensions}] by {what}, not {list(values.shape)}")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(f"frame {int(np.argmin(finite))} has coordinates that are not finite; leave it out")
    return values


def _check_weights(weights: Trajectories, runs: Sequence[FloatArray]) -> list[FloatArray]:
    loads = [np.asarray(load, dtype=np.float64) for load in trajectory_list(weights)]
    if [load.shape for load in loads] != [(len(run),) for run in runs]:
        raise ValueError("weights must be one number per frame, in as many arrays as there are trajectories")
    total = sum(load.sum() for load in loads)
    if not (all((load >= 0).all() for load in loads) and 0 < total < np.inf):
        raise ValueError("weights must be finite, not negative, and not all zero")
    return loads


def _check_probabilities(reference: ArrayLike, trial: ArrayLike) -> tuple[FloatArray, FloatArray]:
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(trial, dtype=np.float64)
    if p.shape != q.shape:
        raise ValueError(f"the reference has bins {p.shape}, the trial {q.shape}; count both in the same bins")
    for name, values in (("reference", p), ("trial", q)):
        if not (values >= 0).all() or not 0 < values.sum() < np.inf:
            raise ValueError(f"the bin probabilities of the {name} must be finite, not negative and not all zero")
    return p / p.sum(), q / q.sum()
