"""What a step of molecular dynamics costs."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import ArrayLike

from openmmcg.simulation.context import create_context, default_box


class StepTime(NamedTuple):
    """Milliseconds per step: the best and the median of several blocks of steps.

    The best is what the machine can do, the median what it did while it was measured.
    """

    best: float
    median: float


def time_per_step(
    system: openmm.System,
    positions: ArrayLike,
    *,
    time_step: float = 0.002,
    temperature: float = 300.0,
    platform: str | None = None,
    threads: int | None = None,
    steps: int = 50,
    blocks: int = 5,
    warm_up: int = 20,
) -> StepTime:
    """Measure the time of a step of Langevin dynamics, integrator included.

    Parameters
    ----------
    system
        All-atom or coarse-grained.
    positions
        ``[N, 3]``, nm.
    time_step
        ps.
    temperature
        K.
    platform
        Name of the platform; by default CUDA or HIP where there is one, else CPU.
    threads
        Of the CPU platform, all cores by default.
    steps
        Per block.
    blocks
        How often to measure.
    warm_up
        Steps before, not measured.

    Examples
    --------
    >>> system = openmm.System()
    >>> _ = system.addParticle(18.0)
    >>> time_per_step(system, np.zeros((1, 3)), platform="Reference").best < 100.0
    True
    """
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, time_step)
    context = create_context(system, integrator, positions, default_box(system), platform, threads)
    context.setVelocitiesToTemperature(temperature)
    milliseconds = []
    for block in range(blocks + 1):
        count = steps if block else warm_up
        start = perf_counter()
        integrator.step(count)
        context.getState(positions=True)  # a GPU is done only when it has answered
        if block:
            milliseconds.append(1000 * (perf_counter() - start) / count)
    return StepTime(min(milliseconds), float(np.median(milliseconds)))
