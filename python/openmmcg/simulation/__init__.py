"""Running a coarse-grained System: minimisation, molecular dynamics, resuming."""

from openmmcg.minimise import minimise
from openmmcg.resumable import UnstableSimulationError, read_log
from openmmcg.simulation.reporters import EnsembleReporter
from openmmcg.simulation.result import RunResult, read_result
from openmmcg.simulation.run import run

__all__ = [
    "EnsembleReporter",
    "RunResult",
    "UnstableSimulationError",
    "minimise",
    "read_log",
    "read_result",
    "run",
]
