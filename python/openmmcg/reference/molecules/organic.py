"""Organic molecules in the gas phase, ready to sample: from a SMILES string or a file to an OpenMM System."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from openmmcg.mapping import Mapping
from openmmcg.reference.molecules.mmff94 import mmff94_forces
from openmmcg.reference.molecules.water import AllAtomSystem
from openmmcg.simulation.minimise import minimise

BITHIOPHENE = "CCCc1csc(c1)-c1sccc1CCC"
"""3',4-dipropyl-2,2'-bithiophene, 34 atoms."""
BITHIOPHENE_BEADS = {
    16: [[atom] for atom in range(16)],
    14: [[0, 1], [2], *([atom] for atom in range(3, 13)), [13], [14, 15]],
    12: [[0, 1, 2], *([atom] for atom in range(3, 13)), [13, 14, 15]],
    10: [[0, 1, 2], [3, 4], [5], [6], [7], [8], [9], [10, 11], [12], [13, 14, 15]],
    8: [[0, 1, 2], [3, 4], [5], [6, 7], [8, 12], [9], [10, 11], [13, 14, 15]],
    6: [[0, 1, 2], [4, 5], [3, 6, 7], [8, 11, 12], [9, 10], [13, 14, 15]],
    4: [[0, 1, 2], [3, 4, 5, 6, 7], [8, 9, 10, 11, 12], [13, 14, 15]],
}
"""Heavy atoms of each bead of `BITHIOPHENE`, by the number of beads, for `heavy_atom_map`.

Atoms 0-2 and 13-15 are the propyls, 3-7 and 8-12 the rings, with the sulfurs 5 and 9 and the bond 6-8 between the
rings. Down to six beads, each ring has two beads or more, so that the beads tell of the dihedral S-C-C-S; with four, a
ring is one bead.
"""
SEXITHIOPHENE = "Cc1ccsc1-c1cc(C)c(s1)-c1cc(C)c(s1)-c1cc(C)c(s1)-c1cc(C)c(s1)-c1cc(C)cs1"
"""Sexi(3-methyl)thiophene, regioregular, 62 atoms."""
TEMPO = "CC1(C)CCCC(C)(C)N1[O]"
"""2,2,6,6-tetramethylpiperidine-1-oxyl, a stable radical, 29 atoms."""
TEMPO_BEADS = {
    11: [[atom] for atom in range(11)],
    7: [[0, 1, 2], [3], [4], [5], [6, 7, 8], [9], [10]],
    5: [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9], [10]],
    4: [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]],
}
"""Heavy atoms of each bead of `TEMPO`, by the number of beads, for `heavy_atom_map`.

Atoms 0, 2, 7 and 8 are the methyls, 9 the nitrogen and 10 the oxygen; with four beads, these two are one.
"""

_READERS: dict[str, Callable[..., Chem.Mol | None]] = {
    ".sdf": Chem.MolFromMolFile,
    ".mol": Chem.MolFromMolFile,
    ".mol2": Chem.MolFromMol2File,
}


def organic_molecule(source: str | os.PathLike[str], *, name: str | None = None, seed: int = 0) -> AllAtomSystem:
    """One molecule in the gas phase with the MMFF94 force field, all degrees of freedom flexible.

    The parameters are RDKit's, see `openmmcg.reference.molecules.mmff94`. Nothing is cut off, and the motion of the
    centre of mass is removed: it has no part in the distribution of shapes. The Reference platform is the fastest for
    molecules of some tens of atoms (``sample(..., platform="Reference", time_step=0.001)``).

    Parameters
    ----------
    source
        SMILES, or the path of a ``.sdf``, ``.mol`` or ``.mol2`` file, whose atoms keep their order (and their positions
        where the file has three dimensions and all hydrogens). Missing hydrogens are added at the end.
    name
        Of the residue in the topology; by default the source.
    seed
        Of the embedding in space.

    Returns
    -------
    AllAtomSystem
        Topology, System and minimised positions, nm. Atoms are named by element and number: ``C1``, ``S2``, ``H1``.

    Raises
    ------
    ValueError
        No molecule or more than one, a molecule that RDKit cannot place in space, or one that MMFF94 has no types for;
        the message names the atoms.
    FileNotFoundError
        A file that is not there.

    Examples
    --------
    >>> topology, system, positions = organic_molecule("CCO")
    >>> [atom.name for atom in topology.atoms()]
    ['C1', 'C2', 'O1', 'H1', 'H2', 'H3', 'H4', 'H5', 'H6']
    >>> positions.shape
    (9, 3)
    """
    molecule = read_molecule(source)
    forces = mmff94_forces(molecule)
    if molecule.GetNumConformers() == 0:
        embedding: Any = rdDistGeom.ETKDGv3()
        embedding.randomSeed = seed
        if rdDistGeom.EmbedMolecule(molecule, embedding) < 0:
            raise ValueError(f"RDKit finds no geometry for {source}; give a file with positions")
    system = openmm.System()
    for atom in molecule.GetAtoms():
        system.addParticle(app.Element.getByAtomicNumber(atom.GetAtomicNum()).mass)
    for force in forces:
        system.addForce(force)
    system.addForce(openmm.CMMotionRemover(1))
    start = 0.1 * molecule.GetConformer().GetPositions()
    minimum = minimise(system, start, None, tolerance=1.0, platform="Reference")
    return AllAtomSystem(_topology(molecule, name or str(source)), system, minimum)


def read_molecule(source: str | os.PathLike[str]) -> Chem.Mol:
    """RDKit's molecule with all hydrogens, from a SMILES string or a file; see `organic_molecule`."""
    path = Path(source)
    if path.suffix.lower() in _READERS:
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        molecule = _READERS[path.suffix.lower()](str(path), removeHs=False)
    elif isinstance(source, str):
        molecule = Chem.MolFromSmiles(source)
    else:
        raise ValueError(f"{path} is of no known kind; give one of {', '.join(_READERS)}, or a SMILES string")
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"{str(source)!r} is no molecule that RDKit can read (SMILES, or a path of {list(_READERS)})")
    if len(Chem.GetMolFrags(molecule)) > 1:
        raise ValueError(f"{str(source)!r} has {len(Chem.GetMolFrags(molecule))} molecules; give one")
    complete = Chem.AddHs(molecule, addCoords=True)
    if complete.GetNumConformers() and not complete.GetConformer().Is3D():
        complete.RemoveAllConformers()
    return complete


