r"""How uncertain an energy is given the beads: estimates that do not believe the predictor, to compare it with.

The standard deviation of p(E|R) is a property of the molecule and the map, the noise. What a predictor says of it is
set against the energies of test frames in clusters of similar ones (`local_noise`), against all-atom frames sampled
with the beads held in place (`conditional_noise`, from `openmmcg.reference.sampling.constrained`), and against the root
mean square error, which is the noise where the predicted means are right (Maier & Jackson, figures 2, 4 and 5).
Averages and what they depend on are in `openmmcg.electronic.resolution`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from openmmcg.electronic.density_of_states import Estimate
from openmmcg.optional import optional_imports
from openmmcg.progress import tqdm

with optional_imports():
    from sklearn.mixture import GaussianMixture

FloatArray = NDArray[np.float64]

_RESAMPLES = 500


@dataclass(frozen=True)
class LocalNoise:
    """Mean and noise of the energy in clusters of frames, as found and as predicted.

    Attributes
    ----------
    clustering : array [clusters]
        Which of the clusterings, counted from 0, a cluster is of.
    members : list of arrays of int
        The frames of each cluster.
    samples : array [clusters]
        Effective number of frames, (Σw)²/Σw² of their class probabilities w.
    mean, noise : array [clusters], eV
        Of the energies, the predicted means' variation being taken out of the noise.
    mean_error, noise_error : array [clusters], eV
        Standard errors from the number of frames.
    predicted_mean, predicted_noise : array [clusters], eV
        Average of the predicted means, root mean square of the predicted standard deviations.
    """

    clustering: NDArray[np.int64]
    members: list[NDArray[np.int64]]
    samples: FloatArray
    mean: FloatArray
    noise: FloatArray
    mean_error: FloatArray
    noise_error: FloatArray
    predicted_mean: FloatArray
    predicted_noise: FloatArray

    def average(self, power: float = 2.0) -> Estimate:
        """Noise averaged over the frames in clusters, eV.

        The clusterings share their frames, so their number makes the standard error no smaller.

        Parameters
        ----------
        power : float
            2 for the root mean square, 1 for the mean.
        """
        values, errors = [], []
        for each in np.unique(self.clustering):
            chosen = self.clustering == each
            weights = self.samples[chosen] / self.samples[chosen].sum()
            noise = self.noise[chosen]
            value = (weights @ noise**power) ** (1 / power)
            values.append(value)
            errors.append(np.linalg.norm(weights * (noise / value) ** (power - 1) * self.noise_error[chosen]))
        return Estimate(np.mean(values), np.mean(errors))

    def discrepancy(self) -> tuple[float, float]:
        """Root mean square differences, eV, of predicted and found means, and of predicted and found noise (figure 5).

        That of a perfect predictor is not zero but the root mean square of `mean_error` and of `noise_error`.
        """
        weights = self.samples / self.samples.sum()
        return (
            float(np.sqrt(weights @ (self.predicted_mean - self.mean) ** 2)),
            float(np.sqrt(weights @ (self.predicted_noise - self.noise) ** 2)),
        )


def local_noise(
    features: ArrayLike,
    energies: ArrayLike,
    mean: ArrayLike,
    standard_deviation: ArrayLike,
    *,
    clusters: Sequence[int] = (20, 40, 60, 80, 100),
    least_members: int = 15,
    seed: int = 0,
    progress: bool = True,
) -> LocalNoise:
    """Noise in clusters of similar frames, by Gaussian-mixture models.

    Maier & Jackson, section II D 2: a frame belongs to the cluster that is most probable for it, weighted with that
    probability, and clusters of few frames are left out. The predicted means are subtracted first, so that a cluster
    may be wide without its energies' variation along the features counting as noise.

    Parameters
    ----------
    features : array [frames, features]
        By which frames are similar, in any unit: best the predictor's latent positions, since the number of frames that
        a mixture needs grows with the square of the number of features.
    energies, mean, standard_deviation : array [frames], eV
        The labels of test frames and what is predicted for them.
    clusters : sequence of int
        Numbers of clusters, a model for each.
    least_members : int
        Clusters of fewer frames are dropped.
    seed : int
        Of the models' starting points.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        Lengths that differ, values that are not finite, more clusters than frames, or no cluster large enough.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> features = random.normal(size=(2000, 2))
    >>> energies = random.normal(-6.0, 0.1, size=2000)
    >>> found = local_noise(features, energies, np.full(2000, -6.0), np.full(2000, 0.1), clusters=[10], progress=False)
    >>> print(f"{found.average().value:.2f} eV")
    0.10 eV
    """
    places = np.asarray(features, dtype=np.float64)
    if places.ndim != 2:
        raise ValueError(f"features have the shape {list(places.shape)}; give [frames, features]")
    truth, center, width = checked(
        len(places), {"energies": energies, "mean": mean, "standard_deviation": standard_deviation}
    )
    if not np.isfinite(places).all():
        raise ValueError("features must be finite; leave out frames that could not be predicted")
    if not clusters or not 1 <= min(clusters) <= max(clusters) <= len(places):
        raise ValueError(f"{len(places)} frames cannot be put into {list(clusters)} clusters; give 1 to {len(places)}")
    places = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), np.finfo(float).tiny)

    rows, members = [], []
    for clustering, number in enumerate(tqdm(clusters, "clusters", unit="model", disable=not progress)):
        probability = GaussianMixture(number, random_state=seed).fit(places).predict_proba(places)
        label = probability.argmax(axis=1)
        for cluster in range(number):
            inside = np.flatnonzero(label == cluster)
            if len(inside) >= max(2, least_members):
                members.append(inside)
                weights = probability[inside, cluster]
                rows.append((clustering, *_local(weights, truth[inside], center[inside], width[inside])))
    if not rows:
        raise ValueError(
            f"no cluster has {least_members} of the {len(places)} frames; take fewer clusters than {list(clusters)}"
        )
    clustering_of, *columns = np.array(rows).T
    return LocalNoise(clustering_of.astype(np.int64), members, *columns)


def _local(weights: FloatArray, energies: FloatArray, mean: FloatArray, deviation: FloatArray) -> tuple[float, ...]:
    total = weights.sum()
    samples = total**2 / (weights**2).sum()
    residuals = energies - mean
    shift = weights @ residuals / total
    variance = weights @ (residuals - shift) ** 2 / total * samples / (samples - 1)
    # A standard deviation from few frames is too small on average, for normal distributions by this factor.
    noise = np.sqrt(variance) * (4 * samples - 3) / (4 * samples - 4)
    predicted = weights @ mean / total
    return (
        samples,
        predicted + shift,
        noise,
        noise / np.sqrt(samples),
        noise / np.sqrt(2 * (samples - 1)),
        predicted,
        np.sqrt(weights @ deviation**2 / total),
    )


class ConditionalNoise(NamedTuple):
    """Mean and standard deviation, eV, of the energies of one configuration of the beads.

    `samples` is the number of frames that equal weights would have left, (Σw)²/Σw².
    """

    mean: Estimate
    noise: Estimate
    samples: float


def conditional_noise(energies: ArrayLike, weights: ArrayLike | None = None, blocks: int = 10) -> ConditionalNoise:
    """Mean and noise of energies sampled with the beads in place, with errors from blocks of frames.

    Parameters
    ----------
    energies : array [frames], eV
        In the order in which they were sampled.
    weights : array [frames], optional
        Of each frame (equation 17), see `openmmcg.reference.release_weights` and the caution there. Equal by default.
    blocks : int
        Drawn with replacement; each should be longer than the memory of the sampling.

    Raises
    ------
    ValueError
        Lengths that differ, values that are not finite, or fewer frames than two for each block.
    """
    values = np.asarray(energies, dtype=np.float64)
    given = np.ones(len(values)) if weights is None else weights
    values, loads = checked(len(values), {"energies": values, "weights": given})
    if not 2 <= blocks <= len(values) // 2:
        raise ValueError(f"{len(values)} frames cannot be cut into {blocks} blocks; give 2 to {len(values) // 2}")
    if (loads < 0).any() or not loads.any():
        raise ValueError("weights must not be negative, nor all be zero")
    center = np.average(values, weights=loads)
    moments = np.stack([loads, loads * (values - center), loads * (values - center) ** 2])
    sums = np.stack([block.sum(axis=1) for block in np.array_split(moments, blocks, axis=1)])
    samples = loads.sum() ** 2 / (loads**2).sum()
    unbiased = samples / max(samples - 1, np.finfo(float).tiny)

    # B − 1 of B blocks, as in `density_of_states`.
    drawn = np.random.default_rng(0).multinomial(blocks - 1, np.full(blocks, 1 / blocks), size=_RESAMPLES) @ sums
    drawn = drawn[drawn[:, 0] > 0]
    shift = drawn[:, 1] / drawn[:, 0]
    spread = np.sqrt(np.maximum(drawn[:, 2] / drawn[:, 0] - shift**2, 0) * unbiased)
    noise = np.sqrt(sums[:, 2].sum() / sums[:, 0].sum() * unbiased)
    return ConditionalNoise(Estimate(center, shift.std()), Estimate(noise, spread.std()), float(samples))


def total_noise(mean: ArrayLike, standard_deviation: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Predicted standard deviation, eV, of the energies of all frames of a cluster together (equation 18).

    The mean variance and the variance of the means: what restrained frames have to be compared with, because a
    restraint of finite strength lets the beads move a little.

    Parameters
    ----------
    mean, standard_deviation : array [frames], eV
    weights : array [frames], optional

    Examples
    --------
    >>> round(total_noise([-6.0, -5.0], [0.1, 0.1]), 3)
    0.51
    """
    center, width = checked(len(np.atleast_1d(mean)), {"mean": mean, "standard_deviation": standard_deviation})
    loads = np.ones(len(center)) if weights is None else np.asarray(weights, dtype=np.float64)
    shift = center - np.average(center, weights=loads)
    return float(np.sqrt(np.average(width**2 + shift**2, weights=loads)))


