"""Frames and energies to learn from: whether they fit each other, their folds, their scales."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.electronic.features import DistanceFeatures

FEWEST_FRAMES = 20  # of a fold
OUTLIER = 20.0  # standard deviations from the median

Array = NDArray[np.float64]


def check_training_data(positions: ArrayLike, energies: ArrayLike, folds: int = 1) -> tuple[Array, Array]:
    """Positions ``[frames, beads, 3]`` and energies ``[frames]`` as arrays.

    Raises
    ------
    ValueError
        Shapes that do not fit, energies that are not finite or all the same, or too few frames.

    Warns
    -----
    UserWarning
        For energies so far from the others that their calculation may have failed.
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
    _warn_of_outliers(labels)
    return places, labels


def _warn_of_outliers(labels: Array) -> None:
    median = np.median(labels)
    deviations = np.abs(labels - median)
    # Between these quantiles are 3.29 standard deviations of a normal distribution, whatever a few labels are.
    spread = np.subtract(*np.quantile(labels, [0.95, 0.05])) / 3.29 or labels.std()
    outliers = np.count_nonzero(deviations > OUTLIER * spread)
    if outliers:
        farthest = int(np.argmax(deviations))
        warnings.warn(
            f"{outliers} of {len(labels)} energies are more than {OUTLIER:g} standard deviations, {spread:.3g} eV "
            f"each, from the median {median:.4g} eV; the farthest is that of frame {farthest}, {labels[farthest]:.6g} "
            "eV. Few such labels spoil the training: leave out frames whose calculation failed",
            stacklevel=4,
        )


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


def standardisation(features: DistanceFeatures, values: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Mean ``[features]`` and scale ``[features]`` of features, and mean and scale of energies ``[2]``.

    The scale of features that do not vary is one, so that they count for nothing, also where they vary later.
    """
    return (
        values.mean(0),
        np.where(features.varying(values), values.std(0), 1.0),
        np.array([labels.mean(), labels.std()]),
    )


def check_variation(features: DistanceFeatures, values: Array, labels: Array, parts: Sequence[slice]) -> None:
    """Check that there is something to learn in frames, and to compare with in each part of them that is held out.

    Raises
    ------
    ValueError
        No feature varies in what is learned from, or all energies of a part are the same.

    Warns
    -----
    UserWarning
        For features that do not vary in any frame.
    """
    varying = features.varying(values)
    if varying.any() and not varying.all():
        first, second = features.pairs[~varying][0]
        warnings.warn(
            f"{np.count_nonzero(~varying)} of {len(features)} distances do not vary in the frames, the first is that "
            f"of the beads {first} and {second}: a constraint holds them, and they are not learned from",
            stacklevel=3,
        )
    for part in parts:
        learned = np.ones(len(labels), bool)
        learned[part] = len(parts) == 1  # nothing is held out
        if not features.varying(values[learned]).any():
            raise ValueError(
                f"none of the {len(features)} distances varies in the {np.count_nonzero(learned)} frames to learn "
                "from, so there is nothing that tells energies apart; take more beads or other pairs, or sample more"
            )
        for what, some in (("outside", labels[learned]), ("in", labels[part])):
            if np.ptp(some) == 0:
                raise ValueError(
                    f"all energies {what} the frames {part.start} to {part.stop - 1}, a fold, are {some[0]}; take "
                    "fewer folds, or more frames"
                )
