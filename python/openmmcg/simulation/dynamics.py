"""Which dynamics integrates a System, and how many steps a time is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import openmm

Ensemble = Literal["NVT", "NPT", "NVE", "overdamped"]
Thermostat = Literal["Langevin", "Nose-Hoover"]

# The length of a chain of Martyna, Klein and Tuckerman, and how its motion is integrated (steps of a multiple time step
# scheme, terms of Yoshida and Suzuki): OpenMM's defaults.
_CHAIN = (3, 3, 7)
# Steps from one trial of the barostat to the next, OpenMM's default.
_BAROSTAT_INTERVAL = 25


@dataclass(frozen=True)
class Dynamics:
    """Equations of motion with their settings.

    Attributes
    ----------
    ensemble : "NVT", "NPT", "NVE" or "overdamped"
        See `openmmcg.simulation.run`.
    temperature : float
        K, of the thermostat and of the velocities at the start.
    friction : float
        1/ps, of the thermostat; of a Nosé-Hoover chain the frequency with which it takes part.
    time_step : float
        ps
    thermostat : "Langevin" or "Nose-Hoover"
        Of NVT and NPT.
    pressure : float, optional
        bar, of NPT.

    Raises
    ------
    ValueError
        Another ensemble or thermostat, numbers that are not positive, a thermostat for an ensemble without, or a
        pressure for another ensemble than NPT.
    """

    ensemble: Ensemble
    temperature: float
    friction: float
    time_step: float
    thermostat: Thermostat = "Langevin"
    pressure: float | None = None

    def __post_init__(self) -> None:
        if self.thermostat not in ("Langevin", "Nose-Hoover"):
            raise ValueError(f"thermostat must be 'Langevin' or 'Nose-Hoover', not {self.thermostat!r}")
        if self.ensemble not in ("NVT", "NPT", "NVE", "overdamped"):
            raise ValueError(f"ensemble must be 'NVT', 'NPT', 'NVE' or 'overdamped', not {self.ensemble!r}")
        if self.thermostat == "Nose-Hoover" and self.ensemble not in ("NVT", "NPT"):
            raise ValueError(
                f"a Nosé-Hoover thermostat is for the ensembles 'NVT' and 'NPT', not for {self.ensemble!r}"
            )
        if (self.pressure is not None) != (self.ensemble == "NPT"):
            raise ValueError(
                "the ensemble 'NPT' needs a pressure, in bar, and no other has one; got the ensemble "
                f"{self.ensemble!r} and the pressure {self.pressure}"
            )
        if self.pressure is not None and not math.isfinite(self.pressure):
            raise ValueError(f"the pressure must be finite, got {self.pressure} bar")
        if not (self.temperature > 0 and self.friction > 0):
            raise ValueError(
                f"temperature and friction must be positive, not {self.temperature:g} K and {self.friction:g} 1/ps"
            )
        if not self.time_step > 0:
            raise ValueError(f"time_step must be positive, not {self.time_step:g} ps")

    @property
    def has_velocities(self) -> bool:
        return self.ensemble != "overdamped"

    @property
    def conserves_momentum(self) -> bool:
        """Whether the momentum of a System without outer forces, once zero, remains so."""
        return self.ensemble == "NVE" or self.thermostat == "Nose-Hoover"

    def settings(self) -> dict[str, Any]:
        """What the motion depends on, by the names of `run`'s arguments."""
        return {
            "ensemble": self.ensemble,
            "temperature": float(self.temperature),
            "friction": None if self.ensemble == "NVE" else float(self.friction),
            "time_step": float(self.time_step),
            # Files of versions that knew the Langevin thermostat alone do not name it.
            **({} if self.thermostat == "Langevin" else {"thermostat": self.thermostat}),
            **({} if self.pressure is None else {"pressure": float(self.pressure)}),
        }

    def integrator(self, seed: int, particles: int, replicas: int = 1) -> openmm.Integrator:
        """A new integrator, with a seed for its noise, for replicas of so many particles."""
        if self.ensemble == "NVE":
            return openmm.VerletIntegrator(self.time_step)
        if self.thermostat == "Nose-Hoover":
            return self._nose_hoover(particles, replicas)
        langevin = openmm.BrownianIntegrator if self.ensemble == "overdamped" else openmm.LangevinMiddleIntegrator
        thermostat = langevin(self.temperature, self.friction, self.time_step)
        thermostat.setRandomNumberSeed(seed)
        return thermostat

    def barostat(self, seed: int) -> openmm.MonteCarloBarostat | None:
        """A new barostat of NPT, with a seed for its trials; None for other ensembles."""
        if self.pressure is None:
            return None
        barostat = openmm.MonteCarloBarostat(self.pressure, self.temperature, _BAROSTAT_INTERVAL)
        barostat.setRandomNumberSeed(seed)
        return barostat

    def _nose_hoover(self, particles: int, replicas: int) -> openmm.NoseHooverIntegrator:
        integrator = openmm.NoseHooverIntegrator(self.time_step)
        for replica in range(replicas):
            members = list(range(replica * particles, (replica + 1) * particles))
            bath = (self.temperature, self.friction)
            # The second bath is for the relative motion of pairs, of which there are none.
            integrator.addSubsystemThermostat(members, [], *bath, *bath, *_CHAIN)
        return integrator


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
