"""The frames that Boltzmann inversion has to reproduce, and the potentials made of their distributions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from openmmcg.constants import GAS_CONSTANT
from openmmcg.fitting.beads import bead_types
from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate, count, count_covariance, find_coordinates
from openmmcg.fitting.boltzmann_inversion.tables import (
    FEWEST,
    extend,
    invert,
    log_ratio,
    make_priors,
    sampled_bins,
    smooth,
)
from openmmcg.frames import Frames
from openmmcg.geometry.internal_coordinates import bonded_terms
from openmmcg.mapping.topology import cg_topology, with_bonds
from openmmcg.potentials import CGPotential

FloatArray = NDArray[np.float64]


class ReferenceDistributions:
    """The frames to be reproduced: their beads, their distributions, and the potentials made of these.

    Parameters
    ----------
    sources : sequence of Frames
        Runs of the same beads.
    potential : CGPotential, optional
        To be corrected; by default the tables begin with the direct inversion.
    coordinates : sequence of str, optional
        Kinds; by default all that there are.
    cutoff : float, optional
        Of pairs, nm.
    bins : int
        Of each distribution.
    achiral : bool
        Whether mirror images are as probable.

    Raises
    ------
    ValueError
        The runs are of different beads, bonds, temperatures or boxes, or of other beads than the potential; or there
        is nothing that has a distribution.
    """

    def __init__(
        self,
        sources: Sequence[Frames],
        potential: CGPotential | None,
        coordinates: Sequence[str] | None,
        cutoff: float | None,
        bins: int,
        achiral: bool = False,
    ) -> None:
        first = sources[0]
        _check_same_beads(sources)
        self.sources = sources
        self.start = potential
        self.types, self.type_names, self.temperature = first.types, first.type_names, first.temperature
        self.kinds_of_beads = bead_types([first])
        self.thermal = GAS_CONSTANT * self.temperature
        self.frames = sum(map(len, sources))
        self.box = None if first.boxes is None else np.asarray(first.boxes[0], float)
        self.bins, self.cutoff, self.achiral = bins, cutoff, achiral
        self.coordinates: list[Coordinate] = []
        if self.start is not None and [kind.name for kind in self.start.bead_types] != self.type_names:
            known = [kind.name for kind in self.start.bead_types]
            raise ValueError(f"{first.path} has the bead types {self.type_names}, the potential {known}")
        self.kinds = list(coordinates or self._all_kinds())
        if "pairs" in self.kinds and not (self.cutoff or 0) > 0:
            raise ValueError("pairs need a cutoff in nm: cutoff=0.9, for example")
        if "bonds" not in self.kinds and self.start is None and len(first.bonds):
            raise ValueError("without a potential to start from, bonds must be among the coordinates")
        names = [self.type_names[kind] for kind in self.types]
        self.topology = with_bonds(cg_topology(names, self.box), first.bonds.tolist())
        self.freedom = _degrees_of_freedom(len(self.types), first.bonds)
        self.settings = {
            "potential": None if self.start is None else hashlib.sha256(self.start.to_bytes()).hexdigest()[:16],
            "coordinates": self.kinds,
            "cutoff": self.cutoff,
            "frames": {source.path.name: len(source) for source in sources},
        }

    def _all_kinds(self) -> list[str]:
        terms = bonded_terms(self.sources[0].bonds.tolist())
        kinds = [kind for kind in terms._fields if getattr(terms, kind)] + ([] if self.box is None else ["pairs"])
        if not kinds:
            raise ValueError(
                f"{self.sources[0].path} knows no bonds and is not periodic, so nothing in it has a distribution; map "
                "frames with a map whose beads are bonded (Mapping.with_bonds)"
            )
        return kinds

    def measure(self, progress: bool) -> None:
        """Find the coordinates and count the reference's distributions."""
        self.coordinates = find_coordinates(self.sources, self.kinds, self.bins, self.cutoff or 0.0, self.achiral)
        self.counts = count(self.sources, self.coordinates, progress=progress)
        self.known = [sampled_bins(*pair) for pair in zip(self.coordinates, self.counts, strict=True)]
        self.bonded = [index for index, coordinate in enumerate(self.coordinates) if coordinate.kind != "pairs"]
        if self.bonded:
            self.bonded_bins = np.concatenate([self.known[index] for index in self.bonded])
            self.covariance = self._count_covariance(self.sources)

    def first_energies(self) -> list[FloatArray]:
        """Those of the direct inversion, or zero where there is a potential."""
        if self.start is not None:
            return [np.zeros(len(counts)) for counts in self.counts]
        # Where there are more coordinates than degrees of freedom, as in rings, each bears its part.
        terms = sum(len(self.coordinates[index].terms) for index in self.bonded)
        fraction = min(1.0, self.freedom / max(1, terms))
        return [
            (fraction if index in self.bonded else 1.0) * invert(coordinate, self.counts[index], self.thermal)
            for index, coordinate in enumerate(self.coordinates)
        ]

    def correct(
        self, energies: list[FloatArray], counts: list[NDArray[np.int64]], simulated: Sequence[Frames], damping: float
    ) -> list[FloatArray]:
        """The energies of the next iteration, after one that gave these counts of these frames."""
        frames = sum(map(len, simulated))
        ratios = [
            log_ratio(coordinate, counts[index], self.counts[index], (frames, self.frames), self.known[index])
            for index, coordinate in enumerate(self.coordinates)
        ]
        changes = self._respond(ratios, simulated) if self.bonded else ratios
        result = []
        for index, (coordinate, ratio) in enumerate(zip(self.coordinates, changes, strict=True)):
            known = self.known[index]
            corrected = energies[index] + damping * self.thermal * ratio
            # A correction of a potential that holds the beads together need not do so too.
            result.append(corrected if self.start is not None else extend(coordinate, corrected, known, self.thermal))
        return result

    def _respond(self, ratios: list[FloatArray], simulated: Sequence[Frames]) -> list[FloatArray]:
        """The changes of energy, k_B T, that make these logarithms of ratios vanish together, to first order.

        Coordinates that are independent need the ratios themselves. Others move each other, by the covariance of what
        is in their bins (inverse Monte Carlo: Lyubartsev and Laaksonen, Phys. Rev. E 52, 3730 (1995)): the mean of that
        in the simulation and in the reference, the two ends of the way. That of the simulation alone leads astray far
        from the reference; that of the reference alone, where atoms respond unlike beads, too far close to it.
        """
        both = self._count_covariance(simulated), self.covariance
        filled, covariance = (np.mean(each, axis=0) for each in zip(*both, strict=True))
        # The same small number of samples in every bin as in the ratios.
        frames = min(sum(map(len, simulated)), self.frames)
        few = FEWEST / frames
        filled += few
        # Of so many numbers, a covariance from so few frames; towards that of coordinates that are independent.
        weight = frames / (frames + len(filled))
        response = weight * (covariance + few * np.eye(len(filled))) + (1 - weight) * np.diag(filled)
        wanted = np.concatenate([ratios[index] for index in self.bonded])[self.bonded_bins]
        changes = np.zeros(len(self.bonded_bins))
        changes[self.bonded_bins] = solve(response, filled * self._varying(wanted, filled), assume_a="pos")
        result = list(ratios)
        ends = np.cumsum([len(ratios[index]) for index in self.bonded])[:-1]
        for index, change in zip(self.bonded, np.split(changes, ends), strict=True):
            result[index] = smooth(
                self.coordinates[index], change, self.known[index], self.counts[index], proportional=True
            )
        return result

    def _count_covariance(self, sources: Sequence[Frames]) -> tuple[FloatArray, FloatArray]:
        return count_covariance(sources, [self.coordinates[index] for index in self.bonded], self.bonded_bins)

    def _varying(self, values: FloatArray, weights: FloatArray) -> FloatArray:
        """Of the known bins of bonded coordinates, without the constant of each, which no covariance sees."""
        ends = np.cumsum([np.count_nonzero(self.known[index]) for index in self.bonded])[:-1]
        parts = zip(np.split(values, ends), np.split(weights, ends), strict=True)
        return np.concatenate([part - np.average(part, weights=weight) for part, weight in parts])

    def make_potential(self, energies: list[FloatArray], settings: dict[str, Any]) -> CGPotential:
        """The potential with these energies in its tables."""
        provenance = {"boltzmann_inversion": settings}
        if self.start is None:
            priors = make_priors(self.coordinates, energies, self.thermal)
            return CGPotential(
                None, self.kinds_of_beads, priors=priors, temperature=self.temperature, provenance=provenance
            )
        if not any(map(np.any, energies)):
            return self.start
        return self.start.with_priors(make_priors(self.coordinates, energies, self.thermal), provenance=provenance)

    def starts(self, replicas: int) -> FloatArray:
        """Positions of frames spread over all files, ``[replicas, N, 3]``, nm."""
        ends = np.cumsum([len(source) for source in self.sources])
        positions = []
        for place in np.linspace(0, self.frames - 1, replicas + 1).astype(int)[1:]:
            file = int(np.searchsorted(ends, place, side="right"))
            positions.append(np.asarray(self.sources[file].positions[place - ends[file]], float))
        return np.array(positions)

    def densities(self, counts: Sequence[ArrayLike]) -> tuple[FloatArray, ...]:
        """Histograms as probability densities."""
        return tuple(
            np.asarray(values, float) / np.sum(values) / coordinate.width
            for coordinate, values in zip(self.coordinates, counts, strict=True)
        )


def _degrees_of_freedom(beads: int, bonds: NDArray[np.int64]) -> int:
    """Of the shapes of all molecules."""
    graph = coo_array((np.ones(len(bonds)), tuple(np.reshape(bonds, (-1, 2)).T)), (beads, beads))
    sizes = np.bincount(connected_components(graph, directed=False)[1])
    return int(np.where(sizes > 2, 3 * sizes - 6, sizes - 1).sum())


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
        boxes = source.boxes
        if (boxes is None) != (first.boxes is None) or (
            boxes is not None and first.boxes is not None and not np.allclose(boxes, first.boxes[0], atol=1e-4)
        ):
            raise ValueError(f"the box of {source.path} is not the same in all frames; use frames of constant volume")
