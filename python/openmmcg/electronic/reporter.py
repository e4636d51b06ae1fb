"""Predictions along trajectories: while OpenMM runs one, or of one that is stored.

Both write the same CSV file, a line for each molecule of each frame: time, molecule, mean, standard deviation, latent
position. Lines are appended whole frame after whole frame, so that a killed process leaves a file that can be read and
continued.
"""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from openmm import unit

from openmmcg.frames import Frames
from openmmcg.geometry.molecules import Molecules, WholeFrames
from openmmcg.progress import tqdm
from openmmcg.state import append, reading, spread, write_text

FloatArray = NDArray[np.float64]

_COLUMNS = ["time_ps", "molecule", "mean_eV", "standard_deviation_eV"]
_CONFIGURATIONS_AT_ONCE = 2000


class Predictor(Protocol):
    """What predicts: `openmmcg.electronic.DKLPredictor`, or anything alike."""

    def predict(self, positions: ArrayLike) -> Any:
        """An object with `mean` [n], `standard_deviation` [n] and `latent` [n, d] for positions [n, beads, 3] in nm."""

    def check_beads(self, bead_names: Sequence[str]) -> None:
        """Raise ValueError when the beads are not those of the training."""


@dataclass(frozen=True)
class PredictedTrajectory:
    """What was predicted along a trajectory.

    Attributes
    ----------
    times : array [frames], ps
    mean, standard_deviation : array [frames, molecules], eV
        As `DensityOfStates` takes them.
    latent : array [frames, molecules, dimensions]
    """

    times: FloatArray
    mean: FloatArray
    standard_deviation: FloatArray
    latent: FloatArray

    def __len__(self) -> int:
        return len(self.times)


def read_predictions(path: str | os.PathLike[str]) -> PredictedTrajectory:
    """All complete frames of a file that `ElectronicReporter` or `predict_trajectory` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is something else.
    """
    source = Path(path)
    with reading(source, "a file of predictions"):
        header, is_whole, body = source.read_text(encoding="utf-8").partition("\n")
    if not is_whole and ",".join(_columns(9)).startswith(header):  # cut off before there was a frame
        return PredictedTrajectory(np.empty(0), np.empty((0, 1)), np.empty((0, 1)), np.empty((0, 1, 0)))
    columns = header.split(",")
    latent = len(columns) - len(_COLUMNS)
    if columns != _columns(latent):
        raise ValueError(f"{source} holds no predictions: its first line is not {','.join(_COLUMNS)},latent_1,...")
    # What follows the last line break was cut off by an interruption.
    complete = body[: body.rfind("\n") + 1]
    with reading(source, "a file of predictions"):
        table = np.loadtxt(io.StringIO(complete), delimiter=",", ndmin=2) if complete else np.empty((0, len(columns)))
        molecules = int(table[:, 1].max(initial=0)) + 1
        frames = len(table) // molecules
        values = table[: frames * molecules].reshape(frames, molecules, len(columns))
        if (values[..., 1] != np.arange(molecules)).any():
            raise ValueError("its lines are not those of one frame after the other")
    return PredictedTrajectory(values[:, 0, 0], values[..., 2], values[..., 3], values[..., 4:])


