"""Sampling positions and forces at constant temperature."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike

from openmmcg.simulation.context import default_box
from openmmcg.simulation.dynamics import Dynamics, whole_number
from openmmcg.simulation.resumable import Plan, ResumableRun


@dataclass(frozen=True)
class SamplingResult:
    """What came of sampling.

    Attributes
    ----------
    path : Path
        The frames.
    frames : int
        Their number.
    milliseconds_per_step : float
        Wall-clock time of an integration step, over all parts of an interrupted run, without writing files.
    """

    path: Path
    frames: int
    milliseconds_per_step: float


def sample(
    system: openmm.System,
    topology: Any,
    positions: ArrayLike,
    path: str | os.PathLike[str],
    *,
    frames: int,
    interval: float,
    equilibration: float = 0.0,
    temperature: float = 300.0,
    time_step: float = 0.002,
    friction: float = 1.0,
    minimisation: float | None = None,
    pressures: bool = False,
    platform: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SamplingResult:
    """Sample a System by Langevin dynamics and write positions and forces.

    Forces are those of the potential energy, without those that hold constraints: force maps deal with them.
    Molecules are written whole, not wrapped into the box. The run may be interrupted at any moment:
    called again with the same arguments it goes on where it was, on any platform. A finished run returns
    at once; with more `frames` it becomes longer. Where anything else has changed, System, topology and positions
    included, the call is refused and says what it is. Energies and temperatures stand in a CSV file beside the frames.

    Parameters
    ----------
    system, positions
        ``[atoms, 3]``, nm, in the System's default box.
    topology
        `openmm.app.Topology`: the atoms' names and elements.
    path
        The H5MD file to write.
    frames
        How many.
    interval
        ps from frame to frame, a whole number of time steps. The first frame comes one interval after
        equilibration, at which time is zero.
    equilibration
        ps before, of which nothing is written.
    temperature
        K.
    time_step
        ps.
    friction
        1/ps, of the LangevinMiddleIntegrator (Zhang et al., J. Phys. Chem. A 123, 6056 (2019)).
    minimisation
        Minimise the positions first, to this root mean square force, kJ/mol/nm.
    pressures
        Whether the log has the pressure of each frame, bar, see `openmmcg.simulation.pressure.pressures`.
    platform
        Name of the platform; by default CUDA or HIP where there is one, else CPU.
    threads
        Of the CPU platform, all cores by default.
    seed
        Of velocities and thermostat.
    progress
        Show progress bars.

    Raises
    ------
    ValueError
        Before any step: arguments that make no sense, a topology of another number of atoms, atoms that coincide, or a
        run at `path` that was begun with other arguments.
    FileExistsError
        `path` exists and is not of such a run. Nothing is overwritten.
    BlockingIOError
        Another process works on the run at `path`.
    OSError
        The disk is full, or the files of the run are damaged. What is complete is kept, and the same call goes on.
    openmmcg.simulation.resumable.UnstableSimulationError
        Positions, energy or temperature left all bounds. The frames before are kept.

    Examples
    --------
    >>> import tempfile
    >>> from openmmcg.reference import water_box
    >>> topology, system, start = water_box("spce", molecules=64)
    >>> path = tempfile.mkdtemp() + "/water.h5md"
    >>> result = sample(system, topology, start, path, frames=2, interval=0.01, progress=False)
    >>> result.frames
    2
    """
    if topology.getNumAtoms() != system.getNumParticles():
        raise ValueError(f"the topology has {topology.getNumAtoms()} atoms, the System {system.getNumParticles()}")
    if frames < 1:
        raise ValueError(f"frames must be positive, not {frames}")
    atoms = list(topology.atoms())
    # What has no element, a virtual site for instance, is a type of its own name.
    kinds = [atom.name if atom.element is None else atom.element.symbol for atom in atoms]
    type_names = list(dict.fromkeys(kinds))
    number_of_type = {name: number for number, name in enumerate(type_names)}
    plan = Plan(
        system=system,
        names=[atom.name for atom in atoms],
        types=[number_of_type[kind] for kind in kinds],
        type_names=type_names,
        bonds=sorted((min(pair), max(pair)) for pair in ((a.index, b.index) for a, b in topology.bonds())),
        positions=np.asarray(positions, dtype=np.float64),
        box=default_box(system),
        dynamics=Dynamics("NVT", temperature, friction, time_step),
        steps_per_frame=whole_number(interval, time_step, "interval", "time_step"),
        equilibration_steps=whole_number(equilibration, time_step, "equilibration", "time_step", least=0),
        seed=seed,
        forces=True,
        minimisation=minimisation,
        pressures=pressures,
    )
    simulation = ResumableRun(path, plan, platform=platform, threads=threads, progress=progress, description="sampling")
    checkpoint = simulation.advance(frames)
    return SamplingResult(Path(path), checkpoint.frames, checkpoint.milliseconds_per_step)
