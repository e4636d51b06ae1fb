"""Frames as force matching sees them: delta forces, and pairs of neighbours found once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.frames import Frames
from openmmcg.potentials.geometry import minimum_image
from openmmcg.potentials.priors import Prior, PriorForces


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
    """Frames with forces, held in memory; an element is a `Batch` of one frame.

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

    Raises
    ------
    ValueError
        There are no forces, a frame holds numbers that are not finite, or its box is too small for the cutoff.
    """

    def __init__(
        self,
        frames: Frames,
        selection: Sequence[int],
        cutoff: float | None,
        priors: Sequence[Prior] = (),
        progress: bool = True,
    ) -> None:
        forces, boxes = frames.forces, frames.boxes
        self.types = torch.from_numpy(frames.types)
        prior_forces = PriorForces(
            priors,
            frames.types.tolist(),
            frames.bonds.tolist(),
            periodic=boxes is not None,
            type_names=frames.type_names,
        )
        self._frames = []
        for index in tqdm(selection, "neighbours", unit="frame", disable=not progress, leave=False):
            positions, force = np.asarray(frames.positions[index], float), np.asarray(forces[index], float)
            for name, values in (("positions", positions), ("forces", force)):
                if not np.isfinite(values).all():
                    raise ValueError(f"frame {index} of {frames.path} has {name} that are not finite numbers")
            box = None if boxes is None else boxes[index]
            try:
                rows, columns = _chain(len(positions)) if cutoff is None else neighbor_pairs(positions, box, cutoff)
            except ValueError as error:
                raise ValueError(f"frame {index} of {frames.path}: {error}") from error
            displacements = torch.from_numpy(positions[columns] - positions[rows])
            displacements = minimum_image(displacements, torch.empty(0) if box is None else torch.tensor(box))
            delta = torch.from_numpy(force - prior_forces(positions, box))
            pairs = torch.from_numpy(np.stack([rows, columns]).astype(np.int32))
            self._frames.append((displacements.float(), pairs, delta.float()))

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Batch:
        displacements, pairs, forces = self._frames[index]
        rows, columns = pairs.long()
        return Batch(displacements, self.types, rows, columns, forces)

    def force_scale(self) -> float:
        """Root mean square of a force component, kJ/mol/nm."""
        squares = [float(forces.square().mean()) for _, _, forces in self._frames]
        return float(np.sqrt(np.mean(squares)))


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


def _chain(beads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(beads - 1), np.arange(1, beads)


def join(frames: Sequence[Batch]) -> Batch:
    """Several frames as one graph."""
    if len(frames) == 1:
        return frames[0]
    starts = np.cumsum([0] + [len(frame.types) for frame in frames])
    return Batch(
        torch.cat([frame.displacements for frame in frames]),
        torch.cat([frame.types for frame in frames]),
        torch.cat([frame.rows + int(start) for frame, start in zip(frames, starts, strict=False)]),
        torch.cat([frame.columns + int(start) for frame, start in zip(frames, starts, strict=False)]),
        torch.cat([frame.forces for frame in frames]),
    )


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