class ElectronicReporter:
    """An OpenMM reporter of electronic energies: append it to `Simulation.reporters`.

    The predictor is called for many reports together, which costs a fraction of one call for each. Reports wait in
    memory for that, up to `delay` seconds of a run; they are written at the latest when the reporter is closed, is no
    longer used, or Python exits, by an error or not. Call `flush` to have all of them in the file.

    Parameters
    ----------
    file : path
        The CSV file, see `read_predictions`.
    reportInterval : int
        Steps from one report to the next.
    predictor : DKLPredictor
        Or anything with `predict` and `check_beads` like its.
    beads_of_molecules : array [molecules, beads] of int, optional
        The particles that are the beads of each molecule, in the order of the map. All particles are one molecule by
        default.
    append : bool
        Go on with a file there is, as after a checkpoint was loaded. Its frames at and after the time of the first new
        report are dropped, since the simulation makes them again.
    delay : float
        Seconds that reports may wait; 0 to write each at once.

    Raises
    ------
    FileExistsError
        The file exists and `append` is not set.
    ValueError
        Before the first step: molecules that are not those the predictor was trained on, or that the System has not.
        While running: positions that are not finite, or molecules of which it cannot be told whether faces of the
        periodic box cut them (see Notes); reports before are kept.

    Notes
    -----
    In a periodic System molecules are made whole along the bonds of the Simulation's topology, as by
    `openmmcg.geometry.make_whole`. Where no bonds join the beads of a molecule, it may not extend over half the box.

    Examples
    --------
    With an `openmm.app.Simulation` of 20 molecules with 10 beads each::

        molecules = np.arange(200).reshape(20, 10)
        with ElectronicReporter("energies.csv", 1000, predictor, molecules) as reporter:
            simulation.reporters.append(reporter)
            simulation.step(1_000_000)
        predicted = read_predictions("energies.csv")
        states = DensityOfStates(predicted.mean, predicted.standard_deviation)
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        reportInterval: int,  # noqa: N803
        predictor: Predictor,
        beads_of_molecules: ArrayLike | None = None,
        *,
        append: bool = False,
        delay: float = 5.0,
    ) -> None:
        if reportInterval < 1:
            raise ValueError(f"the report interval must be at least one step, got {reportInterval}")
        self.path = Path(file)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder {self.path.parent} does not exist; create it first")
        self._interval = int(reportInterval)
        self._molecules = None if beads_of_molecules is None else _checked_molecules(beads_of_molecules)
        self._continue = append and self.path.exists()
        if self.path.exists() and not append:
            raise FileExistsError(f"{self.path} exists and is not overwritten; choose another path, or append to it")
        self._checked = False
        self._whole: Molecules | None = None
        self._queue = _Queue(self.path, predictor, delay)
        # Runs also when Python exits.
        self._finalizer = weakref.finalize(self, self._queue.write)

    def __enter__(self) -> ElectronicReporter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:  # noqa: N802
        """When the next report is due and what it needs, as OpenMM asks."""
        if not self._checked:
            self._check(simulation)
        steps = self._interval - simulation.currentStep % self._interval
        # Positions as they are, so that molecules which were whole remain so.
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Any, state: Any) -> None:
        """Take the positions of a state; called by OpenMM."""
        time = state.getTime().value_in_unit(unit.picosecond)
        everything = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        try:
            if not np.isfinite(everything[self._molecules]).all():
                raise ValueError("positions are not finite")
            if self._whole is not None:
                box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
                everything = self._whole.whole(everything, box)
        except ValueError as error:
            self.flush()
            raise ValueError(f"at {time:g} ps: {error}; the reports before are in {self.path}") from error
        positions = everything[self._molecules]
        if self._continue:
            _drop_from(self.path, time, len(positions))
            self._continue = False
        self._queue.add(time, positions)

    def flush(self) -> None:
        """Predict and write what waits."""
        self._queue.write()

    def close(self) -> None:
        """Write what waits; later reports are still taken."""
        self.flush()

    def _check(self, simulation: Any) -> None:
        names = [atom.name for atom in simulation.topology.atoms()]
        if self._molecules is None:
            self._molecules = np.arange(len(names))[None]
        check_molecules(self._queue.predictor, names, self._molecules)
        if simulation.system.usesPeriodicBoundaryConditions():
            bonds = [(first.index, second.index) for first, second in simulation.topology.bonds()]
            self._whole = Molecules(len(names), bonds, _together(self._molecules))
        self._checked = True


class _Queue:
    """Frames that wait to be predicted together."""

    def __init__(self, path: Path, predictor: Predictor, delay: float) -> None:
        self.path, self.predictor, self._delay = path, predictor, delay
        self._times: list[float] = []
        self._positions: list[FloatArray] = []
        # The first at once, so that what cannot be predicted is seen before a long run.
        self._due = -np.inf

    def add(self, time: float, positions: FloatArray) -> None:
        self._times.append(time)
        self._positions.append(np.array(positions))
        full = len(self._times) * len(positions) >= _CONFIGURATIONS_AT_ONCE
        if full or perf_counter() >= self._due:
            self.write()

    def write(self) -> None:
        if self._times:
            _append(self.path, np.array(self._times), self.predictor, np.array(self._positions))
            # Only now: what could not be written is tried again.
            self._times, self._positions = [], []
        self._due = perf_counter() + self._delay


def predict_trajectory(
    frames_path: str | os.PathLike[str],
    predictor: Predictor,
    path: str | os.PathLike[str],
    *,
    beads_of_molecules: ArrayLike | None = None,
    progress: bool = True,
) -> PredictedTrajectory:
    """Predict every frame of a stored trajectory of beads.

    May be interrupted at any moment: called again it goes on where it was, and returns at once when nothing is left.

    Parameters
    ----------
    frames_path : path
        An H5MD file of beads. In periodic boxes molecules are made whole along the bonds that it holds.
    predictor : DKLPredictor
        Or anything with `predict` and `check_beads` like its.
    path : path
        The CSV file to write.
    beads_of_molecules : array [molecules, beads] of int, optional
        As of `ElectronicReporter`.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        Beads that are not those the predictor was trained on, a file at `path` that holds something else than
        predictions of the first frames of this trajectory, or a molecule that no bonds join and that extends over half
        its periodic box, so that it cannot be told whether it is whole.
    """
    target = Path(path)
    with Frames(frames_path) as frames:
        everything = np.arange(frames.number_of_particles)[None]
        molecules = everything if beads_of_molecules is None else _checked_molecules(beads_of_molecules)
        check_molecules(predictor, frames.names, molecules)
        joined = Molecules(frames.number_of_particles, frames.bonds, _together(molecules))
        whole = WholeFrames(frames.positions, frames.boxes, joined)

        def read(chunk: slice) -> FloatArray:
            try:
                return whole[chunk][:, molecules]
            except ValueError as error:
                raise ValueError(f"{frames.path}: {error}") from error

        done = _frames_done(target, frames, predictor, len(molecules), read)
        step = max(1, _CONFIGURATIONS_AT_ONCE // len(molecules))
        with tqdm(total=len(frames), initial=done, desc="predicting", unit="frame", disable=not progress) as bar:
            for begin in range(done, len(frames), step):
                chunk = slice(begin, min(begin + step, len(frames)))
                positions = read(chunk)
                _append(target, frames.times[chunk], predictor, positions)
                bar.update(len(positions))
    return read_predictions(target)


def check_molecules(predictor: Predictor, names: Sequence[str], molecules: NDArray[np.int64]) -> None:
    """Check that particles of these names have the molecules, and that they are what the predictor knows.

    Raises
    ------
    ValueError
        They are not.
    """
    if molecules.max() >= len(names):
        raise ValueError(f"a molecule has the bead {molecules.max()}; there are particles 0 to {len(names) - 1}")
    for molecule in molecules:
        predictor.check_beads([names[bead] for bead in molecule])


def _together(molecules: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return {f"the beads of molecule {number}": beads for number, beads in enumerate(molecules)}


def _checked_molecules(beads_of_molecules: ArrayLike) -> NDArray[np.int64]:
    molecules = np.asarray(beads_of_molecules)
    if molecules.ndim != 2 or molecules.size == 0 or not np.issubdtype(molecules.dtype, np.integer):
        raise ValueError(
            f"beads of molecules must be integers of shape [molecules, beads], got {molecules.dtype} of shape "
            f"{list(molecules.shape)}"
        )
    if molecules.min() < 0:
        raise ValueError("beads of molecules must be the numbers of particles, not negative")
    twice = np.flatnonzero((np.diff(np.sort(molecules, axis=1), axis=1) == 0).any(1))
    if len(twice):
        raise ValueError(f"molecule {twice[0]} has a bead twice: {molecules[twice[0]].tolist()}")
    return molecules.astype(np.int64)


def _columns(latent: int) -> list[str]:
    return [*_COLUMNS, *(f"latent_{dimension + 1}" for dimension in range(latent))]


def _append(path: Path, times: FloatArray, predictor: Predictor, positions: FloatArray) -> None:
    """Predict positions [frames, molecules, beads, 3] and append them in one piece."""
    frames, molecules = positions.shape[:2]
    prediction = predictor.predict(positions.reshape(frames * molecules, *positions.shape[2:]))
    latent = np.asarray(prediction.latent)
    table = np.column_stack(
        [
            np.repeat(times, molecules),
            np.tile(np.arange(molecules), frames),
            prediction.mean,
            prediction.standard_deviation,
            latent,
        ]
    )
    text = io.StringIO()
    np.savetxt(text, table, delimiter=",", fmt=["%.12g", "%d", *["%.9g"] * (table.shape[1] - 2)])
    header = ",".join(_columns(latent.shape[1])) + "\n"
    append(path, text.getvalue(), f"predictions of {frames} frames", header)


def _keep(path: Path, lines: int) -> None:
    """Leave the header and some lines of a file, which is whole at any moment; nothing where no lines are left."""
    kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[: lines + 1]
    write_text(path, "".join(kept) if lines else "")


def _drop_from(path: Path, time: float, molecules: int) -> None:
    """Drop frames from `time` on, and what an interruption cut off."""
    if path.stat().st_size == 0:
        return
    written = read_predictions(path)
    if len(written) and written.mean.shape[1] != molecules:
        raise ValueError(
            f"{path} holds predictions of {written.mean.shape[1]} molecules, not of {molecules}; choose another path"
        )
    _keep(path, molecules * int(np.count_nonzero(written.times < time - 1e-9 * abs(time))))


def _frames_done(
    path: Path, frames: Frames, predictor: Predictor, molecules: int, read: Callable[[slice], FloatArray]
) -> int:
    """How far a file has come that must hold predictions of these frames, judged by times and frames all over it."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    written = read_predictions(path)
    done = len(written)
    if done:
        same = done <= len(frames) and written.mean.shape[1] == molecules
        same = same and np.allclose(written.times, frames.times[:done], rtol=1e-9)
        if same:
            chosen = spread(done)
            again = predictor.predict(np.concatenate([read(slice(index, index + 1))[0] for index in chosen]))
            same = np.allclose(written.mean[chosen].ravel(), again.mean) and np.allclose(
                written.standard_deviation[chosen].ravel(), again.standard_deviation
            )
        if not same:
            raise ValueError(
                f"{path} exists and does not hold predictions of {frames.path} by this predictor; choose another "
                "path, or delete it"
            )
    _keep(path, done * molecules)
    return done
