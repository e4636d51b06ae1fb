"""Energy minimisation, to start a run from positions without overlaps."""

from __future__ import annotations

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
    platform, threads
        As of `create_context`.

    Returns
    -------
    array [N, 3], nm

    Raises
    ------
    ValueError
        As `create_context`.
    """
    context = create_context(system, openmm.VerletIntegrator(0.001), positions, box, platform, threads)
    openmm.LocalEnergyMinimizer.minimize(context, tolerance, maximum_iterations)
    return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
