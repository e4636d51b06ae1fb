"""A reporter for OpenMM simulations driven by an ensemble of potentials."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from openmm import app, unit

from openmmcg.potentials.ensemble import Ensemble, spread_of


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
        Whether to go on with a file.

    Raises
    ------
    ValueError
        The interval is not positive, or the ensemble has no limit of the spread.

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
        path = Path(file).expanduser()
        if not append:
            path.unlink(missing_ok=True)
        self._path = path

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, Any]:  # noqa: N802
        """When OpenMM shall call `report` next; it needs nothing of the state, the forces are asked for by group."""
        return {"steps": self.interval - simulation.currentStep % self.interval, "include": []}

    def report(self, simulation: app.Simulation, state: Any) -> None:
        """Called by OpenMM."""
        spreads = spread_of(self.ensemble.forces(simulation.context)).reshape(self.replicas, -1)
        outside = self.ensemble.is_outside(spreads)
        self.outside += int(outside.sum())
        time = f"{state.getTime().value_in_unit(unit.picosecond):.6g}"
        with open(self._path, "a", newline="") as file:
            writer = csv.writer(file)
            if not file.tell():
                beads = (f"bead {bead} (kJ/mol/nm)" for bead in range(spreads.shape[1]))
                writer.writerow(["step", "time (ps)", "replica", "outside", *beads])
            for replica, (flag, values) in enumerate(zip(outside, spreads, strict=True)):
                row = [f"{value:.6g}" for value in values]
                writer.writerow([simulation.currentStep, time, replica, int(flag), *row])
