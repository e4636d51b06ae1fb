"""A reporter for OpenMM simulations driven by an ensemble of potentials."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from openmm import app, unit

from openmmcg.potentials.ensemble import Ensemble, spread_of
from openmmcg.state import append, reading, write_text


class EnsembleReporter:
    """Writes how much the potentials of an ensemble disagree about the force on each bead, to a CSV file.

    It flags frames outside the training domain: ``outside`` is 1 where the spread of a bead exceeds the ensemble's
    limit. A row is of one replica, counted from 0. Between reports it costs nothing.

    Parameters
    ----------
    file
        To write; an existing one is replaced, unless `append`.
    interval : int
        Steps between reports.
    ensemble : Ensemble
        With a limit of the spread. The Simulation's System is from its `create_system`.
    replicas : int
        How many the System has.
    append : bool
        Whether to go on with a file there is, as after a checkpoint was loaded. Its reports at and after the step of
        the first new one are dropped, since the simulation makes them again.

    Raises
    ------
    ValueError
        The interval is not positive, the ensemble has no limit of the spread, or the file to go on with is of other
        beads.
    FileNotFoundError
        The folder does not exist.
    OSError
        While running: a report could not be written, for want of space for example; those before are kept.

    Examples
    --------
    ::

        simulation.reporters.append(EnsembleReporter("spread.csv", 1000, ensemble))
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        interval: int,
        ensemble: Ensemble,
        *,
        replicas: int = 1,
        append: bool = False,
    ) -> None:
        if interval < 1 or replicas < 1:
            raise ValueError(f"interval and replicas must be at least 1, got {interval} and {replicas}")
        ensemble.is_outside([0.0])  # the error about a missing limit comes before the simulation
        self.interval, self.ensemble, self.replicas = interval, ensemble, replicas
        self.outside = 0  # rows flagged so far
        self.path = Path(file).expanduser()
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"the folder {self.path.parent} does not exist; create it first")
        if not append:
            self.path.unlink(missing_ok=True)
        self._continues = self.path.exists()

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, Any]:  # noqa: N802
        """When OpenMM shall call `report` next; it needs nothing of the state, the forces are asked for by group."""
        return {"steps": self.interval - simulation.currentStep % self.interval, "include": []}

    def report(self, simulation: app.Simulation, state: Any) -> None:
        """Called by OpenMM."""
        spreads = spread_of(self.ensemble.forces(simulation.context)).reshape(self.replicas, -1)
        outside = self.ensemble.is_outside(spreads)
        self.outside += int(outside.sum())
        time = f"{state.getTime().value_in_unit(unit.picosecond):.6g}"
        beads = (f"bead {bead} (kJ/mol/nm)" for bead in range(spreads.shape[1]))
        header = ",".join(["step", "time (ps)", "replica", "outside", *beads])
        if self._continues:
            _drop_from(self.path, simulation.currentStep, header, self.replicas)
            self._continues = False
        lines = []
        for replica, (flag, values) in enumerate(zip(outside, spreads, strict=True)):
            row = [f"{value:.6g}" for value in values]
            lines.append(",".join([str(simulation.currentStep), time, str(replica), str(int(flag)), *row]))
        append(self.path, "\n".join(lines) + "\n", f"the report of step {simulation.currentStep}", header + "\n")


def _drop_from(path: Path, step: int, header: str, replicas: int) -> None:
    """Drop reports from a step on, which the simulation makes again, and what an interruption cut off."""
    with reading(path, "a file of an EnsembleReporter"):
        text = path.read_text(encoding="utf-8")
        first, *lines = text[: text.rfind("\n") + 1].splitlines() or [header]
        steps = [int(line.split(",", 1)[0]) for line in lines]
    if first != header:
        raise ValueError(f"{path} is of another ensemble or other beads; choose another file, or append=False")
    count = Counter(steps)
    kept = [line for line, there in zip(lines, steps, strict=True) if there < step and count[there] == replicas]
    write_text(path, "\n".join([header, *kept]) + "\n")
