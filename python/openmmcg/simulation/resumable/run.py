"""The loop that integrates, writes frames and checkpoints, and resumes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg.progress import tqdm
from openmmcg.simulation.resumable.checkpoint import Checkpoint, checkpoint_path, read_checkpoint, write_checkpoint
from openmmcg.simulation.resumable.log import append_to_log, log_lines, log_path, replace_log
from openmmcg.simulation.resumable.record import Record, Recorder, UnstableSimulationError


class FrameSink(Protocol):
    """What frames are appended to, see `openmmcg.frames.FrameWriter`."""

    def __len__(self) -> int: ...

    def append(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        time: float,
        forces: NDArray[np.float64] | None = None,
    ) -> None: ...


def system_fingerprint(system: openmm.System) -> str:
    """A short text that differs between Systems that differ in anything, a potential's weights included."""
    # The version of OpenMM that writes the XML says nothing about the System.
    xml = re.sub(r'openmmVersion="[^"]*"', "", openmm.XmlSerializer.serialize(system))
    return hashlib.sha256(xml.encode()).hexdigest()[:16]


class ResumableRun:
    """A simulation that writes frames and can be resumed.

    Parameters
    ----------
    path : path
        Where the frames go, and beside it the checkpoint.
    settings : mapping
        Everything that makes this run what it is, except its length: plain numbers and texts. A run is
        resumed only with equal settings.
    trajectories : sequence of path, optional
        Where the frames of each replica go, instead of `path`.
    resume : bool
        Whether to go on with the run at `path` when there is one.

    Raises
    ------
    FileExistsError
        When `path` or a file beside it exists that is not of a run to be resumed; nothing is overwritten.
    FileNotFoundError
        When the folder of `path` does not exist, or the frames of a checkpoint are gone.
    ValueError
        When the run at `path` was begun with other settings.

    Examples
    --------
    With `writer` an `openmmcg.frames.FrameWriter` on `path`::

        run = ResumableRun(path, {"temperature": 300.0, "seed": 1})
        if not run.complete(frames=100):
            context = openmm.Context(system, integrator)
            if not run.begun:
                context.setPositions(positions)
                run.begin(context, temperature=300.0)
            run.advance(context, writer, frames=100, steps_per_frame=500, temperature=300.0)
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        trajectories: Sequence[Path] | None = None,
        resume: bool = True,
    ):
        self.path = Path(path)
        self._trajectories = [self.path] if trajectories is None else list(trajectories)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder {self.path.parent} does not exist; create it first")
        # As they will be read back.
        self._settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self._checkpoint: Checkpoint | None = None
        if resume and checkpoint_path(self.path).exists():
            self._checkpoint = read_checkpoint(self.path)
            self._check_resumption(self._checkpoint)
        else:
            logs = [log_path(trajectory) for trajectory in self._trajectories]
            for file in filter(Path.exists, [*self._trajectories, *logs, checkpoint_path(self.path)]):
                raise FileExistsError(
                    f"{file} exists and is not of a run to be resumed; choose another path or move it away"
                )

    @property
    def begun(self) -> bool:
        """Whether there is a state to go on from."""
        return self._checkpoint is not None

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return 0 if self._checkpoint is None else self._checkpoint.frames

    def complete(self, frames: int) -> bool:
        """Whether `frames` frames have been made and written."""
        # A line of the log is written after its frame, so the frames are there too.
        return self.frames >= frames and all(
            trajectory.exists() and len(log_lines(trajectory)) >= frames for trajectory in self._trajectories
        )

    def random_seed(self, seed: int) -> int:
        """A seed for the integrator, another at every resumption, which else would repeat the same noise."""
        words = np.random.SeedSequence([seed, self.frames]).generate_state(1)
        # OpenMM takes positive 32-bit integers; 0 would mean a random one.
        return int(words[0] % (2**31 - 1)) + 1

    def begin(
        self,
        context: openmm.Context,
        *,
        temperature: float,
        equilibration_steps: int = 0,
        single: openmm.Context | None = None,
        progress: bool = True,
    ) -> None:
        """Take the state of `context`, after some steps of equilibration, as the start, at time 0.

        From then on the run can be resumed.

        Parameters
        ----------
        context : openmm.Context
            With positions, velocities and box.
        temperature, single
            See `advance`.

        Raises
        ------
        UnstableSimulationError
            As `advance`.
        """
        recorder = Recorder(context, temperature, False, single)
        silent = not progress or equilibration_steps == 0
        with tqdm(total=equilibration_steps, desc="equilibration", unit="step", disable=silent) as bar:
            for done in range(0, equilibration_steps, 100):
                steps = min(100, equilibration_steps - done)
                recorder.advance(steps)
                bar.update(steps)
        context.setTime(0.0)
        context.setStepCount(0)
        self._save(Checkpoint(settings=self._settings, state=openmm.XmlSerializer.serialize(recorder.state())))

    def advance(
        self,
        context: openmm.Context,
        *writers: FrameSink,
        frames: int,
        steps_per_frame: int,
        temperature: float,
        single: openmm.Context | None = None,
        forces: bool = False,
        progress: bool = True,
        description: str = "simulation",
    ) -> None:
        """Integrate until there are `frames` frames, from where the run stands.

        Parameters
        ----------
        context : openmm.Context
            Its state is replaced by that of the checkpoint.
        *writers : FrameSink
            A frame is appended every `steps_per_frame` steps; the start is not a frame. Positions are not
            wrapped into the box. One for each replica, in the order of the trajectories.
        temperature : float
            K, at which the simulation is supposed to be.
        single : openmm.Context, optional
            A Context of one replica, where `context` holds several; its state is replaced at every frame.
        forces : bool
            Whether forces are written with the frames.
        description : str
            Stands beside the progress bar.

        Raises
        ------
        UnstableSimulationError
            When positions or energies are not finite, or when the temperature is far beyond `temperature`
            (ten times, and thirty standard deviations of its natural fluctuations). The frames before are
            kept.
        ValueError
            When the run was not begun, or when writers or logs do not hold the frames of the checkpoint.
        """
        if self._checkpoint is None:
            raise ValueError("the run was not begun; call begin(context) first")
        context.setState(openmm.XmlSerializer.deserialize(self._checkpoint.state))
        recorder = Recorder(context, temperature, forces, single)
        for path, writer, record in zip(self._trajectories, writers, recorder.records(), strict=True):
            self._catch_up(path, writer, record)
        with tqdm(total=frames, initial=self.frames, desc=description, unit="frame", disable=not progress) as bar:
            while self.frames < frames:
                started = perf_counter()
                try:
                    records = recorder.advance(steps_per_frame)
                except UnstableSimulationError as error:
                    raise self._failure(str(error)) from error
                seconds = perf_counter() - started
                self._save(
                    Checkpoint(
                        settings=self._settings,
                        state=openmm.XmlSerializer.serialize(recorder.state()),
                        frames=self.frames + 1,
                        steps=self._checkpoint.steps + steps_per_frame,
                        seconds=self._checkpoint.seconds + seconds,
                    )
                )
                for path, writer, record in zip(self._trajectories, writers, records, strict=True):
                    writer.append(record.positions, record.box, record.time, record.forces)
                    append_to_log(path, record)
                mean_temperature = sum(record.temperature for record in records) / len(records)
                milliseconds = 1000 * seconds / steps_per_frame
                bar.set_postfix_str(f"{mean_temperature:.0f} K, {milliseconds:.3g} ms/step")
                bar.update()

    def _check_resumption(self, checkpoint: Checkpoint) -> None:
        begun_with = checkpoint.settings
        different = [
            f"{name} was {begun_with.get(name)!r}, now {self._settings.get(name)!r}"
            for name in sorted(begun_with.keys() | self._settings.keys())
            if begun_with.get(name) != self._settings.get(name)
        ]
        if different:
            raise ValueError(
                f"the run at {self.path} was begun with other settings ({'; '.join(different)}); go on with "
                f"those, choose another path, or {self._begin_anew()}"
            )
        # Of the first frame, the interruption may have come before the file was made.
        missing = [trajectory for trajectory in self._trajectories if not trajectory.exists()]
        if checkpoint.frames > 1 and missing:
            raise FileNotFoundError(
                f"{missing[0]} is missing although it has a checkpoint; bring it back, or {self._begin_anew()}"
            )

    def _begin_anew(self) -> str:
        return f"delete {checkpoint_path(self.path)} and the frames and logs of this run to begin anew"

    def _catch_up(self, path: Path, writer: FrameSink, last: Record) -> None:
        """Complete what an interruption after the checkpoint was written left undone."""
        lines = log_lines(path)
        for file, count in ((path, len(writer)), (log_path(path), len(lines))):
            if not max(self.frames - 1, 0) <= count <= self.frames:
                raise ValueError(
                    f"{file} holds {count} frames, its checkpoint {self.frames}; they do not belong "
                    f"together. Bring back the right files, or {self._begin_anew()}"
                )
        if len(writer) < self.frames:
            writer.append(last.positions, last.box, last.time, last.forces)
        if len(lines) < self.frames:
            # Written as a whole, because the interruption may have left half a line.
            replace_log(path, lines, last)

    def _failure(self, reason: str) -> UnstableSimulationError:
        assert self._checkpoint is not None
        message = (
            f"the simulation became unstable on the way to frame {self.frames}: {reason}. The {self.frames} "
            f"frames before it are kept beside {checkpoint_path(self.path)}. Start from minimised positions, take a "
            "smaller time step, or train the potential on more data"
        )
        self._save(replace(self._checkpoint, failure=message))
        return UnstableSimulationError(message)

    def _save(self, checkpoint: Checkpoint) -> None:
        write_checkpoint(self.path, checkpoint)
        self._checkpoint = checkpoint