class RejectionFraction(NamedTuple):
    """Fractions of groups that are not normally distributed by the Shapiro-Wilk test, by the number of samples.

    `error` is the standard deviation over repeated draws of the samples.
    """

    samples: NDArray[np.int64]
    fraction: FloatArray
    error: FloatArray


def shapiro_wilk(
    groups: Sequence[ArrayLike],
    samples: Sequence[int] = (25, 50, 100, 150, 200, 250),
    *,
    significance: float = 0.05,
    repeats: int = 25,
    seed: int = 0,
) -> RejectionFraction:
    """How often normality is rejected (figure 2): where p(E|R) is normal, as often as the significance says.

    Parameters
    ----------
    groups : sequence of arrays [frames]
        Energies, eV, of one configuration of the beads each, or errors E − μ of one cluster each.
    samples : sequence of int
        Numbers of frames drawn without replacement from each group, 3 to 5000. Groups of fewer frames are left out.
    significance : float
    repeats : int
        Of the draws.
    seed : int

    Raises
    ------
    ValueError
        When no group is large enough, or a number is out of its bounds.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> groups = [random.exponential(size=200) for _ in range(10)]
    >>> shapiro_wilk(groups, [10, 100], repeats=5).fraction.round(1).tolist()
    [0.5, 1.0]
    """
    if not (0 < significance < 1 and repeats >= 1 and len(samples) and 3 <= min(samples) <= max(samples) <= 5000):
        raise ValueError(
            f"the test takes 3 to 5000 samples, a significance between 0 and 1 and at least one draw, got "
            f"{list(samples)}, {significance} and {repeats}"
        )
    energies = [checked(len(np.atleast_1d(group)), {"energies": group})[0] for group in groups]
    random = np.random.default_rng(seed)
    fractions = np.empty((len(samples), repeats))
    for row, number in zip(fractions, samples, strict=True):
        large = [group for group in energies if len(group) >= number]
        if not large:
            raise ValueError(f"no group has the {number} frames that are to be drawn; draw fewer, or sample more")
        for repeat in range(repeats):
            drawn = (random.choice(group, number, replace=False) for group in large)
            row[repeat] = np.mean([stats.shapiro(group).pvalue < significance for group in drawn])
    return RejectionFraction(np.asarray(samples, np.int64), fractions.mean(axis=1), fractions.std(axis=1))


def checked(frames: int, values: Mapping[str, ArrayLike]) -> list[FloatArray]:
    """All values as float64, ``[frames]``, after checking that they are and that they are finite."""
    arrays = []
    for name, value in values.items():
        array = np.asarray(value, dtype=np.float64)
        if array.shape != (frames,) or frames == 0:
            raise ValueError(f"{name} has the shape {list(array.shape)}; there are {frames} frames, give one for each")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} has {np.count_nonzero(~np.isfinite(array))} entries that are not finite; leave out frames "
                "whose label or prediction failed"
            )
        arrays.append(array)
    return arrays
