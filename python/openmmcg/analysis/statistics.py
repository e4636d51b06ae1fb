"""Averages and error bars of correlated frames, by block averaging.

Neighbouring frames of a trajectory resemble each other, so the spread of single frames over √frames is too
small an error. A quantity is therefore computed in each of a few contiguous blocks; when a block is longer
than the memory of the system, the blocks are independent and their spread gives the standard error of the
mean (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def block_slices(frames: int, blocks: int) -> list[slice]:
    """Cut `frames` consecutive frames into `blocks` contiguous blocks, equal in length up to one frame.

    Raises
    ------
    ValueError
        When there are fewer frames than blocks, or no block.

    Examples
    --------
    >>> block_slices(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    if not 1 <= blocks <= frames:
        raise ValueError(
            f"{frames} frames cannot be cut into {blocks} blocks; choose blocks between 1 and the number of frames"
        )
    bounds = [-(-frames * block // blocks) for block in range(blocks + 1)]
    return [slice(first, last) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]


def mean_and_error(block_values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over blocks (the first axis) and its standard error; the error of a single block is NaN.

    The error of few blocks is itself uncertain: the relative standard deviation of an error from B blocks is
    about 1/√(2(B−1)), 35 % for five.

    Parameters
    ----------
    block_values : array [blocks, ...]

    Returns
    -------
    mean, error : arrays [...]

    Examples
    --------
    >>> mean, error = mean_and_error([1.0, 2.0, 3.0])
    >>> print(f"{mean:.2f} ± {error:.2f}")
    2.00 ± 0.58
    """
    values = np.asarray(block_values, dtype=np.float64)
    mean = values.mean(axis=0)
    if len(values) == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def series_average(values: ArrayLike, blocks: int = 10) -> tuple[float, float]:
    """Mean of a time series (an energy, a temperature) and its standard error from `blocks` blocks.

    A series shorter than `blocks` is cut into single values.

    Parameters
    ----------
    values : array [frames]

    Examples
    --------
    >>> series_average([300.0, 302.0, 298.0, 300.0], blocks=2)
    (300.0, 1.0)
    """
    series = np.asarray(values, dtype=np.float64)
    means = [series[block].mean() for block in block_slices(len(series), min(blocks, len(series)))]
    mean, error = mean_and_error(means)
    # Blocks may differ by one frame; the mean of all values is the better mean.
    return float(series.mean()), float(error)
