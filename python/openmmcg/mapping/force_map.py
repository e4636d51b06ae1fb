r"""Force maps: which combination of the atoms' forces is the force on a bead.

Every force matrix B that is consistent with the position matrix M (:math:`B M^T = 1`, equal coefficients for atoms
that rigid bonds join) has the same mean force for given bead positions, minus the gradient of the potential of mean
force. The maps differ in their noise about that mean, and less noise means fewer frames for the same model.

| map | the force on a bead is | from |
|---|---|---|
| slice | that on its one atom | `Mapping.slice` |
| aggregate | the sum over the bead's atoms | `Mapping.center_of_mass`, `aggregate_force_map` |
| constraint-aware | the sum over the atoms that rigid bonds join to the bead's | `constraint_aware_force_map` |
| optimal | the consistent combination with the least noise | `optimal_force_map` |

All give a `Mapping` with the same beads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import openmm
import scipy.linalg
from numpy.typing import NDArray
from openmm import unit
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from openmmcg.mapping.map import Mapping

FloatArray = NDArray[np.float64]

# Frames read at once.
_CHUNK = 500


class ForceSequence(Protocol):
    """Forces on the atoms of all frames: an array, or a data set of which only what is indexed is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, frames: Any, /) -> Any: ...


def aggregate_force_map(mapping: Mapping, groups: Sequence[Sequence[int]]) -> Mapping:
    """The same beads, each with the sum of the forces on a group of atoms.

    Parameters
    ----------
    mapping
        The beads.
    groups
        Atom indices, a group per bead: the atoms that determine where the bead is, and any others that are part of no
        other bead.

    Raises
    ------
    ValueError
        Not one group per bead, an unknown atom, or groups that are inconsistent with the positions of the beads.

    Examples
    --------
    A water bead at the oxygen that feels the whole molecule:

    >>> from openmm import app
    >>> topology = app.Topology()
    >>> water = topology.addResidue("HOH", topology.addChain())
    >>> for name, symbol in ("O", "O"), ("H1", "H"), ("H2", "H"):
    ...     atom = topology.addAtom(name, app.Element.getBySymbol(symbol), water)
    >>> aggregate_force_map(Mapping.slice(topology, [0]), [[0, 1, 2]]).map_forces([[1, 0, 0], [0, 2, 0], [0, 0, 3]])
    array([[1., 2., 3.]])
    """
    if len(groups) != mapping.number_of_beads:
        raise ValueError(f"there are {len(groups)} groups of atoms for {mapping.number_of_beads} beads; give one each")
    matrix = np.zeros((mapping.number_of_beads, mapping.number_of_atoms))
    for bead, group in enumerate(groups):
        for atom in group:
            if not 0 <= atom < mapping.number_of_atoms:
                raise ValueError(f"group {bead} has atom {atom}; the map has atoms 0 to {mapping.number_of_atoms - 1}")
            matrix[bead, atom] = 1.0
    return mapping.with_force_matrix(matrix)


def constraint_aware_force_map(mapping: Mapping, system: openmm.System) -> Mapping:
    """The same beads, each with the sum of the forces on its atoms and all that rigid bonds join to them.

    The smallest aggregate that is meaningful with rigid bonds: the forces that hold them, which OpenMM does not
    report, cancel in it (Krämer et al., J. Phys. Chem. Lett. 14, 3970 (2023), there the *basic* map).

    Parameters
    ----------
    mapping
        The beads, none of which share an atom.
    system
        The all-atom System.

    Raises
    ------
    ValueError
        The System has another number of particles, or a rigid group of atoms is part of two beads.
    """
    groups = _rigid_groups(mapping, system)
    of_bead = (abs(mapping.position_matrix) @ groups).toarray() > 0
    _check_apart(mapping, groups, of_bead)
    return mapping.with_force_matrix(of_bead.astype(float) @ groups.T)


