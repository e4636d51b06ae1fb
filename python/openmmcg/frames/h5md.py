"""How a trajectory is laid out in its file: H5MD 1.1 with the units module.

H5MD: de Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014). Beside what it prescribes, a file
holds ``name`` next to ``mass`` and ``species``, ``/connectivity/bonds``, and ``/parameters/temperature`` and
``/parameters/complete_frames``.

A file can be read, with all its complete frames, at whatever instant the writing process is killed. Three
choices make it so. Nothing that an earlier frame needs is ever moved: HDF5's extensible-array chunk index
only grows, unlike its B-tree, whose nodes split. The superblock stays at version 2, which carries no "open
for writing" mark that would lock readers out afterwards. And a frame counts only when ``complete_frames``
says so, a number written after the frame has been handed to the operating system.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from openmmcg.state import replacing

GROUP = "trajectory"  # the name by which MDAnalysis makes a Universe without a topology
BONDS = "connectivity/bonds"
TEMPERATURE = "parameters/temperature"
COMPLETE_FRAMES = "parameters/complete_frames"
_FORMAT_BOUNDS = (
    "v110",
    "v110",
)  # HDF5 versions; the first to have extensible arrays, so the most can read it


class Entry(NamedTuple):
    """How one quantity of a frame is stored."""

    shape: tuple[int, ...]
    kind: type
    frames_per_chunk: int
    unit: str | None = None

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of what HDF5 reads and writes at a time."""
        return (self.frames_per_chunk, *self.shape)

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk) * np.dtype(self.kind).itemsize


@dataclass(frozen=True)
class Content:
    """What a file is about: everything in it but the frames.

    Raises
    ------
    ValueError
        The parts do not fit together.
    """

    names: list[str]
    types: NDArray[np.int64]
    type_names: list[str]
    masses: NDArray[np.float64]
    bonds: NDArray[np.int64]
    temperature: float
    forces: bool
    periodic: bool

    def __post_init__(self) -> None:
        number, kinds = len(self.names), len(self.type_names)
        if number == 0:
            raise ValueError("a trajectory needs at least one particle")
        for what, values in (("types", self.types), ("masses", self.masses)):
            if values.shape != (number,):
                raise ValueError(f"there are {number} names, but {what} have the shape {values.shape}")
        if len(set(self.type_names)) != kinds:
            raise ValueError(f"type names must differ, got {self.type_names}")
        if self.types.min() < 0 or self.types.max() >= kinds:
            raise ValueError(f"types must be between 0 and {kinds - 1}, being indices into the type names")
        for problem in (mass_problem(self.masses), bond_problem(self.bonds, number)):
            if problem:
                raise ValueError(problem)
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"the temperature must be positive, got {self.temperature} K")

    def differences(self, other: Content) -> list[str]:
        """Names of the parts in which two contents differ."""
        return [
            field.name
            for field in fields(self)
            if not np.array_equal(getattr(self, field.name), getattr(other, field.name))
        ]

    def entries(self) -> dict[str, Entry]:
        """What every frame consists of, by its place in the particle group."""
        particles = (len(self.names), 3)
        entries = {
            "position/value": Entry(particles, np.float32, 1, "nm"),
            "position/step": Entry((), np.int64, 256),
            "position/time": Entry((), np.float64, 256, "ps"),
        }
        if self.periodic:
            entries["box/edges/value"] = Entry((3, 3), np.float64, 256, "nm")
        if self.forces:
            entries["force/value"] = Entry(particles, np.float32, 1, "kJ mol-1 nm-1")
        return entries


