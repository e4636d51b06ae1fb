"""Simulations that may be stopped at any moment and go on where they were.

Beside the frames, `water.h5`, lie `water.csv`, one line of energies and temperature per frame, and
`water.checkpoint.json`, which holds the state of the last frame (OpenMM's portable XML, so that a run may
move to another machine or platform), a description of all that the run depends on, and the time it took.

The checkpoint is written first, by renaming a complete file over the old one, and then the frame and the line
are appended. So whatever the moment of an interruption, the checkpoint holds all that is needed to complete
the other two files, and no frame is lost, doubled or out of step.

Replicas that are integrated together have frames and a log each, `water.0.h5` and `water.0.csv` and so on, and one
checkpoint.
"""

from openmmcg.simulation.resumable.checkpoint import Checkpoint, checkpoint_path, read_checkpoint
from openmmcg.simulation.resumable.log import log_path, read_log
from openmmcg.simulation.resumable.plan import Plan
from openmmcg.simulation.resumable.record import UnstableSimulationError, degrees_of_freedom
from openmmcg.simulation.resumable.run import OnUnstable, ResumableRun
from openmmcg.simulation.resumable.trajectories import trajectory_paths

__all__ = [
    "Checkpoint",
    "OnUnstable",
    "Plan",
    "ResumableRun",
    "UnstableSimulationError",
    "checkpoint_path",
    "degrees_of_freedom",
    "log_path",
    "read_checkpoint",
    "read_log",
    "trajectory_paths",
]
