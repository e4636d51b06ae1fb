"""The pressure of a configuration, by the change of its energy with the volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import unit

from openmmcg.constants import BAR, GAS_CONSTANT
from openmmcg.progress import tqdm
from openmmcg.simulation.context import check_positions, empty_context

FloatArray = NDArray[np.float64]

# By what part lengths are changed, and the weights of the energies in the derivative (Abramowitz and Stegun, 25.3.21),
# whose error is of fourth order. The rounding of float32 energies makes some bar in a box of 500 beads.
_STRETCH = 1e-3
_WEIGHTS = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}


def has_barostat(system: openmm.System) -> bool:
    """Whether a System's box will change."""
    return any("Barostat" in type(force).__name__ for force in system.getForces())


def pressures(
    system: openmm.System,
    positions: ArrayLike,
    boxes: ArrayLike,
    temperature: float,
    *,
    platform: str | openmm.Platform = "CPU",
    threads: int | None = None,
    progress: bool = True,
) -> FloatArray:
    r"""Pressures of frames, whose mean is the pressure of the ensemble.

    .. math:: P = \frac{N k_B T}{V} - \frac{\partial U}{\partial V}

    where the N molecules keep their shape, so that constraints have no part in it. The derivative is a difference of
    energies, so all forces count, those that depend on the volume alone included. Where energies jump at a cutoff,
    pairs that cross it make noise, some ten bar in a box of 200 waters, of which the mean is free.

    Parameters
    ----------
    system
        Of atoms or beads, periodic.
    positions : array [F, N, 3]
        nm; molecules must be whole, as `run` and `openmmcg.reference.sample` write them.
    boxes : array [F, 3, 3]
        nm, rows.
    temperature
        K.
    platform, threads
        See `openmmcg.simulation.run`.
    progress
        Whether to show a progress bar.

    Returns
    -------
    array [F]
        bar

    Raises
    ------
    ValueError
        The System is not periodic, or shapes do not fit.
    """
    frames, vectors = np.asarray(positions, float), np.asarray(boxes, float)
    if not system.usesPeriodicBoundaryConditions():
        raise ValueError("a pressure needs a periodic System; give its forces periodic boundary conditions")
    if frames.ndim != 3 or vectors.shape != (len(frames), 3, 3):
        raise ValueError(
            "pressures need positions [frames, N, 3] and a box [3, 3] of each; got the shapes "
            f"{list(frames.shape)} and {list(vectors.shape)}"
        )
    context = empty_context(system, openmm.VerletIntegrator(0.001), vectors[0], platform, threads)
    gauge = PressureGauge(context)
    bar = tqdm(zip(frames, vectors, strict=True), "pressures", total=len(frames), disable=not progress)
    return np.array([gauge(check_positions(system, frame), box, temperature) for frame, box in bar])


class PressureGauge:
    """Takes pressures of configurations in a Context, which has others afterwards.

    Parameters
    ----------
    context : openmm.Context
        Of a periodic System.
    """

    def __init__(self, context: openmm.Context) -> None:
        self._context = context
        molecules = context.getMolecules()
        self._molecule_of = np.zeros(context.getSystem().getNumParticles(), int)
        for number, molecule in enumerate(molecules):
            self._molecule_of[list(molecule)] = number
        self._sizes = np.bincount(self._molecule_of)

    def __call__(self, positions: FloatArray, box: FloatArray, temperature: float) -> float:
        """The pressure, bar, of positions [N, 3] in a box [3, 3], both in nm, at a temperature in K."""
        totals = [np.bincount(self._molecule_of, axis) for axis in positions.T]
        centers = (np.stack(totals, axis=-1) / self._sizes[:, None])[self._molecule_of]
        slope = sum(
            weight * self._energy(positions + step * _STRETCH * centers, (1 + step * _STRETCH) * box)
            for step, weight in _WEIGHTS.items()
        )
        ideal = len(self._sizes) * GAS_CONSTANT * temperature
        return (ideal - slope / (3 * _STRETCH)) / float(np.linalg.det(box)) / BAR

    def _energy(self, positions: FloatArray, box: FloatArray) -> float:
        self._context.setPeriodicBoxVectors(*box)
        self._context.setPositions(positions)
        energy: Any = self._context.getState(energy=True).getPotentialEnergy()
        return float(energy.value_in_unit(unit.kilojoule_per_mole))
