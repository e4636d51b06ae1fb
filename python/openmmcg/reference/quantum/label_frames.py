"""Labelling frames with energies of frontier orbitals, on one machine or many."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg import __version__
from openmmcg.frames import Frames
from openmmcg.geometry.molecules import Molecules, WholeFrames
from openmmcg.optional import optional_imports
from openmmcg.progress import tqdm
from openmmcg.reference.quantum.engines import (
    ENGINES,
    OrbitalEnergies,
    atomic_numbers,
    count_unpaired_electrons,
    find_engine,
)
from openmmcg.reference.quantum.labels import LabelFile, Labels, read_complete
from openmmcg.state import describe

if TYPE_CHECKING:
    from distributed import Client

# More threads than one per process make small matrices up to a hundred times slower.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def label_frames(
    frames: Any,
    path: str | os.PathLike[str],
    *,
    engine: str = "gfn2-xtb",
    elements: Sequence[str] | None = None,
    charge: int = 0,
    unpaired_electrons: int | None = None,
    processes: int | None = None,
    client: Client | str | None = None,
    progress: bool = True,
) -> Labels:
    """Compute HOMO and LUMO of every frame of one molecule in the gas phase.

    Every frame gets a record in an HDF5 file: its energies, or NaN and the message of the engine where it fails. The
    call may be interrupted at any moment and goes on when it is repeated with the same arguments.

    Each process computes one frame at a time with one thread. The processes belong to a Dask cluster, on this machine
    by default. The program that calls this must guard its top level by ``if __name__ == "__main__":``.

    Parameters
    ----------
    frames
        The path of an H5MD file or the `openmmcg.frames.Frames` of one whose types are named by elements, as `sample`
        writes it; an `mdtraj.Trajectory`; or an array ``[frames, atoms, 3]``, nm, of whole molecules. What faces of
        the periodic boxes of the others cut is made whole along their bonds.
    path
        The file of labels.
    engine
        ``"gfn2-xtb"`` or ``"wb97x-d3/def2-svp"``, see `orbital_energies`.
    elements
        ``[atoms]``, chemical symbols; needed where `frames` does not know them.
    charge
        Of the molecule, e.
    unpaired_electrons
        By default 0 with an even number of electrons, 1 with an odd number. The energies are of α orbitals: the HOMO of
        a radical is its SOMO.
    processes
        On this machine; all cores by default.
    client
        A `distributed.Client` or the address of a scheduler, instead; its workers have one thread each and
        ``OMP_NUM_THREADS=1`` in their environment, which is Dask's default.
    progress
        Show a progress bar.

    Returns
    -------
    Labels

    Raises
    ------
    ValueError
        Before any work: frames of wrong shape, or atoms that no bonds join over half a periodic box; unknown elements
        or engine, impossible numbers of electrons, or labels at `path` that were begun with other frames or settings.
    BlockingIOError
        Another process computes the labels at `path`.
    OSError
        The disk is full or fails. Labels that are done are kept, and the same call goes on.
    ImportError
        The engine's package is not installed.

    Examples
    --------
    Two geometries of water in a program of its own::

        if __name__ == "__main__":
            labels = label_frames(positions, "water_labels.h5", elements=["O", "H", "H"])
            print(labels["homo"], labels["gap"], labels.failures)
    """
    if isinstance(frames, (str, os.PathLike)):
        with Frames(frames) as opened:
            return label_frames(
                opened,
                path,
                engine=engine,
                elements=elements,
                charge=charge,
                unpaired_electrons=unpaired_electrons,
                processes=processes,
                client=client,
                progress=progress,
            )
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    positions, numbers = _read_frames(frames, elements)
    chosen = find_engine(engine)
    unpaired = count_unpaired_electrons(numbers, charge, unpaired_electrons)
    settings = {
        "engine": engine,
        "atomic_numbers": numbers.tolist(),
        "charge": charge,
        "unpaired_electrons": unpaired,
        "frames": len(positions),
        "positions": describe(positions),
    }
    provenance = {
        "openmm-cg": __version__,
        chosen.package: version(chosen.package),
        "spin": "α orbitals; the HOMO of a radical is its singly occupied orbital",
    }
    path = Path(path)
    done = read_complete(path, settings)
    if done is not None:
        return done
    with (
        LabelFile(path, len(positions), settings, provenance) as file,
        _connected(client, processes) as workers,
        tqdm(
            total=len(positions),
            initial=len(positions) - len(file.waiting),
            desc=engine,
            unit="frame",
            disable=not progress,
        ) as bar,
    ):
        begun, now = (each.get(chosen.package) for each in (file.provenance, provenance))
        if begun != now:
            warnings.warn(
                f"{path} was begun with {chosen.package} {begun}; the labels that wait are computed with {now}, which "
                "its provenance does not say. Take the same version, or another path, where the two may differ",
                stacklevel=2,
            )
        size = chosen.frames_per_task
        chunks = [file.waiting[first : first + size] for first in range(0, len(file.waiting), size)]
        failed = 0
        for frame, result in _compute(workers, chunks, positions, (engine, numbers, charge, unpaired)):
            if isinstance(result, OrbitalEnergies):
                file.write(frame, homo=result.homo, lumo=result.lumo)
            else:
                file.write(frame, failure=result)
                failed += 1
                bar.set_postfix_str(f"{failed} failed")
            bar.update()
    return Labels.read(path)


def compute_chunk(
    engine: str, numbers: NDArray[np.int64], charge: int, unpaired: int, positions: NDArray[np.float64]
) -> list[OrbitalEnergies | str]:
    """What a worker does: energies, or the message of what went wrong, for positions [frames, atoms, 3], nm."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise RuntimeError("start the Dask workers with OMP_NUM_THREADS=1: more threads make each frame far slower")
    results: list[OrbitalEnergies | str] = []
    for frame in positions:
        try:
            results.append(ENGINES[engine].compute(numbers, frame, charge, unpaired))
        except ImportError:
            raise
        except Exception as error:  # whatever a program of quantum chemistry says of a geometry
            results.append(f"{type(error).__name__}: {error}")
    return results


