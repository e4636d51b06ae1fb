"""Frames and energies to learn from: whether they fit each other, their folds, their scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_FRAMES = 20  # of a fold

Array = NDArray[np.float64]


def check_training_data(positions: ArrayLike, energies: ArrayLike, folds: int = 1) -> tuple[Array, Array]:
    """Positions ``[frames, beads, 3]`` and energies ``[frames]`` as arrays.

    Raises
    ------
    ValueError
        Shapes that do not fit, numbers that are not finite, energies that are all the same, or too few frames.
    """
    places, labels = np.asarray(positions, np.float64), np.asarray(energies, np.float64)
    if places.ndim != 3 or places.shape[2] != 3:
        raise ValueError(f"positions must have the shape [frames, beads, 3], got {list(places.shape)}")
    if labels.shape != places.shape[:1]:
        raise ValueError(f"{len(places)} frames need as many energies, got the shape {list(labels.shape)}")
    broken = ~np.isfinite(labels)
    if broken.any():
        raise ValueError(
            f"{broken.sum()} of {len(labels)} energies are not finite, the first is of frame {int(np.argmax(broken))}: "
            "leave out the frames whose calculation failed, as in positions[keep], energies[keep] with "
            "keep = np.isfinite(energies)"
        )
    if len(labels) < FEWEST_FRAMES * folds:
        raise ValueError(f"training needs {FEWEST_FRAMES} frames for each of {folds} folds, got {len(labels)}")
    if np.ptp(labels) == 0:
        raise ValueError(f"all {len(labels)} energies are {labels[0]}: there is nothing to learn")
    return places, labels


def check_bead_names(names: Sequence[str] | None, beads: int) -> None:
    """Raise ValueError where there are names, but not as many as beads."""
    if names is not None and len(names) != beads:
        raise ValueError(f"there are {len(names)} bead names for {beads} beads")


def fold_slices(frames: int, folds: int) -> list[slice]:
    """Contiguous blocks of frames, equal in length up to one.

    Examples
    --------
    >>> fold_slices(7, 3)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    bounds = [frames * fold // folds for fold in range(folds + 1)]
    return [slice(first, last) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]


def standardisation(values: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Mean ``[features]`` and scale ``[features]`` of features, and mean and scale of energies ``[2]``.

    A distance that a constraint holds has rounding errors only; it is not blown up to unit variance.
    """
    mean, scale = values.mean(0), values.std(0)
    scale = np.where(scale > 1e-5 * np.abs(mean), scale, 1.0)
    return mean, scale, np.array([labels.mean(), labels.std()])
