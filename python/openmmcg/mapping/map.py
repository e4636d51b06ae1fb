"""The map itself: which atoms make a bead, and how their positions and forces are combined."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import app, unit
from scipy import sparse

from openmmcg.geometry.indices import check_bonds, check_indices
from openmmcg.geometry.molecules import Molecules
from openmmcg.mapping.topology import mapped_topology, openmm_topology, with_bonds

_TOLERANCE = 1e-6


class Mapping:
    r"""A linear coarse-grained map.

    Bead I sits at :math:`R_I = \sum_i M_{Ii} r_i` and feels :math:`F_I = \sum_i B_{Ii} f_i`. The rows of
    the position matrix M sum to one, so that the beads move along when all atoms are shifted. The force
    matrix B must satisfy :math:`B M^T = 1`; then the mean of the mapped force is minus the gradient of
    the potential of mean force (Noid et al., J. Chem. Phys. 128, 244114 (2008), for beads that share no
    atoms; Ciccotti, Kapral & Vanden-Eijnden, ChemPhysChem 6, 1809 (2005), in general). Where rigid
    constraints join atoms, all atoms of a constrained group must have the same coefficient in a row of B:
    see `check_constraints`.

    Use `center_of_mass`, `slice` or `linear` to make one; other force matrices for the same beads are in
    `openmmcg.mapping.force_map`.

    Parameters
    ----------
    topology
        Of the atoms: an `openmm.app.Topology` or an `mdtraj.Topology`.
    position_matrix
        ``[beads, atoms]``, dense or sparse.
    force_matrix
        ``[beads, atoms]``, dense or sparse.
    names
        ``[beads]``, the beads' names.
    types
        ``[beads]``, the names of the beads' types; the beads' names by default.
    masses
        Of the atoms, amu, ``[atoms]``, or the `openmm.System` that has them, 0 for virtual sites; by default those of
        the elements.

    Attributes
    ----------
    position_matrix, force_matrix : scipy.sparse.csr_array [beads, atoms]
    names : list of str [beads]
    types : int64 [beads]
        Indices into `type_names`.
    type_names : list of str
        In the order of their first appearance.
    masses : float64 [beads], amu
        :math:`1 / \sum_i M_{Ii}^2 / m_i` (Noid et al.); for a centre of mass, its atoms' mass.

    Raises
    ------
    ValueError
        Shapes that do not fit, rows that do not sum to one, a force matrix that is inconsistent with the
        position matrix, or beads that contain atoms which are massless or whose mass is unknown.
    """

    def __init__(
        self,
        topology: Any,
        position_matrix: Any,
        force_matrix: Any,
        *,
        names: Sequence[str],
        types: Sequence[str] | None = None,
        masses: ArrayLike | openmm.System | None = None,
    ) -> None:
        topology = openmm_topology(topology)
        self.position_matrix = _sparse(position_matrix)
        self.force_matrix = _sparse(force_matrix)
        self.names = list(names)
        kinds = self.names if types is None else list(types)
        self.type_names = list(dict.fromkeys(kinds))
        shape = (len(self.names), topology.getNumAtoms())
        for what, matrix in (("position", self.position_matrix), ("force", self.force_matrix)):
            if matrix.shape != shape:
                raise ValueError(
                    f"the {what} matrix has the shape {matrix.shape}; "
                    f"{shape[0]} bead names and {shape[1]} atoms need {shape}"
                )
        if len(kinds) != shape[0]:
            raise ValueError(f"there are {shape[0]} bead names and {len(kinds)} bead types")
        number_of_type = {name: number for number, name in enumerate(self.type_names)}
        self.types = np.array([number_of_type[kind] for kind in kinds], np.int64)
        _check_rows(self.position_matrix, self.names)
        _check_consistency(self.position_matrix, self.force_matrix)
        self.masses = _bead_masses(self.position_matrix, _AtomMasses(topology, masses))
        self._topology = mapped_topology(topology, list(self._atoms_of_beads().values()), self.names)
        self._atom_bonds = [(first.index, second.index) for first, second in topology.bonds()]

    @classmethod
    def center_of_mass(
        cls,
        topology: Any,
        groups: Sequence[Sequence[int]] | None = None,
        *,
        names: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        masses: ArrayLike | openmm.System | None = None,
    ) -> Mapping:
        """Beads at the centres of mass of groups of atoms; a bead's force is the sum of its atoms' forces.

        Parameters
        ----------
        topology
            Of the atoms.
        groups
            Indices of each bead's atoms, no atom in two beads; every residue is a bead by default.
        names
            The beads' names; by default those of the residues of their first atoms.
        types
            The names of the beads' types; by default the beads' names.
        masses
            Of the atoms, amu, ``[atoms]``, or the `openmm.System` that has them, 0 for virtual sites; by default
            those of the elements.

        Raises
        ------
        ValueError
            Groups that are no groups of the topology's atoms, or an atom among them without element where there are no
            masses: a united atom has a mass, a virtual site has none.

        Examples
        --------
        >>> topology = app.Topology()
        >>> water = topology.addResidue("HOH", topology.addChain())
        >>> for name, symbol in ("O", "O"), ("H1", "H"), ("H2", "H"):
        ...     atom = topology.addAtom(name, app.Element.getBySymbol(symbol), water)
        >>> mapping = Mapping.center_of_mass(topology, names=["W"])
        >>> mapping.names, mapping.masses.round(3).tolist()
        (['W'], [18.015])
        """
        topology = openmm_topology(topology)
        atoms = list(topology.atoms())
        if groups is None:
            groups = [[atom.index for atom in residue.atoms()] for residue in topology.residues()]
        _check_groups(groups, len(atoms))
        rows = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        columns = np.concatenate([check_indices(group, len(atoms), "atoms of beads") for group in groups])
        weights = _AtomMasses(topology, masses).of(columns)
        totals = np.bincount(rows, weights, len(groups))
        if not totals.all():
            raise ValueError(f"bead {int(np.argmin(totals))} has no mass: all its atoms are massless")
        matrix = sparse.csr_array((weights / totals[rows], (rows, columns)), shape=(len(groups), len(atoms)))
        if names is None:
            names = [atoms[group[0]].residue.name for group in groups]
        return cls(topology, matrix, _sum_of_forces(matrix), names=names, types=types, masses=masses)

    @classmethod
    def slice(
        cls,
        topology: Any,
        atom_indices: Sequence[int],
        *,
        names: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        masses: ArrayLike | openmm.System | None = None,
    ) -> Mapping:
        """Beads at chosen atoms, each with the force on its atom.

        Parameters
        ----------
        topology
            Of the atoms.
        atom_indices
            One per bead.
        names
            The beads' names; by default those of the atoms.
        types
            The names of the beads' types; by default the beads' names.
        masses
            Of the atoms, amu, ``[atoms]``, or the `openmm.System` that has them, 0 for virtual sites; by default
            those of the elements.
        """
        topology = openmm_topology(topology)
        groups = [[index] for index in atom_indices]
        if names is None:
            _check_groups(groups, topology.getNumAtoms())
            atoms = list(topology.atoms())
            names = [atoms[index].name for index in atom_indices]
        return cls.center_of_mass(topology, groups, names=names, types=types, masses=masses)

    @classmethod
    def linear(
        cls,
        topology: Any,
        matrix: Any,
        *,
        names: Sequence[str],
        types: Sequence[str] | None = None,
        masses: ArrayLike | openmm.System | None = None,
        force_matrix: Any | None = None,
    ) -> Mapping:
        r"""Beads at any linear combinations of atoms.

        Parameters
        ----------
        topology
            Of the atoms.
        matrix
            ``[beads, atoms]``, dense or sparse, rows summing to one.
        names
            The beads' names.
        types
            The names of the beads' types; by default the beads' names.
        masses
            Of the atoms, amu, ``[atoms]``, or the `openmm.System` that has them, 0 for virtual sites; by default
            those of the elements.
        force_matrix
            ``[beads, atoms]``. By default a bead's force is the sum of the forces on its atoms where no
            atom is part of two beads, and otherwise :math:`(M M^T)^{-1} M`, the smallest matrix with
            :math:`B M^T = 1`.
        """
        position_matrix = _sparse(matrix)
        if force_matrix is None:
            in_beads = np.bincount(position_matrix.indices, minlength=position_matrix.shape[1])
            disjoint = in_beads.max(initial=0) <= 1
            force_matrix = _sum_of_forces(position_matrix) if disjoint else _pseudo_inverse(position_matrix)
        return cls(topology, position_matrix, force_matrix, names=names, types=types, masses=masses)

    @property
    def number_of_beads(self) -> int:
        """Rows of the matrices."""
        return self.position_matrix.shape[0]

    @property
    def number_of_atoms(self) -> int:
        """Columns of the matrices."""
        return self.position_matrix.shape[1]

    def topology(self) -> app.Topology:
        """Topology of the beads: chains, residues and box of the atoms', bonds where atoms are bonded."""
        return self._topology

    @property
    def bonds(self) -> NDArray[np.int64]:
        """Pairs of bonded beads, ``[bonds, 2]``: those between which atoms are bonded, or see `with_bonds`."""
        return np.array([(a.index, b.index) for a, b in self._topology.bonds()], np.int64).reshape(-1, 2)

    def with_bonds(self, bonds: ArrayLike) -> Mapping:
        """The same beads, bonded as given; for example alpha carbons, between which no atoms are bonded.

        Parameters
        ----------
        bonds
            ``[bonds, 2]``, pairs of beads.

        Raises
        ------
        ValueError
            There is no such bead, or one is bonded to itself.
        """
        pairs = check_bonds(bonds, self.number_of_beads)
        mapping = copy.copy(self)
        mapping._topology = with_bonds(self._topology, pairs.tolist())
        return mapping

    def map_positions(
        self, positions: ArrayLike, box: ArrayLike | None = None, *, make_whole: bool = True, first_frame: int = 0
    ) -> NDArray[np.float64]:
        """Positions of the beads.

        Parameters
        ----------
        positions
            ``[atoms, 3]`` or ``[frames, atoms, 3]``, nm.
        box
            ``[3, 3]``, or ``[frames, 3, 3]``, box vectors as rows in OpenMM's reduced form, nm. Without it, molecules
            are taken to be whole.
        make_whole
            Whether molecules that faces of the box cut are first made whole along the bonds of the atoms' topology, by
            `openmmcg.geometry.make_whole`. What bonds do not join is checked.
        first_frame
            What error messages count frames from.

        Returns
        -------
        float64, ``[beads, 3]`` or ``[frames, beads, 3]``, nm

        Raises
        ------
        ValueError
            The number of atoms differs from the map's; there is no such box; or a bead's atoms, that were not made
            whole, are half a box or more apart.
        """
        positions = np.asarray(positions, float)
        self._check_atoms(positions)
        if box is not None:
            positions = (self._bonded if make_whole else self._unbonded).whole(positions, box, first_frame)
        return self._combine(self.position_matrix, positions)

    def map_forces(self, forces: ArrayLike) -> NDArray[np.float64]:
        """Forces on the beads, kJ/mol/nm.

        Parameters
        ----------
        forces
            On the atoms, ``[atoms, 3]`` or ``[frames, atoms, 3]``, kJ/mol/nm.

        Returns
        -------
        float64, ``[beads, 3]`` or ``[frames, beads, 3]``, kJ/mol/nm
        """
        return self._combine(self.force_matrix, np.asarray(forces, float))

    def with_force_matrix(self, force_matrix: Any) -> Mapping:
        """The same beads with other forces.

        Parameters
        ----------
        force_matrix
            ``[beads, atoms]``, dense or sparse.

        Raises
        ------
        ValueError
            A shape that does not fit, or a force matrix that is inconsistent with the position matrix.
        """
        mapping = copy.copy(self)
        mapping.force_matrix = _sparse(force_matrix)
        if mapping.force_matrix.shape != self.position_matrix.shape:
            raise ValueError(
                f"the force matrix has the shape {mapping.force_matrix.shape}; the map needs "
                f"{self.position_matrix.shape}"
            )
        _check_consistency(self.position_matrix, mapping.force_matrix)
        return mapping

    def check_constraints(self, system: openmm.System) -> None:
        """Check that mapped forces of this System are meaningful in spite of its rigid bonds.

        The forces that hold rigid bonds are not part of what OpenMM reports, so a bead must take the
        forces of two constrained atoms with equal coefficients, such that the missing forces cancel.

        Parameters
        ----------
        system
            The all-atom System.

        Raises
        ------
        ValueError
            A constraint joins atoms that differ in the force matrix; for instance an atom sliced out of a
            rigid water molecule. `constraint_aware_force_map` and `optimal_force_map` treat them alike.
        """
        number = system.getNumConstraints()
        if number == 0:
            return
        first, second = np.array([system.getConstraintParameters(c)[:2] for c in range(number)]).T
        columns = self.force_matrix.tocsc()
        difference = abs(columns[:, first] - columns[:, second]).max(axis=0).toarray().ravel()
        if difference.max() > _TOLERANCE:
            worst = int(np.argmax(difference))
            raise ValueError(
                f"atoms {first[worst]} and {second[worst]} are joined by a rigid bond but have "
                "different weights in the forces of the beads, so the mapped forces miss the bond's share; "
                "take the whole rigid group into the bead, or use constraint_aware_force_map or optimal_force_map"
            )

    @cached_property
    def _bonded(self) -> Molecules:
        return Molecules(self.number_of_atoms, self._atom_bonds, self._atoms_of_beads())

    @cached_property
    def _unbonded(self) -> Molecules:
        return Molecules(self.number_of_atoms, (), self._atoms_of_beads())

    def _atoms_of_beads(self) -> dict[str, NDArray[np.int32]]:
        """By what error messages call them."""
        groups = np.split(self.position_matrix.indices, self.position_matrix.indptr[1:-1])
        names = [f"the atoms of bead {bead} ({name})" for bead, name in enumerate(self.names)]
        return dict(zip(names, groups, strict=True))

    def _check_atoms(self, vectors: NDArray[np.float64]) -> None:
        if vectors.ndim < 2 or vectors.shape[-2:] != (self.number_of_atoms, 3):
            raise ValueError(f"the map is for {self.number_of_atoms} atoms, got an array of shape {vectors.shape}")

    def _combine(self, matrix: sparse.csr_array, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        self._check_atoms(vectors)
        columns = np.moveaxis(vectors, -2, 0)
        mapped = (matrix @ columns.reshape(self.number_of_atoms, -1)).reshape(-1, *columns.shape[1:])
        return np.moveaxis(mapped, 0, -2)


def _sparse(matrix: Any) -> sparse.csr_array:
    result = sparse.csr_array(matrix, dtype=float, copy=True)
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def _sum_of_forces(position_matrix: sparse.csr_array) -> sparse.csr_array:
    """The coefficient of every atom of a bead is one; massless atoms are in no bead."""
    matrix = _sparse(position_matrix)
    matrix.data[:] = 1.0
    return matrix


def _pseudo_inverse(position_matrix: sparse.csr_array) -> NDArray[np.float64]:
    gram = (position_matrix @ position_matrix.T).toarray()
    if np.linalg.matrix_rank(gram, hermitian=True) < len(gram):
        raise ValueError("the rows of the position matrix are linearly dependent: a bead follows from the others")
    return np.linalg.solve(gram, position_matrix.toarray())


def _check_groups(groups: Sequence[Sequence[int]], number_of_atoms: int) -> None:
    if len(groups) == 0:
        raise ValueError("a map needs at least one bead")
    taken: dict[int, int] = {}
    for bead, group in enumerate(groups):
        if len(group) == 0:
            raise ValueError(f"bead {bead} has no atoms")
        for atom in group:
            if not 0 <= atom < number_of_atoms:
                raise ValueError(f"bead {bead} has atom {atom}; the topology has atoms 0 to {number_of_atoms - 1}")
            if atom in taken:
                raise ValueError(f"atom {atom} is in bead {taken[atom]} and in bead {bead}; it can be in one only")
            taken[atom] = bead


def _check_rows(position_matrix: sparse.csr_array, names: Sequence[str]) -> None:
    sums = np.asarray(position_matrix.sum(axis=1)).ravel()
    worst = int(np.argmax(abs(sums - 1)))
    if not abs(sums[worst] - 1) <= _TOLERANCE:
        raise ValueError(
            f"the coefficients of bead {worst} ({names[worst]}) sum to {sums[worst]:.6g}; they must sum to "
            "1, or the bead does not move along with its atoms"
        )


def _check_consistency(position_matrix: sparse.csr_array, force_matrix: sparse.csr_array) -> None:
    difference = abs(force_matrix @ position_matrix.T - sparse.eye_array(position_matrix.shape[0]))
    if not difference.max() <= _TOLERANCE:
        raise ValueError(
            "the force matrix B does not fit the position matrix M: B Mᵀ must be the identity and is "
            f"{difference.max():.2g} off"
        )


class _AtomMasses:
    """Masses of atoms where they are known, from the elements of a topology, or given."""

    def __init__(self, topology: app.Topology, masses: ArrayLike | openmm.System | None) -> None:
        self._atoms = list(topology.atoms())
        known: Any = masses
        if masses is None:
            known = [np.nan if a.element is None else a.element.mass.value_in_unit(unit.dalton) for a in self._atoms]
        elif isinstance(masses, openmm.System):
            known = [masses.getParticleMass(i).value_in_unit(unit.dalton) for i in range(masses.getNumParticles())]
        self._masses = np.asarray(known, np.float64)
        if self._masses.shape != (len(self._atoms),):
            raise ValueError(
                f"masses of shape {list(self._masses.shape)} do not fit the topology's {len(self._atoms)} atoms"
            )
        if masses is not None and not (np.isfinite(self._masses).all() and (self._masses >= 0).all()):
            raise ValueError("masses must be finite and not negative")

    def of(self, atoms: NDArray[np.integer]) -> NDArray[np.float64]:
        """Masses of atoms, amu; ValueError where one is unknown."""
        found = self._masses[atoms]
        unknown = atoms[np.isnan(found)]
        if len(unknown):
            atom = self._atoms[unknown[0]]
            raise ValueError(
                f"atom {atom.index} ({atom.name} of residue {atom.residue.name}) is part of a bead and has no element, "
                "so its mass is unknown; give masses=, the openmm.System or an array, in which virtual sites have the "
                "mass 0, or leave the atom out"
            )
        return found


def _bead_masses(position_matrix: sparse.csr_array, of_atoms: _AtomMasses) -> NDArray[np.float64]:
    masses = of_atoms.of(position_matrix.indices)
    if not masses.all():
        atom = position_matrix.indices[np.argmin(masses)]
        raise ValueError(f"atom {atom} is part of a bead and has no mass (a virtual site); leave it out")
    inverse = sparse.csr_array(
        (position_matrix.data**2 / masses, position_matrix.indices, position_matrix.indptr),
        position_matrix.shape,
    )
    return 1.0 / np.asarray(inverse.sum(axis=1)).ravel()