def optimal_force_map(
    mapping: Mapping,
    forces: ForceSequence,
    *,
    system: openmm.System | None = None,
    atoms: Sequence[int] | None = None,
    regularization: float = 0.0,
) -> Mapping:
    r"""The same beads, with the linear combination of forces that has the least noise.

    For every bead I the row b of the force matrix minimises

    .. math:: \frac{1}{3F} \sum_{t=1}^{F} \Bigl| \sum_i b_i f_i(t) \Bigr|^2 + \lambda \sum_i b_i^2

    subject to :math:`M b = e_I` and equal coefficients within rigid groups of atoms (Krämer, Durumeric, Charron, Chen,
    Clementi & Noé, J. Phys. Chem. Lett. 14, 3970 (2023), without bounds on the coefficients). The mean square is that
    of the mean force, the same for all b, plus the noise. All constraints are equalities, so the quadratic programme
    is a linear least-squares problem in the null space of the constraints; where frames do not determine it, the
    smallest coefficients are taken.

    Judge the map on frames that it has not seen: with few frames per atom the noise of the frames is fitted, which
    `regularization` and `atoms` prevent.

    Parameters
    ----------
    mapping
        The beads.
    forces
        On the atoms, ``[frames, atoms, 3]``, kJ/mol/nm; read some hundred frames at a time.
    system
        The all-atom System, where it has rigid bonds or virtual sites. The forces on massless particles are not used:
        OpenMM has handed them over to atoms.
    atoms
        Indices of the atoms whose forces may be used, whole rigid groups; all by default. In explicit solvent, those
        of the solute.
    regularization
        λ, (kJ/mol/nm)²; the mean square of an atom's force, by components, is some 10⁶.

    Raises
    ------
    ValueError
        Forces that do not fit the map or are not finite, a negative regularization, atoms that cut a rigid group, or
        beads that no consistent force map serves, such as two within one rigid group.

    Examples
    --------
    Two atoms whose forces have the noise 1 and 2 (variances 1 and 4) make a bead at their middle. Its force, any
    combination with the mean coefficient 1, is least noisy with the inverse variances as weights:

    >>> from openmm import app
    >>> topology = app.Topology()
    >>> residue = topology.addResidue("C2", topology.addChain())
    >>> for name in ("C1", "C2"):
    ...     atom = topology.addAtom(name, app.element.carbon, residue)
    >>> forces = np.random.default_rng(0).normal(size=(20000, 2, 3)) * [[1.0], [2.0]]
    >>> mapping = optimal_force_map(Mapping.center_of_mass(topology), forces)
    >>> mapping.force_matrix.toarray().round(1)
    array([[1.6, 0.4]])
    """
    if regularization < 0:
        raise ValueError(f"the regularization must not be negative, it is {regularization:g}")
    groups = _rigid_groups(mapping, system)
    if atoms is not None:
        groups = _groups_of(groups, atoms)
    if system is not None:
        masses = [system.getParticleMass(index).value_in_unit(unit.dalton) for index in range(groups.shape[0])]
        groups = groups[:, np.flatnonzero(groups.T @ masses)]
    constraints = (mapping.position_matrix @ groups).toarray()
    _check_solvable(mapping, constraints)
    cost = _mean_products(mapping, forces, groups) + regularization * np.diag(groups.sum(axis=0))
    consistent = scipy.linalg.pinv(constraints)
    free = scipy.linalg.null_space(constraints)
    if free.shape[1]:
        # Rank-deficient where there are fewer frames than atoms, or where forces always sum to zero.
        change = scipy.linalg.lstsq(free.T @ cost @ free, -free.T @ cost @ consistent)[0]
        consistent = consistent + free @ change
    return mapping.with_force_matrix((groups @ consistent).T)


def mean_square_force(mapping: Mapping, forces: ForceSequence) -> FloatArray:
    """Mean square of the components of the mapped forces, bead by bead.

    Two consistent maps of the same beads have the same mean force, so what one has less of is noise: the floor of
    the force-matching error falls by the difference of their mean squares.

    Parameters
    ----------
    mapping
        The map.
    forces
        On the atoms, ``[frames, atoms, 3]``, kJ/mol/nm; for an optimal map, of frames that it has not seen.

    Returns
    -------
    float64, ``[beads]``, (kJ/mol/nm)²

    Raises
    ------
    ValueError
        Forces that do not fit the map or are not finite.
    """
    frames = _number_of_frames(mapping, forces)
    total = np.zeros(mapping.number_of_beads)
    for first in range(0, frames, _CHUNK):
        mapped = mapping.map_forces(_finite(forces, first))
        total += (mapped**2).sum(axis=(0, 2))
    return total / (3 * frames)


