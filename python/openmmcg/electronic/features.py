"""What an electronic property is predicted from: distances between the beads of one molecule.

Distances do not change when the molecule is moved, turned or mirrored, and neither does an orbital energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.geometry.indices import check_indices
from openmmcg.geometry.internal_coordinates import RIGID

KINDS = ("distances", "squared distances")


class DistanceFeatures:
    """Distances, or their squares, between pairs of beads: the upper triangle of the distance matrix.

    Maier and Jackson, *Bypassing backmapping*, section II A. They are standardised where they are learned from,
    with the mean and the deviation of the training frames.

    Parameters
    ----------
    beads : int
        Beads of the molecule, at least two.
    kind : {"distances", "squared distances"}
    pairs : sequence of pairs of int, optional
        Which pairs, each once, in either order. All by default; their number grows with the square of the number of
        beads, so that for larger molecules a reduced set is better.

    Attributes
    ----------
    beads : int
    kind : str
    pairs : int64 [features, 2]

    Raises
    ------
    ValueError
        An unknown kind, fewer than two beads, or pairs that do not exist or come twice.

    Examples
    --------
    >>> features = DistanceFeatures(3)
    >>> features([[[0, 0, 0], [0.3, 0, 0], [0.3, 0.4, 0]]]).round(3).tolist()
    [[0.3, 0.5, 0.4]]
    """

    def __init__(self, beads: int, kind: str = "distances", pairs: Sequence[Sequence[int]] | None = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"there are no features '{kind}'; choose one of {', '.join(KINDS)}")
        if beads < 2 or beads != int(beads):
            raise ValueError(f"distances need at least two beads, got {beads}")
        self.beads = beads
        self.kind = kind
        if pairs is None:
            self.pairs = np.stack(np.triu_indices(beads, 1), axis=1)
            return
        chosen = check_indices(pairs, beads, "pairs")
        if chosen.ndim != 2 or chosen.shape[1] != 2 or len(chosen) == 0:
            raise ValueError(f"pairs must be a list of pairs of bead numbers, got the shape {chosen.shape}")
        wrong = chosen[:, 0] == chosen[:, 1]
        if wrong.any():
            raise ValueError(f"the pair {chosen[wrong][0].tolist()} is not one of two different beads")
        self.pairs = np.sort(chosen, axis=1)
        if len(np.unique(self.pairs, axis=0)) != len(self.pairs):
            raise ValueError("a pair of beads comes twice in pairs")

    def __len__(self) -> int:
        return len(self.pairs)

    def __call__(self, positions: ArrayLike) -> NDArray[np.float64]:
        """The features of frames.

        Parameters
        ----------
        positions : array [frames, beads, 3], nm
            Of molecules that are whole, not cut by a periodic box: see `openmmcg.geometry.make_whole`.

        Returns
        -------
        float64 [frames, features], nm or nm²

        Raises
        ------
        ValueError
            The array has another shape, another number of beads, or numbers that are not finite.
        """
        places = np.asarray(positions, np.float64)
        if places.ndim != 3 or places.shape[2] != 3:
            raise ValueError(f"positions must have the shape [frames, beads, 3], got {list(places.shape)}")
        if places.shape[1] != self.beads:
            raise ValueError(
                f"the positions have {places.shape[1]} beads, these features need {self.beads}: "
                "use the map that the predictor was trained with"
            )
        broken = ~np.isfinite(places).all((1, 2))
        if broken.any():
            raise ValueError(
                f"{broken.sum()} of {len(places)} frames have positions that are not finite, "
                f"the first is frame {int(np.argmax(broken))}: leave them out"
            )
        squares = np.square(places[:, self.pairs[:, 0]] - places[:, self.pairs[:, 1]]).sum(2)
        return np.sqrt(squares) if self.kind == "distances" else squares

    def varying(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which features vary in frames, ``[features]``: a distance that a constraint holds has rounding errors only.

        Parameters
        ----------
        values : array [frames, features]
            As `__call__` gives them.
        """
        lengths = values if self.kind == "distances" else np.sqrt(values)
        return lengths.std(0) > RIGID

    def describe(self) -> dict[str, Any]:
        """The arguments that make the same features again, as JSON can express them."""
        return {"beads": self.beads, "kind": self.kind, "pairs": self.pairs.tolist()}
