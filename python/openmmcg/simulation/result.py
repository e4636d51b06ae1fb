"""What came of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openmmcg.analysis.statistics import series_average
from openmmcg.resumable import read_checkpoint, read_log

# Of time steps in ps: nanoseconds per step times milliseconds per day.
_NANOSECONDS_PER_DAY = 1e-3 * 86400e3


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run, which need not be finished.

    Attributes
    ----------
    path : Path
        The frames.
    frames : int
        Number of frames.
    milliseconds_per_step : float
        Wall-clock time of an integration step, without writing files.
    nanoseconds_per_day : float
        Simulated time per day at that speed.
    mean_temperature, temperature_error : float
        Over all frames, K, and its standard error by block averaging.
    stable : bool
        False when the run was stopped because energy, temperature or positions left all bounds.
    """

    path: Path
    frames: int
    milliseconds_per_step: float
    nanoseconds_per_day: float
    mean_temperature: float
    temperature_error: float
    stable: bool


def read_result(path: str | Path) -> RunResult:
    """The result of the run whose frames are in `path`, from the files beside them.

    Raises
    ------
    FileNotFoundError
        When there is no run at `path`.
    """
    checkpoint = read_checkpoint(path)
    temperature = read_log(path)["temperature_K"]
    mean, error = series_average(temperature) if len(temperature) else (float("nan"), float("nan"))
    milliseconds = checkpoint.milliseconds_per_step
    return RunResult(
        path=Path(path),
        frames=checkpoint.frames,
        milliseconds_per_step=milliseconds,
        nanoseconds_per_day=_NANOSECONDS_PER_DAY * checkpoint.settings["time_step"] / milliseconds,
        mean_temperature=mean,
        temperature_error=error,
        stable=checkpoint.failure is None,
    )
