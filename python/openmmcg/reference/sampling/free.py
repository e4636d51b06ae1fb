"""Sampling positions and forces at constant temperature."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openmm
from numpy.typing import ArrayLike
from openmm import unit

from openmmcg.frames import FrameWriter
from openmmcg.simulation.context import create_context, default_box
from openmmcg.simulation.resumable import ResumableRun, read_checkpoint, system_fingerprint


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
    platform: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SamplingResult:
    """Sample a System by Langevin dynamics and write positions and forces.

    Forces are those of the potential energy, without those that hold constraints: force maps deal with them.
    Molecules are written whole, not wrapped into the box. The run may be interrupted at any moment:
    called again with the same arguments it goes on where it was, on any platform. A finished run returns
    at once; with more `frames` it becomes longer. Energies and temperatures stand in a CSV file beside
    the frames.

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
        Before any step: arguments that make no sense, a topology of another number of atoms, or a run at
        `path` that was begun with other arguments.
    FileExistsError
        `path` exists and is not of such a run. Nothing is overwritten.
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
    if frames < 1 or not (temperature > 0 and friction > 0):
        raise ValueError(
            f"frames, temperature and friction must be positive, got {frames}, {temperature} K and {friction} 1/ps"
        )
    steps_per_frame = _steps(interval, time_step, "interval", least=1)
    equilibration_steps = _steps(equilibration, time_step, "equilibration", least=0)
    path = Path(path)
    settings = {
        "system": system_fingerprint(system),
        "interval": float(interval),
        "equilibration": float(equilibration),
        "temperature": float(temperature),
        "time_step": float(time_step),
        "friction": float(friction),
        "seed": int(seed),
    }
    simulation = ResumableRun(path, settings)
    if not simulation.complete(frames):
        random_seed = simulation.random_seed(seed)
        integrator = openmm.LangevinMiddleIntegrator(temperature, friction, time_step)
        integrator.setRandomNumberSeed(random_seed)
        context = create_context(system, integrator, positions, default_box(system), platform, threads)
        if not simulation.begun:
            context.setVelocitiesToTemperature(temperature, random_seed)
            simulation.begin(
                context, temperature=temperature, equilibration_steps=equilibration_steps, progress=progress
            )
        with _writer(path, system, topology, temperature) as writer:
            simulation.advance(
                context,
                writer,
                frames=frames,
                steps_per_frame=steps_per_frame,
                temperature=temperature,
                forces=True,
                progress=progress,
                description="sampling",
            )
    checkpoint = read_checkpoint(path)
    return SamplingResult(path, checkpoint.frames, checkpoint.milliseconds_per_step)


def _writer(path: Path, system: openmm.System, topology: Any, temperature: float) -> FrameWriter:
    atoms = list(topology.atoms())
    # What has no element, a virtual site for instance, is a type of its own name.
    kinds = [atom.name if atom.element is None else atom.element.symbol for atom in atoms]
    type_names = list(dict.fromkeys(kinds))
    number_of_type = {name: number for number, name in enumerate(type_names)}
    return FrameWriter(
        path,
        names=[atom.name for atom in atoms],
        types=[number_of_type[kind] for kind in kinds],
        type_names=type_names,
        masses=[system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())],
        bonds=[(first.index, second.index) for first, second in topology.bonds()],
        temperature=temperature,
        periodic=system.usesPeriodicBoundaryConditions(),
        resume=True,
    )


def _steps(duration: float, time_step: float, name: str, least: int) -> int:
    steps = round(duration / time_step) if time_step > 0 else -1
    # Decimal fractions of a picosecond are not exact in binary.
    if steps < least or abs(steps * time_step - duration) > 1e-6 * time_step:
        raise ValueError(
            f"{name}, {duration} ps, must be a whole number, {least} or more, of time steps of {time_step} ps"
        )
    return steps
