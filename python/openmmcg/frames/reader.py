"""Reading trajectories, a frame at a time."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.frames.h5md import BONDS, COMPLETE_FRAMES, GROUP, TEMPERATURE, Content, open_file

# H5MD unit strings, in nm, ps, kJ/mol/nm and amu.
_UNITS: dict[str, dict[str, float]] = {
    "length": {"nm": 1.0, "Angstrom": 0.1, "angstrom": 0.1, "A": 0.1, "pm": 1e-3},
    "time": {"ps": 1.0, "fs": 1e-3, "ns": 1e3, "s": 1e12},
    "force": {
        "kJ mol-1 nm-1": 1.0,
        "kJ mol-1 Angstrom-1": 10.0,
        "kcal mol-1 Angstrom-1": 41.84,
        "kcal mol-1 A-1": 41.84,
    },
}


class FrameArray:
    """One quantity of all frames, read from disk when indexed.

    Indexing by a number gives one frame, ``[N, 3]``; by a slice, a list of numbers or a mask, several,
    ``[frames, N, 3]``.
    """

    def __init__(self, dataset: h5py.Dataset, frames: NDArray[np.int64], factor: float, path: Path) -> None:
        self._dataset, self._frames, self._factor, self._path = dataset, frames, factor, path
        self.shape: tuple[int, ...] = (len(frames), *dataset.shape[1:])
        self.dtype: np.dtype[Any] = dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        frames = self._frames[index]
        if isinstance(frames, np.integer):
            return self._read(int(frames))
        if len(frames) and (np.diff(frames) == 1).all():
            return self._read(slice(int(frames[0]), int(frames[-1]) + 1))
        selected = np.empty((len(frames), *self.shape[1:]), self.dtype)
        for row, frame in enumerate(frames):
            selected[row] = self._read(int(frame))
        return selected

    def _read(self, selection: int | slice) -> NDArray[Any]:
        try:
            values = self._dataset[selection]
        except OSError as error:
            raise OSError(f"{self._path} is damaged, {self._dataset.name} cannot be read: {error}") from error
        return values if self._factor == 1.0 else values * self.dtype.type(self._factor)


class Frames:
    """A trajectory on disk, read frame by frame.

    Files of other programs are read as well, with their units converted. What such a file does not hold
    (forces, names, ...) raises `ValueError` when it is asked for.

    Parameters
    ----------
    path
        An H5MD file.

    Attributes
    ----------
    positions : FrameArray [frames, N, 3], nm
        Not wrapped into the box where `FrameWriter` wrote them: molecules are whole.

    Raises
    ------
    FileNotFoundError
        No such file.
    OSError
        Truncated, not HDF5, or being written by another process.
    ValueError
        HDF5, but not an H5MD trajectory.

    Examples
    --------
    >>> import tempfile
    >>> from openmmcg.frames import Frames, FrameWriter
    >>> path = tempfile.mkdtemp() + "/two_beads.h5md"
    >>> particles = {"names": ["W", "W"], "types": [0, 0], "type_names": ["W"], "masses": [18.015, 18.015]}
    >>> with FrameWriter(path, **particles, temperature=300.0) as writer:
    ...     writer.append(np.zeros((2, 3)), np.eye(3), time=1.0, forces=np.ones((2, 3)))
    >>> with Frames(path) as frames:
    ...     len(frames), frames.forces[0].shape, frames.boxes.shape, frames.names
    (1, (2, 3), (1, 3, 3), ['W', 'W'])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = open_file(self.path, "r")
        try:
            self._particles = self._find_particles()
            self._frames = np.arange(self._count_frames())
            self.positions = self._array("position", "length")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._frames)

    def select(self, frames: ArrayLike) -> Frames:
        """Some of the frames, as if the file held no others.

        Parameters
        ----------
        frames
            Indices, or a mask. They are read when they are asked for, so the file must stay open.

        Examples
        --------
        The first half::

            frames.select(range(len(frames) // 2))
        """
        chosen = copy.copy(self)
        for name in ("forces", "boxes", "times"):
            chosen.__dict__.pop(name, None)  # what was read of other frames
        indices = np.asarray(frames)
        chosen._frames = self._frames[indices if indices.size else slice(0)]
        chosen.positions = chosen._array("position", "length")
        return chosen

    @property
    def indices(self) -> NDArray[np.int64]:
        """Which frames of the file these are, ``[frames]``."""
        return self._frames

    def with_type_names(self, names: Sequence[str]) -> Frames:
        """The same frames, with types that are indices into other names, for example those of several files.

        Parameters
        ----------
        names
            At least those of the types that there are.

        Raises
        ------
        ValueError
            A particle is of a type that is not among them.
        """
        unknown = sorted({self.type_names[kind] for kind in self.types} - set(names))
        if unknown:
            raise ValueError(f"{self.path} has beads of the types {unknown}; known are {list(names)}")
        renamed = copy.copy(self)
        renamed.__dict__["types"] = np.array([names.index(self.type_names[kind]) for kind in self.types], np.int64)
        renamed.__dict__["type_names"] = list(names)
        return renamed

    @property
    def number_of_particles(self) -> int:
        """Atoms or beads in a frame."""
        return self.positions.shape[1]

    @property
    def has_forces(self) -> bool:
        """Whether the file holds forces."""
        return "force/value" in self._particles

    @cached_property
    def forces(self) -> FrameArray:
        """Forces, ``[frames, N, 3]``, kJ/mol/nm."""
        if not self.has_forces:
            raise ValueError(
                f"{self.path} holds no forces, which force matching needs; sample again with forces written "
                "(openmmcg.reference.sample does)"
            )
        return self._array("force", "force")

    @cached_property
    def boxes(self) -> NDArray[np.float64] | None:
        """Box vectors as rows, ``[frames, 3, 3]``, nm; None when not periodic."""
        box = self._particles["box"]
        unsaid = "periodic" if "edges" in box else "none"
        boundary = {_text(value) for value in np.atleast_1d(box.attrs.get("boundary", unsaid))}
        if boundary == {"none"}:
            return None
        if boundary != {"periodic"} or "edges" not in box:
            raise ValueError(f"{self.path} is periodic in some directions only, which is not supported")
        edges = box["edges"]
        dataset = edges["value"] if isinstance(edges, h5py.Group) else edges
        values = self._read_selected(dataset) if isinstance(edges, h5py.Group) else dataset[()][None]
        if values.ndim == 2:
            values = values[:, :, None] * np.eye(3)
        values = np.asarray(values, float) * self._factor(dataset, "length")
        return np.broadcast_to(values, (len(self), 3, 3))

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """Times, ``[frames]``, ps."""
        time = self._particles["position"].get("time")
        if time is None:
            raise ValueError(f"{self.path} holds no times")
        equally_spaced = not time.shape
        offset = time.attrs.get("offset", 0.0)
        values = offset + time[()] * self._frames if equally_spaced else self._read_selected(time)
        return np.asarray(values, float) * self._factor(time, "time")

    @cached_property
    def names(self) -> list[str]:
        """Names of the atoms or beads."""
        return self._per_particle("name").asstr()[()].tolist()

    @cached_property
    def types(self) -> NDArray[np.int64]:
        """Types, ``[N]``: indices into `type_names`."""
        return self._per_particle("species")[()].astype(np.int64)

    @cached_property
    def type_names(self) -> list[str]:
        """Names of the types."""
        numbers = h5py.check_enum_dtype(self._per_particle("species").dtype)
        if numbers is None or sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError(f"{self.path} does not name its species")
        return sorted(numbers, key=numbers.__getitem__)

    @cached_property
    def masses(self) -> NDArray[np.float64]:
        """Masses, ``[N]``, amu."""
        return self._per_particle("mass")[()].astype(float)

    @cached_property
    def bonds(self) -> NDArray[np.int64]:
        """Pairs of bonded atoms or beads, ``[bonds, 2]``; none where the file does not say."""
        if BONDS not in self._file:
            return np.empty((0, 2), np.int64)
        return self._file[BONDS][()].astype(np.int64)

    @cached_property
    def temperature(self) -> float:
        """Temperature of the thermostat, K."""
        if TEMPERATURE not in self._file:
            raise ValueError(f"{self.path} does not say at which temperature it was sampled ({TEMPERATURE})")
        return float(self._file[TEMPERATURE][()])

    @property
    def is_resumable(self) -> bool:
        """Whether `FrameWriter` wrote the file, and so can continue it."""
        return COMPLETE_FRAMES in self._file

    @property
    def header(self) -> Content:
        """Everything in the file but the frames."""
        return Content(
            names=self.names,
            types=self.types,
            type_names=self.type_names,
            masses=self.masses,
            bonds=self.bonds,
            temperature=self.temperature,
            forces=self.has_forces,
            periodic=self.boxes is not None,
        )

    def content(self) -> dict[str, Any]:
        """What tells these frames apart from others, for `openmmcg.state.describe`; not where they lie."""
        return {
            "positions": self.positions,
            "forces": self.forces if self.has_forces else None,
            "boxes": self.boxes,
            "types": self.types if "species" in self._particles else None,
            "type_names": self.type_names if "species" in self._particles else None,
            "masses": self.masses if "mass" in self._particles else None,
            "bonds": self.bonds,
            "temperature": self.temperature if TEMPERATURE in self._file else None,
        }

    def _find_particles(self) -> h5py.Group:
        groups = self._file.get("particles")
        names = list(groups) if isinstance(groups, h5py.Group) else []
        if not names:
            raise ValueError(f"{self.path} is no H5MD trajectory: it has no group /particles/<name>")
        particles = groups[GROUP if GROUP in names else names[0]]
        if "position/value" not in particles or "box" not in particles:
            raise ValueError(f"{self.path} is no H5MD trajectory: {particles.name} lacks position/value or box")
        return particles

    def _count_frames(self) -> int:
        lengths = [
            self._particles[name].shape[0]
            for name in ("position/value", "position/time", "force/value", "box/edges/value")
            if name in self._particles and self._particles[name].shape
        ]
        if COMPLETE_FRAMES not in self._file:
            return min(lengths)
        complete = int(self._file[COMPLETE_FRAMES][()])
        if complete > min(lengths):
            raise OSError(f"{self.path} is damaged: it should hold {complete} frames and has {min(lengths)}")
        return complete

    def _read_selected(self, dataset: h5py.Dataset) -> NDArray[Any]:
        # Beyond the complete frames there may be what cannot be read.
        return dataset[: self._frames.max(initial=-1) + 1][self._frames]

    def _array(self, name: str, dimension: str) -> FrameArray:
        dataset = self._particles[f"{name}/value"]
        return FrameArray(dataset, self._frames, self._factor(dataset, dimension), self.path)

    def _factor(self, dataset: h5py.Dataset, dimension: str) -> float:
        known = _UNITS[dimension]
        unit = _text(dataset.attrs.get("unit", ""))
        if unit not in known:
            raise ValueError(
                f"{self.path}: {dataset.name} has the unit {unit!r}; known are {', '.join(known)}. "
                "Set its attribute 'unit'"
            )
        return known[unit]

    def _per_particle(self, name: str) -> h5py.Dataset:
        dataset = self._particles.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape != (self.number_of_particles,):
            raise ValueError(
                f"{self.path} lacks {self._particles.name}/{name}, one entry per particle; "
                "files written by openmmcg have it"
            )
        return dataset


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
