"""Distributions of bonds, angles, dihedrals and pair distances in mapped frames, and how far two are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.frames import Frames
from openmmcg.geometry.internal_coordinates import RIGID, angles, bonded_terms, dihedrals, distances
from openmmcg.geometry.minimum_image import check_boxes, minimum_image
from openmmcg.progress import tqdm

FloatArray = NDArray[np.float64]

KINDS = ("bonds", "angles", "dihedrals", "pairs")
_MEASURES: dict[str, Callable[..., FloatArray]] = {"bonds": distances, "angles": angles, "dihedrals": dihedrals}
# Of the sampled range, left free on either side.
_MARGIN = 0.05
# Of a dihedral that hardly turns; bins of one degree.
_MOST_BINS = 360
_PAIR_BIN = 0.005  # nm, about


@dataclass(frozen=True, eq=False)
class Coordinate:
    """All bonds, angles, dihedrals or pairs between beads of the same types, as one distribution.

    Attributes
    ----------
    kind : str
        "bonds", "angles", "dihedrals" or "pairs".
    types : tuple of int
        Bead types.
    label : str
        For people, such as "bond A-B".
    terms : tuple of tuples of int
        The beads of each; of pairs, those that do not count, one or two bonds apart.
    edges : array [bins + 1]
        Of equally wide bins: nm, or radians. What lies beyond counts in the outermost.
    mirrored : bool
        Whether a dihedral counts together with that of the mirror image.
    """

    kind: str
    types: tuple[int, ...]
    label: str
    terms: tuple[tuple[int, ...], ...]
    edges: FloatArray
    mirrored: bool = False

    @property
    def centers(self) -> FloatArray:
        """Middles of the bins, ``[bins]``."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(self.edges[1] - self.edges[0])

    @property
    def jacobian(self) -> FloatArray:
        """Volume of each bin, ``[bins]``: the integral of r² of lengths, of sin θ of angles, of 1 of dihedrals."""
        if self.kind == "dihedrals":
            return np.diff(self.edges)
        return -np.diff(np.cos(self.edges)) if self.kind == "angles" else np.diff(self.edges**3) / 3


def find_coordinates(
    sources: Sequence[Frames], kinds: Sequence[str], bins: int, cutoff: float, achiral: bool = False
) -> list[Coordinate]:
    """The coordinates of these kinds in frames of one sort of molecule, with bins over what is sampled.

    Parameters
    ----------
    sources
        Mapped frames, molecules whole or wrapped, all of the same beads.
    kinds
        Some of "bonds", "angles", "dihedrals" and "pairs".
    bins
        Over the sampled range and a twentieth of it on either side; those of pairs are 0.005 nm wide.
    cutoff
        Of pairs, nm.
    achiral
        Whether mirror images are as probable.

    Raises
    ------
    ValueError
        There is no coordinate of a kind, or one does not vary.
    """
    types, names = sources[0].types, sources[0].type_names
    terms = bonded_terms(sources[0].bonds.tolist())
    found = []
    for kind in kinds:
        if kind == "pairs":
            excluded = (*terms.bonds, *terms.angles)
            for key in sorted({tuple(sorted((int(a), int(b)))) for a in set(types) for b in set(types)}):
                edges = np.linspace(0.0, cutoff, max(8, round(cutoff / _PAIR_BIN)) + 1)
                found.append(Coordinate(kind, key, _label(kind, key, names), excluded, edges))
            continue
        by_types = _by_types(getattr(terms, kind), types)
        if not by_types:
            raise ValueError(
                f"there are no {kind} in {sources[0].path}, whose file knows {len(terms.bonds)} bonds; map frames with "
                "a map whose beads are bonded (Mapping.with_bonds), or leave this kind of coordinate out"
            )
        for key, paths in by_types.items():
            values = np.concatenate([_values(source, kind, paths).ravel() for source in sources])
            label = _label(kind, key, names)
            if not _deviation(kind, values) > RIGID:
                raise ValueError(f"the {label} does not vary in the frames, so it has no distribution; constrain it")
            mirrored = achiral and kind == "dihedrals"
            found.append(Coordinate(kind, key, label, tuple(paths), _edges(kind, values, bins), mirrored))
    return found


def count(
    sources: Sequence[Frames], coordinates: Sequence[Coordinate], *, progress: bool = False
) -> list[NDArray[np.int64]]:
    """Histogram of each coordinate over all frames, ``[bins]``."""
    bonded = {index: c for index, c in enumerate(coordinates) if c.kind != "pairs"}
    pairs = {index: c for index, c in enumerate(coordinates) if c.kind == "pairs"}
    result = [np.zeros(len(coordinate.edges) - 1, np.int64) for coordinate in coordinates]
    for source in sources:
        for index, coordinate in bonded.items():
            values = _values(source, coordinate.kind, coordinate.terms)
            clipped = np.clip(values, coordinate.edges[0], coordinate.edges[-1])
            counts = np.histogram(clipped, coordinate.edges)[0]
            result[index] += counts + counts[::-1] if coordinate.mirrored else counts
        if pairs:
            for frame in tqdm(range(len(source)), "pairs", unit="frame", disable=not progress, leave=False):
                _count_pairs(source, frame, pairs, result)
    return result


