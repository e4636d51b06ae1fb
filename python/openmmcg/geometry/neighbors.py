"""Frames of a periodic liquid, one at a time, and the pairs of beads near each other in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from openmmcg.geometry.internal_coordinates import FrameSequence

FloatArray = NDArray[np.float64]


def box_widths(box: ArrayLike) -> FloatArray:
    """Distances between the three pairs of opposite faces of a box, in nm.

    Parameters
    ----------
    box : array [3, 3]
        Box vectors as rows, nm.

    Examples
    --------
    >>> box_widths([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]])
    array([2., 3., 4.])
    """
    return 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(box, dtype=np.float64)), axis=0)


def periodic_frames(
    positions: FrameSequence, boxes: FrameSequence, distance: float, frames: slice
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Go through `frames` of a trajectory, reading one at a time.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        Bead positions, nm; a lazy data set is read frame by frame.
    boxes : array-like [F, 3, 3]
        Box vectors as rows, nm.
    distance : float
        Largest distance, nm, at which pairs will be looked at.

    Yields
    ------
    positions, box : arrays [N, 3] and [3, 3], float64

    Raises
    ------
    ValueError
        When a position is not finite, or when `distance` exceeds half the smallest width of the box, beyond
        which a pair has more than one image in reach.
    """
    for frame in range(frames.start, frames.stop):
        frame_positions = np.asarray(positions[frame], dtype=np.float64)
        box = np.asarray(boxes[frame], dtype=np.float64)
        if not np.isfinite(frame_positions).all():
            raise ValueError(f"frame {frame} has positions that are not finite; analyse the frames before it")
        if not np.isfinite(box).all() or np.linalg.det(box) <= 0:
            raise ValueError(f"frame {frame} has no periodic box; its box vectors are {box.tolist()}")
        limit = box_widths(box).min() / 2
        # The relative 1e-6 lets a box stored in float32 pass at the limit itself.
        if distance > limit * (1 + 1e-6):
            raise ValueError(
                f"the largest distance, {distance:g} nm, exceeds half the smallest width of the box in frame "
                f"{frame}, {limit:.4f} nm; choose a smaller distance or simulate a larger box"
            )
        yield frame_positions, box


def check_trajectory(positions: FrameSequence, boxes: FrameSequence | None) -> tuple[int, int]:
    """Number of frames and of beads, after checking that `positions` is [F, N, 3] and `boxes` [F, 3, 3]."""
    if boxes is None:
        raise ValueError("the trajectory has no boxes; this analysis is for periodic systems")
    shape, box_shape = tuple(positions.shape), tuple(boxes.shape)
    if len(shape) != 3 or shape[2] != 3 or shape[0] == 0:
        raise ValueError(f"positions must have the shape [frames, beads, 3], not {list(shape)}")
    if box_shape != (shape[0], 3, 3):
        raise ValueError(f"boxes must have the shape [{shape[0]}, 3, 3], one box per frame, not {list(box_shape)}")
    return shape[0], shape[1]


class PeriodicNeighbors:
    """The beads of one frame and all their periodic images within `distance` of the cell.

    With the images written out, distances need no periodic arithmetic, so that one k-d tree serves every box
    shape.

    Parameters
    ----------
    positions : array [N, 3]
        nm, inside the box or not.
    box : array [3, 3]
        Box vectors as rows, nm; `distance` must be at most half its smallest width.
    """

    def __init__(self, positions: FloatArray, box: FloatArray, distance: float):
        fractions = positions @ np.linalg.inv(box)
        fractions -= np.floor(fractions)
        margin = distance / box_widths(box)
        images, owners = [], []
        for shift in product((-1, 0, 1), repeat=3):
            image = fractions + shift
            near = np.flatnonzero(((image >= -margin) & (image <= 1 + margin)).all(axis=1))
            images.append(image[near])
            owners.append(near)
        self._distance = distance
        self._cell = fractions @ box
        self._images = np.concatenate(images) @ box
        self._owners = np.concatenate(owners)

    def count(self, edges: FloatArray) -> FloatArray:
        """Ordered pairs of different beads with edges[k] < distance <= edges[k+1], [len(edges) − 1]."""
        counts = cKDTree(self._cell).count_neighbors(cKDTree(self._images), edges, cumulative=False)
        return np.asarray(counts[1:], dtype=np.float64)

    def displacements(self) -> tuple[NDArray[np.int64], FloatArray]:
        """All ordered pairs of different beads within the distance, sorted by the first bead.

        Returns
        -------
        first : array [P]
            The first bead of each pair.
        displacement : array [P, 3]
            From the first bead to the second, nm.
        """
        pairs = cKDTree(self._cell).sparse_distance_matrix(cKDTree(self._images), self._distance, output_type="ndarray")
        pairs = pairs[self._owners[pairs["j"]] != pairs["i"]]
        pairs = pairs[np.argsort(pairs["i"], kind="stable")]
        first = pairs["i"].astype(np.int64)
        return first, self._images[pairs["j"]] - self._cell[first]
