"""Distances, angles and dihedral angles of chosen atoms or beads, in every frame, and which of them bonds define."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.geometry.indices import check_bonds, check_indices
from openmmcg.geometry.minimum_image import check_boxes, check_near, minimum_image

FloatArray = NDArray[np.float64]

# Frames computed at once.
_CHUNK = 10_000

# Standard deviation, nm or radians, below which a coordinate is rigid: what a constraint holds varies by its tolerance
# and by rounding, the stiffest bonds of force fields by some 3e-3 nm.
RIGID = 1e-4


class FrameSequence(Protocol):
    """Positions or boxes of all frames: an array, or a data set of which only what is indexed is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, frames: Any, /) -> Any: ...


class BackboneDihedrals(NamedTuple):
    """The dihedrals φ and ψ of a peptide.

    Attributes
    ----------
    residues : list of str
        Names and numbers of the residues that have both.
    phi, psi : int array [residues, 4]
        Indices of C–N–CA–C and of N–CA–C–N.
    """

    residues: list[str]
    phi: NDArray[np.int64]
    psi: NDArray[np.int64]


def backbone_dihedrals(topology: Any) -> BackboneDihedrals:
    """Find φ and ψ of every residue by the names of atoms or beads: C of the residue before, N, CA, C, N of the next.

    Parameters
    ----------
    topology
        Of atoms, or of beads that keep the names of atoms: an `openmm.app.Topology` or an `mdtraj.Topology`.

    Raises
    ------
    ValueError
        When no residue has both dihedrals.

    Examples
    --------
    The backbone beads of capped alanine:

    >>> from openmm import app
    >>> topology = app.Topology()
    >>> chain = topology.addChain()
    >>> for residue, names in {"ACE": ["C"], "ALA": ["N", "CA", "CB", "C"], "NME": ["N"]}.items():
    ...     place = topology.addResidue(residue, chain)
    ...     atoms = [topology.addAtom(name, None, place) for name in names]
    >>> found = backbone_dihedrals(topology)
    >>> found.residues, found.phi.tolist(), found.psi.tolist()
    (['ALA2'], [[0, 1, 2, 4]], [[1, 2, 4, 5]])
    """
    topology = topology.to_openmm() if hasattr(topology, "to_openmm") else topology
    names, phi, psi = [], [], []
    for chain in topology.chains():
        residues = list(chain.residues())
        atoms = [{atom.name: atom.index for atom in residue.atoms()} for residue in residues]
        for k in range(1, len(residues) - 1):
            if {"N", "CA", "C"} <= atoms[k].keys() and "C" in atoms[k - 1] and "N" in atoms[k + 1]:
                nitrogen, alpha, carbon = (atoms[k][name] for name in ("N", "CA", "C"))
                names.append(f"{residues[k].name}{residues[k].id}")
                phi.append([atoms[k - 1]["C"], nitrogen, alpha, carbon])
                psi.append([nitrogen, alpha, carbon, atoms[k + 1]["N"]])
    if not names:
        raise ValueError(
            "no residue has the atoms or beads C (before), N, CA, C and N (after) of φ and ψ; give the indices of the "
            "four beads of each dihedral to `dihedrals`"
        )
    return BackboneDihedrals(names, np.array(phi), np.array(psi))


class BondedTerms(NamedTuple):
    """What bonds define: pairs of bonded particles, and paths along two and three bonds.

    Attributes
    ----------
    bonds, angles, dihedrals : list of tuples of 2, 3, 4 int
        Each once, ascending; the first index of a tuple is less than the last.
    """

    bonds: list[tuple[int, ...]]
    angles: list[tuple[int, ...]]
    dihedrals: list[tuple[int, ...]]


def bonded_terms(bonds: Iterable[Iterable[int]]) -> BondedTerms:
    """All bonds, angles and (proper) dihedrals of a graph of bonds.

    Raises
    ------
    ValueError
        For indices that are not whole numbers from 0 on, or a particle bonded to itself.

    Examples
    --------
    >>> bonded_terms([(0, 1), (1, 2), (2, 3)])
    BondedTerms(bonds=[(0, 1), (1, 2), (2, 3)], angles=[(0, 1, 2), (1, 2, 3)], dihedrals=[(0, 1, 2, 3)])
    """
    checked = check_bonds([list(bond) for bond in bonds])
    pairs = sorted({(min(pair), max(pair)) for pair in checked.tolist()})
    neighbors: dict[int, list[int]] = {}
    for first, second in pairs:
        neighbors.setdefault(first, []).append(second)
        neighbors.setdefault(second, []).append(first)
    paths: list[tuple[int, ...]] = [path for pair in pairs for path in (pair, pair[::-1])]
    found = []
    for _ in range(2):
        paths = [(*path, end) for path in paths for end in neighbors[path[-1]] if end not in path]
        found.append(sorted(path for path in paths if path[0] < path[-1]))
    return BondedTerms(list(pairs), *found)


