"""What came of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.analysis.statistics import series_average
from openmmcg.simulation.resumable import Checkpoint, read_checkpoint, read_log

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
        Number of frames, of each replica.
    milliseconds_per_step : float
        Wall-clock time of an integration step, without writing files.
    nanoseconds_per_day : float
        Simulated time per day at that speed, of all replicas together.
    mean_temperature, temperature_error : float
        Over all frames and replicas, K, and its standard error by block averaging. Of overdamped dynamics, which has
        no velocities, the temperature of displacements: above the thermostat's by what the time step is too long.
    stable : bool
        False when the run was stopped because energy, temperature or positions left all bounds.
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
    replicas: tuple[RunResult, ...] = ()


def trajectory_paths(path: str | Path, replicas: int | None) -> list[Path]:
    """Where the frames of a run go: to its path, or of each replica to one with a number before the suffix.

    Examples
    --------
    >>> [path.name for path in trajectory_paths("cg.h5md", 2)]
    ['cg.0.h5md', 'cg.1.h5md']
    """
    path = Path(path)
    if replicas is None:
        return [path]
    return [path.with_suffix(f".{replica}{path.suffix or '.h5md'}") for replica in range(replicas)]


def read_result(path: str | Path) -> RunResult:
    """The result of the run whose frames are in `path`, from the files beside them.

    Raises
    ------
    FileNotFoundError
        When there is no run at `path`.
    """
    checkpoint = read_checkpoint(path)
    number = checkpoint.settings.get("replicas")
    temperatures = {file: read_log(file)["temperature_K"] for file in trajectory_paths(path, number)}
    # An interruption may have left a log a line longer than another.
    frames = min(map(len, temperatures.values()))
    mean_of_replicas = np.mean([temperature[:frames] for temperature in temperatures.values()], axis=0)
    replicas = [_result(checkpoint, file, temperature, 1) for file, temperature in temperatures.items()]
    if number is None:
        return replicas[0]
    return replace(_result(checkpoint, Path(path), mean_of_replicas, number), replicas=tuple(replicas))


def _result(checkpoint: Checkpoint, path: Path, temperature: NDArray[np.float64], replicas: int) -> RunResult:
    mean, error = series_average(temperature) if len(temperature) else (float("nan"), float("nan"))
    milliseconds = checkpoint.milliseconds_per_step
    return RunResult(
        path=path,
        frames=checkpoint.frames,
        milliseconds_per_step=milliseconds,
        nanoseconds_per_day=replicas * _NANOSECONDS_PER_DAY * checkpoint.settings["time_step"] / milliseconds,
        mean_temperature=mean,
        temperature_error=error,
        stable=checkpoint.failure is None,
    )