def _rigid_groups(mapping: Mapping, system: openmm.System | None) -> sparse.csr_array:
    """Membership [atoms, groups] in groups of atoms that rigid bonds join; an atom without any is its own group."""
    number = mapping.number_of_atoms
    if system is None:
        return sparse.eye_array(number, format="csr")
    if system.getNumParticles() != number:
        raise ValueError(f"the System has {system.getNumParticles()} particles, the map is for {number} atoms")
    pairs = [system.getConstraintParameters(index)[:2] for index in range(system.getNumConstraints())]
    first, second = np.array(pairs, dtype=int).reshape(-1, 2).T
    bonds = sparse.csr_array((np.ones(len(pairs)), (first, second)), shape=(number, number))
    count, labels = connected_components(bonds, directed=False)
    return sparse.csr_array((np.ones(number), (np.arange(number), labels)), shape=(number, count))


def _groups_of(groups: sparse.csr_array, atoms: Sequence[int]) -> sparse.csr_array:
    number = groups.shape[0]
    used = np.zeros(number)
    for atom in atoms:
        if not 0 <= atom < number:
            raise ValueError(f"there is no atom {atom}; the map has atoms 0 to {number - 1}")
        used[atom] = 1.0
    members, sizes = groups.T @ used, groups.sum(axis=0)
    cut = np.flatnonzero((members > 0) & (members < sizes))
    if len(cut):
        rigid = groups[:, [int(cut[0])]].nonzero()[0].tolist()
        raise ValueError(f"`atoms` holds a part of the rigid group of atoms {rigid}; take all of them or none")
    return groups[:, np.flatnonzero(members)]


def _check_apart(mapping: Mapping, groups: sparse.csr_array, of_bead: NDArray[np.bool_]) -> None:
    shared = np.flatnonzero(of_bead.sum(axis=0) > 1)
    if len(shared):
        beads = np.flatnonzero(of_bead[:, shared[0]]).tolist()
        rigid = groups[:, [int(shared[0])]].nonzero()[0].tolist()
        raise ValueError(
            f"the rigid group of atoms {rigid} is part of the beads {beads}; choose beads that share no rigid group, "
            "or fewer constraints in the all-atom System"
        )


def _check_solvable(mapping: Mapping, constraints: FloatArray) -> None:
    if np.linalg.matrix_rank(constraints) == len(constraints):
        return
    left = scipy.linalg.null_space(constraints.T)[:, 0]
    beads = np.flatnonzero(abs(left) > 1e-6)
    raise ValueError(
        f"no force map is consistent with the beads {beads.tolist()} ({', '.join(mapping.names[b] for b in beads)}): "
        "they do not move independently of each other by the atoms given, or lie within one rigid group; choose other "
        "beads, all their atoms, or fewer constraints in the all-atom System"
    )


def _mean_products(mapping: Mapping, forces: ForceSequence, groups: sparse.csr_array) -> FloatArray:
    """⟨F_g · F_h⟩/3 of the forces on groups, [groups, groups]."""
    frames = _number_of_frames(mapping, forces)
    products = np.zeros((groups.shape[1], groups.shape[1]))
    for first in range(0, frames, _CHUNK):
        chunk = np.moveaxis(_finite(forces, first), 1, 2).reshape(-1, groups.shape[0])
        of_groups = chunk @ groups
        products += of_groups.T @ of_groups
    return products / (3 * frames)


def _number_of_frames(mapping: Mapping, forces: ForceSequence) -> int:
    shape = tuple(forces.shape)
    if len(shape) != 3 or shape[1:] != (mapping.number_of_atoms, 3) or shape[0] == 0:
        raise ValueError(f"forces must have the shape [frames, {mapping.number_of_atoms}, 3], not {list(shape)}")
    return shape[0]


def _finite(forces: ForceSequence, first: int) -> FloatArray:
    chunk = np.asarray(forces[first : first + _CHUNK], dtype=np.float64)
    finite = np.isfinite(chunk).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"frame {first + int(np.argmin(finite))} has forces that are not finite; leave it out")
    return chunk