def angles(positions: FrameSequence, indices: ArrayLike, boxes: ArrayLike | None = None) -> FloatArray:
    """Angles at the second of three atoms or beads, in every frame.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        nm; read some frames at a time.
    indices : int array [A, 3]
    boxes : array [F, 3, 3] or [3, 3], optional
        Box vectors as rows, nm. With them, displacements are those of the minimum image; without, molecules are whole.

    Returns
    -------
    array [F, A], radians between 0 and π

    Raises
    ------
    ValueError
        For wrong shapes, indices that do not exist, positions that are not finite, or displacements of half the
        smallest width of the box or more, of which another image may be meant.

    Examples
    --------
    >>> np.degrees(angles(np.array([[[1.0, 0, 0], [0, 0, 0], [0, 2.0, 0]]]), [[0, 1, 2]]))
    array([[90.]])
    """
    triples = _check_tuples(positions, indices, 3)

    def compute(between: Displacements) -> FloatArray:
        first, second = (between(triples[:, [1, k]]) for k in (0, 2))
        sine = np.linalg.norm(np.cross(first, second), axis=2)
        return np.asarray(np.arctan2(sine, np.einsum("fai,fai->fa", first, second)))

    return _frame_by_frame(positions, boxes, len(triples), compute)


def dihedrals(positions: FrameSequence, indices: ArrayLike, boxes: ArrayLike | None = None) -> FloatArray:
    """Dihedral angles in every frame, by the convention of IUPAC: 0 for cis, positive clockwise along the axis.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        nm; read some frames at a time.
    indices : int array [D, 4]
    boxes : array [F, 3, 3] or [3, 3], optional
        Box vectors as rows, nm. With them, displacements are those of the minimum image; without, molecules are whole.

    Returns
    -------
    array [F, D], radians between −π and π

    Raises
    ------
    ValueError
        For wrong shapes, indices that do not exist, positions that are not finite, or displacements of half the
        smallest width of the box or more, of which another image may be meant.

    Examples
    --------
    >>> positions = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [0, 1.0, 1.0]]])
    >>> np.degrees(dihedrals(positions, [[0, 1, 2, 3]]))
    array([[90.]])
    """
    quadruples = _check_tuples(positions, indices, 4)

    def compute(between: Displacements) -> FloatArray:
        first, axis, last = (between(quadruples[:, k : k + 2]) for k in range(3))
        before, after = np.cross(first, axis), np.cross(axis, last)
        sine = np.einsum("fdi,fdi->fd", first, after) * np.linalg.norm(axis, axis=2)
        return np.arctan2(sine, np.einsum("fdi,fdi->fd", before, after))

    return _frame_by_frame(positions, boxes, len(quadruples), compute)


def distances(positions: FrameSequence, pairs: ArrayLike | None = None, boxes: ArrayLike | None = None) -> FloatArray:
    """Distances in every frame.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        nm; read some frames at a time.
    pairs : int array [P, 2], optional
        All N(N−1)/2 pairs by default.
    boxes : array [F, 3, 3] or [3, 3], optional
        Box vectors as rows, nm. With them, displacements are those of the minimum image; without, molecules are whole.

    Returns
    -------
    array [F, P], nm

    Raises
    ------
    ValueError
        For wrong shapes, indices that do not exist, positions that are not finite, or displacements of half the
        smallest width of the box or more, of which another image may be meant.

    Examples
    --------
    >>> distances(np.array([[[0.0, 0, 0], [0.3, 0, 0], [0.3, 0.4, 0]]]))
    array([[0.3, 0.5, 0.4]])
    """
    if pairs is None:
        pairs = list(combinations(range(positions.shape[1]), 2))
    couples = _check_tuples(positions, pairs, 2)

    def lengths(between: Displacements) -> FloatArray:
        return np.asarray(np.linalg.norm(between(couples), axis=2))

    return _frame_by_frame(positions, boxes, len(couples), lengths)


# From the first to the second of pairs [P, 2], in the frames at hand: [F, P, 3].
Displacements = Callable[[NDArray[np.int64]], FloatArray]


def _check_tuples(positions: FrameSequence, indices: ArrayLike, size: int) -> NDArray[np.int64]:
    shape = tuple(positions.shape)
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"positions must have the shape [frames, beads, 3], not {list(shape)}")
    tuples = check_indices(indices, shape[1], "indices")
    if tuples.ndim != 2 or tuples.shape[1] != size or len(tuples) == 0:
        raise ValueError(f"indices must have the shape [number, {size}], not {list(tuples.shape)}")
    return tuples


def _frame_by_frame(
    positions: FrameSequence,
    boxes: ArrayLike | None,
    columns: int,
    compute: Callable[[Displacements], FloatArray],
) -> FloatArray:
    result = np.empty((positions.shape[0], columns))
    vectors = None if boxes is None else check_boxes(boxes, len(result))
    for first in range(0, len(result), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        frames = np.asarray(positions[chunk], dtype=np.float64)
        finite = np.isfinite(frames).all(axis=(1, 2))
        if not finite.all():
            raise ValueError(
                f"frame {first + int(np.argmin(finite))} has positions that are not finite; "
                "analyse the frames before it"
            )
        result[chunk] = compute(_displacements(frames, None if vectors is None else vectors[chunk], first))
    return result


def _displacements(frames: FloatArray, boxes: FloatArray | None, first_frame: int) -> Displacements:
    def between(pairs: NDArray[np.int64]) -> FloatArray:
        displacements = frames[:, pairs[:, 1]] - frames[:, pairs[:, 0]]
        if boxes is None:
            return displacements
        nearest = minimum_image(displacements, boxes)
        check_near(
            nearest,
            boxes,
            pairs,
            first_frame,
            remedy="make the molecules whole along their bonds (openmmcg.geometry.make_whole) and leave out the boxes",
        )
        return nearest

    return between
