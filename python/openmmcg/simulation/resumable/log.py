"""Energies, temperature and what else is known of each frame, in a CSV file beside the frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.simulation.resumable.record import Record
from openmmcg.state import append, write_text

# The columns, in their order, and what of a record they are.
_COLUMNS = {
    "time_ps": "time",
    "potential_energy_kJ_mol": "potential_energy",
    "kinetic_energy_kJ_mol": "kinetic_energy",
    "temperature_K": "temperature",
    "density_g_cm3": "density",
    "pressure_bar": "pressure",
}


def log_path(path: str | Path) -> Path:
    """Where the energies and temperatures of the frames in `path` lie."""
    return Path(path).with_suffix(".csv")


def read_log(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Energies and temperatures of the frames in `path`, one array [frames] per column of the CSV file.

    The columns are `time_ps`, `potential_energy_kJ_mol`, `kinetic_energy_kJ_mol` and `temperature_K`; where the box
    changes `density_g_cm3`, and `pressure_bar` where it was asked for. Overdamped dynamics has no kinetic energy: there
    it is NaN, and the temperature is that of the last step's displacements.

    Raises
    ------
    ValueError
        The log is damaged.
    """
    columns = _columns_of(path) or list(_COLUMNS)[:4]
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
    columns = _columns_of(path) or _known(record)
    append(log_path(path), f"{_line(record, columns)}\n", "the line of a frame", f"{','.join(columns)}\n")


def replace_log(path: str | Path, lines: Sequence[str], last: Record) -> None:
    """Write the whole log anew: `lines` and that of the `last` frame."""
    columns = _columns_of(path) or _known(last)
    write_text(log_path(path), "\n".join([",".join(columns), *lines, _line(last, columns)]) + "\n")


def _columns_of(path: str | Path) -> list[str]:
    """The columns that a log has, which may be of a version that knew fewer; none where there is no log."""
    if not log_path(path).exists():
        return []
    with open(log_path(path), encoding="utf-8") as file:
        header = file.readline()
    if not header.endswith("\n"):  # an interruption cut it off
        return []
    columns = header.rstrip("\n").split(",")
    if not set(columns) <= set(_COLUMNS):
        raise ValueError(f"{log_path(path)} is damaged (its columns are {', '.join(columns)}); bring back a copy")
    return columns


def _known(record: Record) -> list[str]:
    return [column for column, name in _COLUMNS.items() if getattr(record, name) is not None]


def _line(record: Record, columns: Sequence[str]) -> str:
    # repr gives all digits, so that the log is as good as the simulation.
    return ",".join(repr(getattr(record, _COLUMNS[column])) for column in columns)
