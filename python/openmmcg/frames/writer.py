"""Writing trajectories so that an interruption costs no frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.frames.h5md import COMPLETE_FRAMES, GROUP, Content, box_problem, create_file, open_file
from openmmcg.frames.reader import Frames

_RESERVE = 1 << 20  # bytes, more than HDF5's own tables grow by with one frame


class FrameWriter:
    """Writes a trajectory, one frame after the other.

    A frame is with the operating system when `append` returns, and stays readable whatever happens next.

    Parameters
    ----------
    path
        File to write.
    names
        ``[N]``, names of the atoms or beads.
    types
        ``[N]``, indices into `type_names`.
    type_names
        Names of the types.
    masses
        ``[N]``, amu.
    temperature
        K, of the thermostat.
    bonds
        ``[bonds, 2]``, pairs of bonded particles.
    forces
        Whether frames come with forces.
    periodic
        Whether frames come with a box.
    resume
        Continue the file if it exists. What an interrupted write left of an incomplete frame is dropped.

    Raises
    ------
    FileExistsError
        The file exists and `resume` is not set.
    FileNotFoundError
        The folder does not exist.
    ValueError
        The description of the particles is inconsistent, or differs from that of the file to be continued.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        names: Sequence[str],
        types: ArrayLike,
        type_names: Sequence[str],
        masses: ArrayLike,
        temperature: float,
        bonds: ArrayLike = (),
        forces: bool = True,
        periodic: bool = True,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        content = Content(
            names=list(names),
            types=np.asarray(types, np.int64),
            type_names=list(type_names),
            masses=np.asarray(masses, float),
            bonds=np.sort(np.reshape(bonds, (-1, 2)) if np.size(bonds) == 0 else np.asarray(bonds), -1).astype(
                np.int64
            ),
            temperature=float(temperature),
            forces=forces,
            periodic=periodic,
        )
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {self.path.parent} to write {self.path.name} into")
        if not self.path.exists():
            create_file(self.path, content)
        elif resume:
            _check_agreement(self.path, content)
        else:
            raise FileExistsError(
                f"{self.path} exists and is not overwritten; choose another path, delete it, or resume it"
            )
        self._file = open_file(self.path, "r+")
        self._complete = self._file[COMPLETE_FRAMES]
        self._length = int(self._complete[()])
        self._entries = content.entries()
        self._datasets = {name: self._file[f"particles/{GROUP}/{name}"] for name in self._entries}
        for dataset in self._datasets.values():
            if len(dataset) > self._length:
                dataset.resize(self._length, axis=0)
        times = self._datasets["position/time"]
        self._last_time = float(times[-1]) if len(times) else -np.inf

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except OSError:
            if error is None:  # otherwise it repeats what append has reported
                raise

    def __len__(self) -> int:
        """Number of complete frames."""
        return self._length

    def append(self, positions: ArrayLike, box: ArrayLike | None, time: float, forces: ArrayLike | None = None) -> None:
        """Add one frame.

        Parameters
        ----------
        positions
            ``[N, 3]``, nm.
        box
            ``[3, 3]``, box vectors as rows, nm; None when not periodic.
        time
            ps; later than that of the frame before.
        forces
            ``[N, 3]``, kJ/mol/nm.

        Raises
        ------
        ValueError
            Wrong shape, values that are not finite, a box that is not in OpenMM's reduced form, or a time that
            does not increase. Nothing is written.
        OSError
            The disk is full or fails. The frames before this one are kept and readable.
        """
        self.extend(
            np.asarray(positions)[None],
            None if box is None else np.asarray(box)[None],
            [time],
            None if forces is None else np.asarray(forces)[None],
        )

    def extend(
        self, positions: ArrayLike, boxes: ArrayLike | None, times: ArrayLike, forces: ArrayLike | None = None
    ) -> None:
        """Add several frames at once, which is much faster than one by one.

        Parameters
        ----------
        positions, boxes, times, forces
            As of `append`, with frames along the first axis.

        Raises
        ------
        ValueError, OSError
            As `append`: all frames are written, or none.
        """
        count = len(np.asarray(times))
        if count == 0:
            return
        steps = np.arange(self._length, self._length + count)
        given = {"position/value": positions, "position/step": steps, "position/time": times}
        given |= {} if boxes is None else {"box/edges/value": boxes}
        given |= {} if forces is None else {"force/value": forces}
        values = {name: np.asarray(value) for name, value in given.items()}
        self._check(values, count)
        try:
            self._reserve_space(count)
            for name, value in values.items():
                self._datasets[name].resize(self._length + count, axis=0)
                self._datasets[name][self._length :] = value
            self._file.flush()
            self._complete[()] = self._length + count
            self._file.flush()
        except OSError as error:
            raise OSError(
                error.errno,
                f"frame {self._length} could not be written to {self.path} ({error.strerror or error}); "
                f"the first {self._length} frames are kept and readable. Make room and resume",
            ) from error
        self._length += count
        self._last_time = float(values["position/time"][-1])

    def close(self) -> None:
        """Close the file."""
        if not self._file:
            return
        try:
            self._file.flush()
            used = self._file.id.get_filesize()
        finally:
            self._file.close()
        if self.path.stat().st_size > used:  # by what was reserved for the next frame
            os.truncate(self.path, used)

    def _check(self, values: dict[str, NDArray[Any]], count: int) -> None:
        frame = f"frame {self._length} for {self.path}"
        if values.keys() != self._entries.keys():
            raise ValueError(f"{frame} has {_listed(values)}; the file is for {_listed(self._entries)}")
        for name, value in values.items():
            shape = self._entries[name].shape
            if value.shape != (count, *shape):
                raise ValueError(f"{frame}: {name} has the shape {value.shape[1:]}, it must be {shape}")
            finite = np.isfinite(value).reshape(count, -1).all(axis=1)
            if not finite.all():
                broken = self._length + int(np.argmin(finite))
                raise ValueError(f"frame {broken} for {self.path}: {name} has entries that are not finite numbers")
        problem = box_problem(values["box/edges/value"]) if "box/edges/value" in values else None
        if problem:
            raise ValueError(f"frames from {self._length} on for {self.path}: {problem}")
        times = np.concatenate([[self._last_time], values["position/time"]])
        late = np.flatnonzero(~(np.diff(times) > 0))
        if len(late):
            raise ValueError(
                f"frame {self._length + late[0]} for {self.path} is at {times[late[0] + 1]} ps, not later than the one "
                f"before ({times[late[0]]} ps)"
            )

    def _reserve_space(self, count: int) -> None:
        """Lengthen the file by what frames may need: HDF5 does not survive a disk that fills up under it."""
        frames = count * sum(entry.chunk_bytes for entry in self._entries.values())
        with open(self.path, "ab") as file:
            needed = self._file.id.get_filesize() + frames + _RESERVE
            file.write(bytes(max(0, needed - file.tell())))


def _check_agreement(path: Path, content: Content) -> None:
    with Frames(path) as frames:
        if not frames.is_resumable:
            raise ValueError(f"{path} was written by another program and cannot be continued; choose another path")
        differences = content.differences(frames.header)
    if differences:
        raise ValueError(
            f"{path} cannot be continued: it differs in {', '.join(differences)} from what is to be written; "
            "choose another path"
        )


def _listed(names: Any) -> str:
    return ", ".join(sorted(name.split("/value")[0] for name in names))