def find_atoms(source: str | os.PathLike[str], pattern: str) -> NDArray[np.int64]:
    """Atoms of a molecule that match a SMARTS pattern, as for dihedrals and beads.

    Parameters
    ----------
    source
        As for `organic_molecule`.
    pattern
        SMARTS.

    Returns
    -------
    array [matches, atoms of the pattern]

    Raises
    ------
    ValueError
        The pattern cannot be read, or matches nowhere.

    Examples
    --------
    The dihedral between the rings of bithiophene, S-C-C-S:

    >>> find_atoms(BITHIOPHENE, "sc-!@cs")
    array([[5, 6, 8, 9]])
    """
    query = Chem.MolFromSmarts(pattern)
    if query is None:
        raise ValueError(f"{pattern!r} is no SMARTS pattern")
    matches = read_molecule(source).GetSubstructMatches(query)
    if not matches:
        raise ValueError(f"{pattern!r} matches no atoms of {source}")
    return np.array(matches, dtype=np.int64)


def heavy_atom_map(
    topology: app.Topology, groups: Sequence[Sequence[int]], *, names: Sequence[str] | None = None
) -> Mapping:
    """Beads at the centres of mass of heavy atoms and of the hydrogens bonded to them.

    Parameters
    ----------
    topology
        Of the atoms, with elements and bonds, as of `organic_molecule`.
    groups
        Indices of each bead's heavy atoms, no atom in two beads.
    names
        The beads' names and types; by default all differ, ``B0``, ``B1`` …

    Raises
    ------
    ValueError
        As `Mapping.center_of_mass`.

    Examples
    --------
    >>> ethanol = organic_molecule("CCO").topology
    >>> heavy_atom_map(ethanol, [[0, 1], [2]]).masses.round(2).tolist()  # C2H5 and OH, amu
    [29.06, 17.01]
    """
    hydrogens = defaultdict(list)
    for first, second in topology.bonds():
        for heavy, light in ((first, second), (second, first)):
            if light.element is app.element.hydrogen:
                hydrogens[heavy.index].append(light.index)
    complete = [[*group, *(light for heavy in group for light in hydrogens[heavy])] for group in groups]
    return Mapping.center_of_mass(topology, complete, names=names or [f"B{bead}" for bead in range(len(groups))])


def _topology(molecule: Chem.Mol, name: str) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue(name, topology.addChain())
    counts: Counter[str] = Counter()
    atoms = []
    for atom in molecule.GetAtoms():
        element = app.Element.getByAtomicNumber(atom.GetAtomicNum())
        counts[element.symbol] += 1
        atoms.append(topology.addAtom(f"{element.symbol}{counts[element.symbol]}", element, residue))
    for bond in molecule.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology
