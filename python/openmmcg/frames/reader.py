"""Reading trajectories, a frame at a time."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.frames.elements import Element
from openmmcg.frames.h5md import (
    BONDS,
    COMPLETE_FRAMES,
    TEMPERATURE,
    Content,
    bond_problem,
    box_problem,
    mass_problem,
    naming,
    open_file,
)
from openmmcg.frames.units import factor, text

Value = TypeVar("Value")


def _stored(read: Callable[[Frames], Value]) -> cached_property[Value]:
    """A property that is read when it is first asked for, with errors that name the file."""

    @wraps(read)
    def named(frames: Frames) -> Value:
        with naming(frames.path):
            return read(frames)

    return cached_property(named)


class FrameArray:
    """One quantity of all frames, read from disk when indexed.

    Indexing by a number gives one frame, ``[N, 3]``; by a slice, a list of numbers or a mask, several,
    ``[frames, N, 3]``. Entries that are not finite numbers raise `ValueError`.
    """

    def __init__(self, dataset: h5py.Dataset, rows: NDArray[np.int64], factor: float, path: Path, what: str) -> None:
        self._dataset, self._rows, self._factor, self._path, self._what = dataset, rows, factor, path, what
        self.shape: tuple[int, ...] = (len(rows), *dataset.shape[1:])
        self.dtype: np.dtype[Any] = dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        rows = self._rows[index]
        if isinstance(rows, np.integer):
            return self._read(slice(int(rows), int(rows) + 1))[0]
        steps = np.diff(rows)
        if len(rows) and (steps > 0).all() and (steps == steps[:1]).all():
            return self._read(slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]) if len(steps) else 1))
        selected = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, row in enumerate(rows):
            selected[place] = self._read(slice(int(row), int(row) + 1))[0]
        return selected

    def _read(self, rows: slice) -> NDArray[Any]:
        with naming(self._path):
            values = self._dataset[rows]
        finite = np.isfinite(values)
        if not finite.all():
            row = rows.start + (rows.step or 1) * int(np.argmin(finite.all((1, 2))))
            raise ValueError(
                f"frame {row} of {self._path} has {self._what} that are not finite numbers; leave it out with "
                "Frames.select"
            )
        return values if self._factor == 1.0 else values * self.dtype.type(self._factor)


class Frames:
    """A trajectory on disk, read frame by frame.

    Files of other programs are read as well, with their units converted. What such a file does not hold
    (forces, names, ...) raises `ValueError` when it is asked for.

    In H5MD positions, forces and boxes may be written at different steps. A frame is a step at which all of them are
    there that the file holds, and all attributes are of the same frames; positions without forces, for example, are
    left out where there are forces, with a warning.

    Parameters
    ----------
    path
        An H5MD file.
    group : str, optional
        Name of the group of particles, where the file has several.

    Attributes
    ----------
    positions : FrameArray [frames, N, 3], nm
        Not wrapped into the box where `FrameWriter` wrote them: molecules are whole.
    left_out : dict of int
        For force and box edges, where the file has them, how many positions of the file are without.

    Raises
    ------
    FileNotFoundError
        No such file.
    OSError
        Truncated, not HDF5, or being written by another process.
    ValueError
        HDF5, but not an H5MD trajectory of three dimensions, or one that does not say which positions, forces and boxes
        belong together.

    Warns
    -----
    UserWarning
        Positions are left out.

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

    def __init__(self, path: str | os.PathLike[str], group: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self._file = open_file(self.path, "r")
        try:
            with naming(self.path):
                self._particles = self._find_particles(group)
                self._is_periodic = self._find_periodicity()
                self._elements = self._find_elements()
                self._rows, self.left_out = self._pair_elements()
                self.positions = self._array("position", "length", "positions")
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
        return len(self.indices)

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
        for name in ("forces", "boxes", "times", "steps"):
            chosen.__dict__.pop(name, None)  # what was read of other frames
        indices = np.asarray(frames)
        chosen._rows = {name: rows[indices if indices.size else slice(0)] for name, rows in self._rows.items()}
        chosen.positions = chosen._array("position", "length", "positions")
        return chosen

    @property
    def indices(self) -> NDArray[np.int64]:
        """Which positions of the file these are, ``[frames]``."""
        return self._rows["position"]

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
        return "force" in self._elements

    @_stored
    def forces(self) -> FrameArray:
        """Forces, ``[frames, N, 3]``, kJ/mol/nm."""
        if not self.has_forces:
            raise ValueError(
                f"{self.path} holds no forces, which force matching needs; sample again with forces written "
                "(openmmcg.reference.sample does)"
            )
        return self._array("force", "force", "forces")

    @_stored
    def boxes(self) -> NDArray[np.float64] | None:
        """Box vectors as rows, ``[frames, 3, 3]``, nm; None when not periodic."""
        if not self._is_periodic:
            return None
        if "box/edges" in self._elements:
            dataset, rows = self._elements["box/edges"].value, self._rows["box/edges"]
            # Beyond the complete frames there may be what cannot be read.
            values = dataset[: rows.max(initial=-1) + 1][rows]
        else:
            dataset = self._particles["box/edges"]
            values = dataset[()][None]
        values = np.asarray(values, float) * factor(self.path, dataset, "length")
        if values.shape[1:] == (3,):
            values = values[:, :, None] * np.eye(3)
        if values.shape[1:] != (3, 3):
            raise ValueError(f"{self.path}: {dataset.name} has entries of shape {values.shape[1:]}, not [3] or [3, 3]")
        return np.broadcast_to(self._checked(values, box_problem(values)), (len(self), 3, 3))

    @_stored
    def times(self) -> NDArray[np.float64]:
        """Times, ``[frames]``, ps."""
        return self._clock("time")

    @_stored
    def steps(self) -> NDArray[np.int64]:
        """Steps of the simulation, ``[frames]``; in files that `FrameWriter` wrote, numbers of frames."""
        return self._clock("step")

    @_stored
    def names(self) -> list[str]:
        """Names of the atoms or beads."""
        return self._per_particle("name").asstr()[()].tolist()

    @_stored
    def types(self) -> NDArray[np.int64]:
        """Types, ``[N]``: indices into `type_names`."""
        dataset = self._per_particle("species")
        types, numbers = dataset[()].astype(np.int64), h5py.check_enum_dtype(dataset.dtype)
        unnamed = set(types.tolist()) - set((numbers or {}).values())
        if numbers is not None and unnamed:
            raise ValueError(f"{self.path}: {dataset.name} has {sorted(unnamed)}, which are no species")
        return types

    @_stored
    def type_names(self) -> list[str]:
        """Names of the types."""
        numbers = h5py.check_enum_dtype(self._per_particle("species").dtype)
        if numbers is None or sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError(f"{self.path} does not name its species")
        return sorted(numbers, key=numbers.__getitem__)

    @_stored
    def masses(self) -> NDArray[np.float64]:
        """Masses, ``[N]``, amu."""
        dataset = self._per_particle("mass")
        masses = dataset[()].astype(float) * factor(self.path, dataset, "mass")
        return self._checked(masses, mass_problem(masses))

    @_stored
    def bonds(self) -> NDArray[np.int64]:
        """Pairs of bonded atoms or beads, ``[bonds, 2]``; none where the file does not say."""
        if BONDS not in self._file:
            return np.empty((0, 2), np.int64)
        bonds = self._file[BONDS][()].astype(np.int64)
        return self._checked(bonds, bond_problem(bonds, self.number_of_particles))

    @_stored
    def temperature(self) -> float:
        """Temperature of the thermostat, K."""
        if TEMPERATURE not in self._file:
            raise ValueError(f"{self.path} does not say at which temperature it was sampled ({TEMPERATURE})")
        dataset = self._file[TEMPERATURE]
        return float(dataset[()]) * factor(self.path, dataset, "temperature")

    @_stored
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
            periodic=self._is_periodic,
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

    def _find_particles(self, group: str | None) -> h5py.Group:
        groups = self._file.get("particles")
        names = list(groups) if isinstance(groups, h5py.Group) else []
        if not names:
            raise ValueError(f"{self.path} is no H5MD trajectory: it has no group /particles/<name>")
        chosen = group if group is not None or len(names) > 1 else names[0]
        if chosen not in names:
            raise ValueError(
                f"{self.path} has the groups of particles {', '.join(names)}"
                + (f", and no {group!r}" if group is not None else "; choose one: Frames(path, group=...)")
            )
        particles = groups[chosen]
        for name in ("position", "box"):
            if not isinstance(particles, h5py.Group) or not isinstance(particles.get(name), h5py.Group):
                raise ValueError(f"{self.path} is no H5MD trajectory: {groups.name}/{chosen} has no group {name}")
        return particles

    def _find_elements(self) -> dict[str, Element]:
        """What the file holds of every frame."""
        edges = self._particles.get("box/edges")
        names = ["position", *(["force"] if "force" in self._particles else [])]
        names += ["box/edges"] if self._is_periodic and isinstance(edges, h5py.Group) else []
        complete = int(self._file[COMPLETE_FRAMES][()]) if self.is_resumable else None
        elements = {name: Element(self.path, self._particles, name, complete) for name in names}
        positions = elements["position"].value
        for name in ("position", "force"):
            if name in elements:
                value = elements[name].value
                wanted = (positions.shape[1], 3) if positions.ndim == 3 else ("N", 3)
                if value.shape[1:] != wanted or value.dtype.kind != "f":
                    raise ValueError(
                        f"{self.path}: {value.name} is {value.dtype} of shape {value.shape}; it must be floats of "
                        f"shape [frames, {wanted[0]}, 3]"
                    )
        return elements

    def _find_periodicity(self) -> bool:
        box = self._particles["box"]
        unsaid = "periodic" if "edges" in box else "none"
        boundary = {text(value) for value in np.atleast_1d(box.attrs.get("boundary", unsaid))}
        if boundary == {"none"}:
            return False
        if boundary != {"periodic"}:
            raise ValueError(f"{self.path} is periodic in some directions only, which is not supported")
        if "edges" not in box:
            raise ValueError(f"{self.path} is periodic and {box.name} has no edges")
        return True

    def _pair_elements(self) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
        """Of every element the rows that are frames, and how many positions each leaves out."""
        positions = self._elements["position"]
        rows = {name: positions.rows_with(element) for name, element in self._elements.items()}
        left_out = {name: int((paired < 0).sum()) for name, paired in rows.items() if name != "position"}
        whole = np.all([paired >= 0 for paired in rows.values()], axis=0)
        if not whole.all():
            lacking = ", ".join(f"{number} have no {name}" for name, number in left_out.items() if number)
            message = f"{self.path}: of {len(whole)} positions, {lacking} at the same step"
            if not whole.any():
                raise ValueError(f"{message}, so no frame is complete; write them at the same steps")
            warnings.warn(f"{message}; {(~whole).sum()} frames are left out", stacklevel=3)
        return {name: paired[whole] for name, paired in rows.items()}, left_out

    def _array(self, element: str, dimension: str, what: str) -> FrameArray:
        dataset = self._elements[element].value
        return FrameArray(dataset, self._rows[element], factor(self.path, dataset, dimension), self.path, what)

    def _clock(self, name: str) -> NDArray[Any]:
        values = self._elements["position"].clock(name)
        if values is None:
            raise ValueError(f"{self.path} holds no {name}s")
        return values[self.indices]

    def _checked(self, values: NDArray[Any], problem: str | None) -> NDArray[Any]:
        if problem:
            raise ValueError(f"{self.path}: {problem}")
        return values

    def _per_particle(self, name: str) -> h5py.Dataset:
        dataset = self._particles.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape != (self.number_of_particles,):
            raise ValueError(
                f"{self.path} lacks {self._particles.name}/{name}, one entry per particle; "
                "files written by openmmcg have it"
            )
        return dataset
