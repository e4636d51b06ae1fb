"""The file of labels: one record per frame, complete after an interruption at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

_FORMAT = "openmm-cg labels"
_FORMAT_VERSION = 1
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
        with _open(Path(path), "r") as file:
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

    All its space is taken when it is made, so that writing a record changes nothing else in the file.

    Parameters
    ----------
    path
        Made where it does not exist, else continued.
    frames
        Their number.
    settings
        Everything the labels depend on, in values JSON can express.
    provenance
        What else should be known of them.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    ValueError
        `path` holds something else, or labels with other settings.
    """

    def __init__(self, path: Path, frames: int, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
        if not path.exists():
            _create(path, frames, settings, provenance)
        self._file = _open(path, "r+")
        found = json.loads(self._file.attrs["settings"])
        # As they would be read back.
        different = [name for name, value in json.loads(json.dumps(dict(settings))).items() if found.get(name) != value]
        if different:
            self._file.close()
            changes = ", ".join(f"{name} {found.get(name)} there, {settings[name]} here" for name in different)
            raise ValueError(f"{path} holds labels with other settings ({changes}); choose another path, or remove it")

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def waiting(self) -> NDArray[np.int64]:
        """Frames without a record, in ascending order."""
        return np.flatnonzero(self._file["status"][:] == _WAITING)

    def write(self, frame: int, *, homo: float = np.nan, lumo: float = np.nan, failure: str | None = None) -> None:
        """Write the record of one frame: energies, eV, or why there are none."""
        if failure is None:
            self._file["homo"][frame], self._file["lumo"][frame] = homo, lumo
        else:
            text = failure.encode()[:_MESSAGE_LENGTH].decode(errors="ignore")
            self._file["message"][frame] = text.encode()
        self._file.flush()
        # After what it stands for, so that an interruption between the two costs a frame, not its truth.
        self._file["status"][frame] = _DONE if failure is None else _FAILED
        self._file.flush()


def _create(path: Path, frames: int, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    unfinished = path.with_name(path.name + ".part")
    with h5py.File(unfinished, "w") as file:
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
    unfinished.replace(path)


def _open(path: Path, mode: str) -> h5py.File:
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise ValueError(f"{path} cannot be opened as a file of labels ({error}); choose another path") from error
    if file.attrs.get("format") != _FORMAT:
        file.close()
        raise ValueError(f"{path} is not a file of labels; choose another path")
    if file.attrs["format_version"] > _FORMAT_VERSION:
        file.close()
        raise ValueError(f"{path} was written by a newer version of this package; update openmm-cg")
    return file
