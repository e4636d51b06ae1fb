"""Indices of particles, and other whole numbers from 0 on, that users give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_indices(values: ArrayLike, number: int | None, what: str) -> NDArray[np.int64]:
    """Indices as int64, after checking that they are whole numbers from 0 on.

    Parameters
    ----------
    values : array of numbers, any shape
    number : int, optional
        How many particles there are.
    what : str
        What they are, for the error message.

    Raises
    ------
    ValueError
        They are not numbers, not whole, negative, or too large. Nothing is rounded.

    Examples
    --------
    >>> check_indices([[0, 1], [1, 2]], 3, "bonds").tolist()
    [[0, 1], [1, 2]]
    """
    try:
        indices = np.asarray(values)
        whole = indices.astype(np.int64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be whole numbers from 0 on: {error}") from error
    if indices.dtype == bool or not np.array_equal(indices, whole):
        raise ValueError(f"{what} must be whole numbers from 0 on, got {indices.tolist()}")
    if whole.size and whole.min() < 0:
        raise ValueError(f"{what} are counted from 0, got {whole.min()}")
    if whole.size and number is not None and whole.max() >= number:
        raise ValueError(f"{what} run from {whole.min()} to {whole.max()}; the particles are 0 to {number - 1}")
    return whole


def check_bonds(bonds: ArrayLike, number: int | None = None) -> NDArray[np.int64]:
    """Bonds as int64 ``[bonds, 2]``, after checking that each joins two different particles.

    Parameters
    ----------
    bonds : array [bonds, 2]
        Or nothing.
    number : int, optional
        How many particles there are.

    Raises
    ------
    ValueError
        As `check_indices`, they are not pairs, or a particle is bonded to itself.
    """
    pairs = check_indices(bonds, number, "bonds")
    if not pairs.size:
        return np.empty((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"bonds must be pairs of particles, [bonds, 2], got the shape {list(pairs.shape)}")
    itself = pairs[:, 0] == pairs[:, 1]
    if itself.any():
        raise ValueError(f"particle {pairs[itself][0, 0]} is bonded to itself")
    return pairs
