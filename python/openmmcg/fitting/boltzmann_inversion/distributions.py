"""Distributions of bonds, angles, dihedrals and pair distances in mapped frames, and how far two are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, issparse

from openmmcg.frames import Frames
from openmmcg.geometry.internal_coordinates import RIGID, angles, bonded_terms, dihedrals, distances
from openmmcg.geometry.minimum_image import check_boxes
from openmmcg.geometry.pairs import pairs_apart
from openmmcg.progress import tqdm

FloatArray = NDArray[np.float64]

KINDS = ("bonds", "angles", "dihedrals", "pairs")
_MEASURES: dict[str, Callable[..., FloatArray]] = {"bonds": distances, "angles": angles, "dihedrals": dihedrals}
# Of the sampled range, left free on either side.
_MARGIN = 0.05
# Of a dihedral that hardly turns; bins of one degree.
_MOST_BINS = 360
PAIR_BIN = 0.005  # nm, about
# Of consecutive frames, from whose differences the noise of a distribution is known; frames that are counted at once.
BLOCKS, _AT_ONCE = 10, 500


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

    def values_per_frame(self, types: NDArray[np.int64]) -> int:
        """How many there are in a frame of beads of these types ``[N]``: mirror images, and pairs of any distance."""
        if self.kind != "pairs":
            return len(self.terms) * (2 if self.mirrored else 1)
        first, second = (np.count_nonzero(types == kind) for kind in self.types)
        ends = {tuple(sorted((path[0], path[-1]))) for path in self.terms}
        excluded = sum(tuple(sorted(types[list(pair)])) == self.types for pair in ends)
        return int(first * (first - 1) // 2 if self.types[0] == self.types[1] else first * second) - excluded


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
                edges = np.linspace(0.0, cutoff, max(8, round(cutoff / PAIR_BIN)) + 1)
                pairs = Coordinate(kind, key, _label(kind, key, names), excluded, edges)
                if pairs.values_per_frame(types):
                    found.append(pairs)
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


@dataclass(frozen=True)
class Counts:
    """What is in the bins of coordinates, whose histograms stand one after the other.

    Attributes
    ----------
    sizes : array [coordinates]
        Bins of each.
    images : array [coordinates]
        How often each frame counts: twice where a coordinate counts together with its mirror image.
    frames : array [blocks]
        In each block of consecutive frames.
    blocks : array [blocks, all bins]
        Counts by blocks, so that their noise is known.
    products : array [all bins, all bins]
        Mean of the products of the counts of a frame, where mirror images are frames of their own.
    """

    sizes: NDArray[np.int64]
    images: NDArray[np.int64]
    frames: NDArray[np.int64]
    blocks: NDArray[np.int64]
    products: FloatArray

    @property
    def histograms(self) -> list[NDArray[np.int64]]:
        """Of each coordinate over all frames, ``[bins]``."""
        return np.split(self.blocks.sum(axis=0), np.cumsum(self.sizes)[:-1])

    def covariance(self, chosen: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Mean ``[chosen]`` and covariance ``[chosen, chosen]`` of the counts of a frame in some of all bins.

        Coordinates that follow from each other, as in rings, have bins that fill together.
        """
        mean = (self.blocks.sum(axis=0) / np.repeat(self.images, self.sizes) / self.frames.sum())[chosen]
        return mean, self.products[np.ix_(chosen, chosen)] - np.outer(mean, mean)

    def select(self, chosen: NDArray[np.bool_]) -> Counts:
        """In some of all bins."""
        sizes = np.array([np.count_nonzero(part) for part in np.split(chosen, np.cumsum(self.sizes)[:-1])])
        return replace(self, sizes=sizes, blocks=self.blocks[:, chosen], products=self.products[np.ix_(chosen, chosen)])


def count(sources: Sequence[Frames], coordinates: Sequence[Coordinate], *, progress: bool = False) -> Counts:
    """Count all frames.

    Parameters
    ----------
    sources
        Mapped frames.
    coordinates
        What is counted.
    progress
        Whether to show a progress bar.
    """
    sizes = np.array([len(coordinate.edges) - 1 for coordinate in coordinates])
    images = np.array([1 + coordinate.mirrored for coordinate in coordinates])
    bins = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
    image = np.concatenate([each[::-1] if c.mirrored else each for each, c in zip(bins, coordinates, strict=True)])
    parts = [
        (source, part)
        for source in sources
        for part in np.array_split(np.arange(len(source)), min(-(-BLOCKS // len(sources)), len(source)))
    ]
    blocks = np.zeros((len(parts), len(image)), np.int64)
    products = np.zeros((len(image), len(image)))
    frames = sum(map(len, sources))
    with tqdm(total=frames, desc="counting", unit="frame", disable=not progress, delay=1, leave=False) as bar:
        for block, (source, part) in enumerate(parts):
            for some in np.array_split(part, -(-len(part) // _AT_ONCE)):
                filled = _fill(source.select(some), coordinates, bins)
                blocks[block] += np.rint(np.asarray(filled.sum(axis=0)).ravel()).astype(np.int64)
                product = filled.T @ filled
                products += product.toarray() if issparse(product) else product
                bar.update(len(some))
    products /= frames
    if (images > 1).any():
        products = (products + products[np.ix_(image, image)]) / 2
        blocks += np.where(np.repeat(images, sizes) > 1, blocks[:, image], 0)
    return Counts(sizes, images, np.array([len(part) for _, part in parts]), blocks, products)


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


def _fill(source: Frames, coordinates: Sequence[Coordinate], bins: Sequence[NDArray[np.int64]]) -> Any:
    """Counts of each frame, ``[frames, all bins]``: sparse, or dense where there are pairs, which are in every bin."""
    pairs = {index: coordinate for index, coordinate in enumerate(coordinates) if coordinate.kind == "pairs"}
    rows, columns = [], []
    for coordinate, ours in zip(coordinates, bins, strict=True):
        if coordinate.kind != "pairs":
            values = _values(source, coordinate.kind, coordinate.terms)
            places = np.searchsorted(coordinate.edges, values, side="right") - 1
            columns.append(ours[np.clip(places, 0, len(ours) - 1)].ravel())
            rows.append(np.repeat(np.arange(len(values)), values.shape[1]))
    where = np.concatenate([[], *rows]).astype(int), np.concatenate([[], *columns]).astype(int)
    filled = coo_array((np.ones(len(where[0])), where), (len(source), sum(map(len, bins)))).tocsr()
    if not pairs:
        return filled
    dense = filled.toarray()
    for frame, row in enumerate(dense):
        found = [np.zeros(len(ours), np.int64) for ours in bins]
        _count_pairs(source, frame, pairs, found)
        row += np.concatenate(found)
    return dense


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
    types, positions = source.types, np.asarray(source.positions[frame], float)
    box = None if source.boxes is None else check_boxes(source.boxes[frame], 1)[0]
    rows, columns, lengths = pairs_apart(positions, box, some.edges[-1], some.terms)
    for index, coordinate in coordinates.items():
        first, second = coordinate.types
        ours = ((types[rows] == first) & (types[columns] == second)) | (
            (types[rows] == second) & (types[columns] == first)
        )
        result[index] += np.histogram(lengths[ours], coordinate.edges)[0]
