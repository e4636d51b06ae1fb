"""Independent runs of a molecule, started from different conformers."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg.analysis import dihedrals
from openmmcg.frames import Frames, FrameWriter
from openmmcg.progress import tqdm
from openmmcg.reference.molecules.water import AllAtomSystem
from openmmcg.reference.sampling.free import sample
from openmmcg.simulation.resumable import checkpoint_path, read_checkpoint
from openmmcg.state import claim, replacing


def turn_dihedral(molecule: AllAtomSystem, dihedral: ArrayLike, angle: float) -> NDArray[np.float64]:
    """Positions with a dihedral angle set to a value, by turning all that hangs on its last two atoms.

    Parameters
    ----------
    molecule
        With bonds in the topology.
    dihedral
        ``[4]``, indices of atoms; the middle two are bonded, and not in a ring.
    angle
        Radians, by the convention of IUPAC: 0 for cis.

    Returns
    -------
    float64 [atoms, 3], nm

    Raises
    ------
    ValueError
        Not four atoms, or a middle bond that does not exist or is part of a ring.

    Examples
    --------
    >>> from openmmcg.analysis import dihedrals
    >>> from openmmcg.reference import organic_molecule
    >>> turned = turn_dihedral(organic_molecule("CCCC"), [0, 1, 2, 3], np.radians(60))
    >>> print(np.degrees(dihedrals(turned[None], [[0, 1, 2, 3]])).round(6))
    [[60.]]
    """
    atoms = np.asarray(dihedral)
    if atoms.shape != (4,) or len(set(atoms.tolist())) < 4:
        raise ValueError(f"a dihedral is four different atoms, not {atoms.tolist()}")
    turning = _beyond(molecule, *atoms[1:3].tolist())
    positions = np.array(molecule.positions, dtype=np.float64)
    origin = positions[atoms[1]]
    axis = positions[atoms[2]] - origin
    axis /= np.linalg.norm(axis)
    turn = angle - dihedrals(positions[None], atoms[None])[0, 0]
    arms = positions[turning] - origin
    # Rodrigues' rotation formula.
    along = arms @ axis
    positions[turning] = origin + (
        arms * np.cos(turn) + np.cross(axis, arms) * np.sin(turn) + np.outer(along, axis) * (1 - np.cos(turn))
    )
    return positions


def _beyond(molecule: AllAtomSystem, fixed: int, turning: int) -> list[int]:
    """The atoms that hang on `turning` when its bond to `fixed` is cut."""
    neighbours: dict[int, set[int]] = {}
    for bond in molecule.topology.bonds():
        neighbours.setdefault(bond[0].index, set()).add(bond[1].index)
        neighbours.setdefault(bond[1].index, set()).add(bond[0].index)
    if turning not in neighbours.get(fixed, set()):
        raise ValueError(f"the middle atoms {fixed} and {turning} of the dihedral are not bonded")
    neighbours[turning].discard(fixed)
    found, ahead = {turning}, [turning]
    while ahead:
        new = neighbours[ahead.pop()] - found
        found |= new
        ahead.extend(new)
    if fixed in found:
        raise ValueError(f"the bond of atoms {fixed} and {turning} is part of a ring and cannot be turned")
    return sorted(found)


def sample_conformers(
    molecule: AllAtomSystem,
    directory: str | os.PathLike[str],
    *,
    dihedral: ArrayLike | None,
    sets: Sequence[str] = ("train", "test"),
    runs: int = 4,
    frames: int,
    interval: float = 1.0,
    equilibration: float = 50.0,
    temperature: float = 300.0,
    time_step: float = 0.001,
    friction: float = 1.0,
    platform: str = "Reference",
    processes: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, list[Path]]:
    """Sample a molecule in several independent runs for each of several sets of frames, as training and test.

    The runs start from minimised conformers whose dihedral angle is spread evenly over the circle, each with random
    numbers of its own, and forget them during equilibration. Each is a run of `sample`, one thread and one process per
    core. Interrupted, the same call goes on; with more `frames` every run becomes longer.

    Parameters
    ----------
    molecule
        As `organic_molecule` gives it, or any other System with a topology that has bonds.
    directory
        Made where it does not exist. Run k of set ``train`` is ``train.k.h5md``.
    dihedral
        ``[4]``, atoms of the slow dihedral; None for molecules that have none that can be turned, whose runs all start
        from the given positions and forget them during equilibration.
    sets
        Names of the sets.
    runs
        Per set.
    frames
        Per run.
    interval, equilibration, temperature, time_step, friction
        As for `sample`; the default time step, 1 fs, is for bonds to hydrogen without constraints.
    platform
        Of OpenMM; Reference is the fastest for some tens of atoms.
    processes
        At the same time; all cores by default. The program that calls this must guard its top level by
        ``if __name__ == "__main__":``.
    seed
        Of all runs.
    progress
        Show a progress bar over all frames.

    Returns
    -------
    dict of list of Path
        The files of each set.

    Raises
    ------
    ValueError
        As `turn_dihedral` and `sample`.
    openmmcg.simulation.resumable.UnstableSimulationError
        A run became unstable; the others keep their frames and go on when called again.
    """
    folder = Path(directory)
    count = len(sets) * runs
    if count < 1:
        raise ValueError(f"there must be at least one set and one run, got {list(sets)} and {runs}")
    # Sets alternate, so that the starts of each are spread over the circle.
    angles = 2 * np.pi * np.arange(count) / count - np.pi
    if dihedral is None:
        starts = [np.asarray(molecule.positions)] * count
    else:
        starts = [turn_dihedral(molecule, dihedral, angle) for angle in angles]
    paths = {name: [folder / f"{name}.{run}.h5md" for run in range(runs)] for name in sets}
    ordered = [paths[name][run] for run in range(runs) for name in sets]
    options: dict[str, Any] = {
        "frames": frames,
        "interval": interval,
        "equilibration": equilibration,
        "temperature": temperature,
        "time_step": time_step,
        "friction": friction,
        "minimisation": None if dihedral is None else 1.0,  # kJ/mol/nm
        "platform": platform,
        "progress": False,
    }
    # What decides which runs there are; all else the runs themselves depend on and will check.
    inputs = {"positions": molecule.positions, "dihedral": dihedral, "sets": sets, "runs": runs, "seed": seed}
    # Processes that are started afresh: OpenMM's threads do not survive a fork.
    with (
        claim(folder, "runs from conformers", inputs),
        ProcessPoolExecutor(processes or os.cpu_count(), multiprocessing.get_context("spawn")) as pool,
        tqdm(total=count * frames, desc="sampling", unit="frame", disable=not progress) as bar,
    ):
        pending = {
            pool.submit(sample, molecule.system, molecule.topology, start, path, seed=1000 * seed + number, **options)
            for number, (start, path) in enumerate(zip(starts, ordered, strict=True))
        }
        try:
            while pending:
                done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                bar.update(sum(_frames_done(path, frames) for path in ordered) - bar.n)
                for run in done:
                    run.result()
        except BaseException:
            # Runs that have begun keep their frames and go on when called again.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _frames_done(path: Path, wanted: int) -> int:
    return min(read_checkpoint(path).frames, wanted) if checkpoint_path(path).exists() else 0


def join_runs(paths: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, frames: int) -> Path:
    """Copy the first frames of several runs into one file, run after run.

    Times go on from run to run, so frame ``k * frames + i`` is frame ``i`` of run ``k``.

    Parameters
    ----------
    paths
        Runs of the same molecule, as `sample_conformers` makes them.
    path
        The file to write. It appears complete or not at all.
    frames
        Of each run.

    Raises
    ------
    ValueError
        A run has fewer frames, or is of another molecule.
    FileExistsError
        `path` exists; nothing is overwritten.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten; choose another path or move it away")
    time = 0.0
    with replacing(path) as unfinished:
        unfinished.unlink(missing_ok=True)
        for source in paths:
            with Frames(source) as run:
                if len(run) < frames:
                    raise ValueError(f"{source} has {len(run)} frames, fewer than the {frames} to be copied")
                with FrameWriter(
                    unfinished,
                    names=run.names,
                    types=run.types,
                    type_names=run.type_names,
                    masses=run.masses,
                    temperature=run.temperature,
                    forces=True,
                    periodic=False,
                    resume=True,
                ) as writer:
                    for index in range(frames):
                        writer.append(run.positions[index], None, time + float(run.times[index]), run.forces[index])
                    time += float(run.times[frames - 1])
    return path
