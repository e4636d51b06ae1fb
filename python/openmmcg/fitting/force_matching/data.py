"""Frames as force matching sees them: delta forces, and pairs of neighbours found once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeAlias

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.frames import Frames
from openmmcg.geometry.minimum_image import check_boxes, minimum_image
from openmmcg.potentials.priors import Prior, PriorForces
from openmmcg.progress import tqdm

_FEWEST_TO_COMPARE = 10  # frames

Paths: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"


class Batch(NamedTuple):
    """One frame, or several as one graph without edges between them.

    Attributes
    ----------
    displacements : Tensor, shape [E, 3]
        nm
    types : Tensor, shape [N]
        Bead types.
    rows, columns : Tensor, shape [E]
        Pairs of neighbours, each once.
    forces : Tensor, shape [N, 3]
        Reference forces less those of the priors, kJ/mol/nm.
    """

    displacements: Tensor
    types: Tensor
    rows: Tensor
    columns: Tensor
    forces: Tensor


class ForceDataset(Dataset):
    """Frames with forces, held in memory; an element is a `Batch` of one frame, or of several.

    Everything lies in arrays over all frames, so that a batch is taken out at once, however many frames it has.

    Parameters
    ----------
    frames : Frames
        Mapped frames.
    selection : sequence of int
        Which of them.
    cutoff : float or None
        Distance within which beads are neighbours, nm. None for a network of a whole molecule, such as `CGnet`: the
        pairs are each bead and the next.
    priors
        Priors whose forces are subtracted.
    progress : bool
        Whether to show a progress bar.
    others : iterable of openmm.Force
        Forces between the beads that are subtracted as well.

    Attributes
    ----------
    mean_square_force : float
        Of a component of the reference forces, (kJ/mol/nm)².
    mean_square_delta : float
        Of a component of the reference forces less those of the priors, (kJ/mol/nm)².

    Raises
    ------
    ValueError
        No frame is selected, there are no forces, a frame holds numbers that are not finite, its box is too small for
        the cutoff, or in most frames no two beads are within the cutoff.

    Warns
    -----
    UserWarning
        A single frame has most of the squared forces.
    """

    def __init__(
        self,
        frames: Frames,
        selection: Sequence[int],
        cutoff: float | None,
        priors: Sequence[Prior] = (),
        progress: bool = True,
        others: Iterable[openmm.Force] = (),
    ) -> None:
        if not len(selection):
            raise ValueError(f"no frames are selected of the {len(frames)} in {frames.path}")
        forces = frames.forces
        boxes = None if frames.boxes is None else check_boxes(frames.boxes, len(frames))
        prior_forces = PriorForces(
            priors,
            frames.types.tolist(),
            frames.bonds.tolist(),
            periodic=boxes is not None,
            type_names=frames.type_names,
            others=others,
        )
        displacements, pairs, deltas = [], [], []
        squares, delta_squares = [], []
        for index in tqdm(selection, "neighbours", unit="frame", disable=not progress, leave=False):
            positions, force = np.asarray(frames.positions[index], float), np.asarray(forces[index], float)
            for name, values in (("positions", positions), ("forces", force)):
                if not np.isfinite(values).all():
                    raise ValueError(
                        f"frame {frames.indices[index]} of {frames.path} has {name} that are not finite numbers"
                    )
            box = None if boxes is None else boxes[index]
            try:
                rows, columns = _chain(len(positions)) if cutoff is None else neighbor_pairs(positions, box, cutoff)
            except ValueError as error:
                raise ValueError(f"frame {frames.indices[index]} of {frames.path}: {error}") from error
            separation = minimum_image(positions[columns] - positions[rows], box)
            delta = force - prior_forces(positions, box)
            displacements.append(separation.astype(np.float32))
            pairs.append(np.stack([rows, columns]).astype(np.int32))
            deltas.append(delta.astype(np.float32))
            squares.append(np.square(force).mean())
            delta_squares.append(np.square(delta).mean())
        if cutoff is not None:
            _check_pairs(frames, selection, cutoff, [part.shape[1] for part in pairs])
        _check_outliers(frames, selection, delta_squares)
        self.mean_square_force = float(np.mean(squares))
        self.mean_square_delta = float(np.mean(delta_squares))
        beads = len(frames.types)
        self._types = torch.from_numpy(np.tile(frames.types, len(selection)))
        self._displacements = torch.from_numpy(np.concatenate(displacements))
        self._pairs = torch.from_numpy(np.concatenate(pairs, axis=1))
        self._forces = torch.from_numpy(np.concatenate(deltas))
        # Where the beads and the pairs of each frame begin, and after the last one end.
        self._beads = torch.arange(len(selection) + 1) * beads
        self._edges = torch.from_numpy(np.cumsum([0] + [part.shape[1] for part in pairs]))

    @classmethod
    def concatenate(cls, datasets: Sequence[ForceDataset]) -> ForceDataset:
        """The frames of several, one after the other; they may be of different molecules with the same bead types."""
        if len(datasets) == 1:
            return datasets[0]
        whole = cls.__new__(cls)
        for name in ("_types", "_displacements", "_forces"):
            setattr(whole, name, torch.cat([getattr(part, name) for part in datasets]))
        whole._pairs = torch.cat([part._pairs for part in datasets], 1)
        for name in ("_beads", "_edges"):
            counts = torch.cat([getattr(part, name).diff() for part in datasets])
            setattr(whole, name, nn.functional.pad(counts.cumsum(0), (1, 0)))
        components = [part.components for part in datasets]
        for name in ("mean_square_force", "mean_square_delta"):
            setattr(whole, name, float(np.average([getattr(part, name) for part in datasets], weights=components)))
        return whole

    @property
    def components(self) -> int:
        """Number of force components."""
        return self._forces.numel()

    def __len__(self) -> int:
        return len(self._beads) - 1

    def __getitem__(self, index: int) -> Batch:
        beads, edges = (slice(*offsets[index : index + 2].tolist()) for offsets in (self._beads, self._edges))
        rows, columns = self._pairs[:, edges].long()
        return Batch(self._displacements[edges], self._types[beads], rows, columns, self._forces[beads])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several frames as one graph; what torch's DataLoader asks for a batch."""
        if len(indices) == 1:
            return self[indices[0]]
        chosen = torch.as_tensor(indices)
        beads, starts, _ = _ranges(self._beads, chosen)
        edges, _, counts = _ranges(self._edges, chosen)
        rows, columns = self._pairs.index_select(1, edges).long() + torch.repeat_interleave(starts, counts)
        return Batch(
            self._displacements.index_select(0, edges),
            self._types.index_select(0, beads),
            rows,
            columns,
            self._forces.index_select(0, beads),
        )


