"""Molecular dynamics of a coarse-grained System, written to H5MD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import openmm
from numpy.typing import ArrayLike
from openmm import unit

from openmmcg.frames import FrameWriter
from openmmcg.simulation.beads import bead_types
from openmmcg.simulation.context import check_box, check_positions, create_context, empty_context, place
from openmmcg.simulation.replicas import replicate_system
from openmmcg.simulation.result import RunResult, read_result, trajectory_paths
from openmmcg.simulation.resumable import ResumableRun, system_fingerprint


def run(
    system: openmm.System,
    positions: ArrayLike,
    box: ArrayLike | None,
    path: str | Path,
    *,
    duration: float,
    interval: float,
    equilibration: float = 0.0,
    time_step: float = 0.002,
    ensemble: Literal["NVT", "NVE", "overdamped"] = "NVT",
    temperature: float = 300.0,
    friction: float = 1.0,
    seed: int = 0,
    types: Sequence[int] | None = None,
    type_names: Sequence[str] | None = None,
    platform: str | openmm.Platform = "CPU",
    threads: int | None = None,
    resume: bool = True,
    progress: bool = True,
) -> RunResult:
    """Simulate a System, from given positions and with velocities drawn at the temperature (where it has velocities).

    Frames go to `path` (H5MD, positions not wrapped into the box), energies and temperatures to a CSV file
    beside it. The run may be stopped at any moment; called again with the same arguments, it goes on where it
    was, on whatever platform. A finished run returns at once; a longer `duration` makes it longer.

    From positions of several replicas, as many copies of the System, which do not see each other, are integrated
    together in one Context, with velocities of their own. For small systems that is much faster than one after the
    other. Each has its frames and its log: for the path ``cg.h5md``, ``cg.0.h5md`` and ``cg.0.csv`` and so on.

    Parameters
    ----------
    system : openmm.System
        For example from `CGPotential.create_system`. Also where there are replicas it is that of one copy, and must
        hold nothing that would couple them, such as a CMMotionRemover, see
        `openmmcg.simulation.replicas.replicate_system`.
    positions : array [N, 3] or [replicas, N, 3]
        Where to start, nm; see `minimise` where beads may overlap. Frames of a trajectory make replicas:
        ``Frames("start.h5md").positions[::10]``.
    box : array [3, 3] or None
        Box vectors as rows in OpenMM's reduced form, nm; None for a System that is not periodic.
    path : path
        The frames.
    duration : float
        ps, from the first frame's predecessor to the last frame; a whole number of intervals.
    interval : float
        ps per frame; a whole number of time steps.
    equilibration : float
        ps before, which leave no frames.
    time_step : float
        ps
    ensemble : "NVT", "NVE" or "overdamped"
        With the Langevin thermostat of OpenMM's LangevinMiddleIntegrator (Zhang et al., J. Phys. Chem. A 123,
        6056 (2019)), whose positions are distributed as those of BAOAB; with its VerletIntegrator, at constant energy;
        or overdamped Langevin (Brownian) dynamics with its BrownianIntegrator, by the method of Euler and
        Maruyama, dx = F/(m γ) dt + √(2 D dt) ξ with D = k_B T/(m γ) (Husic et al., J. Chem. Phys. 153, 194101
        (2020), equation 13). That one samples NVT as well, without velocities. Its time step must be short against
        the relaxation time m γ/k of the stiffest bond, of the spring constant k: the variance of the bond is wrong
        by a factor of 1/(1 − k dt/(2 m γ)). The energies of its log have no kinetic part, and the temperatures are
        those of displacements, see `RunResult`.
    temperature : float
        K, of the thermostat and of the velocities at the start.
    friction : float
        1/ps, of the thermostat. Overdamped dynamics knows only the product of mass and friction, and time scales
        with it.
    seed : int
        Of velocities and thermostat.
    types : sequence [N] of int, optional
        Bead types, indices into `type_names`; by default those of the System's CGForce, else all 0.
    type_names : sequence of str, optional
        By default those of the System's CGForce, else "bead".
    platform : str or openmm.Platform
        The CPU platform by default. With some twenty beads or fewer ``"Reference"``, in double precision, is often the
        faster one: a step on the CPU platform wakes OpenMM's threads several times.
    threads : int, optional
        Threads of the CPU platform; all cores by default.
    resume : bool
        With False, a run that exists is refused.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    RunResult

    Raises
    ------
    ValueError
        Before any step: for positions that are not finite or not one per particle, a box that does not fit
        the System, an energy that is not finite, times that are not multiples of each other, a System that cannot
        have replicas, or when the run at `path` was begun with other arguments or another System.
    FileExistsError
        When `path` exists and is not of a run to be resumed; nothing is overwritten.
    UnstableSimulationError
        When energy, temperature or positions leave all bounds. The frames before are kept, and
        `read_result(path)` gives the result up to there.

    Examples
    --------
    A bead in a harmonic trap:

    >>> import openmm, tempfile
    >>> system = openmm.System()
    >>> _ = system.addParticle(18.0)
    >>> trap = openmm.CustomExternalForce("500*(x^2+y^2+z^2)")
    >>> _ = trap.addParticle(0)
    >>> _ = system.addForce(trap)
    >>> start = [[0.0, 0.0, 0.0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/trap.h5"
    ...     result = run(system, start, None, path, duration=1.0, interval=0.1, progress=False)
    >>> result.frames, result.stable
    (10, True)

    Three of them:

    >>> starts = [[[0.0, 0.0, 0.0]], [[0.1, 0.0, 0.0]], [[0.0, 0.2, 0.0]]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/traps.h5"
    ...     result = run(system, starts, None, path, duration=1.0, interval=0.1, progress=False)
    >>> [replica.path.name for replica in result.replicas]
    ['traps.0.h5', 'traps.1.h5', 'traps.2.h5']
    """
    steps_per_frame = _multiple(interval, time_step, "interval", "time_step")
    frames = _multiple(duration, interval, "duration", "interval")
    equilibration_steps = _multiple(equilibration, time_step, "equilibration", "time_step", least=0)
    if temperature <= 0 or friction <= 0:
        raise ValueError(f"temperature and friction must be positive, not {temperature:g} K and {friction:g} 1/ps")
    if ensemble not in ("NVT", "NVE", "overdamped"):
        raise ValueError(f"ensemble must be 'NVT', 'NVE' or 'overdamped', not {ensemble!r}")
    start = np.asarray(positions, dtype=np.float64)
    replicas = len(start) if start.ndim == 3 else None
    if replicas is None:
        check_positions(system, start)
    else:
        for replica in range(replicas):
            with _naming(replica):
                check_positions(system, start[replica])
    check_box(system, box)
    beads = bead_types(system, types, type_names)
    settings = {
        "system": system_fingerprint(system),
        "interval": float(interval),
        "equilibration": float(equilibration),
        "time_step": float(time_step),
        "ensemble": ensemble,
        "temperature": float(temperature),
        "friction": None if ensemble == "NVE" else float(friction),
        "seed": int(seed),
    }
    whole, single = system, None
    if replicas is not None:
        settings["replicas"] = replicas
        whole = replicate_system(system, replicas)
    trajectories = trajectory_paths(path, replicas)
    simulation = ResumableRun(path, settings, trajectories=trajectories, resume=resume)
    if simulation.complete(frames):
        return read_result(path)

    def integrator() -> openmm.Integrator:
        if ensemble == "NVE":
            return openmm.VerletIntegrator(time_step)
        langevin = openmm.LangevinMiddleIntegrator if ensemble == "NVT" else openmm.BrownianIntegrator
        thermostat = langevin(temperature, friction, time_step)
        thermostat.setRandomNumberSeed(simulation.random_seed(seed))
        return thermostat

    if replicas is not None:
        single = empty_context(system, integrator(), box, platform, threads)
        for replica in range(replicas):
            with _naming(replica):
                place(single, start[replica])
    context = create_context(whole, integrator(), start.reshape(-1, 3), box, platform, threads)
    if not simulation.begun:
        if ensemble != "overdamped":
            context.setVelocitiesToTemperature(temperature, simulation.random_seed(seed))
        simulation.begin(
            context,
            temperature=temperature,
            equilibration_steps=equilibration_steps,
            single=single,
            progress=progress,
        )
    content = {
        "names": [beads.type_names[bead_type] for bead_type in beads.types],
        "types": beads.types,
        "type_names": beads.type_names,
        "masses": [system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())],
        "temperature": temperature,
        "forces": False,
        "periodic": system.usesPeriodicBoundaryConditions(),
    }
    with ExitStack() as stack:
        writers = [stack.enter_context(FrameWriter(file, **content, resume=True)) for file in trajectories]
        simulation.advance(
            context,
            *writers,
            frames=frames,
            steps_per_frame=steps_per_frame,
            temperature=temperature,
            single=single,
            progress=progress,
        )
    return read_result(path)


@contextmanager
def _naming(replica: int) -> Iterator[None]:
    """Let errors say which replica they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"replica {replica}: {error}") from None


def _multiple(whole: float, part: float, whole_name: str, part_name: str, least: int = 1) -> int:
    """How many times `part` goes into `whole`, which must be a whole number of times."""
    if part > 0:
        count = round(whole / part)
        # Decimal fractions of a picosecond are not exact in binary.
        if count >= least and abs(count * part - whole) <= 1e-6 * part:
            return count
    raise ValueError(
        f"{whole_name}, {whole:g} ps, must be a whole number of times, {least} or more, {part_name}, {part:g} ps"
    )
