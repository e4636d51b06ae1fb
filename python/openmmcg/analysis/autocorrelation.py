"""How long a time series remembers, and how many independent samples it is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Of the integrated autocorrelation time: how far sums go (Sokal's rule).
_WINDOW = 5.0


def autocorrelation(series: ArrayLike) -> FloatArray:
    """Normalised autocorrelation function of the deviations from the mean, summed over columns.

    Parameters
    ----------
    series
        ``[frames]`` or ``[frames, columns]``.

    Returns
    -------
    array [frames]
        1 at lag 0; the sum over pairs is divided by the number of frames at every lag, which damps the noise of long
        lags.

    Raises
    ------
    ValueError
        Fewer than two frames, values that are not finite, or a series that never changes.

    Examples
    --------
    >>> autocorrelation([1.0, -1.0, 1.0, -1.0]).round(2)
    array([ 1.  , -0.75,  0.5 , -0.25])
    """
    return _correlate([_columns(series)])


def autocorrelation_time(*series: ArrayLike, interval: float = 1.0) -> float:
    """Integrated autocorrelation time τ = ∆t (½ + Σ C(t)) of one or several runs of the same system.

    The sum ends at the first lag of at least five intervals and five τ (Sokal, in Functional Integration, 131 (1997)).
    The mean is that of all runs, so that runs which stay in different places are seen to be correlated. A τ below half
    an interval says that neighbours are opposed.

    Parameters
    ----------
    *series
        ``[frames]`` or ``[frames, columns]`` of each run; for angles see `on_circle`.
    interval
        Between frames: τ has its unit.

    Raises
    ------
    ValueError
        As `autocorrelation`.

    Examples
    --------
    Numbers that do not remember have half an interval:

    >>> numbers = np.random.default_rng(1).normal(size=100_000)
    >>> print(f"{autocorrelation_time(numbers, interval=2.0):.1f} ps")
    1.0 ps
    """
    correlation = _correlate([_columns(run) for run in series])
    times = np.cumsum(correlation) - 0.5
    beyond = np.flatnonzero(np.arange(len(times)) >= _WINDOW * np.maximum(times, 1.0))
    time = times[beyond[0] if len(beyond) else -1]
    # The mean of N numbers has at least a variance of 1/N² of theirs: one of them left over when all others cancel.
    frames = sum(len(np.asarray(run)) for run in series)
    return float(interval * max(time, 0.5 / frames))


def effective_samples(*series: ArrayLike) -> float:
    """Number of independent samples that one or several runs are worth: frames / (2 τ).

    The variance of the mean of all frames is the variance of one frame divided by this number.

    Parameters
    ----------
    *series
        ``[frames]`` or ``[frames, columns]`` of each run.

    Raises
    ------
    ValueError
        As `autocorrelation`.

    Examples
    --------
    >>> numbers = np.random.default_rng(1).normal(size=1000)
    >>> bool(effective_samples(np.repeat(numbers, 10)) < 1300)
    True
    """
    return sum(len(np.asarray(run)) for run in series) / (2 * autocorrelation_time(*series))


def on_circle(angles: ArrayLike) -> FloatArray:
    """Cosine and sine ``[frames, 2]`` of angles ``[frames]``, radians, which have no jump at ±π.

    Examples
    --------
    >>> on_circle([0.0, np.pi]).round(6)
    array([[ 1.,  0.],
           [-1.,  0.]])
    """
    values = np.asarray(angles, dtype=np.float64)
    return np.stack([np.cos(values), np.sin(values)], axis=-1)


def _columns(series: ArrayLike) -> FloatArray:
    values = np.asarray(series, dtype=np.float64)
    columns = values.reshape(len(values), -1) if values.ndim else values.reshape(0, 1)
    if len(columns) < 2:
        raise ValueError(f"a series must have at least two frames, not {len(columns)}")
    if not np.isfinite(columns).all():
        raise ValueError("the series has values that are not finite; leave those frames out")
    return columns


def _correlate(runs: list[FloatArray]) -> FloatArray:
    """Autocorrelation [frames of the longest run] about the mean of all runs, by fast Fourier transforms."""
    mean = np.concatenate(runs).mean(axis=0)
    longest = max(map(len, runs))
    total = np.zeros(longest)
    for run in runs:
        # Zeros keep the end of the run from meeting its beginning.
        spectrum = np.fft.rfft(run - mean, n=2 * len(run), axis=0)
        total[: len(run)] += np.fft.irfft(np.abs(spectrum) ** 2, axis=0).sum(axis=1)[: len(run)]
    if not total[0] > 0:
        raise ValueError("the series never changes, so it has no autocorrelation")
    return total / total[0]
