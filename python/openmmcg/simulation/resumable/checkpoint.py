"""The file from which a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openmmcg.state import differences, read_json, refuse, system_differences, write_text

_FORMAT = "openmm-cg checkpoint"
_FORMAT_VERSION = 2


@dataclass(frozen=True)
class Group:
    """Replicas in one Context.

    Attributes
    ----------
    replicas : list of int
        Whose particles follow each other in the state.
    state : str
        XML of an openmm.State.
    """

    replicas: list[int]
    state: str


@dataclass(frozen=True)
class Dropped:
    """A replica that became unstable and is gone on without.

    Attributes
    ----------
    replica : int
    frames : int
        How many it has.
    reason : str
    """

    replica: int
    frames: int
    reason: str


@dataclass(frozen=True)
class Checkpoint:
    """How far a run has come.

    Attributes
    ----------
    inputs : dict
        What the run depends on, see `Plan.inputs`.
    system : dict
        The description of its System, see `openmmcg.state.describe_system`.
    groups : list of Group
        All replicas at the last frame or, of those that were dropped, at an earlier moment or the same.
    equilibrated : int
        Steps of equilibration that are done.
    frames : int
        Number of frames, counting the one this checkpoint was written for.
    steps, seconds : int, float
        Integration steps of those frames and the wall-clock time they took, without writing files.
    dropped : list of Dropped
    failure : str or None
        Why the attempt to make the next frame failed.
    """

    inputs: dict[str, Any]
    system: dict[str, Any]
    groups: list[Group]
    equilibrated: int = 0
    frames: int = 0
    steps: int = 0
    seconds: float = 0.0
    dropped: list[Dropped] = field(default_factory=list)
    failure: str | None = None

    @property
    def milliseconds_per_step(self) -> float:
        """Wall-clock time of an integration step; NaN before the first frame."""
        return 1000 * self.seconds / self.steps if self.steps else float("nan")

    @property
    def reasons(self) -> dict[int, str]:
        """Why replicas were dropped."""
        return {each.replica: each.reason for each in self.dropped}

    def frames_of(self, replica: int) -> int:
        """Number of frames of a replica."""
        return next((each.frames for each in self.dropped if each.replica == replica), self.frames)

    def check(self, inputs: Mapping[str, Any], system: Mapping[str, Any], path: Path) -> None:
        """Refuse to go on with other inputs than those of this checkpoint, which is that of `path`.

        Raises
        ------
        ValueError
            The error says what differs, old and new.
        """
        different = differences(self.inputs, inputs)
        different += [f"system: {difference}" for difference in system_differences(self.system, system)]
        refuse(different, path, "a run")


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
        When it is not a checkpoint, or of another version of this package.
    """
    file = checkpoint_path(path)
    contents = read_json(file, "a checkpoint")
    version = contents.get("format_version") if isinstance(contents, dict) else None
    if not isinstance(version, int) or contents.pop("format") != _FORMAT:
        raise ValueError(f"{file} is not a checkpoint of this package; choose another path")
    if version > _FORMAT_VERSION:
        raise ValueError(f"{file} was written by a newer version of this package; update openmm-cg")
    if version < _FORMAT_VERSION:
        raise ValueError(
            f"{file} was written by an older version of this package, which did not note all that a run depends on, so "
            "it cannot be gone on with. Its frames and log can be read as ever; choose another path to begin anew"
        )
    del contents["format_version"]
    try:
        groups = [Group(**each) for each in contents.pop("groups")]
        dropped = [Dropped(**each) for each in contents.pop("dropped")]
        return Checkpoint(**contents, groups=groups, dropped=dropped)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); bring back a copy, or remove it to begin anew") from error


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of the frames in `path`."""
    contents = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        **vars(checkpoint),
        "groups": [vars(group) for group in checkpoint.groups],
        "dropped": [vars(dropped) for dropped in checkpoint.dropped],
    }
    # In one line, which takes less time, and as durable as the frames are, which come as often.
    write_text(checkpoint_path(path), json.dumps(contents, allow_nan=False), durable=False)
