"""What came of a run."""

from __future__ import annotations

from collections.abc import Mapping
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
    mean_density, density_error : float or None
        Over all frames and replicas, g/cm³, and its standard error, where the box changes.
    mean_pressure, pressure_error : float or None
        The same of the pressure, bar, where it was asked for.
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
    mean_density: float | None = None
    density_error: float | None = None
    mean_pressure: float | None = None
    pressure_error: float | None = None
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
    logs = [
        {name: column[:count] for name, column in read_log(file).items()}
        for file, count in zip(files, counts, strict=True)
    ]
    if number is None:
        return _result(checkpoint, files[0], counts[0], logs[0], checkpoint.failure, 1)
    replicas = [
        _result(checkpoint, file, count, log, checkpoint.reasons.get(replica, checkpoint.failure), 1)
        for replica, (file, count, log) in enumerate(zip(files, counts, logs, strict=True))
    ]
    reasons = [f"replica {replica}: {reason}" for replica, reason in checkpoint.reasons.items()]
    failures = [checkpoint.failure] if checkpoint.failure else []
    simulated = sum(counts) / max(checkpoint.frames, 1)  # replicas at a time, on average
    failure = "; ".join(reasons + failures) or None
    means = {name: _means([log[name] for log in logs]) for name in logs[0]}
    whole = _result(checkpoint, Path(path), checkpoint.frames, means, failure, simulated)
    return replace(whole, replicas=tuple(replicas))


def _means(series: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean at each time over those series that are that long."""
    together = np.full((len(series), max(map(len, series))), np.nan)
    for row, values in zip(together, series, strict=True):
        row[: len(values)] = values
    # Overdamped dynamics has no kinetic energy at any time.
    return np.asarray(np.nanmean(together, axis=0)) if np.isfinite(together).any() else together[0]


def _average(log: Mapping[str, NDArray[np.float64]], column: str) -> tuple[float, float] | tuple[None, None]:
    return series_average(log[column]) if column in log and len(log[column]) else (None, None)


def _result(
    checkpoint: Checkpoint,
    path: Path,
    frames: int,
    log: Mapping[str, NDArray[np.float64]],
    failure: str | None,
    replicas: float,
) -> RunResult:
    temperatures = log["temperature_K"]
    temperature = series_average(temperatures) if len(temperatures) else (float("nan"), float("nan"))
    density, pressure = _average(log, "density_g_cm3"), _average(log, "pressure_bar")
    milliseconds = checkpoint.milliseconds_per_step
    return RunResult(
        path=path,
        frames=frames,
        milliseconds_per_step=milliseconds,
        nanoseconds_per_day=replicas * _NANOSECONDS_PER_DAY * checkpoint.inputs["time_step"] / milliseconds,
        mean_temperature=temperature[0],
        temperature_error=temperature[1],
        stable=failure is None,
        failure=failure,
        mean_density=density[0],
        density_error=density[1],
        mean_pressure=pressure[0],
        pressure_error=pressure[1],
    )
