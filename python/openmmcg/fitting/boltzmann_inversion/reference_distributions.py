"""The frames that Boltzmann inversion has to reproduce, and the potentials made of their distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from openmmcg.fitting.boltzmann_inversion.distributions import (
    PAIR_BIN,
    Coordinate,
    Counts,
    count,
    find_coordinates,
    jensen_shannon_divergence,
)
from openmmcg.fitting.boltzmann_inversion.tables import (
    FEWEST,
    extend,
    invert,
    log_ratio,
    make_priors,
    sampled_bins,
    smooth,
)
from openmmcg.fitting.reference_frames import ReferenceFrames
from openmmcg.frames import Frames
from openmmcg.geometry.internal_coordinates import bonded_terms
from openmmcg.potentials import CGPotential

FloatArray = NDArray[np.float64]

# Beyond where g(r), smoothed by a Gaussian of so many bins, is no farther from 1, pairs need no potential of their own.
_UNSTRUCTURED, _SMOOTHING = 0.05, 2
# In units of 1/ω of a harmonic bond.
_LONGEST_STEP = 1.5


class ReferenceDistributions(ReferenceFrames):
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
        Of pairs, nm; by default where g(r) has become 1, see `measure`.
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
        super().__init__(sources)
        first = sources[0]
        self.start = potential
        self.bins, self.cutoff, self.achiral = bins, cutoff, achiral
        self.coordinates: list[Coordinate] = []
        if potential is not None:
            self.check_potential(potential)
        self.kinds = list(coordinates or self._all_kinds())
        self._check_cutoff(first)
        if "bonds" not in self.kinds and self.start is None and len(first.bonds):
            raise ValueError("without a potential to start from, bonds must be among the coordinates")
        self.freedom = _degrees_of_freedom(len(self.types), first.bonds)

    def _check_cutoff(self, first: Frames) -> None:
        if "pairs" not in self.kinds:
            return
        if self.box is None and self.cutoff is None:
            raise ValueError(f"{first.path} is not periodic: there pairs need a cutoff in nm, cutoff=0.9 for example")
        if self.cutoff is not None and not self.cutoff > 0:
            raise ValueError(f"the cutoff of pairs must be positive, got {self.cutoff} nm")
        if self.box is not None and (self.cutoff or 0.0) > self.longest_cutoff():
            raise ValueError(
                f"the cutoff, {self.cutoff} nm, exceeds half the smallest width of the box of {first.path}, "
                f"{self.longest_cutoff():.4f} nm; take a shorter one, or sample a larger box"
            )

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
        """Find the coordinates and count the reference's distributions.

        Where no cutoff was given, it is the shortest distance beyond which every g(r) stays within 0.05 of 1, at most
        half the box: what is farther apart hardly knows of each other.
        """
        cutoff = self.cutoff
        if cutoff is None and "pairs" in self.kinds:
            cutoff = PAIR_BIN * np.floor(self.longest_cutoff() / PAIR_BIN - 1e-6)
        self.coordinates = find_coordinates(self.sources, self.kinds, self.bins, cutoff or 0.0, self.achiral)
        self.counts = count(self.sources, self.coordinates, progress=progress)
        if self.cutoff is None and any(coordinate.kind == "pairs" for coordinate in self.coordinates):
            self._shorten(self._find_cutoff())
        self.histograms = self.counts.histograms
        self.known = [sampled_bins(*pair) for pair in zip(self.coordinates, self.histograms, strict=True)]
        self.covariance = self.counts.covariance(np.concatenate(self.known))

    def check_time_step(self, time_step: float) -> None:
        """See that bonds, as stiff as their distributions are narrow, can be integrated.

        Raises
        ------
        ValueError
            The time step, ps, is near the limit of stability, 2/ω of the bond.
        """
        for coordinate, histogram in zip(self.coordinates, self.histograms, strict=True):
            if coordinate.kind == "bonds":
                mean = np.average(coordinate.centers, weights=histogram)
                variance = np.average((coordinate.centers - mean) ** 2, weights=histogram)
                inverse_mass = sum(1 / self.kinds_of_beads[kind].mass for kind in coordinate.types)
                longest = _LONGEST_STEP / np.sqrt(self.thermal / variance * inverse_mass)
                if time_step > longest:
                    raise ValueError(
                        f"the {coordinate.label} is so stiff, {np.sqrt(variance):.2g} nm wide, that a time step of "
                        f"{time_step} ps is too long; take {longest:.1g} ps or less, or beads that are not rigid"
                    )

    def _find_cutoff(self) -> int:
        """In bins."""
        curves = [
            gaussian_filter1d(g, _SMOOTHING, mode="nearest")
            for coordinate, g in zip(self.coordinates, self.distributions(self.counts), strict=True)
            if coordinate.kind == "pairs"
        ]
        structured = np.flatnonzero(np.abs(np.array(curves) - 1).max(axis=0) > _UNSTRUCTURED)
        return min(int(structured[-1]) + 2, len(curves[0])) if len(structured) else len(curves[0])

    def _shorten(self, bins: int) -> None:
        kept = []
        for index, coordinate in enumerate(self.coordinates):
            kept.append(np.ones(len(coordinate.edges) - 1, bool))
            if coordinate.kind == "pairs":
                kept[-1][bins:] = False
                self.coordinates[index] = replace(coordinate, edges=coordinate.edges[: bins + 1])
        self.counts = self.counts.select(np.concatenate(kept))

    @property
    def factors(self) -> list[FloatArray]:
        """For each coordinate ``[bins]``, what makes g(r) of counts per frame, or a density of bonded coordinates.

        g is 1 where the pairs are spread evenly over the box, or over the sphere within the cutoff where there is none.
        """
        result = []
        for coordinate in self.coordinates:
            number = coordinate.values_per_frame(self.types)
            if coordinate.kind == "pairs":
                sphere = 4 / 3 * np.pi * coordinate.edges[-1] ** 3
                volume = sphere if self.box is None else np.linalg.det(self.box)
                result.append(volume / (number * 4 * np.pi * coordinate.jacobian))
            else:
                result.append(np.full(len(coordinate.edges) - 1, 1 / (number * coordinate.width)))
        return result

    def distributions(self, counts: Counts) -> list[FloatArray]:
        """g(r) of pairs, densities per nm or radian of bonded coordinates, each ``[bins]``."""
        frames = counts.frames.sum()
        return [factor * total / frames for factor, total in zip(self.factors, counts.histograms, strict=True)]

    def divergences(self, simulated: Counts) -> list[float]:
        """Jensen-Shannon divergence of every histogram, bits."""
        pairs = zip(simulated.histograms, self.histograms, strict=True)
        return [jensen_shannon_divergence(*pair) for pair in pairs]

    def first_energies(self) -> list[FloatArray]:
        """Those of the direct inversion, or zero where there is a potential."""
        if self.start is not None:
            return [np.zeros(len(counts)) for counts in self.histograms]
        # Where there are more coordinates than degrees of freedom, as in rings, each bears its part.
        terms = sum(len(coordinate.terms) for coordinate in self.coordinates if coordinate.kind != "pairs")
        fraction = min(1.0, self.freedom / max(1, terms))
        return [
            (1.0 if coordinate.kind == "pairs" else fraction) * invert(coordinate, histogram, self.thermal)
            for coordinate, histogram in zip(self.coordinates, self.histograms, strict=True)
        ]

    def correct(self, energies: Sequence[FloatArray], simulated: Counts, damping: float) -> list[FloatArray]:
        """The energies of the next iteration, after one in which this was counted."""
        frames = int(simulated.frames.sum()), self.frames
        ratios = [
            log_ratio(coordinate, histogram, own, frames, known)
            for coordinate, histogram, own, known in zip(
                self.coordinates, simulated.histograms, self.histograms, self.known, strict=True
            )
        ]
        result = []
        for index, change in enumerate(self._respond(ratios, simulated)):
            coordinate, known = self.coordinates[index], self.known[index]
            corrected = energies[index] + damping * self.thermal * change
            # A correction of a potential that holds the beads together need not do so too.
            result.append(corrected if self.start is not None else extend(coordinate, corrected, known, self.thermal))
        return result

    def _respond(self, ratios: list[FloatArray], simulated: Counts) -> list[FloatArray]:
        """The changes of energy, k_B T, that make these logarithms of ratios vanish together, to first order.

        Coordinates that are independent need the ratios themselves. Others move each other, by the covariance of what
        is in their bins (inverse Monte Carlo: Lyubartsev and Laaksonen, Phys. Rev. E 52, 3730 (1995)): the mean of that
        in the simulation and in the reference, the two ends of the way. That of the simulation alone leads astray far
        from the reference; that of the reference alone, where atoms respond unlike beads, too far close to it.
        """
        chosen = np.concatenate(self.known)
        both = simulated.covariance(chosen), self.covariance
        filled, covariance = (np.mean(each, axis=0) for each in zip(*both, strict=True))
        # The same small number of samples in every bin as in the ratios.
        frames = min(int(simulated.frames.sum()), self.frames)
        few = FEWEST / frames
        filled = filled + few
        # Of so many numbers, a covariance from so few frames; towards that of coordinates that are independent.
        weight = frames / (frames + len(filled))
        response = weight * (covariance + few * np.eye(len(filled))) + (1 - weight) * np.diag(filled)
        wanted = np.concatenate(ratios)[chosen]
        changes = np.zeros(len(chosen))
        changes[chosen] = solve(response, filled * self._varying(wanted, filled), assume_a="pos")
        ends = np.cumsum(list(map(len, ratios)))[:-1]
        return [
            smooth(coordinate, change, known, histogram, proportional=True)
            for coordinate, change, known, histogram in zip(
                self.coordinates, np.split(changes, ends), self.known, self.histograms, strict=True
            )
        ]

    def _varying(self, values: FloatArray, weights: FloatArray) -> FloatArray:
        """Of the known bins, without the constant of each bonded coordinate, which no covariance sees."""
        ends = np.cumsum([np.count_nonzero(known) for known in self.known])[:-1]
        return np.concatenate(
            [
                part if coordinate.kind == "pairs" else part - np.average(part, weights=weight)
                for coordinate, part, weight in zip(
                    self.coordinates, np.split(values, ends), np.split(weights, ends), strict=True
                )
            ]
        )

    def make_potential(self, energies: Sequence[FloatArray], settings: dict[str, Any]) -> CGPotential:
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


def _degrees_of_freedom(beads: int, bonds: NDArray[np.int64]) -> int:
    """Of the shapes of all molecules."""
    graph = coo_array((np.ones(len(bonds)), tuple(np.reshape(bonds, (-1, 2)).T)), (beads, beads))
    sizes = np.bincount(connected_components(graph, directed=False)[1])
    return int(np.where(sizes > 2, 3 * sizes - 6, sizes - 1).sum())
