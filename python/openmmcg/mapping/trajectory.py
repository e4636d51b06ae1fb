"""Whole trajectories through a map."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.frames import Frames, FrameWriter
from openmmcg.mapping.map import Mapping
from openmmcg.progress import tqdm
from openmmcg.state import spread

_FRAMES_AT_ONCE = 200


def map_frames(
    source: Frames,
    mapping: Mapping,
    path: str | os.PathLike[str],
    progress: bool = True,
    *,
    make_whole: bool = True,
) -> None:
    """Write the beads' trajectory.

    What has been written by an earlier, interrupted call is kept and continued; where nothing is left to
    do, the call returns at once. Forces are mapped where the source holds any.

    Parameters
    ----------
    source
        The atoms' trajectory.
    mapping
        The map.
    path
        The file to write.
    progress
        Show a progress bar.
    make_whole
        See `Mapping.map_positions`.

    Raises
    ------
    ValueError
        The number of atoms differs from the map's; a face of the box cuts a bead apart that bonds do not make whole;
        or the file holds something else than the first frames of this source in this map.
    """
    if source.number_of_particles != mapping.number_of_atoms:
        raise ValueError(
            f"{source.path} has {source.number_of_particles} atoms, the map is for {mapping.number_of_atoms}"
        )
    path = Path(path)
    if path.exists() and 0 < len(source) == _frames_mapped(source, mapping, path, make_whole):
        return
    with FrameWriter(
        path,
        names=mapping.names,
        types=mapping.types,
        type_names=mapping.type_names,
        masses=mapping.masses,
        bonds=mapping.bonds,
        temperature=source.temperature,
        forces=source.has_forces,
        periodic=source.boxes is not None,
        resume=True,
    ) as writer:
        parts = [
            slice(first, min(first + _FRAMES_AT_ONCE, len(source)))
            for first in range(len(writer), len(source), _FRAMES_AT_ONCE)
        ]
        for part in tqdm(parts, "mapping", unit=f"{_FRAMES_AT_ONCE} frames", disable=not progress):
            positions = _map_positions(source, mapping, part, make_whole)
            boxes = None if source.boxes is None else source.boxes[part]
            forces = mapping.map_forces(source.forces[part]) if source.has_forces else None
            writer.extend(positions, boxes, source.times[part], forces)


def _map_positions(source: Frames, mapping: Mapping, part: slice, make_whole: bool) -> NDArray[np.float64]:
    boxes = None if source.boxes is None else source.boxes[part]
    try:
        return mapping.map_positions(source.positions[part], boxes, make_whole=make_whole, first_frame=part.start)
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from error


def _frames_mapped(source: Frames, mapping: Mapping, path: Path, make_whole: bool) -> int:
    """How far a file has come that must hold this source in this map, judged by times and frames all over it."""
    with Frames(path) as mapped:
        frames = len(mapped)
        same = frames == 0 or (
            frames <= len(source)
            and mapped.number_of_particles == mapping.number_of_beads
            and np.array_equal(mapped.times, source.times[:frames])
            and mapped.has_forces == source.has_forces
            and all(_same_frame(source, mapping, mapped, index, make_whole) for index in spread(frames))
        )
    if not same:
        raise ValueError(
            f"{path} exists and does not hold {source.path} in this map; choose another path, or delete it"
        )
    return frames


def _same_frame(source: Frames, mapping: Mapping, mapped: Frames, index: int, make_whole: bool) -> bool:
    positions = _map_positions(source, mapping, slice(index, index + 1), make_whole)[0]
    return np.allclose(mapped.positions[index], positions, atol=1e-5) and (
        not mapped.has_forces or _same_forces(mapped.forces[index], mapping.map_forces(source.forces[index]))
    )


def _same_forces(stored: NDArray[np.float32], mapped: NDArray[np.float64]) -> bool:
    """Equal up to the rounding of the file; another force map differs by as much as the forces themselves."""
    return bool(np.allclose(stored, mapped, rtol=1e-4, atol=1e-4 * abs(mapped).max()))
