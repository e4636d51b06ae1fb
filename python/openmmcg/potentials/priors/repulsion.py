"""Repulsion, which keeps beads apart at distances where there are no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg.constants import GAS_CONSTANT
from openmmcg.geometry.internal_coordinates import bonded_terms
from openmmcg.geometry.minimum_image import check_boxes
from openmmcg.geometry.pairs import pairs_apart

if TYPE_CHECKING:
    from openmmcg.frames import Frames


@dataclass(frozen=True)
class Repulsion:
    r"""Repulsion at short distances, :math:`U(r) = (\sigma/r)^c` kJ/mol between beads more than two bonds apart.

    Equation 6b of Husic et al., J. Chem. Phys. 153, 194101 (2020): the energy at distance :math:`\sigma` is
    1 kJ/mol. A linear function of the distance is added so that energy and force vanish at the cutoff.

    Parameters
    ----------
    sigmas : sequence of sequences of float
        :math:`\sigma` for each pair of bead types, nm; symmetric, ``[types, types]``.
    exponent : float
        :math:`c`.
    cutoff : float
        nm.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> Repulsion(sigmas=[[0.25]], exponent=12, cutoff=0.6).template().getPerParticleParameterName(0)
    'type'
    """

    sigmas: Sequence[Sequence[float]]
    exponent: float = 12.0
    cutoff: float = 0.6

    def __post_init__(self) -> None:
        sigmas = np.asarray(self.sigmas, float)
        if sigmas.ndim != 2 or not np.array_equal(sigmas, sigmas.T):
            raise ValueError("the distances sigma of a repulsion must be a symmetric matrix, [types, types]")
        if not (np.isfinite(sigmas).all() and (sigmas >= 0).all()):
            raise ValueError("the distances sigma of a repulsion must be finite and not negative")
        if not (self.exponent > 1 and self.cutoff > 0):
            raise ValueError(
                f"a repulsion needs an exponent above 1 and a positive cutoff, got {self.exponent} and {self.cutoff} nm"
            )

    @classmethod
    def from_frames(
        cls, frames: Frames | Sequence[Frames], *, exponent: float = 12.0, search: float = 0.6
    ) -> Repulsion:
        r"""Fit to the shortest distance sampled for each pair of bead types, where the energy becomes k_B T.

        The cutoff is 1.5 times the largest :math:`\sigma`, where little is left of the energy.

        Parameters
        ----------
        frames : Frames, or a sequence of them
            Mapped frames; their temperature and bonds are used. Several have the same type names.
        exponent
            See the class.
        search
            nm; pairs of types that never came closer than this are kept apart by it.

        Raises
        ------
        ValueError
            Files differ in bead types or temperature.
        """
        sources = list(frames) if isinstance(frames, Sequence) else [frames]
        first = sources[0]
        for source in sources:
            if (source.type_names, source.temperature) != (first.type_names, first.temperature):
                raise ValueError(
                    f"{source.path} has the bead types {source.type_names} at {source.temperature} K, {first.path} "
                    f"{first.type_names} at {first.temperature} K; priors need the same types and temperature"
                )
        shortest = np.min([shortest_distances(source, search) for source in sources], axis=0)
        sigmas = shortest * (GAS_CONSTANT * first.temperature) ** (1.0 / exponent)
        return cls(sigmas.tolist(), exponent, 1.5 * float(sigmas.max()))

    @property
    def types(self) -> int:
        """How many bead types it knows."""
        return len(self.sigmas)

    def template(self) -> openmm.CustomNonbondedForce:
        """The prior as an OpenMM force without particles."""
        c, cutoff = float(self.exponent), float(self.cutoff)
        types = self.types
        # A number is much faster than a table in OpenMM's inner loop.
        sigma = repr(float(self.sigmas[0][0])) if types == 1 else "sigmas(type1, type2)"
        force = openmm.CustomNonbondedForce(
            f"(sigma/r)^{c!r} - (sigma/{cutoff!r})^{c!r} * (1 + {c!r} * (1 - r/{cutoff!r}));sigma = {sigma}"
        )
        force.setName("Repulsion")
        force.addPerParticleParameter("type")
        if types > 1:
            values = np.asarray(self.sigmas, float).ravel().tolist()
            force.addTabulatedFunction("sigmas", openmm.Discrete2DFunction(types, types, values))
        force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
        force.setCutoffDistance(cutoff)
        return force


def shortest_distances(frames: Frames, cutoff: float) -> NDArray[np.float64]:
    """Shortest distance in all frames between beads of two types, or the cutoff; ``[types, types]``, nm.

    Beads one or two bonds apart do not count.
    """
    types, number = frames.types, len(frames.type_names)
    boxes = None if frames.boxes is None else check_boxes(frames.boxes, len(frames))
    shortest = np.full((number, number), float(cutoff))
    terms = bonded_terms(frames.bonds.tolist())
    excluded = [*terms.bonds, *terms.angles]
    for index in range(len(frames)):
        positions = np.asarray(frames.positions[index], float)
        box = None if boxes is None else boxes[index]
        rows, columns, distances = pairs_apart(positions, box, cutoff, excluded)
        np.minimum.at(shortest, (types[rows], types[columns]), distances)
    return np.minimum(shortest, shortest.T)
