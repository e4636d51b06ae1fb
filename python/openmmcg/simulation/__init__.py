"""Running a coarse-grained System: minimisation, molecular dynamics, resuming."""

from openmmcg.simulation.minimise import minimise
from openmmcg.simulation.result import RunResult, read_result
from openmmcg.simulation.resumable import UnstableSimulationError, read_log
from openmmcg.simulation.run import run

__all__ = [
    "RunResult",
    "UnstableSimulationError",
    "minimise",
    "read_log",
    "read_result",
    "run",
]
