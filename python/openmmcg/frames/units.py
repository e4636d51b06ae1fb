"""Units of H5MD's units module, in nm, ps, kJ/mol/nm, amu and K."""

from __future__ import annotations

from pathlib import Path

import h5py

_UNITS: dict[str, dict[str, float]] = {
    "length": {"nm": 1.0, "Angstrom": 0.1, "angstrom": 0.1, "A": 0.1, "pm": 1e-3},
    "time": {"ps": 1.0, "fs": 1e-3, "ns": 1e3, "us": 1e6, "s": 1e12},
    "force": {
        "kJ mol-1 nm-1": 1.0,
        "kJ mol-1 Angstrom-1": 10.0,
        "kcal mol-1 nm-1": 4.184,
        "kcal mol-1 Angstrom-1": 41.84,
        "kcal mol-1 A-1": 41.84,
    },
    "mass": {"u": 1.0, "amu": 1.0, "Da": 1.0, "g mol-1": 1.0},
    "temperature": {"K": 1.0},
}


def factor(path: Path, dataset: h5py.Dataset, dimension: str) -> float:
    """What the numbers of a dataset are multiplied by to be in the package's units.

    Raises
    ------
    ValueError
        The dataset has no unit, or one that is not known.
    """
    known = _UNITS[dimension]
    unit = text(dataset.attrs.get("unit", ""))
    if unit not in known:
        raise ValueError(
            f"{path}: {dataset.name} has the unit {unit!r}; known are {', '.join(known)}. Set its attribute 'unit'"
        )
    return known[unit]


def text(value: object) -> str:
    """An attribute, which may be bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
