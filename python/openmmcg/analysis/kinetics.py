"""Slow coordinates (TICA), Markov state models and their time scales, by deeptime.

The line: features of all trajectories (`distances`, cosines and sines of `dihedrals`), slow coordinates (`tica`),
states (`cluster_centers`, `assign_states`), a Markov state model (`markov_model`) at a lag at which its time scales
(`implied_timescales`) have levelled off. Its weights make of many short trajectories, started anywhere, averages of
equilibrium; its slowest processes make basins.

Lags and the time between frames are in ps. Trajectories are given as one array or a list of arrays. Prinz et al., J.
Chem. Phys. 134, 174105 (2011); Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from openmmcg.analysis.free_energy import Trajectories, draw_blocks, pieces, trajectory_list
from openmmcg.optional import optional_imports
from openmmcg.progress import tqdm

with optional_imports():
    from deeptime.clustering import KMeans
    from deeptime.decomposition import TICA
    from deeptime.markov import TransitionCountEstimator, TransitionCountModel, pcca
    from deeptime.markov.msm import MarkovStateModel, MaximumLikelihoodMSM

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# The centres of clusters are found from at most so many frames, evenly spaced.
_CLUSTERED_FRAMES = 50_000


@dataclass(frozen=True)
class SlowCoordinates:
    """The linear combinations of features that decorrelate most slowly.

    Attributes
    ----------
    lag : float
        ps.
    timescales : array [dimensions]
        Of the autocorrelation of each coordinate, ps, the slowest first.
    transform : function
        Features [F, features] to slow coordinates [F, dimensions], each scaled by its eigenvalue, so that distances
        between frames are kinetic ones (Noé and Clementi, J. Chem. Theory Comput. 11, 5002 (2015)).
    """

    lag: float
    timescales: FloatArray
    transform: Callable[[NDArray], FloatArray]


@dataclass(frozen=True)
class ImpliedTimescales:
    """Implied time scales against the lag they are estimated at; a model is Markovian where they do not depend on it.

    Attributes
    ----------
    lags : array [L]
        ps.
    value, error : arrays [L, number]
        ps, the slowest first, and their standard errors by bootstrap; NaN where no such process is resolved. A time
        scale shorter than its lag means nothing.
    """

    lags: FloatArray
    value: FloatArray
    error: FloatArray

    def longest(self, lag: float) -> tuple[float, float]:
        """The longest time scale at one of the lags, and its error, ps."""
        index = np.flatnonzero(np.isclose(self.lags, lag))
        if len(index) == 0:
            raise ValueError(f"there is no lag of {lag:g} ps; the lags are {self.lags.tolist()} ps")
        return float(self.value[index[0], 0]), float(self.error[index[0], 0])


@dataclass(frozen=True)
class MarkovModel:
    """A reversible Markov state model on the largest set of states that are connected in both directions.

    Attributes
    ----------
    lag : float
        ps.
    states : list of int arrays [F]
        The trajectories it was made from.
    active : int array [A]
        The states in the connected set.
    transition_matrix : array [A, A]
        Probabilities, of largest likelihood with detailed balance, to go from one active state to another in one lag.
    stationary : array [A]
        Equilibrium probabilities of the active states.
    timescales : array [A − 1]
        ps, the slowest first; NaN for processes that the lag does not resolve.
    """

    lag: float
    states: list[IntArray]
    active: IntArray
    transition_matrix: FloatArray
    stationary: FloatArray
    timescales: FloatArray

    def frame_weights(self) -> list[FloatArray]:
        """Weights of all frames that make their average one of equilibrium, a list of arrays [F]; their sum is 1.

        The equilibrium probability of a frame's state is shared by its frames. Frames outside the connected set have
        the weight 0.
        """
        visits = np.bincount(np.concatenate(self.states) + 1, minlength=self.active.max() + 2)[1:]
        weight = np.zeros(len(visits) + 1)  # the last is that of no state, −1
        weight[self.active] = self.stationary / visits[self.active]
        return [weight[run] for run in self.states]

    @property
    def active_share(self) -> float:
        """Share of the frames that are in the connected set."""
        return float(np.isin(np.concatenate(self.states), self.active).mean())

    def basins(self, number: int) -> list[IntArray]:
        """Metastable basins by PCCA+, the most populated first.

        Röblitz and Weber, Adv. Data Anal. Classif. 7, 147 (2013).

        Parameters
        ----------
        number : int
            Of basins, one more than there are slow processes.

        Returns
        -------
        list of int arrays [F]
            The basin of each frame; −1 outside the connected set.

        Raises
        ------
        ValueError
            When there are not that many active states.
        """
        if not 1 < number <= len(self.active):
            raise ValueError(f"the number of basins must be 2 to {len(self.active)}, the active states, not {number}")
        labels = pcca(self.transition_matrix, number, self.stationary).assignments
        order = np.argsort(-np.bincount(labels, self.stationary, number), kind="stable")
        rank = np.argsort(order)
        basin = np.full(max(self.active.max(), max(run.max() for run in self.states)) + 2, -1)
        basin[self.active] = rank[labels]
        return [basin[run] for run in self.states]


def tica(features: Trajectories, lag: float, interval: float, dimensions: int = 4) -> SlowCoordinates:
    """Time-lagged independent component analysis.

    Parameters
    ----------
    features : array [F, features], or a list of such arrays
    lag : float
        ps, a multiple of the interval.
    interval : float
        Time between frames, ps.
    dimensions : int
        How many coordinates; fewer where the features have fewer independent directions.

    Raises
    ------
    ValueError
        For features that are not finite or differ in number, or a lag that does not fit.

    Examples
    --------
    A slow and a fast random process, mixed; the correlation of the slow one falls by 0.99 in a frame of 0.1 ps:

    >>> random = np.random.default_rng(0)
    >>> processes, memory = np.zeros((20000, 2)), np.array([0.99, 0.5])
    >>> for step in range(1, len(processes)):
    ...     processes[step] = memory * processes[step - 1] + random.normal(size=2) * np.sqrt(1 - memory**2)
    >>> slow = tica(processes @ [[1.0, 2.0], [3.0, 1.0]], lag=0.5, interval=0.1, dimensions=1)
    >>> bool(8 < slow.timescales[0] < 12)
    True
    """
    runs = _check_features(features)
    model = _fit_tica(runs, _lag_in_frames(lag, interval, runs), dimensions)
    timescales = np.asarray(model.timescales(lagtime=lag))[: model.output_dimension]
    return SlowCoordinates(lag, timescales, lambda values: np.asarray(model.transform(np.asarray(values, np.float64))))


def cluster_centers(coordinates: Trajectories, number: int = 150, seed: int = 0) -> FloatArray:
    """Centres of clusters of frames by k-means, to serve as states.

    Parameters
    ----------
    coordinates : array [F, D], or a list of such arrays
    number : int
        Of clusters.
    seed : int
        Of the first guess (k-means++).

    Returns
    -------
    array [number, D]
    """
    frames = np.concatenate(_check_features(coordinates))
    if not 1 <= number <= len(frames):
        raise ValueError(f"the number of clusters must be 1 to {len(frames)}, the frames, not {number}")
    stride = -(-len(frames) // max(_CLUSTERED_FRAMES, number))
    model = KMeans(number, max_iter=1000, fixed_seed=seed, n_jobs=1).fit_fetch(frames[::stride])
    return np.asarray(model.cluster_centers, dtype=np.float64)


def assign_states(coordinates: Trajectories, centers: ArrayLike) -> list[IntArray]:
    """The nearest centre to each frame, a list of int arrays [F].

    Examples
    --------
    >>> assign_states(np.array([[0.1], [0.9], [0.4]]), [[0.0], [1.0]])
    [array([0, 1, 0])]
    """
    tree = cKDTree(np.asarray(centers, dtype=np.float64))
    return [tree.query(run)[1].astype(np.int64) for run in _check_features(coordinates)]


def last_core(assignments: Trajectories) -> list[IntArray]:
    """Assign the frames between cores to the core visited last (Buchete and Hummer, J. Phys. Chem. B 112, 6057, 2008).

    A Markov model of cores, the hearts of basins, is not misled by crossings back and forth over a sharp border.

    Parameters
    ----------
    assignments : int array [F], or a list of such arrays
        The core of each frame, −1 for none, from `assign_regions`. Frames before the first core stay at −1.

    Examples
    --------
    >>> last_core(np.array([-1, 0, -1, -1, 1, -1, 0]))
    [array([-1,  0,  0,  0,  1,  1,  0])]
    """
    filled = []
    for run in trajectory_list(assignments):
        run = np.asarray(run, dtype=np.int64)
        latest = np.maximum.accumulate(np.where(run >= 0, np.arange(len(run)), 0))
        filled.append(run[latest])
    return filled


def markov_model(states: Trajectories, lag: float, interval: float) -> MarkovModel:
    """A reversible Markov state model of largest likelihood.

    Parameters
    ----------
    states : int array [F], or a list of such arrays
        The state of each frame, −1 for none: from `assign_states`, or `last_core`.
    lag : float
        ps, a multiple of the interval.
    interval : float
        Time between frames, ps.

    Raises
    ------
    ValueError
        For a lag that does not fit, or when no two states are connected in both directions.

    Examples
    --------
    >>> states = np.random.default_rng(0).choice(2, p=[0.2, 0.8], size=10000)
    >>> model = markov_model(states, lag=1.0, interval=1.0)
    >>> model.stationary.round(1)
    array([0.2, 0.8])
    """
    runs = _check_states(states)
    number = max(run.max() for run in runs) + 1
    counts = _count_transitions(runs, _lag_in_frames(lag, interval, runs), number)
    active, model = _estimate(counts, lag)
    return MarkovModel(
        lag,
        runs,
        active,
        np.asarray(model.transition_matrix),
        np.asarray(model.stationary_distribution),
        _timescales(model, lag, len(active) - 1),
    )


def implied_timescales(
    states: Trajectories,
    lags: Sequence[float],
    interval: float,
    *,
    number: int = 3,
    blocks: int = 10,
    resamples: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> ImpliedTimescales:
    """Time scales of Markov state models at several lags, t = −τ / ln λ.

    Parameters
    ----------
    states, interval
        As in `markov_model`.
    lags : sequence of float
        ps, multiples of the interval.
    number : int
        How many time scales.
    blocks : int
        Least number of pieces of trajectories that are drawn with replacement for the errors, as in `histogram`. Every
        trajectory is a piece, where there are enough; a trajectory that is cut loses the transitions at the cuts.
    resamples, seed : int
        Of the bootstrap.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        As `markov_model`.
    """
    runs = _check_states(states)
    size = max(run.max() for run in runs) + 1
    parts = [run[piece] for run in runs for piece in pieces(len(run), len(runs), blocks)]
    random = np.random.default_rng(seed)
    values, errors = [], []
    for lag in tqdm(list(lags), "implied time scales", unit="lag", delay=2, leave=False, disable=not progress):
        frames = _lag_in_frames(lag, interval, runs)
        values.append(_timescales(_estimate(_count_transitions(runs, frames, size), lag)[1], lag, number))
        counts = np.stack([_count_transitions([part], frames, size) for part in parts])
        samples = []
        for _ in range(resamples if len(parts) > 1 else 0):
            drawn = draw_blocks(counts, random)
            if _largest_connected(drawn).n_states > 1:
                samples.append(_timescales(_estimate(drawn, lag)[1], lag, number))
        errors.append(_spread(samples, number))
    return ImpliedTimescales(np.asarray(lags, dtype=np.float64), np.array(values), np.array(errors))


def tica_timescales(
    features: Trajectories,
    lags: Sequence[float],
    interval: float,
    *,
    number: int = 3,
    blocks: int = 10,
    resamples: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> ImpliedTimescales:
    """Time scales of slow coordinates at several lags, from which Husic et al. take the time-scale factor.

    Parameters
    ----------
    features : array [F, features], or a list of such arrays
    lags, interval, number, blocks, resamples, seed, progress
        As in `implied_timescales`.

    Raises
    ------
    ValueError
        As `tica`.
    """
    runs = _check_features(features)
    parts = [run[piece] for run in runs for piece in pieces(len(run), len(runs), blocks)]
    random = np.random.default_rng(seed)

    def scales(chosen: Sequence[FloatArray], lag: float, frames: int) -> FloatArray:
        found = np.asarray(_fit_tica(chosen, frames, number).timescales(lagtime=lag))[:number]
        return np.pad(found, (0, number - len(found)), constant_values=np.nan)

    values, errors = [], []
    for lag in tqdm(list(lags), "time scales of TICA", unit="lag", delay=2, leave=False, disable=not progress):
        frames = _lag_in_frames(lag, interval, runs)
        values.append(scales(runs, lag, frames))
        long = [part for part in parts if len(part) > frames]
        draws = random.integers(len(long), size=(resamples if len(long) > 1 else 0, len(long)))
        errors.append(_spread([scales([long[part] for part in draw], lag, frames) for draw in draws], number))
    return ImpliedTimescales(np.asarray(lags, dtype=np.float64), np.array(values), np.array(errors))


def timescale_factor(all_atom: tuple[float, float], coarse_grained: tuple[float, float]) -> tuple[float, float]:
    """How much faster the beads move: longest time scale of the atoms over that of the beads, and its error.

    Parameters
    ----------
    all_atom, coarse_grained : (time scale, error)
        From `ImpliedTimescales.longest`, each at a lag at which it has levelled off.

    Examples
    --------
    >>> factor, error = timescale_factor((100.0, 3.0), (50.0, 2.0))
    >>> print(f"{factor:.2f} ± {error:.2f}")
    2.00 ± 0.10
    """
    (slow, slow_error), (fast, fast_error) = all_atom, coarse_grained
    if not (slow > 0 and fast > 0):
        raise ValueError(f"both time scales must be positive, not {slow:g} and {fast:g} ps; none was resolved there")
    factor = slow / fast
    return factor, float(factor * np.hypot(slow_error / slow, fast_error / fast))


def _fit_tica(runs: Sequence[FloatArray], frames: int, dimensions: int):  # type: ignore[no-untyped-def]
    return TICA(lagtime=frames, dim=dimensions).fit_fetch([run for run in runs if len(run) > frames])


def _count_transitions(runs: Sequence[IntArray], frames: int, number: int) -> FloatArray:
    """Transitions in a lag, counted at every frame (sliding window), [states, states]."""
    long = [run for run in runs if len(run) > frames]
    if not long:
        return np.zeros((number, number))
    # deeptime knows no frames without a state; they are a state that is left out afterwards.
    estimator = TransitionCountEstimator(frames, "sliding", n_states=number + 1)
    counts = estimator.fit_fetch([np.where(run < 0, number, run) for run in long]).count_matrix
    return np.asarray(counts[:number, :number], dtype=np.float64)


def _largest_connected(counts: FloatArray) -> TransitionCountModel:
    return TransitionCountModel(counts).submodel_largest()


def _estimate(counts: FloatArray, lag: float) -> tuple[IntArray, MarkovStateModel]:
    connected = _largest_connected(counts)
    if connected.n_states < 2:
        raise ValueError(
            f"no two states are connected in both directions at the lag of {lag:g} ps; take fewer states, "
            "a shorter lag, or longer trajectories"
        )
    return np.asarray(connected.state_symbols, dtype=np.int64), MaximumLikelihoodMSM().fit_fetch(connected)


def _timescales(model: MarkovStateModel, lag: float, number: int) -> FloatArray:
    count = min(number + 1, model.n_states)
    eigenvalues = np.real(model.eigenvalues(count))[1:]
    scales = np.full(number, np.nan)
    resolved = np.flatnonzero((eigenvalues > 0) & (eigenvalues < 1))
    scales[resolved] = -lag / np.log(eigenvalues[resolved])
    return scales


def _spread(samples: Sequence[FloatArray], number: int) -> FloatArray:
    """Standard deviation over the samples in which a time scale was resolved."""
    values = np.array(samples).reshape(-1, number)
    enough = np.isfinite(values).sum(axis=0) > 1
    return np.array([np.nanstd(column) if some else np.nan for column, some in zip(values.T, enough, strict=True)])


def _lag_in_frames(lag: float, interval: float, runs: Sequence[NDArray]) -> int:
    if not interval > 0:
        raise ValueError(f"the time between frames must be positive, not {interval:g} ps")
    frames = round(lag / interval)
    if frames < 1 or abs(frames * interval - lag) > 1e-6 * lag:
        raise ValueError(f"the lag of {lag:g} ps is not a multiple of the time between frames, {interval:g} ps")
    longest = max(len(run) for run in runs)
    if frames >= longest:
        raise ValueError(
            f"the lag of {lag:g} ps is {frames} frames and the longest trajectory has {longest}; take a shorter lag"
        )
    return frames


def _check_features(features: Trajectories) -> list[FloatArray]:
    runs = [np.asarray(run, dtype=np.float64) for run in trajectory_list(features)]
    shape = (runs[0].shape[1],) if runs[0].ndim == 2 else "[frames, number]"
    for index, run in enumerate(runs):
        if run.ndim != 2 or run.shape[1:] != shape:
            raise ValueError(
                f"trajectory {index} has the shape {list(run.shape)}; all must be [frames, number], equal in number"
            )
        if not np.isfinite(run).all():
            frame = int(np.argmin(np.isfinite(run).all(axis=1)))
            raise ValueError(f"frame {frame} of trajectory {index} has values that are not finite; leave it out")
    return runs


def _check_states(states: Trajectories) -> list[IntArray]:
    runs = [np.asarray(run) for run in trajectory_list(states)]
    for index, run in enumerate(runs):
        if run.ndim != 1 or not np.issubdtype(run.dtype, np.integer) or run.min() < -1:
            raise ValueError(f"the states of trajectory {index} must be integers from 0, or -1 for none, one per frame")
    return [run.astype(np.int64) for run in runs]
