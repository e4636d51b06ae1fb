"""The mapped frames that a fit has to reproduce, and simulations of the same beads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from openmmcg.constants import GAS_CONSTANT
from openmmcg.fitting.beads import bead_types
from openmmcg.frames import Frames
from openmmcg.geometry.molecules import make_whole
from openmmcg.mapping.topology import cg_topology, with_bonds
from openmmcg.potentials import CGPotential
from openmmcg.simulation import RunResult, UnstableSimulationError, run
from openmmcg.simulation.dynamics import whole_number

FloatArray = NDArray[np.float64]

_SAME_BOX = 1e-4  # nm
# Of the temperature that was asked for; beads that are heated by the integrator have other distributions.
_HOTTEST = 1.2
# Replicas of a molecule; of a liquid as many as make so many beads, and 2 at least.
_REPLICAS, _BEADS = 10, 500
_WORDS = {2: "two", 4: "four"}
# Of `run`, that a fit may choose.
_SETTINGS = ("duration", "interval", "time_step", "friction", "seed", "thermostat")


def check_times(duration: float, interval: float, time_step: float, *, fewest: int = 4) -> None:
    """See that a simulation has frames enough for its noise to be known from their differences.

    Raises
    ------
    ValueError
        Times that are not positive, fewer frames, or times that are not whole numbers of each other.
    """
    if not interval > 0 or not time_step > 0 or not duration >= (fewest - 0.5) * interval:
        raise ValueError(
            f"interval and time step must be positive, and the duration {_WORDS[fewest]} intervals or more, since "
            f"noise is known from the differences of frames; got {interval}, {time_step} and {duration} ps"
        )
    whole_number(interval, time_step, "interval", "time_step")
    whole_number(duration, interval, "duration", "interval")


class ReferenceFrames:
    """Mapped frames of one system: its beads, bonds, box and temperature.

    Parameters
    ----------
    sources : sequence of Frames
        Runs of the same beads.

    Raises
    ------
    ValueError
        The runs are of different beads, bonds, temperatures or boxes.
    """

    def __init__(self, sources: Sequence[Frames]) -> None:
        first = sources[0]
        _check_same_beads(sources)
        self.sources = sources
        self.types, self.type_names, self.temperature = first.types, first.type_names, first.temperature
        self.bonds = first.bonds
        self.kinds_of_beads = bead_types([first])
        self.thermal = GAS_CONSTANT * self.temperature
        self.frames = sum(map(len, sources))
        self.box = None if first.boxes is None else np.asarray(first.boxes[0], float)
        names = [self.type_names[kind] for kind in self.types]
        self.topology = with_bonds(cg_topology(names, self.box), self.bonds.tolist())

    def check_potential(self, potential: CGPotential) -> None:
        """See that a potential is of these types of beads.

        Raises
        ------
        ValueError
            It is not.
        """
        known = [kind.name for kind in potential.bead_types]
        if known != self.type_names:
            raise ValueError(f"{self.sources[0].path} has the bead types {self.type_names}, the potential {known}")

    def longest_cutoff(self) -> float:
        """Half the smallest diagonal element of the box, nm, up to which minimum images are exact."""
        assert self.box is not None
        return float(np.diag(self.box).min() / 2)

    def content(self) -> dict[str, Any]:
        """All that is taken from the frames, for `openmmcg.state.describe`."""
        first = self.sources[0]
        return {
            "positions": {f"of run {index}": source.positions for index, source in enumerate(self.sources)},
            "box": self.box,
            "temperature": self.temperature,
            "types": [self.type_names[kind] for kind in self.types],
            "masses": [kind.mass for kind in self.kinds_of_beads],
            "bonds": first.bonds,
        }

    def starts(self, replicas: int) -> FloatArray:
        """Positions of frames spread over all files, ``[replicas, N, 3]``, nm."""
        ends = np.cumsum([len(source) for source in self.sources])
        positions = []
        for place in np.linspace(0, self.frames - 1, replicas + 1).astype(int)[1:]:
            file = int(np.searchsorted(ends, place, side="right"))
            positions.append(np.asarray(self.sources[file].positions[place - ends[file]], float))
        return np.array(positions)

    def _stretched(self, positions: FloatArray, stretch: float) -> FloatArray:
        """Positions with molecules, which keep their shape, farther apart."""
        if stretch == 1.0:
            return positions
        number = len(self.types)
        bonds = np.asarray(self.bonds, int).reshape(-1, 2)
        _, molecule = connected_components(coo_array((np.ones(len(bonds)), bonds.T), (number, number)))
        sizes = np.bincount(molecule)
        whole = make_whole(positions, None if self.box is None else self.box[None].repeat(len(positions), 0), bonds)
        totals = np.zeros((len(sizes), len(positions), 3))
        np.add.at(totals, molecule, whole.swapaxes(0, 1))
        return whole + (stretch - 1) * (totals / sizes[:, None, None]).swapaxes(0, 1)[:, molecule]

    def simulate(
        self,
        potential: CGPotential,
        path: Path,
        replicas: int,
        settings: dict[str, Any],
        *,
        platform: str,
        threads: int | None,
        progress: bool,
        stretch: float = 1.0,
        pressures: bool = False,
    ) -> RunResult:
        """Run replicas of the beads from frames of the reference, or go on with such a run.

        Parameters
        ----------
        potential
            That of the beads.
        path
            The frames.
        replicas
            How many.
        settings
            ``duration``, ``interval``, ``time_step``, ``friction``, ``seed`` and, if any, ``thermostat`` of
            `openmmcg.simulation.run`; a fifth of the duration goes before, to equilibrate.
        platform, threads, progress, pressures
            See `openmmcg.simulation.run`.
        stretch
            By how much the box is longer than that of the reference.

        Raises
        ------
        UnstableSimulationError
            It left all bounds, or the integrator heats the beads.
        """
        time_step = settings["time_step"]
        outcome = run(
            potential.create_system(self.topology, periodic=self.box is not None, remove_center_of_mass_motion=False),
            self._stretched(self.starts(replicas), stretch),
            None if self.box is None else stretch * self.box,
            path,
            equilibration=round(settings["duration"] / 5 / time_step) * time_step,
            temperature=self.temperature,
            types=self.types.tolist(),
            type_names=self.type_names,
            platform=platform,
            threads=threads,
            progress=progress,
            pressures=pressures,
            **{key: settings[key] for key in _SETTINGS if key in settings},
        )
        if outcome.mean_temperature > _HOTTEST * self.temperature:
            raise UnstableSimulationError(
                f"the beads of {path.name} have {outcome.mean_temperature:.0f} K on average instead of "
                f"{self.temperature:.0f} K: a time step of {time_step} ps is too long for the "
                "tables; take a shorter one, or more frames to make the tables of"
            )
        return outcome


def content(potential: CGPotential) -> dict[str, Any]:
    """All of a potential that its energies depend on, for `openmmcg.state.describe`."""
    network = None
    if potential.has_network:
        network = potential.to_bytes() if potential.is_opaque else potential.network
    return {
        "network": network,
        "priors": potential.prior_templates,
        "bead types": {kind.name: kind.mass for kind in potential.bead_types},
        "temperature": potential.temperature,
    }


def select(source: Frames, frames: slice) -> Frames:
    """Some of the frames of a file.

    Raises
    ------
    ValueError
        There are none.
    """
    selection = range(len(source))[frames]
    if not selection:
        raise ValueError(f"no frames are selected of the {len(source)} in {source.path}")
    return source.select(list(selection))


def default_replicas(beads: int) -> int:
    """How many replicas are simulated where nobody says so: 10, or as many as have 500 beads together, but 2."""
    return int(np.clip(_BEADS // beads, 2, _REPLICAS))


def _check_same_beads(sources: Sequence[Frames]) -> None:
    first = sources[0]
    for source in sources:
        if source.names != first.names or not np.array_equal(source.bonds, first.bonds):
            raise ValueError(f"{source.path} and {first.path} hold different beads, or different bonds")
        if source.temperature != first.temperature:
            raise ValueError(
                f"{source.path} is of {source.temperature} K and {first.path} of {first.temperature} K; one potential "
                "is for one temperature"
            )
        _check_boxes(source, first)


def _check_boxes(source: Frames, first: Frames) -> None:
    """Every iteration is simulated in one box, so the reference must have been."""
    if (source.boxes is None) != (first.boxes is None):
        raise ValueError(f"of {source.path} and {first.path} one is periodic and the other is not")
    if source.boxes is None or first.boxes is None:
        return
    changes = np.abs(source.boxes - first.boxes[0]).max(axis=(1, 2))
    if changes.max() > _SAME_BOX:
        frame = int(np.argmax(changes))
        raise ValueError(
            f"the box of frame {frame} of {source.path} differs by {changes[frame]:.4f} nm from the first of "
            f"{first.path}; the beads are simulated in one box, so take frames of constant volume"
        )
