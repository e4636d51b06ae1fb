"""Nitroxide radicals, which MMFF94 does not know.

RDKit types the oxygen of a nitroxide as an anion's, with an N-O bond of 1.42 Å and a charge of −1 too much. Here the
bond, the angles at nitrogen and the charges are taken from GFN2-xTB for TEMPO: its minimum has an N-O bond of 1.281 Å,
angles C-N-C of 124.7° and C-N-O of 116.3° (X-ray diffraction: some 1.28 Å, 124° and 116°), and the curvature of the
energy along the bond, all other atoms fixed, is 8.9 mdyn/Å. Everything else, the stiffness of the angles too, is
MMFF94's for an amine.
"""

from __future__ import annotations

from typing import Any

from rdkit import Chem

_PATTERN = Chem.MolFromSmarts("[CX4][NX3;v3]([CX4])[OX1;v1]")
_BOND = (8.94, 1.265)  # mdyn/Å, Å; the methyl groups stretch it to 1.281 Å
_ANGLE_AT_CARBONS, _ANGLE_AT_OXYGEN = 124.7, 116.3  # degrees
_OXYGEN_CHARGE = -0.44  # e


class NitroxideProperties:
    """RDKit's MMFF94 properties of a molecule with nitroxide groups, with what they need put right.

    Has those methods of RDKit's ``MMFFMolProperties`` that read parameters.
    """

    def __init__(self, molecule: Chem.Mol, properties: Any) -> None:
        self._properties = properties
        self._groups = {nitrogen: oxygen for _, nitrogen, _, oxygen in molecule.GetSubstructMatches(_PATTERN)}
        self._charges: dict[int, float] = {}
        for nitrogen, oxygen in self._groups.items():
            # The group as a whole is neutral; carbon keeps what it has from the bond to nitrogen.
            as_anion = sum(properties.GetMMFFPartialCharge(atom) for atom in (nitrogen, oxygen))
            self._charges |= {oxygen: _OXYGEN_CHARGE, nitrogen: as_anion + 1 - _OXYGEN_CHARGE}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._properties, name)

    def GetMMFFBondStretchParams(self, molecule: Chem.Mol, i: int, j: int) -> Any:  # noqa: N802
        if self._groups.get(i) == j or self._groups.get(j) == i:
            return (0, *_BOND)
        return self._properties.GetMMFFBondStretchParams(molecule, i, j)

    def GetMMFFAngleBendParams(self, molecule: Chem.Mol, i: int, j: int, k: int) -> Any:  # noqa: N802
        kind, stiffness, angle = self._properties.GetMMFFAngleBendParams(molecule, i, j, k)
        if j in self._groups:
            angle = _ANGLE_AT_OXYGEN if self._groups[j] in (i, k) else _ANGLE_AT_CARBONS
        return kind, stiffness, angle

    def GetMMFFPartialCharge(self, i: int) -> float:  # noqa: N802
        return self._charges.get(i, self._properties.GetMMFFPartialCharge(i))


def radicals_beside_nitroxides(molecule: Chem.Mol) -> list[Any]:
    """Atoms with unpaired electrons that are not the oxygen of a nitroxide."""
    oxygens = {match[3] for match in molecule.GetSubstructMatches(_PATTERN)}
    return [atom for atom in molecule.GetAtoms() if atom.GetNumRadicalElectrons() and atom.GetIdx() not in oxygens]
