"""Pairs of beads near each other, without those that bonds join."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.geometry.minimum_image import minimum_image


class Pairs(NamedTuple):
    """Pairs of beads.

    Attributes
    ----------
    rows, columns : int array [pairs]
        The beads.
    distances : array [pairs]
        nm
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    distances: NDArray[np.float64]


def pairs_apart(
    positions: NDArray[np.float64],
    box: NDArray[np.float64] | None,
    cutoff: float,
    excluded: Iterable[Sequence[int]] = (),
) -> Pairs:
    """Pairs of beads within a cutoff, each once.

    Parameters
    ----------
    positions : array [N, 3]
        nm
    box : array [3, 3] or None
        Box vectors as rows in OpenMM's reduced form, nm.
    cutoff
        nm, at most half the smallest diagonal element of the box.
    excluded
        Paths along bonds, whose ends are left out: pairs, or angles.

    Examples
    --------
    >>> line = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    >>> pairs_apart(line, None, 0.5, excluded=[(0, 1), (1, 2)]).distances
    array([0.2])
    """
    beads = len(positions)
    rows, columns = neighbor_pairs(positions, box, cutoff)
    ends = np.array([(path[0], path[-1]) for path in excluded], np.int64).reshape(-1, 2)
    apart = ~np.isin(np.minimum(rows, columns) * beads + np.maximum(rows, columns), ends.min(1) * beads + ends.max(1))
    rows, columns = rows[apart], columns[apart]
    return Pairs(rows, columns, np.linalg.norm(minimum_image(positions[columns] - positions[rows], box), axis=1))