def create_file(path: Path, content: Content) -> None:
    """Write a file without frames; there is none or a whole one at any moment."""
    image = io.BytesIO()
    h5py.File(image, "w", libver=("v108", "v108")).close()  # superblock 2, see above
    with h5py.File(image, "r+", libver=_FORMAT_BOUNDS) as file:
        file.create_group("h5md").attrs["version"] = [1, 1]
        file.create_group("h5md/author").attrs["name"] = "N/A"
        file.create_group("h5md/creator").attrs.update(name="openmmcg", version=_package_version())
        file.create_group("h5md/modules/units").attrs.update(version=[1, 0], system="SI")
        trajectory = file.create_group(f"particles/{GROUP}")
        trajectory.create_group("box").attrs.update(
            dimension=3, boundary=["periodic" if content.periodic else "none"] * 3
        )
        trajectory.create_dataset("name", data=content.names, dtype=h5py.string_dtype())
        species = {name: number for number, name in enumerate(content.type_names)}
        trajectory.create_dataset("species", data=content.types, dtype=h5py.enum_dtype(species, "i8"))
        trajectory.create_dataset("mass", data=content.masses).attrs["unit"] = "u"
        for name, entry in content.entries().items():
            dataset = trajectory.create_dataset(
                name, (0, *entry.shape), entry.kind, chunks=entry.chunk, maxshape=(None, *entry.shape)
            )
            if entry.unit:
                dataset.attrs["unit"] = entry.unit
        for group in ("box/edges", "force"):
            if group in trajectory:
                trajectory[f"{group}/step"] = trajectory["position/step"]
                trajectory[f"{group}/time"] = trajectory["position/time"]
        bonds = file.create_dataset(BONDS, data=content.bonds)
        bonds.attrs["particles_group"] = trajectory.ref
        file.create_dataset(TEMPERATURE, data=content.temperature).attrs["unit"] = "K"
        file.create_dataset(COMPLETE_FRAMES, data=0, dtype=np.int64)
    with replacing(path) as unfinished:
        unfinished.write_bytes(image.getvalue())


def open_file(path: Path, mode: str) -> h5py.File:
    """Open a file to read (``"r"``) or to continue (``"r+"``), with errors in plain words."""
    try:
        return h5py.File(path, mode, libver=_FORMAT_BOUNDS)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no trajectory {path}") from None
    except BlockingIOError as error:
        raise OSError(f"{path} is in use by another process; wait for it, or stop it") from error
    except OSError as error:
        raise OSError(
            f"{path} cannot be opened: it is truncated, no HDF5 file, or open elsewhere here ({error}); close it "
            "there, bring back a copy, or remove it and make it anew"
        ) from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let what HDF5 says of a damaged file name the file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError) as error:
        if str(path) in str(error):
            raise
        raise OSError(f"{path} is damaged ({error}); bring back a copy, or remove it and make it anew") from error


def mass_problem(masses: NDArray[np.float64]) -> str | None:
    """Why these cannot be masses; None where they can."""
    good = np.isfinite(masses).all() and masses.min(initial=0) >= 0
    return None if good else "masses must be finite and not negative"


def bond_problem(bonds: NDArray[np.int64], particles: int) -> str | None:
    """Why these cannot be bonds; None where they can."""
    if bonds.ndim != 2 or bonds.shape[1] != 2:
        return f"bonds must be pairs of particles, [bonds, 2], got the shape {bonds.shape}"
    if bonds.size and not (bonds.min() >= 0 and bonds.max() < particles):
        return f"bonds must join particles between 0 and {particles - 1}, got {bonds.tolist()}"
    return None


def box_problem(boxes: NDArray[np.float64]) -> str | None:
    """Why some of the boxes [frames, 3, 3], in nm, are none; None where all are in OpenMM's reduced form."""
    widths = np.diagonal(boxes, axis1=1, axis2=2)
    half = 0.5 * widths[:, None, :] * np.tri(3, k=-1) + 1e-5 * widths[:, None, :]  # room for single precision
    for good, problem in [
        (np.isfinite(boxes).all((1, 2)), "entries that are not finite numbers"),
        ((widths > 0).all(1), "edges that are not positive"),
        (
            ((abs(boxes) <= half) | np.eye(3, dtype=bool)).all((1, 2)),
            "vectors that are not in OpenMM's reduced form (a along x, b in the xy plane, off the diagonal at most "
            "half the diagonal entry above); openmm.app.internal.unitcell.reducePeriodicBoxVectors makes them so",
        ),
    ]:
        if not good.all():
            return f"box {np.argmin(good)} has {problem}"
    return None


def _package_version() -> str:
    try:
        return metadata.version("openmm-cg")
    except metadata.PackageNotFoundError:
        return "unknown"
