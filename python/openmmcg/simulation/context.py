"""A System, its starting positions and a platform made into an OpenMM Context, with the checks before any
step."""

from __future__ import annotations

import math

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import unit

from openmmcg.simulation.coinciding import check_coinciding

# OpenCL only when asked for by name: where there is no GPU it may run on the CPU, slower than CPU does.
_PREFERRED = ("CUDA", "HIP", "CPU")
_REPRODUCIBLE = {"DeterministicForces": "true", "Threads": "1"}


def default_box(system: openmm.System) -> NDArray[np.float64] | None:
    """The System's default box vectors [3, 3], nm; None when it is not periodic."""
    if not system.usesPeriodicBoundaryConditions():
        return None
    return np.array([list(vector.value_in_unit(unit.nanometer)) for vector in system.getDefaultPeriodicBoxVectors()])


def create_context(
    system: openmm.System,
    integrator: openmm.Integrator,
    positions: ArrayLike,
    box: ArrayLike | None,
    platform: str | openmm.Platform | None = None,
    threads: int | None = None,
    *,
    reproducible: bool = False,
) -> openmm.Context:
    """Create a Context with positions and box.

    Parameters
    ----------
    system : openmm.System
    integrator : openmm.Integrator
    positions : array [N, 3]
        nm; one per particle of the System, virtual sites included. Constraints and virtual sites are applied
        to them.
    box : array [3, 3] or None
        Box vectors as rows in OpenMM's reduced form, nm; None for a System that is not periodic.
    platform : str or openmm.Platform, optional
        By default CUDA or HIP where there is one, else CPU.
    threads : int, optional
        Threads of the CPU platform; all cores by default.
    reproducible : bool
        Whether forces must be the same to the last digit each time, where the platform leaves the choice: then one
        thread is the default.

    Raises
    ------
    ValueError
        When positions are not finite or not one per particle, when particles that act on each other coincide, when
        the box does not fit the System or is not in the reduced form, when the platform has no threads to choose, or
        when the energy of the positions is not finite.
    """
    start = check_positions(system, positions)
    context = empty_context(system, integrator, box, platform, threads, reproducible=reproducible)
    place(context, start)
    return context


def empty_context(
    system: openmm.System,
    integrator: openmm.Integrator,
    box: ArrayLike | None,
    platform: str | openmm.Platform | None = None,
    threads: int | None = None,
    *,
    reproducible: bool = False,
) -> openmm.Context:
    """A Context without positions; arguments and errors are those of `create_context`."""
    vectors = check_box(system, box)
    arguments = (integrator, *_platform_arguments(platform, threads, reproducible))
    if vectors is None:
        return openmm.Context(system, *arguments)
    # GPUs compile for the shape of the default box, and forces compare their cutoff with it.
    default = system.getDefaultPeriodicBoxVectors()
    system.setDefaultPeriodicBoxVectors(*vectors)
    try:
        context = openmm.Context(system, *arguments)
    finally:
        system.setDefaultPeriodicBoxVectors(*default)
    context.setPeriodicBoxVectors(*vectors)
    return context


def place(context: openmm.Context, positions: NDArray[np.float64]) -> None:
    """Give a Context positions [N, 3], nm, with constraints applied, after checking that they can be moved from."""
    system, box = context.getSystem(), None
    if system.usesPeriodicBoundaryConditions():
        box = context.getState().getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
    check_coinciding(system, positions, box)
    context.setPositions(positions)
    # Mapped positions fluctuate about the lengths that constraints fix.
    context.applyConstraints(context.getIntegrator().getConstraintTolerance())
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    if not math.isfinite(energy):
        raise ValueError(
            f"the potential energy of the starting positions is {energy}; particles may overlap: minimise "
            "them first, or start from other positions"
        )


def check_positions(system: openmm.System, positions: ArrayLike) -> NDArray[np.float64]:
    """`positions` as float64 [N, 3], after checking that they are finite and one per particle."""
    checked = np.asarray(positions, dtype=np.float64)
    particles = system.getNumParticles()
    if checked.shape != (particles, 3):
        raise ValueError(
            f"positions have the shape {list(checked.shape)}, but the System has {particles} particles; "
            f"give positions of shape [{particles}, 3]"
        )
    broken = np.flatnonzero(~np.isfinite(checked).all(axis=1))
    if len(broken):
        raise ValueError(
            f"the positions of {len(broken)} particles are not finite, the first is particle {broken[0]}; "
            "start from other positions"
        )
    return checked


def check_box(system: openmm.System, box: ArrayLike | None) -> NDArray[np.float64] | None:
    """`box` as float64 [3, 3], after checking that it fits the System and is in OpenMM's reduced form."""
    if not system.usesPeriodicBoundaryConditions():
        if box is not None:
            raise ValueError("the System is not periodic, but a box was given; give box=None")
        return None
    if box is None:
        raise ValueError("the System is periodic; give its box, three vectors as rows in nm")
    vectors = np.asarray(box, dtype=np.float64)
    if vectors.shape != (3, 3) or not np.isfinite(vectors).all():
        raise ValueError(f"box must be three finite vectors as rows, shape [3, 3], not {vectors.tolist()}")
    widths = np.diag(vectors)
    lower = np.array_equal(vectors, np.tril(vectors)) and (widths > 0).all()
    limits = np.array([widths[0], widths[0], widths[1]]) / 2
    if not lower or (np.abs([vectors[1, 0], vectors[2, 0], vectors[2, 1]]) > limits).any():
        raise ValueError(
            f"the box {vectors.tolist()} is not in OpenMM's reduced form (lower triangular, positive "
            "diagonal, elements below it at most half the diagonal element of their column); "
            "openmm.app.internal.unitcell.reducePeriodicBoxVectors brings it into that form"
        )
    return vectors


def _platform_arguments(
    platform: str | openmm.Platform | None, threads: int | None, reproducible: bool
) -> tuple[openmm.Platform, dict[str, str]]:
    chosen = platform if isinstance(platform, openmm.Platform) else _platform_named(platform)
    known, properties = chosen.getPropertyNames(), {}
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        if "Threads" not in known:
            raise ValueError(f"the {chosen.getName()} platform has no number of threads; leave out threads")
        properties["Threads"] = str(threads)
    if reproducible:
        # Several threads add up forces in another order each time, DeterministicForces or not.
        properties = {name: value for name, value in _REPRODUCIBLE.items() if name in known} | properties
    return chosen, properties


def _platform_named(name: str | None) -> openmm.Platform:
    known = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if name is None:
        name = next(preferred for preferred in _PREFERRED if preferred in known)
    if name not in known:
        raise ValueError(f"there is no platform {name!r} here; choose one of {', '.join(known)}")
    return openmm.Platform.getPlatform(name)
