"""The file from which a run goes on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_FORMAT = "openmm-cg checkpoint"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """How far a run has come.

    Attributes
    ----------
    settings : dict
        What the run was begun with.
    state : str
        XML of the openmm.State of the last frame, or of the start.
    frames : int
        Number of frames, counting the one this checkpoint was written for.
    steps, seconds : int, float
        Integration steps of those frames and the wall-clock time they took, without writing files.
    failure : str or None
        Why the attempt to make the next frame failed.
    """

    settings: dict[str, Any]
    state: str
    frames: int = 0
    steps: int = 0
    seconds: float = 0.0
    failure: str | None = None

    @property
    def milliseconds_per_step(self) -> float:
        """Wall-clock time of an integration step; NaN before the first frame."""
        return 1000 * self.seconds / self.steps if self.steps else float("nan")


def checkpoint_path(path: str | Path) -> Path:
    """Where the checkpoint of the frames in `path` lies."""
    return Path(path).with_suffix(".checkpoint.json")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the checkpoint of the frames in `path`.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When it is not a checkpoint, or of a newer version of this package.
    """
    file = checkpoint_path(path)
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
        if contents.pop("format") != _FORMAT:
            raise ValueError("another format")
        newer = contents.pop("format_version") > _FORMAT_VERSION
        checkpoint = None if newer else Checkpoint(**contents)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged, or not a checkpoint of this package") from error
    if checkpoint is None:
        raise ValueError(f"{file} was written by a newer version of this package; update openmm-cg")
    return checkpoint


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of the frames in `path`."""
    contents = {"format": _FORMAT, "format_version": _FORMAT_VERSION, **asdict(checkpoint)}
    replace_text(checkpoint_path(path), json.dumps(contents))


def replace_text(file: Path, text: str) -> None:
    """Write a file such that at every moment there is either the old one or the new one, complete."""
    part = file.with_name(file.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
