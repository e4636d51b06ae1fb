"""Topologies whose atoms are beads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from openmm import app, unit


def cg_topology(names: Sequence[str], box: ArrayLike | None = None) -> app.Topology:
    """Topology of molecules of one bead each, such as coarse-grained water.

    Parameters
    ----------
    names
        ``[N]``, the beads' names, which are also those of their residues.
    box
        ``[3, 3]``, box vectors as rows, nm; None when not periodic.

    Examples
    --------
    >>> topology = cg_topology(["W"] * 3916, box=np.eye(3) * 4.9)
    >>> topology.getNumAtoms(), topology.getNumResidues()
    (3916, 3916)
    """
    topology = app.Topology()
    chain = topology.addChain()
    for name in names:
        topology.addAtom(name, None, topology.addResidue(name, chain))
    if box is not None:
        topology.setPeriodicBoxVectors(np.asarray(box, float) * unit.nanometer)
    return topology


def mapped_topology(
    topology: app.Topology, atoms_of_beads: Sequence[NDArray[np.int32]], names: Sequence[str]
) -> app.Topology:
    """Topology of the beads of a map, with the chains, residues and box of the atoms' topology.

    A bead belongs to the residue of its first atom. Two beads are bonded where an atom of one is bonded to an
    atom of the other.

    Parameters
    ----------
    topology
        Of the atoms.
    atoms_of_beads
        The atoms' indices, an array per bead.
    names
        The beads' names.
    """
    atoms = list(topology.atoms())
    beads = app.Topology()
    bead_atoms = []
    bead_of_atom: dict[int, int] = {}
    chain = residue = None
    for bead, (members, name) in enumerate(zip(atoms_of_beads, names, strict=True)):
        indices = members.tolist()
        origin = atoms[indices[0]].residue
        # A topology lists its atoms residue by residue. A bead of an earlier residue opens a new one, so
        # that the order of the beads is that of the map.
        if chain is None or origin.chain is not chain:
            chain, residue = origin.chain, None
            new_chain = beads.addChain(chain.id)
        if origin is not residue:
            residue = origin
            new_residue = beads.addResidue(residue.name, new_chain, residue.id, residue.insertionCode)
        bead_atoms.append(beads.addAtom(name, None, new_residue))
        for index in indices:
            bead_of_atom.setdefault(index, bead)

    bonds = {
        tuple(sorted((bead_of_atom[first.index], bead_of_atom[second.index])))
        for first, second in topology.bonds()
        if first.index in bead_of_atom and second.index in bead_of_atom
    }
    for i, j in sorted(bonds):
        if i != j:
            beads.addBond(bead_atoms[i], bead_atoms[j])
    beads.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    return beads


def with_bonds(topology: app.Topology, bonds: Sequence[Sequence[int]]) -> app.Topology:
    """A copy of a topology with these bonds instead of its own."""
    result = app.Topology()
    atoms = []
    for chain in topology.chains():
        new_chain = result.addChain(chain.id)
        for residue in chain.residues():
            new_residue = result.addResidue(residue.name, new_chain, residue.id, residue.insertionCode)
            atoms += [result.addAtom(atom.name, atom.element, new_residue, atom.id) for atom in residue.atoms()]
    for first, second in bonds:
        result.addBond(atoms[first], atoms[second])
    result.setPeriodicBoxVectors(topology.getPeriodicBoxVectors())
    return result


def openmm_topology(topology: Any) -> app.Topology:
    """The topology as OpenMM's, given as that or as MDTraj's."""
    return topology.to_openmm() if hasattr(topology, "to_openmm") else topology
