"""The file of labels: one record per frame, complete after an interruption at any moment."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from openmmcg.state import differences, lock, refuse, replacing

_FORMAT = "openmm-cg labels"
_FORMAT_VERSION = 2
_WAITING, _DONE, _FAILED = 0, 1, 2
_ENERGIES = ("homo", "lumo")
_MESSAGE_LENGTH = 240  # bytes


@dataclass(frozen=True)
class Labels:
    """Electronic energies of frames.

    Attributes
    ----------
    energies : dict of float64 [frames]
        ``homo``, ``lumo`` and ``gap``, eV; NaN where a frame failed or has not been computed yet.
    failures : dict
        Frame to message, of frames that failed.
    waiting : int
        Number of frames not computed yet.
    settings, provenance : dict
        What was computed, and by which versions of which programs.
    """

    energies: dict[str, NDArray[np.float64]]
    failures: dict[int, str]
    waiting: int
    settings: dict[str, Any]
    provenance: dict[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Labels:
        """Read a file that `label_frames` wrote, finished or not.

        Raises
        ------
        FileNotFoundError
            There is none.
        ValueError
            It is not a file of labels, or of a newer version of this package.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"there are no labels at {path}")
        with _open(Path(path)) as file:
            energies = {name: file[name][:] for name in _ENERGIES}
            status = file["status"][:]
            failures = {int(frame): file["message"][frame].decode() for frame in np.flatnonzero(status == _FAILED)}
            settings, provenance = (json.loads(file.attrs[name]) for name in ("settings", "provenance"))
        energies["gap"] = energies["lumo"] - energies["homo"]
        return cls(energies, failures, int((status == _WAITING).sum()), settings, provenance)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.energies["homo"])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Energies ``[frames]``, eV, by name."""
        if name not in self.energies:
            raise KeyError(f"there are no labels {name!r}; there are {', '.join(self.energies)}")
        return self.energies[name]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """``[frames]``, whether a frame has labels."""
        return np.asarray(np.isfinite(self.energies["homo"]))


class LabelFile:
    """A file of labels that is being written.

    All its space is taken when it is made, and records are written to their places in it without HDF5's help: that
    changes nothing else in the file, and a disk that fails raises an error where HDF5 would end the process.

    Parameters
    ----------
    path
        Made where it does not exist, else continued. Nobody else may write to it until this is closed.
    frames
        Their number.
    settings
        Descriptions of everything the labels depend on, see `openmmcg.state.describe`.
    provenance
        What else should be known of them.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    ValueError
        `path` holds something else, or labels with other settings.
    BlockingIOError
        Another process computes these labels.
    OSError
        The file could not be written, for example for want of space.

    Attributes
    ----------
    waiting : int64 [n]
        Frames without a record when the file was opened, in ascending order.
    provenance : dict
        That of when the file was made.
    """

    def __init__(self, path: Path, frames: int, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
        self._path = path
        with ExitStack() as stack:
            stack.enter_context(lock(path.with_suffix(".lock"), f"the labels {path.name}"))
            if not path.exists():
                with replacing(path) as unfinished:
                    unfinished.write_bytes(_empty_file(frames, settings, provenance))
            with _open(path) as file:
                _check_settings(path, file, settings)
                self._columns = {name: _Column.of(file[name]) for name in (*_ENERGIES, "status", "message")}
                self.provenance = json.loads(file.attrs["provenance"])
                self.waiting = np.flatnonzero(file["status"][:] == _WAITING)
            self._file = stack.enter_context(open(path, "r+b", buffering=0))
            self._resources = stack.pop_all()

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    def write(self, frame: int, *, homo: float = np.nan, lumo: float = np.nan, failure: str | None = None) -> None:
        """Write the record of one frame: energies, eV, or why there are none.

        Raises
        ------
        OSError
            The disk is full or fails. The records before this one are kept.
        """
        if failure is None:
            record: dict[str, Any] = {"homo": homo, "lumo": lumo}
        else:
            record = {"message": failure.encode()[:_MESSAGE_LENGTH].decode(errors="ignore").encode()}
        # After what it stands for, so that an interruption between the two costs a frame, not its truth.
        record["status"] = _DONE if failure is None else _FAILED
        try:
            for name, value in record.items():
                column = self._columns[name]
                data = np.asarray(value, dtype=column.kind).tobytes()
                if os.pwrite(self._file.fileno(), data, column.offset + frame * len(data)) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OSError(
                error.errno,
                f"the label of frame {frame} could not be written to {self._path} ({error.strerror or error}); those "
                "before are kept. Make room and repeat",
            ) from error


def read_complete(path: Path, settings: Mapping[str, Any]) -> Labels | None:
    """The labels at `path` if there is a record of every frame already.

    Raises
    ------
    ValueError
        `path` holds something else, or labels with other settings.
    """
    if not path.exists():
        return None
    with _open(path) as file:
        _check_settings(path, file, settings)
    labels = Labels.read(path)
    return labels if labels.waiting == 0 else None


class _Column(NamedTuple):
    """Where in the file the values of all frames lie, one after the other."""

    offset: int
    kind: np.dtype[Any]

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> _Column:
        return cls(dataset.id.get_offset(), dataset.dtype)


def _check_settings(path: Path, file: h5py.File, settings: Mapping[str, Any]) -> None:
    if file.attrs["format_version"] < _FORMAT_VERSION:
        raise ValueError(
            f"{path} was written by an older version of this package, which did not note all that labels depend on, so "
            "it cannot be gone on with. It can be read as ever; choose another path to begin anew"
        )
    # As they would be read back.
    here = json.loads(json.dumps(dict(settings)))
    refuse(differences(json.loads(file.attrs["settings"]), here), path, "labels")


def _empty_file(frames: int, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> bytes:
    """A file without records, made in memory: HDF5 does not survive a full disk."""
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name in _ENERGIES:
            file.create_dataset(name, data=np.full(frames, np.nan))
            file[name].attrs["unit"] = "eV"
        file.create_dataset("status", data=np.full(frames, _WAITING, np.int8))
        file["status"].attrs["meaning"] = "0 not computed yet, 1 computed, 2 failed"
        file.create_dataset("message", data=np.zeros(frames, f"S{_MESSAGE_LENGTH}"))
        file.attrs["format"] = _FORMAT
        file.attrs["format_version"] = _FORMAT_VERSION
        file.attrs["settings"] = json.dumps(dict(settings))
        file.attrs["provenance"] = json.dumps(dict(provenance))
    return image.getvalue()


def _open(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened as a file of labels: it is truncated, or another kind of file ({error}); bring "
            "back a copy, or choose another path"
        ) from error
    if file.attrs.get("format") != _FORMAT:
        file.close()
        raise ValueError(f"{path} is not a file of labels; choose another path")
    if file.attrs["format_version"] > _FORMAT_VERSION:
        file.close()
        raise ValueError(f"{path} was written by a newer version of this package; update openmm-cg")
    return file