def _compute(
    workers: Client, chunks: list[NDArray[np.int64]], positions: Any, arguments: tuple[Any, ...]
) -> Iterator[tuple[int, OrbitalEnergies | str]]:
    """Frames and what came of them, in the order in which they are done."""
    with optional_imports():
        from distributed import KilledWorker, as_completed

    queue = chunks[::-1]
    chunk_of = {}

    def submit() -> Any:
        chunk = queue.pop()
        place = np.array([positions[int(frame)] for frame in chunk], dtype=np.float64)
        future = workers.submit(compute_chunk, *arguments, place, pure=False)
        chunk_of[future.key] = chunk
        return future

    # One for each worker, so that a process that is killed takes nobody else's frames along.
    in_flight = max(1, len(workers.nthreads()))
    running = as_completed([submit() for _ in range(min(in_flight, len(queue)))])
    for future in running:
        chunk = chunk_of.pop(future.key)
        error = future.exception()
        if error is None:
            yield from zip(map(int, chunk), future.result(), strict=True)
        elif not isinstance(error, KilledWorker):
            raise error
        elif len(chunk) > 1:
            # One of them ended the process; on its own it will be known.
            queue.extend(chunk[:, None])
        else:
            yield int(chunk[0]), "the process was killed while it computed this frame"
        future.release()
        while queue and running.count() < in_flight:
            running.add(submit())


@contextmanager
def _connected(client: Client | str | None, processes: int | None) -> Iterator[Client]:
    with optional_imports():
        import dask
        from distributed import Client, LocalCluster

    if isinstance(client, Client):
        yield _single_threaded(client)
    elif client is not None:
        with Client(client) as connection:
            yield _single_threaded(connection)
    else:
        with (
            dask.config.set(
                {"distributed.nanny.pre-spawn-environ": _ONE_THREAD, "distributed.scheduler.allowed-failures": 1}
            ),
            LocalCluster(
                n_workers=processes or os.cpu_count(), threads_per_worker=1, memory_limit=0, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as connection,
        ):
            yield connection


def _single_threaded(client: Client) -> Client:
    threads = client.nthreads()
    if any(count > 1 for count in threads.values()):
        raise ValueError("the Dask workers have several threads; start them with --nthreads 1 and as many as cores")
    return client


def _read_frames(frames: Any, elements: Sequence[str] | None) -> tuple[Any, NDArray[np.int64]]:
    """Positions that can be indexed, [frames, atoms, 3], nm, and atomic numbers [atoms]."""
    if isinstance(frames, Frames):
        positions: Any = _whole(frames.positions, frames.boxes, frames.bonds)
        known = [frames.type_names[kind] for kind in frames.types]
    elif hasattr(frames, "xyz") and hasattr(frames, "topology"):
        bonds = [(first.index, second.index) for first, second in frames.topology.bonds]
        positions = _whole(frames.xyz, frames.unitcell_vectors, bonds)
        known = [str(atom.element and atom.element.symbol) for atom in frames.topology.atoms]
    else:
        positions, known = np.asarray(frames), None
    chosen = known if elements is None else list(elements)
    if chosen is None:
        raise ValueError("frames given as an array need elements, the chemical symbol of each atom")
    if len(positions.shape) != 3 or positions.shape[1:] != (len(chosen), 3) or len(positions) == 0:
        raise ValueError(
            f"positions have the shape {list(positions.shape)}, elements are of {len(chosen)} atoms; "
            f"give positions of shape [frames, {len(chosen)}, 3]"
        )
    return positions, atomic_numbers(chosen)


def _whole(positions: Any, boxes: NDArray[np.float64] | None, bonds: ArrayLike) -> WholeFrames:
    atoms = positions.shape[1]
    return WholeFrames(positions, boxes, Molecules(atoms, bonds, {"the atoms": np.arange(atoms)}))
