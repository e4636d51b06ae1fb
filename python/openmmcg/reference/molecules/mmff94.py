"""MMFF94 as OpenMM forces, with the parameters that RDKit finds for a molecule.

Energy terms and constants: Halgren, J. Comput. Chem. 17, 490 (1996), equations 2 to 9; typing and parameters come from
RDKit (Tosco, Stiefl & Landrum, J. Cheminform. 6, 37 (2014)). In the units of the paper (kcal/mol, Å, millidyne) only
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import openmm
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from openmmcg.reference.molecules.nitroxide import NitroxideProperties, radicals_beside_nitroxides

_KILOCALORIE = 4.184  # kJ
_ANGSTROM = 0.1  # nm
_MILLIDYNE_ANGSTROM = 143.9325 * _KILOCALORIE  # kJ/mol
_COULOMB = 332.0716 * _KILOCALORIE * _ANGSTROM  # kJ/mol nm/e²
_COULOMB_OF_1_4_PAIRS = 0.75
# Atom types with the property "linear": sp carbon, the middle nitrogens of azides and of diazonium ions.
_LINEAR_TYPES = (4, 53, 61)
_ELEMENTS = ["H", "Li", "C", "N", "O", "F", "Na", "Mg", "Si", "P", "S", "Cl", "K", "Ca", "Fe", "Cu", "Zn", "Br", "I"]

_BOND = "0.5*k*d^2*(1 - 20*d + 700/3*d^2); d = r - length"
_ANGLE = "0.5*k*d^2*(1 - 0.4*d); d = theta - angle"
_LINEAR_ANGLE = "k*(1 + cos(theta))"
# In Cartesian coordinates, because the Reference platform takes three to five times as long with the functions
# distance, angle and dihedral.
_STRETCH_BEND = (
    "(k1*(ra - length1) + k2*(rb - length2))*(acos((ax*bx + ay*by + az*bz)/(ra*rb)) - angle0);"
    "ra = sqrt(ax^2 + ay^2 + az^2); rb = sqrt(bx^2 + by^2 + bz^2);"
    "ax = x1 - x2; ay = y1 - y2; az = z1 - z2; bx = x3 - x2; by = y3 - y2; bz = z3 - z2"
)
# Wilson angles of the bonds a, b and c from atom 1: the sine of that of a with the plane of b and c is the triple
# product over |a| |b × c|.
_OUT_OF_PLANE = (
    "0.5*k*(asin(volume/(ra*rbc))^2 + asin(volume/(rb*rac))^2 + asin(volume/(rc*rab))^2);"
    "volume = ax*bcx + ay*bcy + az*bcz;"
    "rbc = sqrt(bcx^2 + bcy^2 + bcz^2); bcx = by*cz - bz*cy; bcy = bz*cx - bx*cz; bcz = bx*cy - by*cx;"
    "rac = sqrt(acx^2 + acy^2 + acz^2); acx = ay*cz - az*cy; acy = az*cx - ax*cz; acz = ax*cy - ay*cx;"
    "rab = sqrt(abx^2 + aby^2 + abz^2); abx = ay*bz - az*by; aby = az*bx - ax*bz; abz = ax*by - ay*bx;"
    "ra = sqrt(ax^2 + ay^2 + az^2); rb = sqrt(bx^2 + by^2 + bz^2); rc = sqrt(cx^2 + cy^2 + cz^2);"
    "ax = x2 - x1; ay = y2 - y1; az = z2 - z1; bx = x3 - x1; by = y3 - y1; bz = z3 - z1;"
    "cx = x4 - x1; cy = y4 - y1; cz = z4 - z1"
)
_TORSION = "0.5*(v1*(1 + c) + v2*(2 - 2*c^2) + v3*(1 + c*(4*c^2 - 3))); c = cos(theta)"
_NONBONDED = (
    "depth*(1.07*x)^7*(1.12*y/(r^7 + 0.12*y) - 2) + coulomb/(r + 0.005);x = minimum/(r + 0.07*minimum); y = minimum^7"
)


def mmff94_forces(molecule: Chem.Mol) -> list[openmm.Force]:
    """MMFF94 of one molecule in the gas phase, dielectric constant 1, no cutoff.

    Parameters
    ----------
    molecule
        With all hydrogens; particles are its atoms in their order.

    Returns
    -------
    list of openmm.Force
        Named ``bond stretch``, ``angle bend``, ``linear angle bend``, ``stretch-bend``, ``out-of-plane bend``,
        ``torsion`` and ``non-bonded`` (van der Waals, buffered 14-7, and Coulomb, buffered); a force without terms is
        left out.

    Raises
    ------
    ValueError
        RDKit finds no MMFF94 types, or the molecule is a radical other than a nitroxide.
    """
    properties = checked_properties(molecule)
    forces = [
        _bonds(molecule, properties),
        *_angles(molecule, properties),
        _out_of_plane_bends(molecule, properties),
        _torsions(molecule, properties),
        _nonbonded(molecule, properties),
    ]
    return [force for force in forces if _terms(force) > 0]


def _terms(force: Any) -> int:
    if isinstance(force, openmm.CustomAngleForce):
        return force.getNumAngles()
    return force.getNumTorsions() if isinstance(force, openmm.CustomTorsionForce) else force.getNumBonds()


def checked_properties(molecule: Chem.Mol) -> Any:
    """RDKit's MMFF94 properties of a molecule (``MMFFMolProperties``), put right where it has nitroxide groups.

    Raises
    ------
    ValueError
        Names the atoms that MMFF94 cannot describe.
    """
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
    remedy = "sample it with an OpenMM System of another force field, which `sample` takes as well"
    smiles = Chem.MolToSmiles(Chem.RemoveHs(molecule))
    if properties is None:
        atoms = list(molecule.GetAtoms())
        suspects = [atom for atom in atoms if atom.GetSymbol() not in _ELEMENTS]
        suspects = suspects or [atom for atom in atoms if atom.GetSymbol() not in ("H", "C")] or atoms
        raise ValueError(f"MMFF94 has no atom type for {_named(suspects)} of {smiles}; {remedy}")
    radicals = radicals_beside_nitroxides(molecule)
    if radicals:
        # RDKit would type them as anions.
        raise ValueError(f"MMFF94 has no parameters for radicals, as {_named(radicals)} of {smiles}; {remedy}")
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return NitroxideProperties(molecule, properties)
    return properties


def _named(atoms: Iterable[Any]) -> str:
    return ", ".join(f"{atom.GetSymbol()} (atom {atom.GetIdx()})" for atom in atoms)


def _bonds(molecule: Chem.Mol, properties: Any) -> openmm.CustomBondForce:
    force = openmm.CustomBondForce(_BOND)
    force.setName("bond stretch")
    for name in ("k", "length"):
        force.addPerBondParameter(name)
    for bond in molecule.GetBonds():
        pair = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        k, length = _bond_parameters(molecule, properties, *pair)
        force.addBond(*pair, (k, length))
    return force


def _bond_parameters(molecule: Chem.Mol, properties: Any, first: int, second: int) -> tuple[float, float]:
    """Force constant, kJ/mol/nm², and length, nm."""
    _, k, length = properties.GetMMFFBondStretchParams(molecule, first, second)
    return k * _MILLIDYNE_ANGSTROM / _ANGSTROM**2, length * _ANGSTROM


def _angles(molecule: Chem.Mol, properties: Any) -> list[openmm.Force]:
    """Bends at ordinary and at linear centres, and the coupling of stretch and bend, which linear centres lack."""
    bend = openmm.CustomAngleForce(_ANGLE)
    bend.setName("angle bend")
    for name in ("k", "angle"):
        bend.addPerAngleParameter(name)
    linear = openmm.CustomAngleForce(_LINEAR_ANGLE)
    linear.setName("linear angle bend")
    linear.addPerAngleParameter("k")
    coupling = openmm.CustomCompoundBondForce(3, _STRETCH_BEND)
    coupling.setName("stretch-bend")
    for name in ("k1", "k2", "length1", "length2", "angle0"):
        coupling.addPerBondParameter(name)
    for centre in molecule.GetAtoms():
        j = centre.GetIdx()
        for i, k in combinations([neighbour.GetIdx() for neighbour in centre.GetNeighbors()], 2):
            _, stiffness, degrees = properties.GetMMFFAngleBendParams(molecule, i, j, k)
            if properties.GetMMFFAtomType(j) in _LINEAR_TYPES:
                linear.addAngle(i, j, k, (stiffness * _MILLIDYNE_ANGSTROM,))
                continue
            angle = math.radians(degrees)
            bend.addAngle(i, j, k, (stiffness * _MILLIDYNE_ANGSTROM, angle))
            couplings = properties.GetMMFFStretchBendParams(molecule, i, j, k)
            if couplings is None:
                continue
            lengths = [_bond_parameters(molecule, properties, end, j)[1] for end in (i, k)]
            scaled = [constant * _MILLIDYNE_ANGSTROM / _ANGSTROM for constant in couplings[1:]]
            coupling.addBond((i, j, k), (*scaled, *lengths, angle))
    return [bend, linear, coupling]


def _out_of_plane_bends(molecule: Chem.Mol, properties: Any) -> openmm.CustomCompoundBondForce:
    force = openmm.CustomCompoundBondForce(4, _OUT_OF_PLANE)
    force.setName("out-of-plane bend")
    force.addPerBondParameter("k")
    for centre in molecule.GetAtoms():
        if centre.GetDegree() == 3:
            j = centre.GetIdx()
            i, k, m = (neighbour.GetIdx() for neighbour in centre.GetNeighbors())
            stiffness = properties.GetMMFFOopBendParams(molecule, i, j, k, m)
            if stiffness:
                force.addBond((j, i, k, m), (stiffness * _MILLIDYNE_ANGSTROM,))
    return force


def _torsions(molecule: Chem.Mol, properties: Any) -> openmm.CustomTorsionForce:
    force = openmm.CustomTorsionForce(_TORSION)
    force.setName("torsion")
    for name in ("v1", "v2", "v3"):
        force.addPerTorsionParameter(name)
    for bond in molecule.GetBonds():
        axis = (bond.GetBeginAtom(), bond.GetEndAtom())
        j, k = (atom.GetIdx() for atom in axis)
        ends = [[neighbour.GetIdx() for neighbour in atom.GetNeighbors()] for atom in axis]
        for i, m in product(*ends):
            if i in (k, m) or m == j:
                continue
            parameters = properties.GetMMFFTorsionParams(molecule, i, j, k, m)
            if parameters is not None and any(parameters[1:]):
                force.addTorsion(i, j, k, m, [barrier * _KILOCALORIE for barrier in parameters[1:]])
    return force


def _nonbonded(molecule: Chem.Mol, properties: Any) -> openmm.CustomBondForce:
    """Pairs of atoms three or more bonds apart. So few that each has parameters of its own."""
    force = openmm.CustomBondForce(_NONBONDED)
    force.setName("non-bonded")
    for name in ("depth", "minimum", "coulomb"):
        force.addPerBondParameter(name)
    bonds_between = Chem.GetDistanceMatrix(molecule)
    charges = [properties.GetMMFFPartialCharge(i) for i in range(molecule.GetNumAtoms())]
    for i, j in combinations(range(molecule.GetNumAtoms()), 2):
        if bonds_between[i, j] >= 3:
            *_, minimum, depth = properties.GetMMFFVdWParams(i, j)
            coulomb = _COULOMB * charges[i] * charges[j]
            coulomb *= _COULOMB_OF_1_4_PAIRS if bonds_between[i, j] == 3 else 1.0
            force.addBond(i, j, (depth * _KILOCALORIE, minimum * _ANGSTROM, coulomb))
    return force
