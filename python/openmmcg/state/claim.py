"""Claims on the folders of resumable works: one set of inputs, one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from openmmcg.state.content import describe, differences
from openmmcg.state.files import read_json, write_json
from openmmcg.state.systems import is_system, system_differences

_FORMAT = "openmm-cg claim"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Claim:
    """A folder that a work has for itself.

    Attributes
    ----------
    folder : Path
    inputs : dict
        Descriptions of what the work depends on, see `openmmcg.state.describe`.
    begun : bool
        Whether the folder had been claimed before, by the same work with the same inputs.
    """

    folder: Path
    inputs: dict[str, Any]
    begun: bool


@contextmanager
def claim(
    folder: str | os.PathLike[str], what: str, inputs: Mapping[str, Any], remedies: Mapping[str, str] | None = None
) -> Iterator[Claim]:
    """Have a folder for a work with these inputs, until the block ends.

    Parameters
    ----------
    folder
        Made where it does not exist. Its file ``inputs.json`` holds the descriptions of the inputs.
    what
        What error messages call the work, "a training" for example.
    inputs
        All that the outcome depends on, by name; see `openmmcg.state.describe`. Not what may become *more*, such as the
        number of epochs: the work goes on with that. What `openmmcg.state.describe_system` says of a System is compared
        by `openmmcg.state.system_differences`.
    remedies
        What helps where an input differs, by its name, added to the error.

    Raises
    ------
    ValueError
        The folder holds another work, or the same with other inputs; the error says which, old and new.
    BlockingIOError
        Another process works there.

    Notes
    -----
    A work that fails before it has left anything in the folder leaves no claim either, so its inputs may be corrected.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with claim(folder, "a training", {"seed": 1}) as first:
    ...     first.begun
    False
    >>> with claim(folder, "a training", {"seed": 2}):
    ...     pass
    Traceback (most recent call last):
        ...
    ValueError: ... holds a training with other inputs (seed 1 there, 2 here); ...
    """
    folder = Path(folder).expanduser()
    here = {name: describe(value) for name, value in inputs.items()}
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder / "lock", what):
            file = folder / "inputs.json"
            begun = file.exists()
            if begun:
                _check(read_json(file, "a claim"), what, here, folder, remedies or {})
            else:
                write_json(file, {"format": _FORMAT, "format_version": _FORMAT_VERSION, "work": what, "inputs": here})
            try:
                yield Claim(folder, here, begun)
            except BaseException:
                if not begun and {path.name for path in folder.iterdir()} <= {"inputs.json", "lock"}:
                    file.unlink()
                raise
    except BaseException:
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
        raise


def _check(found: Any, what: str, here: Mapping[str, Any], folder: Path, remedies: Mapping[str, str]) -> None:
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError(f"{folder / 'inputs.json'} is not a claim of this package; choose another directory")
    if found["format_version"] > _FORMAT_VERSION:
        raise ValueError(f"{folder} was begun by a newer version of this package; update openmm-cg")
    if found["work"] != what:
        raise ValueError(f"{folder} holds {found['work']}, not {what}; choose another directory")
    there, here = found["inputs"], json.loads(json.dumps(here))  # as they will have been read back
    different, helps = [], []
    for name in [*there, *(name for name in here if name not in there)]:
        old, new = ({name: inputs[name]} if name in inputs else {} for inputs in (there, here))
        if old and new and is_system(old[name]) and is_system(new[name]):
            changes = [f"{name} {change}" for change in system_differences(old[name], new[name])]
        else:
            changes = differences(old, new)
        different += changes
        helps += [remedies[name]] if changes and name in remedies else []
    refuse(different, folder, what, helps)


def refuse(different: list[str], place: Path, what: str, remedies: Sequence[str] = ()) -> None:
    """Raise the error about inputs that differ, where there are any."""
    if different:
        shown = "; ".join(different[:5]) + (f"; and {len(different) - 5} more" if len(different) > 5 else "")
        raise ValueError(
            f"{place} holds {what} with other inputs ({shown}); go on with those it was begun with, choose another "
            f"place, or remove it{''.join(f'. {remedy}' for remedy in remedies)}"
        )


@contextmanager
def lock(file: Path, what: str) -> Iterator[None]:
    """Keep other processes away until the block ends, however this process ends.

    Parameters
    ----------
    file
        Is there as long as the lock is. One that a killed process left locks nothing.
    what
        What the error calls the work.

    Raises
    ------
    BlockingIOError
        Another process has it.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise BlockingIOError(
                f"{holder} works on {what} in {file.parent}; wait for it, end it, or choose another place"
            ) from None
        # Whoever had it may have removed the file between our opening and locking it.
        try:
            ours = os.stat(file).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            ours = False
        if ours:
            break
        os.close(descriptor)
    try:
        since = datetime.now().isoformat(" ", "seconds")
        # For whoever has to wait. On a full disk the lock holds without.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since},".encode())
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
