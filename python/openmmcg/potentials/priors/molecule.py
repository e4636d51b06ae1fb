"""Terms of one molecule by the indices of its beads, where types do not tell beads apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import openmm

from openmmcg.geometry.indices import check_indices


@dataclass(frozen=True)
class MoleculePrior:
    """Terms between the beads of one molecule, given by index, as an OpenMM force has them.

    For what types and bonds do not say: terms of the first and the last residue, improper dihedrals, pairs that repel
    each other from the fourth neighbour on. A System of other beads is refused, since the terms would mean nothing
    there.

    Parameters
    ----------
    force : openmm.Force
        Of bonds, angles or torsions (not a ``CustomExternalForce``); its particles are the molecule's beads.
    molecule : sequence of int
        Bead type of each bead of the molecule, ``[N]``.

    Examples
    --------
    The first of three bonds between beads of one type is shorter than the others.

    >>> force = openmm.HarmonicBondForce()
    >>> for first, length in enumerate([0.1, 0.15, 0.15]):
    ...     _ = force.addBond(first, first + 1, length, 1e5)
    >>> prior = MoleculePrior(force, molecule=[0, 0, 0, 0])
    """

    force: openmm.Force
    molecule: Sequence[int]

    def __post_init__(self) -> None:
        check_indices(self.molecule, None, "bead types of the molecule")

    def template(self) -> openmm.Force:
        """The force; its particles are beads, not types."""
        return self.force
