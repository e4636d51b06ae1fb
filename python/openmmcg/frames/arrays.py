"""Trajectories that come as arrays, in the units of the field."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.frames.writer import FrameWriter
from openmmcg.state import replacing

_NANOMETRES = {"nm": 1.0, "angstrom": 0.1}
_KILOJOULES = {"kJ/mol": 1.0, "kcal/mol": 4.184}

ForceUnit = Literal["kJ/mol/nm", "kcal/mol/angstrom", "kJ/mol/angstrom", "kcal/mol/nm"]


def write_frames(
    path: str | os.PathLike[str],
    positions: ArrayLike,
    forces: ArrayLike | None = None,
    *,
    names: Sequence[str],
    types: ArrayLike,
    type_names: Sequence[str],
    masses: ArrayLike,
    temperature: float,
    boxes: ArrayLike | None = None,
    bonds: ArrayLike = (),
    times: ArrayLike | None = None,
    length_unit: Literal["nm", "angstrom"] = "nm",
    force_unit: ForceUnit = "kJ/mol/nm",
) -> None:
    """Write positions and forces to a trajectory, such as `Frames` reads and `FrameWriter` continues.

    The file appears when all frames are in it.

    Parameters
    ----------
    path
        File to write.
    positions
        ``[frames, N, 3]``, in `length_unit`.
    forces
        ``[frames, N, 3]``, in `force_unit`.
    names, types, type_names, masses, temperature, bonds
        See `FrameWriter`.
    boxes
        ``[frames, 3, 3]`` or ``[3, 3]`` for all frames, box vectors as rows, in `length_unit`; None when not periodic.
    times
        ``[frames]``, ps, increasing; by default 1, 2, 3 … for frames that are no time series.
    length_unit
        ``"nm"`` or ``"angstrom"``.
    force_unit
        ``"kJ/mol/nm"``, ``"kcal/mol/angstrom"``, or the other two of these energies and lengths.

    Raises
    ------
    FileExistsError
        The file exists. It is not overwritten.
    FileNotFoundError
        The folder does not exist.
    ValueError
        An unknown unit, arrays whose shapes do not fit together, numbers that are not finite, times that do not
        increase, or particles that `FrameWriter` refuses.

    Examples
    --------
    >>> import tempfile
    >>> from openmmcg.frames import Frames
    >>> path = tempfile.mkdtemp() + "/beads.h5md"
    >>> beads = {"names": ["C", "N"], "types": [0, 1], "type_names": ["C", "N"], "masses": [12.011, 14.007]}
    >>> units = {"length_unit": "angstrom", "force_unit": "kcal/mol/angstrom"}
    >>> write_frames(path, np.ones((5, 2, 3)), np.ones((5, 2, 3)), **beads, temperature=300.0, bonds=[(0, 1)], **units)
    >>> with Frames(path) as frames:
    ...     len(frames), round(float(frames.positions[0].max()), 3), round(float(frames.forces[0].max()), 3)
    (5, 0.1, 41.84)
    """
    path = Path(path)
    nanometres = _factor(length_unit, _NANOMETRES, "length_unit")
    force_factors = {
        f"{energy}/{length}": kilojoules / scale
        for energy, kilojoules in _KILOJOULES.items()
        for length, scale in _NANOMETRES.items()
    }
    kilojoules_per_nanometre = _factor(force_unit, force_factors, "force_unit")
    count, particles = np.shape(positions)[0] if np.ndim(positions) else 0, len(names)
    if count == 0:
        raise ValueError(f"positions must be of one frame or more, got the shape {np.shape(positions)}")
    places = nanometres * _checked(positions, (count, particles, 3), "positions")
    pulls = None if forces is None else kilojoules_per_nanometre * _checked(forces, (count, particles, 3), "forces")
    vectors = None
    if boxes is not None:
        every = np.broadcast_to(boxes, (count, 3, 3)) if np.shape(boxes) == (3, 3) else boxes
        vectors = nanometres * _checked(every, (count, 3, 3), "boxes")
    moments = _checked(np.arange(1.0, count + 1) if times is None else times, (count,), "times")
    if not (np.diff(moments) > 0).all():
        raise ValueError("times must increase from frame to frame; leave them out where frames are no time series")
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten; choose another path or delete it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    with (
        replacing(path) as unfinished,
        FrameWriter(
            unfinished,
            names=names,
            types=types,
            type_names=type_names,
            masses=masses,
            temperature=temperature,
            bonds=bonds,
            forces=pulls is not None,
            periodic=vectors is not None,
        ) as writer,
    ):
        writer.extend(places, vectors, moments, pulls)


def _factor(unit: str, known: dict[str, float], name: str) -> float:
    if unit not in known:
        raise ValueError(f"unknown {name} {unit!r}; known are {', '.join(known)}")
    return known[unit]


def _checked(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} have the shape {list(array.shape)}, they must be {list(shape)}")
    broken = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if len(broken):
        raise ValueError(
            f"{name} of {len(broken)} frames are not finite, the first is frame {broken[0]}; leave those frames out"
        )
    return array
