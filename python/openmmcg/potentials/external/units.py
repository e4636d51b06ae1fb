"""Units in which other packages compute."""

from __future__ import annotations

_LENGTHS = {"nm": 1.0, "angstrom": 0.1, "bohr": 0.0529177210903}
_ENERGIES = {"kJ/mol": 1.0, "kcal/mol": 4.184, "eV": 96.48533212331, "hartree": 2625.4996394799}


def length_in_nm(unit: str | float) -> float:
    """A unit of length, by name or as a number of nm."""
    return _find(unit, _LENGTHS, "length", "nm")


def energy_in_kilojoule_per_mole(unit: str | float) -> float:
    """A unit of energy, by name or as a number of kJ/mol."""
    return _find(unit, _ENERGIES, "energy", "kJ/mol")


def _find(unit: str | float, known: dict[str, float], quantity: str, ours: str) -> float:
    if isinstance(unit, str):
        if unit not in known:
            raise ValueError(
                f"'{unit}' is no unit of {quantity} that is known; known are {', '.join(known)}, or give it as a "
                f"number of {ours}"
            )
        return known[unit]
    if not 0 < unit < float("inf"):
        raise ValueError(f"a unit of {quantity} must be a positive number of {ours}, got {unit}")
    return float(unit)
