"""Molecules that faces of a periodic box cut, made whole along their bonds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.geometry.indices import check_bonds
from openmmcg.geometry.internal_coordinates import FrameSequence
from openmmcg.geometry.minimum_image import check_boxes, check_near, nearest_images

FloatArray = NDArray[np.float64]

_BLOCK = 1_000_000  # particles made whole at once


def make_whole(positions: ArrayLike, boxes: ArrayLike | None, bonds: ArrayLike) -> FloatArray:
    """Put bonded particles next to each other: of every molecule, the image whose first particle stays where it is.

    Parameters
    ----------
    positions : array [N, 3] or [F, N, 3]
        nm, wrapped into the box or not.
    boxes : array [3, 3] or [F, 3, 3], or None
        Box vectors as rows in OpenMM's reduced form, nm; None when not periodic.
    bonds : int array [bonds, 2]

    Returns
    -------
    float64, as positions, nm
        Those of whole molecules bit for bit.

    Raises
    ------
    ValueError
        Shapes, boxes or bonds that make no sense, a bond of half the smallest width of the box or more, or a molecule
        that is bonded to its own periodic image.

    Examples
    --------
    >>> make_whole([[0.9, 0.5, 0.5], [0.1, 0.5, 0.5]], np.eye(3), [(0, 1)]).round(3).tolist()
    [[0.9, 0.5, 0.5], [1.1, 0.5, 0.5]]
    """
    return Molecules(np.shape(positions)[-2] if np.ndim(positions) > 1 else 0, bonds).whole(positions, boxes)


class Molecules:
    """Which particles bonds join, to make molecules whole in frame after frame.

    Parameters
    ----------
    particles : int
        How many there are.
    bonds : int array [bonds, 2]
    together : mapping from str to int array
        Groups of particles that must come out in one piece, such as the atoms of each bead, whether bonds join them or
        not; by what error messages call them.

    Raises
    ------
    ValueError
        There are no such bonds.
    """

    def __init__(self, particles: int, bonds: ArrayLike, together: Mapping[str, NDArray[np.integer]] = {}) -> None:  # noqa: B006
        self.particles = particles
        self._bonds = check_bonds(bonds, particles)
        self._levels, molecule = _spanning_forest(particles, self._bonds)
        self._loose = dict(together)
        if together:
            members = molecule[np.concatenate([*together.values()])]
            starts = np.cumsum([0, *map(len, together.values())])[:-1]
            joined = np.maximum.reduceat(members, starts) == np.minimum.reduceat(members, starts)
            # Bonds make these whole.
            for what in compress(together, joined):
                del self._loose[what]

    def whole(self, positions: ArrayLike, boxes: ArrayLike | None, first_frame: int = 0) -> FloatArray:
        """As `make_whole`.

        Parameters
        ----------
        positions, boxes
            As of `make_whole`.
        first_frame : int
            What error messages count frames from.

        Raises
        ------
        ValueError
            As `make_whole`; or a group that has to be together, and that bonds do not join, extends over half the box
            or more, so that it cannot be told whether it is cut.
        """
        places = np.asarray(positions, np.float64)
        if places.ndim not in (2, 3) or places.shape[-2:] != (self.particles, 3):
            raise ValueError(
                f"positions must have the shape [{self.particles}, 3] or [frames, {self.particles}, 3], not "
                f"{list(places.shape)}"
            )
        if boxes is None:
            return places
        frames = places.reshape(-1, self.particles, 3)
        vectors = check_boxes(boxes, len(frames))
        result = np.empty_like(frames)
        size = max(1, _BLOCK // max(1, self.particles))
        for start in range(0, len(frames), size):
            block = slice(start, start + size)
            result[block] = self._block(frames[block], vectors[block], first_frame + start)
        return result.reshape(places.shape)

    def _block(self, frames: FloatArray, boxes: FloatArray, first_frame: int) -> FloatArray:
        finite = np.isfinite(frames).all((1, 2))
        if not finite.all():
            raise ValueError(f"frame {first_frame + int(np.argmin(finite))} has positions that are not finite")
        crossings = self._crossings(frames, boxes, first_frame)
        result = frames - crossings @ boxes if crossings.any() else frames
        self._check_loose(result, boxes, first_frame)
        return result

    def _crossings(self, frames: FloatArray, boxes: FloatArray, first_frame: int) -> FloatArray:
        """How many box vectors each particle is away from the first of its molecule, ``[F, N, 3]``."""
        first, second = self._bonds.T
        steps, along = nearest_images(frames[:, second] - frames[:, first], boxes)
        check_near(steps, boxes, self._bonds, first_frame, remedy="correct the bonds, or the box")
        total = np.zeros_like(frames)
        if not along.any():  # as in most trajectories
            return total
        for bonds, forward in self._levels:
            near, far = np.where(forward, first[bonds], second[bonds]), np.where(forward, second[bonds], first[bonds])
            total[:, far] = total[:, near] + np.where(forward, 1.0, -1.0)[:, None] * along[:, bonds]
        closed = (total[:, second] - total[:, first] == along).all(2)
        if not closed.all():
            frame, bond = np.argwhere(~closed)[0]
            raise ValueError(
                f"in frame {first_frame + frame} the bond of the particles {first[bond]} and {second[bond]} joins a "
                "molecule to its own periodic image, so that it cannot be made whole; correct the bonds, or the box"
            )
        return total

    def _check_loose(self, frames: FloatArray, boxes: FloatArray, first_frame: int) -> None:
        if not self._loose:
            return
        fractions = frames @ np.linalg.inv(boxes)
        for what, group in self._loose.items():
            extents = np.ptp(fractions[:, group], axis=1).max(1)
            if (extents >= 0.5).any():
                frame = int(np.argmax(extents >= 0.5))
                raise ValueError(
                    f"in frame {first_frame + frame} {what} are {extents[frame]:.2f} box widths apart and are not "
                    "joined by bonds, so it cannot be told whether molecules are cut at the faces of the periodic box. "
                    "Give the topology bonds; or write molecules whole, in OpenMM by "
                    "getState(enforcePeriodicBox=False), or mend them, in MDTraj by make_molecules_whole()"
                )


class WholeFrames:
    """Positions of frames, of which those that are indexed are read and their molecules made whole.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        nm
    boxes : array [F, 3, 3] or None
        nm; None when not periodic.
    molecules : Molecules
    """

    def __init__(self, positions: FrameSequence, boxes: FloatArray | None, molecules: Molecules) -> None:
        self._positions, self._boxes, self._molecules = positions, boxes, molecules
        self.shape = tuple(positions.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frames: int | slice) -> FloatArray:
        boxes = None if self._boxes is None else self._boxes[frames]
        first = frames.indices(len(self))[0] if isinstance(frames, slice) else frames
        return self._molecules.whole(self._positions[frames], boxes, first)


def _spanning_forest(
    particles: int, bonds: NDArray[np.int64]
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.bool_]]], NDArray[np.int64]]:
    """Bonds that lead from the first particle of each molecule to all others, generation by generation.

    Returns
    -------
    levels : list of pairs of arrays
        Indices of bonds, and whether each is walked from its first particle to its second.
    molecule : array [N]
        The first particle of each one's molecule.
    """
    neighbors: list[list[tuple[int, int, bool]]] = [[] for _ in range(particles)]
    for bond, (first, second) in enumerate(bonds.tolist()):
        neighbors[first].append((second, bond, True))
        neighbors[second].append((first, bond, False))
    molecule = [-1] * particles
    walked: list[list[tuple[int, bool]]] = []
    for root in range(particles):
        if molecule[root] >= 0:
            continue
        molecule[root] = root
        generation, depth = [root], 0
        while generation:
            born = []
            for parent in generation:
                for child, bond, forward in neighbors[parent]:
                    if molecule[child] < 0:
                        molecule[child] = root
                        born.append(child)
                        if depth == len(walked):
                            walked.append([])
                        walked[depth].append((bond, forward))
            generation, depth = born, depth + 1
    levels = [(np.array([bond for bond, _ in steps]), np.array([forward for _, forward in steps])) for steps in walked]
    return levels, np.array(molecule, np.int64)