def _ranges(offsets: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of all that belongs to some frames, where each frame's begin among them, and how many each has."""
    firsts = offsets.index_select(0, frames)
    counts = offsets.index_select(0, frames + 1) - firsts
    starts = counts.cumsum(0) - counts
    return torch.repeat_interleave(firsts - starts, counts) + torch.arange(int(counts.sum())), starts, counts


@contextmanager
def open_frames(paths: Paths) -> Iterator[list[Frames]]:
    """Open one file or several, with bead types that are indices into the names of all, in order of appearance.

    Raises
    ------
    ValueError
        There is no file.
    """
    with ExitStack() as stack:
        several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        files = [stack.enter_context(Frames(path)) for path in several]
        if not files:
            raise ValueError("force matching needs at least one file of frames")
        names = list(dict.fromkeys(name for file in files for name in file.type_names))
        yield [file.with_type_names(names) for file in files]


def check_molecule(frames: Frames, molecule: Sequence[int] | None) -> None:
    """Refuse frames of other beads than those of the one molecule that a network knows, if it is such a network.

    Raises
    ------
    ValueError
        The beads are others.
    """
    types = frames.types.tolist()
    if molecule is not None and types != list(molecule):
        raise ValueError(
            f"the network is of one molecule with the bead types {list(molecule)}, but the beads in {frames.path} have "
            f"the types {types}; make the network for these beads, or map the frames to its own"
        )


def _check_pairs(frames: Frames, selection: Sequence[int], cutoff: float, counts: Sequence[int]) -> None:
    """Refuse lengths that are in other units than the cutoff, or a cutoff that is too short."""
    empty = np.flatnonzero(np.array(counts) == 0)
    if 2 * len(empty) <= len(counts):
        return
    index = selection[int(empty[0])]
    nearest = _nearest_distance(
        np.asarray(frames.positions[index], float), None if frames.boxes is None else frames.boxes[index]
    )
    raise ValueError(
        f"in {len(empty)} of {len(counts)} frames of {frames.path} no two beads are within the network's cutoff, "
        f"{cutoff:g} nm, so there is nothing to learn; in frame {frames.indices[index]} the median distance of a bead "
        f"to its nearest is {nearest:.3g} nm. Are these lengths in Å? Then write them with length_unit='angstrom' "
        "(write_frames), or set the attribute 'unit' of the file's positions; else take a larger cutoff"
    )


def _nearest_distance(positions: NDArray[np.float64], box: NDArray[np.float64] | None, most: int = 500) -> float:
    """Median over beads, of the first of many, of the distance to the nearest other one, nm."""
    some = positions[:most]
    displacements = some[:, None] - some
    if box is not None:
        displacements = minimum_image(displacements, box)
    distances = np.linalg.norm(displacements, axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(1)))