def count_covariance(
    sources: Sequence[Frames], coordinates: Sequence[Coordinate], chosen: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Mean ``[chosen]`` and covariance ``[chosen, chosen]`` over frames of the counts in bins of all coordinates.

    Coordinates that follow from each other, as in rings, have bins that fill together. Mirror images, where they count,
    are frames of their own. Pairs are not for this function: there are too few frames of a liquid for the many bins.

    Parameters
    ----------
    sources
        Mapped frames.
    coordinates
        Bonds, angles and dihedrals.
    chosen
        Which of their bins, one coordinate's after the other's, ``[all bins]``.
    """
    sizes = [len(coordinate.edges) - 1 for coordinate in coordinates]
    signs = (1, -1) if any(coordinate.mirrored for coordinate in coordinates) else (1,)
    frames = sum(map(len, sources)) * len(signs)
    squares: Any = 0.0
    mean = np.zeros(np.count_nonzero(chosen))
    for source, sign in product(sources, signs):
        rows, columns = [], []
        for first, coordinate in zip(np.cumsum([0, *sizes]), coordinates, strict=False):
            values = _values(source, coordinate.kind, coordinate.terms) * (sign if coordinate.mirrored else 1)
            bins = np.searchsorted(coordinate.edges, values, side="right") - 1
            columns.append(first + np.clip(bins, 0, len(coordinate.edges) - 2).ravel())
            rows.append(np.repeat(np.arange(len(values)), values.shape[1]))
        found = np.concatenate(rows), np.concatenate(columns)
        filled = coo_array((np.ones(len(found[0])), found), (len(source), sum(sizes))).tocsc()[:, chosen]
        squares = squares + (filled.T @ filled).toarray() / frames
        mean += filled.sum(axis=0) / frames
    return mean, squares - np.outer(mean, mean)


def jensen_shannon_divergence(first: ArrayLike, second: ArrayLike) -> float:
    r"""Jensen-Shannon divergence of two histograms with the same bins, in bits: 0 where they agree, at most 1.

    :math:`\tfrac12 D(p\|m) + \tfrac12 D(q\|m)` with :math:`m = (p + q)/2` and the Kullback-Leibler divergence D with
    logarithms to the base 2; Lin, IEEE Trans. Inf. Theory 37, 145 (1991).

    Two samples of n independent values each of the same distribution differ by about (bins − 1)/(2.8 n).

    Parameters
    ----------
    first, second : array [bins]
        Counts or probabilities; they are normalised.

    Examples
    --------
    >>> jensen_shannon_divergence([1, 1, 0], [0, 0, 5]), jensen_shannon_divergence([1, 2], [2, 4])
    (1.0, 0.0)
    """
    p, q = (np.asarray(values, float) / np.sum(values) for values in (first, second))
    middle = (p + q) / 2
    terms = [np.sum(x[x > 0] * np.log2(x[x > 0] / middle[x > 0])) for x in (p, q)]
    return float(sum(terms) / 2)


def _by_types(paths: Iterable[tuple[int, ...]], types: NDArray[np.int64]) -> dict[tuple[int, ...], list]:
    result: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for path in paths:
        key = tuple(int(types[bead]) for bead in path)
        result.setdefault(min(key, key[::-1]), []).append(path)
    return dict(sorted(result.items()))


def _label(kind: str, key: tuple[int, ...], names: Sequence[str]) -> str:
    return f"{kind.removesuffix('s')} {'-'.join(names[bead_type] for bead_type in key)}"


def _values(source: Frames, kind: str, terms: Sequence[tuple[int, ...]]) -> FloatArray:
    try:
        return _MEASURES[kind](source.positions, terms, source.boxes)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from error


def _deviation(kind: str, values: FloatArray) -> float:
    """Standard deviation, nm or radians; of dihedrals that on the unit circle, where ±π are one place."""
    parts = (np.cos(values), np.sin(values)) if kind == "dihedrals" else (values,)
    return float(np.sqrt(sum(part.var() for part in parts)))


def _edges(kind: str, values: FloatArray, bins: int) -> FloatArray:
    if kind == "dihedrals":
        places = np.sort(values)
        gaps = np.diff(places, append=places[0] + 2 * np.pi)
        sampled = (2 * np.pi - gaps.max()) * (1 + 2 * _MARGIN)
        number = int(np.clip(np.ceil(2 * np.pi / sampled * bins), bins, max(bins, _MOST_BINS)))
        return np.linspace(-np.pi, np.pi, number + 1)
    margin = _MARGIN * np.ptp(values)
    largest = np.pi if kind == "angles" else np.inf
    return np.linspace(max(values.min() - margin, 0.0), min(values.max() + margin, largest), bins + 1)


def _count_pairs(
    source: Frames, frame: int, coordinates: dict[int, Coordinate], result: list[NDArray[np.int64]]
) -> None:
    some = next(iter(coordinates.values()))
    types, beads = source.types, len(source.types)
    positions = np.asarray(source.positions[frame], float)
    box = None if source.boxes is None else check_boxes(source.boxes[frame], 1)[0]
    rows, columns = neighbor_pairs(positions, box, some.edges[-1])
    excluded = np.array([path[0] * beads + path[-1] for path in some.terms], np.int64)
    apart = ~np.isin(np.minimum(rows, columns) * beads + np.maximum(rows, columns), excluded)
    rows, columns = rows[apart], columns[apart]
    lengths = np.linalg.norm(minimum_image(positions[columns] - positions[rows], box), axis=1)
    for index, coordinate in coordinates.items():
        first, second = coordinate.types
        ours = ((types[rows] == first) & (types[columns] == second)) | (
            (types[rows] == second) & (types[columns] == first)
        )
        result[index] += np.histogram(lengths[ours], coordinate.edges)[0]
