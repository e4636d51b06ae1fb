"""What a run depends on, all in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from openmmcg.simulation.context import check_box, check_positions
from openmmcg.simulation.dynamics import Dynamics
from openmmcg.simulation.pressure import has_barostat
from openmmcg.simulation.replicas import replicate_system
from openmmcg.state import describe


@dataclass(frozen=True)
class Plan:
    """A simulation before its first step: everything its frames depend on, except how many there are to be.

    Attributes
    ----------
    system : openmm.System
        Of one replica.
    names, types, type_names, bonds
        What the frames are said to be of, see `openmmcg.frames.FrameWriter`.
    positions : array [N, 3] or [replicas, N, 3]
        Where it starts, nm.
    box : array [3, 3], [replicas, 3, 3] or None
        nm; one of all replicas, or of each its own.
    dynamics : Dynamics
    steps_per_frame, equilibration_steps : int
    seed : int
        Of velocities and thermostat.
    forces : bool
        Whether frames come with forces.
    minimisation : float, optional
        Root mean square force, kJ/mol/nm, to which the positions are minimised before the first step.
    pressures : bool
        Whether the log has the pressure of each frame.

    Raises
    ------
    ValueError
        Positions, boxes and System do not fit each other, or the System cannot have replicas.
    """

    system: openmm.System
    names: Sequence[str]
    types: Sequence[int]
    type_names: Sequence[str]
    bonds: Sequence[tuple[int, int]]
    positions: NDArray[np.float64]
    box: NDArray[np.float64] | None
    dynamics: Dynamics
    steps_per_frame: int
    equilibration_steps: int
    seed: int
    forces: bool
    minimisation: float | None = None
    pressures: bool = False

    def __post_init__(self) -> None:
        if (self.dynamics.pressure is not None or self.pressures) and not self.periodic:
            raise ValueError("a pressure needs a periodic System; give its forces periodic boundary conditions")
        if self.dynamics.pressure is not None and has_barostat(self.system):
            raise ValueError("the System has a barostat of its own; take it out, or choose the ensemble 'NVT'")
        if self.minimisation is not None and not self.minimisation > 0:
            raise ValueError(f"minimisation must be a positive force, not {self.minimisation} kJ/mol/nm")
        for replica in range(self.number):
            with self.naming(replica):
                check_positions(self.system, self.start(replica))
        if self.replicas is not None:
            replicate_system(self.system, min(self.replicas, 2))  # whether it can be; that takes no more
        if self.box is None or self.box.ndim != 3:
            check_box(self.system, self.box)
            return
        if self.replicas != len(self.box):
            there_are = "one of the system" if self.replicas is None else f"{self.replicas} replicas"
            raise ValueError(f"there are {len(self.box)} boxes, but {there_are}; give one box, or one for each replica")
        for replica in range(self.number):
            with self.naming(replica):
                check_box(self.system, self.box[replica])

    @property
    def replicas(self) -> int | None:
        """How many there are; None where the run is not of replicas."""
        return len(self.positions) if self.positions.ndim == 3 else None

    @property
    def number(self) -> int:
        """How many trajectories it makes."""
        return 1 if self.replicas is None else self.replicas

    @property
    def periodic(self) -> bool:
        return bool(self.system.usesPeriodicBoundaryConditions())

    def start(self, replica: int) -> NDArray[np.float64]:
        """Where a replica starts, [N, 3], nm."""
        return self.positions if self.replicas is None else self.positions[replica]

    def box_of(self, replica: int) -> NDArray[np.float64] | None:
        """The box [3, 3] in which a replica starts, nm."""
        return self.box if self.box is None or self.box.ndim == 2 else self.box[replica]

    @cached_property
    def groups(self) -> list[list[int]]:
        """The replicas of each box, in the order of the first of them."""
        if self.dynamics.pressure is not None:
            return [[replica] for replica in range(self.number)]  # their boxes will differ
        groups: dict[bytes, list[int]] = {}
        for replica in range(self.number):
            box = self.box_of(replica)
            # Adding zero makes zeros of one sign.
            groups.setdefault(b"" if box is None else (box + 0.0).tobytes(), []).append(replica)
        return list(groups.values())

    @contextmanager
    def naming(self, replica: int) -> Iterator[None]:
        """Let errors say which replica they are about."""
        try:
            yield
        except ValueError as error:
            if self.replicas is None:
                raise
            raise ValueError(f"replica {replica}: {error}") from None

    def inputs(self) -> dict[str, Any]:
        """All but the System in words and numbers, to be compared with those of another call."""
        time_step = self.dynamics.time_step
        return {
            **self.dynamics.settings(),
            "interval": round(self.steps_per_frame * time_step, 9),
            "equilibration": round(self.equilibration_steps * time_step, 9),
            "seed": int(self.seed),
            "minimisation": self.minimisation,
            "replicas": self.replicas,
            "positions": describe(self.positions),
            "box": describe(self.box_of(0) if self._one_box() else self.box),
            "names": describe(_short(self.names)),
            "types": describe(np.asarray(self.types, np.int64)),
            "type_names": describe(list(self.type_names)),
            "bonds": describe(np.asarray(self.bonds, np.int64).reshape(-1, 2)),
            "forces": self.forces,
            # Files of versions that knew no pressures do not name them.
            **({"pressures": True} if self.pressures else {}),
        }

    def _one_box(self) -> bool:
        return self.box is None or self.box.ndim == 2 or bool((self.box == self.box[0]).all())

    def particles(self) -> dict[str, Any]:
        """What `openmmcg.frames.FrameWriter` is to be told."""
        masses = [self.system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(len(self.names))]
        return {
            "names": self.names,
            "types": self.types,
            "type_names": self.type_names,
            "masses": masses,
            "bonds": self.bonds,
            "temperature": self.dynamics.temperature,
            "forces": self.forces,
            "periodic": self.periodic,
        }


def _short(names: Sequence[str]) -> str | Mapping[str, Any]:
    """Names of particles as one text, of which `describe` takes a digest where it is long."""
    return " ".join(map(repr, names))
