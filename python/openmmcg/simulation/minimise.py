"""Energy minimisation, to start a run from positions without overlaps."""

from __future__ import annotations

import math

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import unit

from openmmcg.simulation.context import create_context


def minimise(
    system: openmm.System,
    positions: ArrayLike,
    box: ArrayLike | None,
    *,
    tolerance: float = 10.0,
    maximum_iterations: int = 0,
    platform: str | openmm.Platform | None = "CPU",
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Positions at a local minimum of the potential energy, by OpenMM's L-BFGS minimiser.

    On the CPU platform with one thread, the default, the same call gives the same positions to the last digit, on the
    same machine. A run that begins with them and is to go on elsewhere had better be given the positions from before,
    and ``minimisation``.

    Parameters
    ----------
    system : openmm.System
    positions : array [N, 3]
        nm
    box : array [3, 3] or None
        Box vectors as rows, nm; None for a System that is not periodic.
    tolerance : float
        Root mean square force, kJ/mol/nm, at which to stop.
    maximum_iterations : int
        0 goes on until the tolerance is reached.
    platform
        As of `create_context`.
    threads
        Of the CPU platform; one by default.

    Returns
    -------
    array [N, 3], nm

    Raises
    ------
    ValueError
        As `create_context`, for a tolerance that is not positive, and where the potential has no minimum to be found.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, not {tolerance} kJ/mol/nm")
    integrator = openmm.VerletIntegrator(0.001)
    context = create_context(system, integrator, positions, box, platform, threads, reproducible=True)
    openmm.LocalEnergyMinimizer.minimize(context, tolerance, maximum_iterations)
    state = context.getState(positions=True, energy=True)
    result = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    if not (math.isfinite(energy) and np.isfinite(result).all()):
        raise ValueError(
            f"minimisation ended at an energy of {energy} kJ/mol: the potential has no minimum near these positions, "
            "or particles overlap; start from others"
        )
    return result
