"""Molecular dynamics of a coarse-grained System, written to H5MD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import ArrayLike

from openmmcg.simulation.beads import bead_types
from openmmcg.simulation.dynamics import Dynamics, Ensemble, Thermostat, whole_number
from openmmcg.simulation.landscape import warn_of_time_step
from openmmcg.simulation.result import RunResult, read_result
from openmmcg.simulation.resumable import OnUnstable, Plan, ResumableRun


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
    ensemble: Ensemble = "NVT",
    temperature: float = 300.0,
    friction: float = 1.0,
    thermostat: Thermostat = "Langevin",
    pressure: float | None = None,
    pressures: bool = False,
    seed: int = 0,
    types: Sequence[int] | None = None,
    type_names: Sequence[str] | None = None,
    minimisation: float | None = None,
    on_unstable: OnUnstable = "stop",
    platform: str | openmm.Platform = "CPU",
    threads: int | None = None,
    resume: bool = True,
    progress: bool = True,
) -> RunResult:
    """Simulate a System, from given positions and with velocities drawn at the temperature (where it has velocities).

    Frames go to `path` (H5MD, positions not wrapped into the box), energies and temperatures to a CSV file
    beside it. The run may be stopped at any moment; called again with the same arguments, it goes on where it
    was, on whatever platform. A finished run returns at once; a longer `duration` makes it longer. Where anything else
    has changed, be it a parameter of a force, the starting positions or the box, the call is refused and says what it
    is; only `platform`, `threads`, `on_unstable` and `progress` may be others than before.

    From positions of several replicas, as many copies of the System, which do not see each other, are integrated
    together in one Context, with velocities of their own. For small systems that is much faster than one after the
    other. Each has its frames and its log: for the path ``cg.h5md``, ``cg.0.h5md`` and ``cg.0.csv`` and so on.

    A Context has one box. Replicas of the same box share one, those of another box have another, and all are stepped
    one Context after the other: with as many boxes as replicas, as after sampling at constant pressure, a step takes as
    long as that many runs of one replica, and so much memory.

    Parameters
    ----------
    system : openmm.System
        For example from `CGPotential.create_system`. Also where there are replicas it is that of one copy, and must
        hold nothing that would couple them, such as a CMMotionRemover, see
        `openmmcg.simulation.replicas.replicate_system`.
    positions : array [N, 3] or [replicas, N, 3]
        Where to start, nm; see `minimisation` where beads may overlap. Frames of a trajectory make replicas:
        ``Frames("start.h5md").positions[::10]``.
    box : array [3, 3] or [replicas, 3, 3], or None
        Box vectors as rows in OpenMM's reduced form, nm; None for a System that is not periodic. One box is that of all
        replicas; where the frames that they start from differ in it, give each its own:
        ``Frames("start.h5md").boxes[::10]``.
    path : path
        The frames.
    duration : float
        ps, from the first frame's predecessor to the last frame; a whole number of intervals.
    interval : float
        ps per frame; a whole number of time steps.
    equilibration : float
        ps before, which leave no frames.
    time_step : float
        ps; a warning says where it is too long for a landscape of high frequency, see
        `openmmcg.simulation.landscape.longest_time_step`.
    ensemble : "NVT", "NPT", "NVE" or "overdamped"
        With the Langevin thermostat of OpenMM's LangevinMiddleIntegrator (Zhang et al., J. Phys. Chem. A 123,
        6056 (2019)), whose positions are distributed as those of BAOAB; with that and a MonteCarloBarostat, a box of
        its own for each replica, and the density in the log; with its VerletIntegrator, at constant energy;
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
        with it. Of a Nosé-Hoover chain it is the frequency with which it takes part.
    thermostat : "Langevin" or "Nose-Hoover"
        Of NVT and NPT: friction and noise on every bead, which slow diffusion, or a chain of Nosé and Hoover for each
        replica (Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992); OpenMM's NoseHooverIntegrator), which
        hardly does and is meant for liquids. It takes no account of the seed after the start.
    pressure : float, optional
        bar, of NPT, without which it cannot be. Molecules that bonded forces hold together move as a whole.
    pressures : bool
        Whether the log has the pressure of each frame, see `openmmcg.simulation.pressure.pressures`; it costs four
        more energies per frame.
    seed : int
        Of velocities, thermostat and barostat.
    types : sequence [N] of int, optional
        Bead types, indices into `type_names`; by default those of the System's CGForce, else all 0.
    type_names : sequence of str, optional
        By default those of the System's CGForce, else "bead".
    minimisation : float, optional
        Minimise the positions first, to this root mean square force, kJ/mol/nm; 10 is usual. Otherwise than with
        `minimise` before the call, the run depends on the positions as given, which are the same on every machine.
    on_unstable : "stop" or "drop"
        What to do when energy, temperature or positions of a replica leave all bounds: stop with an error, or go on
        without it, from the last frame. Its frames up to there are kept, and its `RunResult` says why it is not stable.
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
        Before any step: for positions that are not finite or not one per particle, beads that coincide, a box that
        does not fit the System, an energy that is not finite, times that are not multiples of each other, a System that
        cannot have replicas, or when the run at `path` was begun with other arguments or another System, or its
        files are not those of its checkpoint.
    FileExistsError
        When `path` exists and is not of a run to be resumed; nothing is overwritten.
    BlockingIOError
        When another process works on the run at `path`.
    OSError
        When the disk is full, or files are damaged; the error names the file. What is complete is kept, and the same
        call goes on from there.
    UnstableSimulationError
        When energy, temperature or positions leave all bounds, with ``on_unstable="drop"`` in all replicas. The frames
        before are kept, and `read_result(path)` gives the result up to there.

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
    dynamics = Dynamics(ensemble, temperature, friction, time_step, thermostat, pressure)
    beads = bead_types(system, types, type_names)
    plan = Plan(
        system=system,
        names=[beads.type_names[bead_type] for bead_type in beads.types],
        types=beads.types,
        type_names=beads.type_names,
        bonds=[],
        positions=np.asarray(positions, dtype=np.float64),
        box=None if box is None else np.asarray(box, dtype=np.float64),
        dynamics=dynamics,
        steps_per_frame=whole_number(interval, time_step, "interval", "time_step"),
        equilibration_steps=whole_number(equilibration, time_step, "equilibration", "time_step", least=0),
        seed=seed,
        forces=False,
        minimisation=minimisation,
        pressures=pressures,
    )
    warn_of_time_step(system, plan.start(0), plan.box_of(0), time_step)
    simulation = ResumableRun(
        path,
        plan,
        platform=platform,
        threads=threads,
        resume=resume,
        on_unstable=on_unstable,
        progress=progress,
    )
    simulation.advance(whole_number(duration, interval, "duration", "interval"))
    return read_result(path)
