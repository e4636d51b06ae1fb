"""The frames and logs of a run, and whether they are those of its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.frames import Frames, FrameWriter
from openmmcg.simulation.resumable.checkpoint import Checkpoint, checkpoint_path
from openmmcg.simulation.resumable.contexts import Contexts, checkpoint_positions
from openmmcg.simulation.resumable.log import append_to_log, log_lines, log_path, replace_log
from openmmcg.simulation.resumable.plan import Plan
from openmmcg.simulation.resumable.record import Record


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


class Trajectories:
    """Where the frames and logs of all replicas are.

    Parameters
    ----------
    path : path
        Of the run.
    replicas : int or None
    """

    def __init__(self, path: Path, replicas: int | None):
        self.path = path
        self.files = trajectory_paths(path, replicas)

    def check_absence(self) -> None:
        """Refuse to begin a run where there are files already.

        Raises
        ------
        FileExistsError
        """
        for file in (*self.files, *map(log_path, self.files), checkpoint_path(self.path)):
            if file.exists():
                raise FileExistsError(
                    f"{file} exists and is not of a run to be resumed; choose another path or move it away"
                )

    def check(self, checkpoint: Checkpoint) -> bool:
        """Whether they hold all frames of a checkpoint; the last one may be missing, of which it knows all.

        Raises
        ------
        FileNotFoundError, ValueError, OSError
            Frames are gone, damaged, or of another run.
        """
        complete = True
        places = checkpoint_positions(checkpoint)
        for replica, file in enumerate(self.files):
            expected = checkpoint.frames_of(replica)
            # Of the first frame, the interruption may have come before the file was made.
            if expected > 1 and not file.exists():
                raise FileNotFoundError(
                    f"{file} is missing although it has a checkpoint; bring it back, or {self._begin_anew()}"
                )
            frames, last = _last_frame(file)
            lines = len(log_lines(file))
            at_least = expected if replica in checkpoint.reasons else max(expected - 1, 0)
            for each, count in ((file, frames), (log_path(file), lines)):
                if not at_least <= count <= expected:
                    raise ValueError(
                        f"{each} holds {count} frames, its checkpoint {expected}; they do not belong together. Bring "
                        f"back the right files, or {self._begin_anew()}"
                    )
            whole = frames == lines == expected
            if whole and replica not in checkpoint.reasons and not _are_same(last, places[replica]):
                raise ValueError(
                    f"the last frame of {file} is not that of its checkpoint; they do not belong together. Bring back "
                    f"the right files, or {self._begin_anew()}"
                )
            complete &= whole
        return complete

    @contextmanager
    def opened(self, plan: Plan) -> Iterator[dict[int, FrameWriter]]:
        """Writers that continue the frames of each replica."""
        with ExitStack() as stack:
            yield {
                replica: stack.enter_context(FrameWriter(file, **plan.particles(), resume=True))
                for replica, file in enumerate(self.files)
            }

    def catch_up(self, writers: Mapping[int, FrameWriter], contexts: Contexts, checkpoint: Checkpoint) -> None:
        """Complete what an interruption after the checkpoint was written left undone, from Contexts that are at it."""
        active = {replica: writer for replica, writer in writers.items() if replica not in checkpoint.reasons}
        lines = {replica: log_lines(self.files[replica]) for replica in active}
        if all(len(writer) == len(lines[replica]) == checkpoint.frames for replica, writer in active.items()):
            return
        for replica, record in contexts.look().records.items():
            if len(active[replica]) < checkpoint.frames:
                active[replica].append(record.positions, record.box, record.time, record.forces)
            if len(lines[replica]) < checkpoint.frames:
                # Written as a whole, because the interruption may have left half a line.
                replace_log(self.files[replica], lines[replica], record)

    def append(self, writers: Mapping[int, FrameWriter], records: Mapping[int, Record]) -> None:
        """Add a frame of each replica."""
        for replica, record in records.items():
            writers[replica].append(record.positions, record.box, record.time, record.forces)
            append_to_log(self.files[replica], record)

    def _begin_anew(self) -> str:
        return f"delete {checkpoint_path(self.path)} and the frames and logs of this run to begin anew"


def _last_frame(file: Path) -> tuple[int, NDArray[np.float64] | None]:
    """Number of frames, and positions [N, 3] of the last; that can be read, so the file is whole."""
    if not file.exists():
        return 0, None
    with Frames(file) as frames:
        return len(frames), frames.positions[len(frames) - 1] if len(frames) else None


def _are_same(frame: NDArray[np.float64] | None, places: NDArray[np.float64]) -> bool:
    """Whether a frame is of these positions, to the digits of single precision; no frame says nothing."""
    return frame is None or (frame.shape == places.shape and np.allclose(frame, places, rtol=1e-5, atol=1e-4))
