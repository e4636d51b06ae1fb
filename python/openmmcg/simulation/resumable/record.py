"""What is measured of a simulation at each frame, and the bounds it has to keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from openmmcg.constants import GAS_CONSTANT, GRAM_PER_CUBIC_CENTIMETER
from openmmcg.simulation.dynamics import Dynamics
from openmmcg.simulation.pressure import PressureGauge, has_barostat


class UnstableSimulationError(RuntimeError):
    """Energy, temperature or positions of a simulation left all bounds."""


def degrees_of_freedom(system: openmm.System, dynamics: Dynamics | None = None) -> int:
    """Number of degrees of freedom that share the kinetic energy.

    Three per particle with mass (massless particles and virtual sites do not move by themselves), less one
    per constraint, less three where the centre of mass does not move: by a CMMotionRemover, or, from a start without
    momentum, because dynamics and System conserve it.

    Examples
    --------
    >>> system = openmm.System()
    >>> for mass in (16.0, 1.0, 1.0, 0.0):
    ...     _ = system.addParticle(mass)
    >>> for first, second, distance in ((0, 1, 0.10), (0, 2, 0.10), (1, 2, 0.16)):
    ...     _ = system.addConstraint(first, second, distance)
    >>> degrees_of_freedom(system)
    6
    """
    masses = [system.getParticleMass(particle) for particle in range(system.getNumParticles())]
    moving = sum(mass > 0 * unit.dalton for mass in masses)
    fixed_center = any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
    if dynamics is not None:
        fixed_center |= begins_at_rest(system, dynamics)
    return 3 * moving - system.getNumConstraints() - 3 * fixed_center


def begins_at_rest(system: openmm.System, dynamics: Dynamics) -> bool:
    """Whether a replica's centre of mass is to be without motion at the start, since nothing would stop or turn it.

    So it is where the dynamics conserves momentum and the System does, which then has several particles, none of them
    fixed, and no outer forces. A drift of the whole would pass for diffusion.
    """
    number = system.getNumParticles()
    fixed = any(system.getParticleMass(i)._value == 0 and not system.isVirtualSite(i) for i in range(number))
    outer = any(isinstance(force, openmm.CustomExternalForce) for force in system.getForces())
    return dynamics.conserves_momentum and number > 1 and not (fixed or outer)


@dataclass(frozen=True)
class Record:
    """One frame, in nm, ps, kJ/mol and K.

    `box` is None when the System is not periodic, `forces` when they were not asked for. Overdamped dynamics has no
    momenta: there `kinetic_energy` is NaN, and `temperature` that of the last step's displacements, see `Recorder`.
    `density`, g/cm³, is None where the box does not change, `pressure`, bar, where it was not asked for.
    """

    positions: NDArray[np.float64]
    box: NDArray[np.float64] | None
    forces: NDArray[np.float64] | None
    time: float
    potential_energy: float
    kinetic_energy: float
    temperature: float
    density: float | None = None
    pressure: float | None = None


class Recorder:
    """Takes records of Contexts of one System, and finds out whether they are still within bounds.

    Parameters
    ----------
    system : openmm.System
    dynamics : Dynamics
        A simulation counts as unstable beyond ten times its temperature and thirty standard deviations of the
        fluctuations that a kinetic temperature has by itself.
    forces : bool
        Whether records contain forces.

    Notes
    -----
    A step of overdamped dynamics (openmm.BrownianIntegrator) displaces a particle of mass m, at a friction γ, by
    F Δt/(m γ) and by noise of the variance 2 k_B T Δt/(m γ) along each axis. The temperature of the displacements,
    m γ ⟨Δx²⟩/(2 k_B Δt), is T and a share of the forces, which vanishes with Δt: in a harmonic well of the spring
    constant k it is T/(1 − k Δt/(2 m γ)), as the variance of the position is that much too large. The same bounds
    hold for it as for the temperature of velocities.
    """

    def __init__(self, system: openmm.System, dynamics: Dynamics, forces: bool):
        self._forces = forces
        self._periodic = system.usesPeriodicBoundaryConditions()
        self._degrees_of_freedom = degrees_of_freedom(system, dynamics)
        masses = [system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())]
        self._mass = sum(masses) if dynamics.pressure is not None or has_barostat(system) else None
        # At constant energy there is no other temperature than the present one.
        self._temperature = None if dynamics.ensemble == "NVE" else dynamics.temperature
        if self._degrees_of_freedom < 1:
            raise ValueError("nothing in the System can move: it has no degrees of freedom")
        # The kinetic temperature of f degrees of freedom fluctuates by √(2/f) of itself.
        self._highest_temperature = dynamics.temperature * (10 + 30 * math.sqrt(2 / self._degrees_of_freedom))
        self._overdamped = not dynamics.has_velocities
        # OpenMM's velocities are then the displacements of the last step over Δt.
        self._thermal_share = dynamics.friction * dynamics.time_step / 2 if self._overdamped else 1.0

    def record(self, context: openmm.Context, gauge: PressureGauge | None = None) -> Record:
        """A record of a Context as it is, with the pressure where a gauge is given.

        Raises
        ------
        UnstableSimulationError
            When positions or energies are not finite or the temperature is out of bounds.
        """
        positions = context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        if not np.isfinite(positions).all():
            raise UnstableSimulationError("positions are not finite")
        with instabilities():
            record = self._record(context, positions)
        # Of the temperature, because overdamped dynamics has no kinetic energy.
        if not math.isfinite(record.potential_energy + record.temperature):
            raise UnstableSimulationError("the energy is not finite")
        if record.temperature > self._highest_temperature:
            raise UnstableSimulationError(
                f"the temperature is {record.temperature:.4g} K, beyond {self._highest_temperature:.4g} K"
            )
        if gauge is None or record.box is None:
            return record
        temperature = record.temperature if self._temperature is None else self._temperature
        return replace(record, pressure=gauge(record.positions, record.box, temperature))

    def _record(self, context: openmm.Context, positions: NDArray[np.float64]) -> Record:
        state = context.getState(forces=self._forces, energy=True)
        box = forces = None
        if self._periodic:
            box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        if self._forces:
            forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        density = None
        if self._mass is not None and box is not None:
            density = self._mass / float(np.linalg.det(box)) / GRAM_PER_CUBIC_CENTIMETER
        kinetic_energy = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
        return Record(
            positions=positions,
            box=box,
            forces=forces,
            time=state.getTime().value_in_unit(unit.picosecond),
            potential_energy=state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
            kinetic_energy=math.nan if self._overdamped else kinetic_energy,
            temperature=2 * kinetic_energy * self._thermal_share / (self._degrees_of_freedom * GAS_CONSTANT),
            density=density,
        )


@contextmanager
def instabilities() -> Iterator[None]:
    """Make errors of OpenMM that are about numbers out of bounds `UnstableSimulationError`."""
    try:
        yield
    except openmm.OpenMMException as error:
        # OpenMM says "NaN" and a force may say that something is not finite; all else is not about stability.
        if "nan" not in str(error).lower() and "finite" not in str(error):
            raise
        raise UnstableSimulationError(str(error)) from error
