"""What came of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.analysis.statistics import series_average
from openmmcg.simulation.resumable import Checkpoint, read_checkpoint, read_log, trajectory_paths

# Of time steps in ps: nanoseconds per step times milliseconds per day.
_NANOSECONDS_PER_DAY = 1e-3 * 86400e3


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run, which need not be finished.

    Attributes
    ----------
    path : Path
        The frames; with replicas, the path given to `run`, beside which theirs are.
    frames : int
        Number of frames, of each replica that was not dropped.
    milliseconds_per_step : float
        Wall-clock time of an integration step, without writing files.
    nanoseconds_per_day : float
        Simulated time per day at that speed, of all replicas together.
    mean_temperature, temperature_error : float
        Over all frames and replicas, K, and its standard error by block averaging. Of overdamped dynamics, which has
        no velocities, the temperature of displacements: above the thermostat's by what the time step is too long.
    stable : bool
        False when energy, temperature or positions left all bounds, so that the run was stopped, or a replica dropped:
        then this is False for the replica and for the whole.
    failure : str or None
        Why it is not stable, and where.
    replicas : tuple of RunResult
        What came of each replica, with its own frames and temperature; empty where there are none. Its energies are
        in its log, `read_log(replica.path)`.
    """

    path: Path
    frames: int
    milliseconds_per_step: float
    nanoseconds_per_day: float
    mean_temperature: float
    temperature_error: float
    stable: bool
    failure: str | None = None
    replicas: tuple[RunResult, ...] = ()


def read_result(path: str | Path) -> RunResult:
    """The result of the run whose frames are in `path`, from the files beside them.

    Raises
    ------
    FileNotFoundError
        When there is no run at `path`.
    """
    checkpoint = read_checkpoint(path)
    number = checkpoint.inputs["replicas"]
    # An interruption may have left a log a line longer than another.
    files = trajectory_paths(path, number)
    counts = [checkpoint.frames_of(replica) for replica in range(len(files))]
    temperatures = [read_log(file)["temperature_K"][:count] for file, count in zip(files, counts, strict=True)]
    if number is None:
        return _result(checkpoint, files[0], counts[0], temperatures[0], checkpoint.failure, 1)
    replicas = [
        _result(checkpoint, file, count, temperature, checkpoint.reasons.get(replica, checkpoint.failure), 1)
        for replica, (file, count, temperature) in enumerate(zip(files, counts, temperatures, strict=True))
    ]
    reasons = [f"replica {replica}: {reason}" for replica, reason in checkpoint.reasons.items()]
    failures = [checkpoint.failure] if checkpoint.failure else []
    simulated = sum(counts) / max(checkpoint.frames, 1)  # replicas at a time, on average
    failure = "; ".join(reasons + failures) or None
    whole = _result(checkpoint, Path(path), checkpoint.frames, _means(temperatures), failure, simulated)
    return replace(whole, replicas=tuple(replicas))


def _means(series: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean at each time over those series that are that long."""
    together = np.full((len(series), max(map(len, series))), np.nan)
    for row, values in zip(together, series, strict=True):
        row[: len(values)] = values
    return np.asarray(np.nanmean(together, axis=0))


def _result(
    checkpoint: Checkpoint,
    path: Path,
    frames: int,
    temperature: NDArray[np.float64],
    failure: str | None,
    replicas: float,
) -> RunResult:
    mean, error = series_average(temperature) if len(temperature) else (float("nan"), float("nan"))
    milliseconds = checkpoint.milliseconds_per_step
    return RunResult(
        path=path,
        frames=frames,
        milliseconds_per_step=milliseconds,
        nanoseconds_per_day=replicas * _NANOSECONDS_PER_DAY * checkpoint.inputs["time_step"] / milliseconds,
        mean_temperature=mean,
        temperature_error=error,
        stable=failure is None,
        failure=failure,
    )
