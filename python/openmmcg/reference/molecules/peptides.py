"""Two peptides on which coarse-graining methods are compared, ready to sample."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms

from openmmcg.reference.molecules.water import AllAtomSystem, without_overlaps
from openmmcg.simulation.minimise import minimise

_PROTEIN = "amber99sbildn.xml"
_SOLVENTS = {"implicit": "amber99_obc.xml", "explicit": "tip3p.xml"}
_CUTOFF = 0.9  # nm
_SMALLEST_PADDING = 1.0  # nm; the box is at least twice as wide, so that it holds the cutoff
_EMBEDDINGS = 50
_CLOSEST = 1.8  # Å, of heavy atoms more than three bonds apart
_HYDROGEN_BOND = 0.29  # nm, from N to O

# An atom is named by the number of its residue and its own name, a torsion by four atoms.
_Atom = tuple[int, str]
_Torsion = tuple[_Atom, _Atom, _Atom, _Atom]

_CAPPED_ALANINE = "CC(=O)N[C@@H](C)C(=O)NC"
_CAPPED_ALANINE_RESIDUES = {"ACE": ("CH3", "C", "O"), "ALA": ("N", "CA", "CB", "C", "O"), "NME": ("N", "C")}

_CHIGNOLIN = "YYDPETGTWY"
_EXTENDED = (-135.0, 135.0)
# φ and ψ of residues 1 to 10: two strands, and from residue 4 to 7 a loop αR-αR-γR-αL.
_HAIRPIN = (
    (-120.0, 140.0),
    (-120.0, 135.0),
    (-80.0, 120.0),
    (-60.0, -30.0),
    (-70.0, -30.0),
    (-100.0, -10.0),
    (80.0, 10.0),
    (-110.0, 140.0),
    (-120.0, 135.0),
    (-120.0, 135.0),
)
# The atom that ends the torsion χ2 and its value; χ1 is −60° in all.
_ROTAMERS = {"Y": ("CD1", 90.0), "W": ("CD1", 90.0), "E": ("CD", 180.0), "D": ("OD1", 0.0)}
_HAIRPIN_BONDS = (((3, "N"), (8, "O")), ((7, "N"), (3, "O")), ((10, "N"), (1, "O")), ((1, "N"), (10, "O")))


def capped_alanine(
    solvent: Literal["implicit", "explicit"] = "implicit",
    *,
    hydrogen_mass: float | None = None,
    padding: float = 1.2,
    seed: int = 0,
) -> AllAtomSystem:
    """Alanine with an acetyl and an N-methylamide cap, "alanine dipeptide", 22 atoms.

    The force field is AMBER ff99SB-ILDN (Lindorff-Larsen et al., Proteins 78, 1950 (2010)), in a generalised Born
    solvent of the OBC kind (Onufriev, Bashford & Case, Proteins 55, 383 (2004)) without cutoff, or in a cubic box of
    TIP3P water with particle-mesh Ewald. Bonds to hydrogen and water molecules are rigid. RDKit builds the molecule.

    Parameters
    ----------
    solvent
        ``"implicit"`` or ``"explicit"``.
    hydrogen_mass
        amu. Hydrogen atoms of the peptide take this mass from the atom that they are bonded to, and time steps of 4 fs
        become stable with 3 amu. Forces and the energy are those of the positions, whatever the masses, and so is
        the distribution of positions but for that of angles between rigid bonds; dynamics are not. By default the
        masses of nature, for 2 fs.
    padding
        nm of water from the peptide to its periodic image, at least 1.
    seed
        Of the embedding in space, and of where hydrogen atoms and ions are tried first.

    Returns
    -------
    AllAtomSystem
        With minimised positions, in the basin C7eq or that of extended backbones. On the CPU platform OpenMM spends
        most of a step of so few atoms waiting for threads: sample the implicit one on the Reference platform.

    Raises
    ------
    ValueError
        Unknown solvent, a mass of hydrogen below nature's or too large for what it is bonded to, or less padding
        than the cutoff of the electrostatics needs.

    Notes
    -----
    In the implicit solvent at 300 K, passages to φ > 0 are rare: a run of 50 ns, with 1189 passages between αR and
    extended backbones, had none, and one begun at φ > 0 left it after 1.3 ns, not to come back within 2 ns. With a
    bias along φ, 8 ns had 424 of them and gave the basin 1.9 % of the population.

    Examples
    --------
    >>> topology, system, positions = capped_alanine()
    >>> [residue.name for residue in topology.residues()], positions.shape
    (['ACE', 'ALA', 'NME'], (22, 3))
    """
    _check(solvent, hydrogen_mass, padding)
    molecule = Chem.MolFromSmiles(_CAPPED_ALANINE)
    names = [
        (number, residue, name)
        for number, (residue, names) in enumerate(_CAPPED_ALANINE_RESIDUES.items(), start=1)
        for name in names
    ]
    for atom, (number, residue, name) in zip(molecule.GetAtoms(), names, strict=True):
        atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(name, residueName=residue, residueNumber=number))
    torsions: dict[_Torsion, float] = {
        ((1, "CH3"), (1, "C"), (2, "N"), (2, "CA")): 180.0,
        _phi(2): -80.0,
        _psi(2): 120.0,
        ((2, "CA"), (2, "C"), (3, "N"), (3, "C")): 180.0,
    }
    return _assemble(_embedded(molecule, torsions, seed), solvent, hydrogen_mass, padding, seed)


def chignolin(
    solvent: Literal["implicit", "explicit"] = "implicit",
    *,
    conformation: Literal["hairpin", "extended"] = "hairpin",
    hydrogen_mass: float | None = None,
    padding: float = 1.2,
    seed: int = 0,
) -> AllAtomSystem:
    """The miniprotein chignolin in its variant CLN025, YYDPETGTWY (Honda et al., JACS 130, 15327 (2008)).

    Its termini are charged, as are aspartate and glutamate, so that its charge is −2; an explicit box has two sodium
    ions for that. Force fields and constraints are those of `capped_alanine`.

    Parameters
    ----------
    solvent, hydrogen_mass, padding, seed
        See `capped_alanine`.
    conformation
        Where to start. ``"hairpin"`` has the hydrogen bonds of the folded state between its strands, from residue 3
        to 8 and from 1 to 10, and in its turn; side chains take the commonest rotamer and need some
        nanoseconds to pack. It is built from backbone torsions, not measured. ``"extended"`` is a strand.

    Returns
    -------
    AllAtomSystem
        166 atoms, and in explicit solvent those of ions and water.

    Raises
    ------
    ValueError
        As `capped_alanine`, or for an unknown conformation.

    Examples
    --------
    >>> topology, system, positions = chignolin(conformation="extended")
    >>> [residue.name for residue in topology.residues()][:3], topology.getNumAtoms()
    (['TYR', 'TYR', 'ASP'], 166)
    """
    _check(solvent, hydrogen_mass, padding)
    if conformation not in ("hairpin", "extended"):
        raise ValueError(f"unknown conformation {conformation!r}; known are hairpin, extended")
    hairpin = conformation == "hairpin"
    molecule = Chem.MolFromSequence(_CHIGNOLIN)
    torsions: dict[_Torsion, float] = {}
    for number, residue in enumerate(_CHIGNOLIN, start=1):
        phi, psi = _HAIRPIN[number - 1] if hairpin else _EXTENDED
        if number < len(_CHIGNOLIN):
            torsions[_psi(number)] = psi
            torsions[(number, "CA"), (number, "C"), (number + 1, "N"), (number + 1, "CA")] = 180.0
        if number > 1 and residue != "P":  # of proline φ is held by its ring
            torsions[_phi(number)] = phi
        if residue in _ROTAMERS:
            fourth, second_torsion = _ROTAMERS[residue]
            torsions[(number, "N"), (number, "CA"), (number, "CB"), (number, "CG")] = -60.0
            torsions[(number, "CA"), (number, "CB"), (number, "CG"), (number, fourth)] = second_torsion
    return _assemble(
        _embedded(molecule, torsions, seed),
        solvent,
        hydrogen_mass,
        padding,
        seed,
        hydrogen_bonds=_HAIRPIN_BONDS if hairpin else (),
    )


def _check(solvent: str, hydrogen_mass: float | None, padding: float) -> None:
    if solvent not in _SOLVENTS:
        raise ValueError(f"unknown solvent {solvent!r}; known are {', '.join(_SOLVENTS)}")
    # A methyl carbon gives to three hydrogen atoms: at 4 amu it would be the lighter one.
    if hydrogen_mass is not None and not 1.0 <= hydrogen_mass <= 4.0:
        raise ValueError(f"hydrogen_mass must be from 1 to 4 amu, got {hydrogen_mass}; 3 amu suit steps of 4 fs")
    if not padding >= _SMALLEST_PADDING:
        raise ValueError(
            f"padding must be at least {_SMALLEST_PADDING} nm, for the cutoff of {_CUTOFF} nm, got {padding} nm"
        )


def _phi(residue: int) -> _Torsion:
    return (residue - 1, "C"), (residue, "N"), (residue, "CA"), (residue, "C")


def _psi(residue: int) -> _Torsion:
    return (residue, "N"), (residue, "CA"), (residue, "C"), (residue + 1, "N")


def _embedded(molecule: Chem.Mol, torsions: dict[_Torsion, float], seed: int) -> Chem.Mol:
    """The heavy atoms in space, with these torsions in degrees."""
    random_numbers = random.Random(seed)
    for _ in range(_EMBEDDINGS):
        with_hydrogens = Chem.AddHs(molecule)
        if rdDistGeom.EmbedMolecule(with_hydrogens, randomSeed=random_numbers.randrange(1 << 30)) != 0:
            continue
        heavy = Chem.RemoveHs(with_hydrogens)
        index = {_named(atom): atom.GetIdx() for atom in heavy.GetAtoms()}
        for atoms, angle in torsions.items():
            first, second, third, fourth = (index[atom] for atom in atoms)
            rdMolTransforms.SetDihedralDeg(heavy.GetConformer(), first, second, third, fourth, angle)
        places = heavy.GetConformer().GetPositions()
        distances = np.linalg.norm(places[:, None] - places, axis=-1)
        # Closer, a side chain may pass through a ring, out of which no minimisation leads.
        if distances[Chem.GetDistanceMatrix(heavy) > 3].min() > _CLOSEST:
            return heavy
    raise RuntimeError(f"RDKit found no structure without overlaps in {_EMBEDDINGS} attempts; try another seed")


def _named(atom: Chem.Atom) -> _Atom:
    place = atom.GetPDBResidueInfo()
    return place.GetResidueNumber(), place.GetName().strip()


def _topology(molecule: Chem.Mol) -> app.Topology:
    topology = app.Topology()
    chain = topology.addChain()
    residues: dict[int, app.topology.Residue] = {}
    atoms = []
    for atom in molecule.GetAtoms():
        number, name = _named(atom)
        if number not in residues:
            residue_name = atom.GetPDBResidueInfo().GetResidueName()
            residues[number] = topology.addResidue(residue_name, chain, str(number))
        atoms.append(topology.addAtom(name, app.Element.getBySymbol(atom.GetSymbol()), residues[number]))
    for bond in molecule.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology


def _assemble(
    molecule: Chem.Mol,
    solvent: str,
    hydrogen_mass: float | None,
    padding: float,
    seed: int,
    hydrogen_bonds: Sequence[tuple[_Atom, _Atom]] = (),
) -> AllAtomSystem:
    """Add hydrogen atoms, bring the peptide into shape, add water if it is wanted."""
    implicit = app.ForceField(_PROTEIN, _SOLVENTS["implicit"])
    modeller = app.Modeller(_topology(molecule), 0.1 * molecule.GetConformer().GetPositions() * unit.nanometer)
    with _repeatable(seed):
        modeller.addHydrogens(implicit, platform=openmm.Platform.getPlatform("Reference"))
    topology = modeller.topology
    options = {"constraints": app.HBonds, "hydrogenMass": hydrogen_mass}
    system = implicit.createSystem(topology, nonbondedMethod=app.NoCutoff, **options)
    positions = modeller.getPositions().value_in_unit(unit.nanometer)
    if hydrogen_bonds:
        positions = _relaxed(_pulled_together(system, topology, hydrogen_bonds), positions)
    positions = _relaxed(system, positions)
    if solvent == "explicit":
        explicit = app.ForceField(_PROTEIN, _SOLVENTS["explicit"])
        modeller = app.Modeller(topology, positions * unit.nanometer)
        with _repeatable(seed):
            modeller.addSolvent(explicit, model="tip3p", padding=padding)
        topology = modeller.topology
        system = explicit.createSystem(topology, nonbondedMethod=app.PME, nonbondedCutoff=_CUTOFF, **options)
        positions = without_overlaps(system, modeller.getPositions().value_in_unit(unit.nanometer))
    return AllAtomSystem(topology, system, positions)


def _pulled_together(
    system: openmm.System, topology: app.Topology, pairs: Sequence[tuple[_Atom, _Atom]]
) -> openmm.System:
    """The System with springs between atoms that are to come near each other."""
    index = {(int(atom.residue.id), atom.name): atom.index for atom in topology.atoms()}
    springs = openmm.CustomBondForce(f"2000*max(0, r-{_HYDROGEN_BOND})^2")
    for first, second in pairs:
        springs.addBond(index[first], index[second])
    result = copy.deepcopy(system)
    result.addForce(springs)
    return result


def _relaxed(system: openmm.System, positions: ArrayLike) -> NDArray[np.float64]:
    """At a minimum of the energy. With one thread the sums are always the same, and so are the positions."""
    return minimise(system, positions, None, platform="CPU", threads=1)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seed Python's own random numbers, which OpenMM's Modeller uses, and give them back as they were."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
