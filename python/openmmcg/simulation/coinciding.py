"""Particles in one place whose force on each other has no direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit
from scipy.spatial import cKDTree

from openmmcg._openmmcg import is_cgforce, is_pair_force
from openmmcg.forces.cg_force import CGForce
from openmmcg.forces.pair_force import PairForce

CLOSEST = 1e-4  # nm; in single precision nearer particles have no direction to each other to speak of


class _Interaction(NamedTuple):
    """Which particles act on each other, and which pairs of them do."""

    name: str
    particles: NDArray[np.int64]
    acts: Callable[[int, int], bool]


def check_coinciding(system: openmm.System, positions: NDArray[np.float64], box: NDArray[np.float64] | None) -> None:
    """Refuse positions with two particles in one place that act on each other.

    Their force has no direction, so neither minimisation nor dynamics can part them in a defined way. Particles without
    mass are left out, being held where they are or placed by others, and so are pairs that do not act on each other:
    beads of an ideal gas, excluded pairs, ends of springs of no length.

    Parameters
    ----------
    system : openmm.System
    positions : array [N, 3]
        nm
    box : array [3, 3] or None
        Through which particles may coincide as well.

    Raises
    ------
    ValueError
        The error names the first such pair, its distance and the force.
    """
    near = np.flatnonzero(_have_neighbors(positions, box))
    near = near[[system.getParticleMass(int(particle)) > 0 * unit.dalton for particle in near]]
    if len(near) == 0:
        return
    for interaction in _interactions(system):
        particles = np.intersect1d(near, interaction.particles)
        for first, second in particles[_near_pairs(positions[particles], box)]:
            if interaction.acts(int(first), int(second)):
                distance = float(np.linalg.norm(_image(positions[second] - positions[first], box)))
                straight = float(np.linalg.norm(positions[second] - positions[first]))
                how = "" if straight < 2 * CLOSEST else ", through the periodic box"
                raise ValueError(
                    f"particles {first} and {second} coincide: they are {distance:.2g} nm apart{how}, where their "
                    f"force on each other ({interaction.name}) has no direction to part them in. Move one of them by "
                    "some hundredths of a nanometre, and minimise"
                )


def _have_neighbors(positions: NDArray[np.float64], box: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Which particles may coincide with another; at no cost worth mentioning where none does."""
    if len(positions) < 2:
        return np.zeros(len(positions), dtype=bool)
    places, radius, period = _searchable(positions, box)
    distances, _ = cKDTree(places, boxsize=period).query(places, k=2, distance_upper_bound=radius)
    return np.isfinite(distances[:, 1])


def _near_pairs(positions: NDArray[np.float64], box: NDArray[np.float64] | None) -> NDArray[np.int64]:
    if len(positions) < 2:
        return np.empty((0, 2), np.int64)
    places, radius, period = _searchable(positions, box)
    pairs = cKDTree(places, boxsize=period).query_pairs(radius, output_type="ndarray").reshape(-1, 2)
    distances = np.linalg.norm(_image(positions[pairs[:, 1]] - positions[pairs[:, 0]], box), axis=1)
    return pairs[distances < CLOSEST]


def _searchable(
    positions: NDArray[np.float64], box: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], float, float | None]:
    """Coordinates in which to search, the radius that covers `CLOSEST` there, and their period."""
    if box is None:
        return positions, CLOSEST, None
    inverse = np.linalg.inv(box)
    fractions = positions @ inverse
    fractions -= np.floor(fractions)
    # Of a tiny negative number the fraction rounds to one.
    return np.where(fractions < 1, fractions, 0.0), CLOSEST * float(np.linalg.norm(inverse, 2)), 1.0


def _image(displacements: NDArray[np.float64], box: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Of displacements that are almost a lattice vector, what is left."""
    return displacements if box is None else displacements - np.round(displacements @ np.linalg.inv(box)) @ box


def _interactions(system: openmm.System) -> Iterator[_Interaction]:
    for force in system.getForces():
        name, everything = force.getName(), np.arange(system.getNumParticles())
        if isinstance(force, openmm.NonbondedForce):
            yield _Interaction(name, everything, _in_nonbonded_force(force))
        elif is_pair_force(int(force.this)):
            yield _Interaction(name, everything, _in_pair_force(PairForce.of(force).getDefinition()))
        elif isinstance(force, openmm.CustomNonbondedForce):
            yield _Interaction(name, everything, _in_custom_force(force))
        elif isinstance(force, openmm.HarmonicBondForce):
            bonds = [force.getBondParameters(index) for index in range(force.getNumBonds())]
            lengths = {(first, second): length.value_in_unit(unit.nanometer) for first, second, length, _ in bonds}
            yield _bonds(name, [pair for pair, length in lengths.items() if length > 0])
        elif is_cgforce(int(force.this)):
            network = CGForce.of(force)
            if network.getCutoff() > 0:
                particles = np.array(network.getParticles() or everything)
                yield _Interaction(name, particles, _in_network(particles, network.replicas))
    constraints = [system.getConstraintParameters(index) for index in range(system.getNumConstraints())]
    yield _bonds("a constraint", [(first, second) for first, second, _ in constraints])


def _in_network(particles: NDArray[np.int64], replicas: int) -> Callable[[int, int], bool]:
    replica_of = {int(particle): number * replicas // len(particles) for number, particle in enumerate(particles)}
    return lambda first, second: replica_of[first] == replica_of[second]


def _bonds(name: str, pairs: list[tuple[int, int]]) -> _Interaction:
    both = {*pairs, *((second, first) for first, second in pairs)}
    particles = np.unique(np.array(pairs, np.int64))
    return _Interaction(name, particles, lambda first, second: (first, second) in both)


def _in_nonbonded_force(force: openmm.NonbondedForce) -> Callable[[int, int], bool]:
    def strengths(parameters: list) -> tuple[float, float]:
        charge, _, depth = parameters
        return charge._value, depth._value

    exceptions = {}
    for index in range(force.getNumExceptions()):
        first, second, *parameters = force.getExceptionParameters(index)
        exceptions[frozenset((first, second))] = any(strengths(parameters))
    offsets = force.getNumParticleParameterOffsets() + force.getNumExceptionParameterOffsets() > 0

    def acts(first: int, second: int) -> bool:
        if frozenset((first, second)) in exceptions:
            return exceptions[frozenset((first, second))]
        one, other = (strengths(force.getParticleParameters(particle)) for particle in (first, second))
        return offsets or any(a * b != 0 for a, b in zip(one, other, strict=True))

    return acts


def _in_pair_force(definition: openmm.CustomNonbondedForce) -> Callable[[int, int], bool]:
    size, acts = definition.getNumParticles(), _in_custom_force(definition)
    return lambda first, second: first // size == second // size and acts(first % size, second % size)


def _in_custom_force(force: openmm.CustomNonbondedForce) -> Callable[[int, int], bool]:
    excluded = {frozenset(force.getExclusionParticles(index)) for index in range(force.getNumExclusions())}
    groups = [force.getInteractionGroupParameters(index) for index in range(force.getNumInteractionGroups())]
    sets = [(set(one), set(other)) for one, other in groups]

    def acts(first: int, second: int) -> bool:
        if frozenset((first, second)) in excluded:
            return False
        return not sets or any(
            (first in one and second in other) or (second in one and first in other) for one, other in sets
        )

    return acts