def _check_outliers(frames: Frames, selection: Sequence[int], squares: Sequence[float]) -> None:
    """Warn of a frame that outweighs all others together."""
    largest, total = int(np.argmax(squares)), float(np.sum(squares))
    if len(squares) >= _FEWEST_TO_COMPARE and 2 * squares[largest] > total:
        others = (total - squares[largest]) / (len(squares) - 1)
        warnings.warn(
            f"frame {frames.indices[selection[largest]]} of {frames.path} alone has {squares[largest] / total:.0%} of "
            f"the squared forces, less those of priors, of {len(squares)} frames: {squares[largest] ** 0.5:.3g} "
            f"kJ/mol/nm per component where the others have {others**0.5:.3g}. Force matching will be about this "
            "frame; leave it out (frames=...) unless it is right",
            stacklevel=4,
        )


def _chain(beads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(beads - 1), np.arange(1, beads)


class EpochShuffle(Sampler[int]):
    """An order that depends on the seed and the epoch only, so that a resumed run goes on as it would have."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.length).tolist())


def split_frames(number: int, validation_fraction: float, split: str, seed: int) -> tuple[list[int], list[int]]:
    """Training and validation frames out of a number of them.

    ``"last"`` validates on the last frames, which a trajectory makes the most independent of the others;
    ``"random"`` on frames drawn at random.

    Raises
    ------
    ValueError
        An argument is out of range, or a part would be empty.
    """
    if split not in ("last", "random"):
        raise ValueError(f"unknown split '{split}'; known are last and random")
    if not 0 < validation_fraction < 1:
        raise ValueError(f"the fraction of validation frames must be between 0 and 1, got {validation_fraction}")
    if number < 2:
        raise ValueError(f"force matching needs at least two frames, one of them to validate, got {number}")
    count = min(max(1, round(validation_fraction * number)), number - 1)
    order = list(range(number))
    if split == "random":
        order = np.random.default_rng(seed).permutation(number).tolist()
    return sorted(order[:-count]), sorted(order[-count:])


def split_folds(number: int, folds: int, split: str, seed: int) -> list[list[int]]:
    """The frames that each fold of a cross-validation holds out, out of a number of them; each frame once.

    ``"blocks"`` holds out stretches of the trajectory, ``"random"`` frames drawn at random.

    Raises
    ------
    ValueError
        An argument is out of range, or a fold would be empty.

    Examples
    --------
    >>> split_folds(7, 3, "blocks", 0)
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    if split not in ("blocks", "random"):
        raise ValueError(f"unknown split '{split}' into folds; known are blocks and random")
    if folds < 2:
        raise ValueError(f"cross-validation needs at least two folds, got {folds}")
    if number < folds:
        raise ValueError(f"{number} frames are too few for {folds} folds, some would be without data; use fewer folds")
    order = np.arange(number) if split == "blocks" else np.random.default_rng(seed).permutation(number)
    return [sorted(part.tolist()) for part in np.array_split(order, folds)]
