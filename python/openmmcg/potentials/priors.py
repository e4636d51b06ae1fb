"""Priors: simple potentials that keep beads out of where there are no data.

A prior is an OpenMM force, see *Priors* in ``docs/design.md``. It is kept as a template, a
``CustomNonbondedForce`` without particles and with one per-particle parameter, the bead type, so that one
file serves any number of beads; `add_priors` makes forces of templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from openmmcg._openmmcg import neighbor_pairs

if TYPE_CHECKING:
    from openmmcg.frames import Frames

_GAS_CONSTANT = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)


@dataclass(frozen=True)
class Repulsion:
    r"""Repulsion at short distances, :math:`U(r) = (\sigma/r)^c` kJ/mol between beads that share no bond.

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
    def from_frames(cls, frames: Frames, *, exponent: float = 12.0, search: float = 0.6) -> Repulsion:
        r"""Fit to the shortest distance sampled for each pair of bead types, where the energy becomes k_B T.

        The cutoff is 1.5 times the largest :math:`\sigma`, where little is left of the energy.

        Parameters
        ----------
        frames : Frames
            Mapped frames; their temperature is used.
        exponent
            See the class.
        search
            nm; pairs of types that never came closer than this are kept apart by it.
        """
        shortest = shortest_distances(frames, search)
        sigmas = shortest * (_GAS_CONSTANT * frames.temperature) ** (1.0 / exponent)
        return cls(sigmas.tolist(), exponent, 1.5 * float(sigmas.max()))

    def template(self) -> openmm.CustomNonbondedForce:
        """The prior as an OpenMM force without particles."""
        c, cutoff = float(self.exponent), float(self.cutoff)
        types = len(self.sigmas)
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


Prior: TypeAlias = "Repulsion | openmm.CustomNonbondedForce"


def to_xml(prior: Prior) -> str:
    """A prior as OpenMM XML, the form in which files hold it.

    Raises
    ------
    ValueError
        It is not a ``CustomNonbondedForce`` with ``type`` as its only per-particle parameter, or has particles.
    """
    force = prior.template() if isinstance(prior, Repulsion) else prior
    if (
        not isinstance(force, openmm.CustomNonbondedForce)
        or force.getNumParticles() > 0
        or force.getNumPerParticleParameters() != 1
        or force.getPerParticleParameterName(0) != "type"
    ):
        raise ValueError(
            "a prior must be a Repulsion, or a CustomNonbondedForce without particles whose only per-particle "
            f"parameter is 'type'; got {force!r}"
        )
    return openmm.XmlSerializer.serialize(force)


def add_priors(
    system: openmm.System,
    templates: Iterable[str],
    types: Sequence[int],
    bonds: Iterable[tuple[int, int]],
    periodic: bool,
) -> None:
    """Add priors to a System of beads; beads one or two bonds apart are excluded.

    Parameters
    ----------
    system
        Its particles are the beads.
    templates
        OpenMM XML of the priors, see `to_xml`.
    types
        Bead types, ``[N]``.
    bonds
        Pairs of bonded beads.
    periodic
        Whether distances are those of the minimum image.
    """
    pairs = [(int(first), int(second)) for first, second in bonds]
    for xml in templates:
        force = openmm.XmlSerializer.deserialize(xml)
        for bead_type in types:
            force.addParticle([int(bead_type)])
        force.createExclusionsFromBonds(pairs, 2)
        method = openmm.CustomNonbondedForce
        force.setNonbondedMethod(method.CutoffPeriodic if periodic else method.CutoffNonPeriodic)
        system.addForce(force)


class PriorForces:
    """The forces of priors on beads, as OpenMM's Reference platform computes them in double precision.

    Parameters
    ----------
    priors
        The priors.
    types : sequence of int
        Bead types, ``[N]``.
    bonds : iterable of pairs of int
        Bonded beads, see `add_priors`.
    periodic : bool
        Whether distances are those of the minimum image.
    """

    def __init__(
        self,
        priors: Iterable[Prior],
        types: Sequence[int],
        bonds: Iterable[tuple[int, int]] = (),
        *,
        periodic: bool,
    ) -> None:
        system = openmm.System()
        for _ in types:
            system.addParticle(1.0)
        # So wide that the cutoffs are checked against the boxes of the frames only.
        system.setDefaultPeriodicBoxVectors((1e3, 0, 0), (0, 1e3, 0), (0, 0, 1e3))
        add_priors(system, [to_xml(prior) for prior in priors], types, bonds, periodic)
        platform = openmm.Platform.getPlatformByName("Reference")
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

    def __call__(self, positions: NDArray[np.floating], box: NDArray[np.floating] | None) -> NDArray[np.float64]:
        """Forces ``[N, 3]`` in kJ/mol/nm at positions ``[N, 3]`` in a box ``[3, 3]`` of row vectors, nm."""
        if box is not None:
            self._context.setPeriodicBoxVectors(*np.asarray(box, float))
        self._context.setPositions(np.asarray(positions, float))
        return self._context.getState(forces=True).getForces(asNumpy=True)._value


def shortest_distances(frames: Frames, cutoff: float) -> NDArray[np.float64]:
    """Shortest distance in all frames between beads of two types, or the cutoff; ``[types, types]``, nm."""
    types, number = frames.types, len(frames.type_names)
    boxes = frames.boxes
    shortest = np.full((number, number), float(cutoff))
    for index in range(len(frames)):
        positions = np.asarray(frames.positions[index], float)
        box = None if boxes is None else boxes[index]
        rows, columns = neighbor_pairs(positions, box, cutoff)
        displacements = positions[columns] - positions[rows]
        if box is not None:
            for axis in (2, 1, 0):
                shifts = np.round(displacements[:, axis] / box[axis, axis])
                displacements -= shifts[:, None] * box[axis]
        distances = np.sqrt((displacements**2).sum(1))
        np.minimum.at(shortest, (types[rows], types[columns]), distances)
    return np.minimum(shortest, shortest.T)
