"""The loop that integrates, writes frames and checkpoints, resumes, and does without what becomes unstable."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import openmm

from openmmcg.frames import FrameWriter
from openmmcg.progress import tqdm
from openmmcg.simulation.resumable.checkpoint import (
    Checkpoint,
    Dropped,
    checkpoint_path,
    read_checkpoint,
    write_checkpoint,
)
from openmmcg.simulation.resumable.contexts import Contexts, Outcome
from openmmcg.simulation.resumable.plan import Plan
from openmmcg.simulation.resumable.record import UnstableSimulationError
from openmmcg.simulation.resumable.trajectories import Trajectories
from openmmcg.state import describe_system, lock

OnUnstable = Literal["stop", "drop"]


class ResumableRun:
    """A simulation that writes frames, may be interrupted at any moment, and goes on where it was.

    All that is known of it lies in the checkpoint, and every beginning is one from a checkpoint: after an interruption,
    and also where a replica is dropped, so that both come to the same.

    Parameters
    ----------
    path : path
        Where the frames go, or of replicas beside which they go, and the checkpoint.
    plan : Plan
    platform, threads
        See `openmmcg.simulation.context.create_context`; they may change from one part of a run to the next.
    resume : bool
        Whether to go on with the run at `path` when there is one.
    on_unstable : "stop" or "drop"
        See `openmmcg.simulation.run`.
    progress : bool
    description : str
        Stands beside the progress bar.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Plan,
        *,
        platform: str | openmm.Platform | None = None,
        threads: int | None = None,
        resume: bool = True,
        on_unstable: OnUnstable = "stop",
        progress: bool = True,
        description: str = "simulation",
    ):
        if on_unstable not in ("stop", "drop"):
            raise ValueError(f"on_unstable must be 'stop' or 'drop', not {on_unstable!r}")
        self.path = Path(path)
        self._plan = plan
        self._platform, self._threads = platform, threads
        self._resume = resume
        self._drops = on_unstable == "drop"
        self._progress, self._description = progress, description
        self._trajectories = Trajectories(self.path, plan.replicas)
        # As they will be read back.
        self._inputs: dict[str, Any] = json.loads(json.dumps(plan.inputs()))
        self._system: dict[str, Any] = json.loads(json.dumps(describe_system(plan.system)))

    def advance(self, frames: int) -> Checkpoint:
        """Integrate until there are `frames` frames, from where the run stands.

        Raises
        ------
        FileExistsError
            When `path` or a file beside it exists that is not of a run to be resumed; nothing is overwritten.
        FileNotFoundError
            When the folder of `path` does not exist, or the frames of a checkpoint are gone.
        ValueError
            When the run at `path` was begun with other inputs, when its files do not belong together, or when the
            start is not one that can be integrated from.
        BlockingIOError
            When another process works on this run.
        OSError
            When the disk is full or fails. What was complete is kept, and the same call goes on from there.
        UnstableSimulationError
            When positions or energies of a replica, or with ``"drop"`` of all of them, are not finite, or their
            temperature far beyond that of the plan (ten times, and thirty standard deviations of its natural
            fluctuations). The frames before are kept.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder {self.path.parent} does not exist; create it first")
        checkpoint = self._found()
        if checkpoint is not None and checkpoint.frames >= frames and self._trajectories.check(checkpoint):
            return checkpoint
        with lock(self.path.with_suffix(".lock"), f"the run {self.path.name}"):
            # Whoever had the lock may have gone on in the meantime.
            checkpoint = self._found()
            if checkpoint is None:
                checkpoint, contexts = self._begin()
            else:
                self._trajectories.check(checkpoint)
                contexts = self._resumed(checkpoint)
            with self._trajectories.opened(self._plan) as writers:
                self._trajectories.catch_up(writers, contexts, checkpoint)
                while True:
                    checkpoint = self._integrate(contexts, checkpoint, frames, writers)
                    if checkpoint.frames >= frames:
                        return checkpoint
                    contexts = self._resumed(checkpoint)

    def _found(self) -> Checkpoint | None:
        """The checkpoint to go on from, if there is one."""
        if not (self._resume and checkpoint_path(self.path).exists()):
            self._trajectories.check_absence()
            return None
        checkpoint = read_checkpoint(self.path)
        checkpoint.check(self._inputs, self._system, self.path)
        return checkpoint

    def _begin(self) -> tuple[Checkpoint, Contexts]:
        contexts = Contexts(self._plan, self._plan.groups, self._platform, self._threads, [self._plan.seed, 0, 0])
        contexts.start()
        checkpoint = Checkpoint(inputs=self._inputs, system=self._system, groups=contexts.groups())
        write_checkpoint(self.path, checkpoint)
        return checkpoint, contexts

    def _resumed(self, checkpoint: Checkpoint) -> Contexts:
        """Contexts at a checkpoint, of the replicas that were not dropped."""
        groups = [[replica for replica in group if replica not in checkpoint.reasons] for group in self._plan.groups]
        # Other noise after every resumption, or it would repeat itself.
        seed = [self._plan.seed, checkpoint.equilibrated, checkpoint.frames]
        contexts = Contexts(self._plan, list(filter(None, groups)), self._platform, self._threads, seed)
        contexts.load(checkpoint.groups)
        return contexts

    def _integrate(
        self, contexts: Contexts, checkpoint: Checkpoint, frames: int, writers: Mapping[int, FrameWriter]
    ) -> Checkpoint:
        """Go on to the last frame, or to where a replica has to be dropped; what has been reached is the checkpoint."""
        plan = self._plan
        with self._bar(plan.equilibration_steps, checkpoint.equilibrated, "equilibration", "step") as bar:
            while checkpoint.equilibrated < plan.equilibration_steps:
                steps = min(plan.steps_per_frame, plan.equilibration_steps - checkpoint.equilibrated)
                outcome = self._advance(contexts, steps, checkpoint)
                if outcome.problems:
                    return self._without(checkpoint, outcome.problems)
                equilibrated = checkpoint.equilibrated + steps
                if equilibrated == plan.equilibration_steps:
                    contexts.set_time_to_zero()
                checkpoint = replace(checkpoint, groups=contexts.groups(), equilibrated=equilibrated, failure=None)
                write_checkpoint(self.path, checkpoint)
                bar.update(steps)
        with self._bar(frames, checkpoint.frames, self._description, "frame") as bar:
            while checkpoint.frames < frames:
                started = perf_counter()
                outcome = self._advance(contexts, plan.steps_per_frame, checkpoint)
                if outcome.problems:
                    return self._without(checkpoint, outcome.problems)
                seconds = perf_counter() - started
                checkpoint = replace(
                    checkpoint,
                    groups=contexts.groups(),
                    frames=checkpoint.frames + 1,
                    steps=checkpoint.steps + plan.steps_per_frame,
                    seconds=checkpoint.seconds + seconds,
                    failure=None,
                )
                write_checkpoint(self.path, checkpoint)
                self._trajectories.append(writers, outcome.records)
                bar.set_postfix_str(self._postfix(outcome, seconds))
                bar.update()
        return checkpoint

    def _advance(self, contexts: Contexts, steps: int, checkpoint: Checkpoint) -> Outcome:
        try:
            return contexts.advance(steps)
        except UnstableSimulationError as error:
            raise self._failure(checkpoint, str(error)) from error

    def _without(self, checkpoint: Checkpoint, problems: Mapping[int, str]) -> Checkpoint:
        """The checkpoint with some replicas dropped, where that is wanted and others are left."""
        replica, problem = next(iter(problems.items()))
        left = self._plan.number - len(checkpoint.dropped) - len(problems)
        if not self._drops or left == 0:
            raise self._failure(
                checkpoint, problem if self._plan.replicas is None else f"in replica {replica}, {problem}"
            )
        where = self._where(checkpoint)
        dropped = [Dropped(each, checkpoint.frames, f"{reason}, {where}") for each, reason in problems.items()]
        checkpoint = replace(checkpoint, dropped=[*checkpoint.dropped, *dropped], failure=None)
        write_checkpoint(self.path, checkpoint)
        for each in dropped:
            warnings.warn(
                f"replica {each.replica} of {self.path.name} became unstable ({each.reason}) and is dropped; its "
                f"{each.frames} frames are kept, and the other {left} go on",
                stacklevel=5,
            )
        return checkpoint

    def _failure(self, checkpoint: Checkpoint, reason: str) -> UnstableSimulationError:
        message = (
            f"the simulation became unstable {self._where(checkpoint)}: {reason}. The {checkpoint.frames} frames "
            f"before it are kept beside {checkpoint_path(self.path)}. Start from minimised positions, take a smaller "
            "time step, or train the potential on more data"
        )
        write_checkpoint(self.path, replace(checkpoint, failure=message))
        return UnstableSimulationError(message)

    def _where(self, checkpoint: Checkpoint) -> str:
        if checkpoint.equilibrated < self._plan.equilibration_steps:
            return "in the equilibration"
        return f"on the way to frame {checkpoint.frames}"

    def _postfix(self, outcome: Outcome, seconds: float) -> str:
        temperatures = [record.temperature for record in outcome.records.values()]
        milliseconds = 1000 * seconds / self._plan.steps_per_frame
        text = f"{sum(temperatures) / len(temperatures):.0f} K, {milliseconds:.3g} ms/step"
        missing = self._plan.number - len(temperatures)
        return f"{text}, {missing} of {self._plan.number} replicas dropped" if missing else text

    def _bar(self, total: int, done: int, description: str, unit: str) -> tqdm:
        silent = not self._progress or done >= total
        return tqdm(total=total, initial=done, desc=description, unit=unit, disable=silent)
