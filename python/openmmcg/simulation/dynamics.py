"""Which dynamics integrates a System, and how many steps a time is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import openmm

Ensemble = Literal["NVT", "NVE", "overdamped"]


@dataclass(frozen=True)
class Dynamics:
    """Equations of motion with their settings.

    Attributes
    ----------
    ensemble : "NVT", "NVE" or "overdamped"
        See `openmmcg.simulation.run`.
    temperature : float
        K, of the thermostat and of the velocities at the start.
    friction : float
        1/ps, of the thermostat.
    time_step : float
        ps

    Raises
    ------
    ValueError
        Another ensemble, or numbers that are not positive.
    """

    ensemble: Ensemble
    temperature: float
    friction: float
    time_step: float

    def __post_init__(self) -> None:
        if self.ensemble not in ("NVT", "NVE", "overdamped"):
            raise ValueError(f"ensemble must be 'NVT', 'NVE' or 'overdamped', not {self.ensemble!r}")
        if not (self.temperature > 0 and self.friction > 0):
            raise ValueError(
                f"temperature and friction must be positive, not {self.temperature:g} K and {self.friction:g} 1/ps"
            )
        if not self.time_step > 0:
            raise ValueError(f"time_step must be positive, not {self.time_step:g} ps")

    @property
    def has_velocities(self) -> bool:
        return self.ensemble != "overdamped"

    def settings(self) -> dict[str, Any]:
        """What the motion depends on, by the names of `run`'s arguments."""
        return {
            "ensemble": self.ensemble,
            "temperature": float(self.temperature),
            "friction": None if self.ensemble == "NVE" else float(self.friction),
            "time_step": float(self.time_step),
        }

    def integrator(self, seed: int) -> openmm.Integrator:
        """A new integrator, with a seed for its noise."""
        if self.ensemble == "NVE":
            return openmm.VerletIntegrator(self.time_step)
        langevin = openmm.LangevinMiddleIntegrator if self.ensemble == "NVT" else openmm.BrownianIntegrator
        thermostat = langevin(self.temperature, self.friction, self.time_step)
        thermostat.setRandomNumberSeed(seed)
        return thermostat


def whole_number(whole: float, part: float, whole_name: str, part_name: str, least: int = 1) -> int:
    """How many times `part` goes into `whole`, both in ps, which must be a whole number of times.

    Examples
    --------
    >>> whole_number(0.3, 0.1, "duration", "interval")
    3
    """
    if part > 0 and math.isfinite(whole / part):
        count = round(whole / part)
        # Decimal fractions of a picosecond are not exact in binary.
        if count >= least and abs(count * part - whole) <= 1e-6 * part:
            return count
    raise ValueError(
        f"{whole_name}, {whole:g} ps, must be a whole number of times, {least} or more, {part_name}, {part:g} ps"
    )
