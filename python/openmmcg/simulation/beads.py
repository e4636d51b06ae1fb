"""Which bead is of which type."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import openmm

from openmmcg.forces.cg_force import CGForce


class BeadTypes(NamedTuple):
    """The type of each bead, an index into the names of the types."""

    types: list[int]
    type_names: list[str]


def bead_types(
    system: openmm.System, types: Sequence[int] | None = None, type_names: Sequence[str] | None = None
) -> BeadTypes:
    """Bead types as given, or those of the System's CGForce, or one type "bead" for all.

    Raises
    ------
    ValueError
        When there is not one type per particle, or a type that is no whole number or has no name.
    """
    particles = system.getNumParticles()
    known = _types_of_force(system) or BeadTypes([0] * particles, ["bead"])
    result = BeadTypes(
        known.types if types is None else [_whole(bead_type) for bead_type in types],
        known.type_names if type_names is None else list(type_names),
    )
    if len(result.types) != particles:
        raise ValueError(f"there are {len(result.types)} bead types for {particles} particles; give one for each")
    wrong = [bead_type for bead_type in result.types if not 0 <= bead_type < len(result.type_names)]
    if wrong:
        raise ValueError(f"bead type {wrong[0]} has no name; there are {len(result.type_names)} names of types")
    return result


def _whole(bead_type: int) -> int:
    try:
        return operator.index(bead_type)
    except TypeError:
        raise ValueError(f"bead types are whole numbers, indices into type_names, not {bead_type!r}") from None


def _types_of_force(system: openmm.System) -> BeadTypes | None:
    """The bead types of the first CGForce that covers all particles."""
    for force in system.getForces():
        try:
            network = CGForce.of(force)
        except TypeError:
            continue
        names, particles = network.getBeadTypes(), network.getParticles()
        everything = list(range(system.getNumParticles()))
        if names and particles in (None, everything):
            types = network.getTypes() or [0]
            return BeadTypes(types * (len(everything) // len(types)), names)
    return None
