"""Energies and temperature per frame, in a CSV file beside the frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.simulation.resumable.record import Record
from openmmcg.state import append, write_text

_HEADER = "time_ps,potential_energy_kJ_mol,kinetic_energy_kJ_mol,temperature_K"


def log_path(path: str | Path) -> Path:
    """Where the energies and temperatures of the frames in `path` lie."""
    return Path(path).with_suffix(".csv")


def read_log(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Energies and temperatures of the frames in `path`, one array [frames] per column of the CSV file.

    The columns are `time_ps`, `potential_energy_kJ_mol`, `kinetic_energy_kJ_mol` and `temperature_K`. Overdamped
    dynamics has no kinetic energy: there it is NaN, and the temperature is that of the last step's displacements.

    Raises
    ------
    ValueError
        The log is damaged.
    """
    columns = _HEADER.split(",")
    rows = [line.split(",") for line in log_lines(path)]
    try:
        table = np.array(rows, dtype=np.float64).reshape(-1, len(columns))
    except ValueError as error:
        raise ValueError(f"{log_path(path)} is damaged ({error}); bring back a copy") from error
    return dict(zip(columns, table.T, strict=True))


def log_lines(path: str | Path) -> list[str]:
    """The complete lines of the log of the frames in `path`, without its header."""
    if not log_path(path).exists():
        return []
    lines = log_path(path).read_text(encoding="utf-8").split("\n")
    # What follows the last line break is empty, or a line that an interruption cut off.
    return lines[1:-1]


def append_to_log(path: str | Path, record: Record) -> None:
    """Append the line of one frame.

    Raises
    ------
    OSError
        It could not be written, for example for want of space; the error names the file.
    """
    append(log_path(path), f"{_line(record)}\n", "the line of a frame", f"{_HEADER}\n")


def replace_log(path: str | Path, lines: Sequence[str], last: Record) -> None:
    """Write the whole log anew: `lines` and that of the `last` frame."""
    write_text(log_path(path), "\n".join([_HEADER, *lines, _line(last)]) + "\n")


def _line(record: Record) -> str:
    # repr gives all digits, so that the log is as good as the simulation.
    return f"{record.time!r},{record.potential_energy!r},{record.kinetic_energy!r},{record.temperature!r}"
