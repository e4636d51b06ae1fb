"""TabulatedBondedForce for Python."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg import _openmmcg
from openmmcg.forces.plugin_force import PluginForce, integers

__all__ = ["TabulatedBondedForce"]


class TabulatedBondedForce(PluginForce):
    """Bonds, angles or dihedrals whose energies are tabulated, as one Force of an OpenMM System.

    A table is energies at equally spaced values of the coordinate. Between them is a cubic spline: for bonds and angles
    a natural one, which goes on linearly beyond both ends; for dihedrals a periodic one over the whole turn. Every term
    names its particles and its table.

    Where three of a dihedral's particles are in a line it has no meaning, and the forces of its energy would diverge.
    So this fades to zero, by s²(3 − 2s) with s = (sin θ / sin 15°)², where one of the two angles θ comes within 15° of
    a straight one (compare Bulacu et al., J. Chem. Theory Comput. 9, 3282 (2013)). A table is to be relative to free
    rotation, ⟨exp(−U/k_B T)⟩ = 1 over the turn: then the fading makes straight angles neither more nor less probable.

    Parameters
    ----------
    kind : {"bonds", "angles", "dihedrals"}
        Of all terms.

    Raises
    ------
    openmm.OpenMMException
        Where there is no such kind, and (when the Context is made) where a term names a particle twice or one that is
        not in the System.

    Notes
    -----
    On the platforms Reference and CPU the terms are computed in double precision on one thread; elsewhere OpenMM's
    kernels for a ``CustomCompoundBondForce`` of the same energy compute them on the device. A Context keeps the tables
    and terms that it was made with. ``system.getForce(i)`` gives a plain ``openmm.Force``;
    :meth:`TabulatedBondedForce.of` turns it back. A System deletes its forces: keep it for as long as you use them.

    Examples
    --------
    A table of a harmonic bond, which goes on with the slope at its ends:

    >>> import numpy as np
    >>> import openmm
    >>> from openmmcg import TabulatedBondedForce
    >>> lengths = np.linspace(0.1, 0.3, 101)
    >>> force = TabulatedBondedForce("bonds")
    >>> table = force.addTable(0.1, 0.3, 5e3 * (lengths - 0.2) ** 2)
    >>> force.addTerm([0, 1], table)
    0
    >>> dumbbell = openmm.System()
    >>> _ = dumbbell.addParticle(10.0), dumbbell.addParticle(20.0), dumbbell.addForce(force)
    >>> platform = openmm.Platform.getPlatformByName("Reference")
    >>> context = openmm.Context(dumbbell, openmm.VerletIntegrator(0.001), platform)
    >>> for length in (0.21, 0.4):
    ...     context.setPositions([[0, 0, 0], [length, 0, 0]])
    ...     print(f"{context.getState(energy=True).getPotentialEnergy()._value:.1f} kJ/mol")
    0.5 kJ/mol
    149.4 kJ/mol
    """

    _is_at = staticmethod(_openmmcg.is_tabulated)
    _assign = staticmethod(_openmmcg.assign_tabulated)

    def __init__(self, kind: str) -> None:
        super().__init__(_openmmcg.tabulated_xml(kind))

    def _empty(self) -> TabulatedBondedForce:
        return TabulatedBondedForce(self.getKind())

    def getKind(self) -> str:
        """``"bonds"``, ``"angles"`` or ``"dihedrals"``."""
        return _openmmcg.get_kind(self._number)

    def getNumParticlesPerTerm(self) -> int:
        """2, 3 or 4."""
        return _openmmcg.get_particles_per_term(self._number)

    def addTable(self, start: float, stop: float, energies: ArrayLike) -> int:
        """Add a table.

        Parameters
        ----------
        start, stop
            The first and the last place, nm or radians; of dihedrals −π and π.
        energies
            kJ/mol at K ≥ 4 equally spaced places, ``[K]``; of dihedrals the last is that of the first. Tables of one
            force may differ in K.

        Returns
        -------
        int
            The index of the table.

        Raises
        ------
        openmm.OpenMMException
            It is no such table.
        """
        return _openmmcg.add_table(self._number, float(start), float(stop), np.asarray(energies, float))

    def getNumTables(self) -> int:
        """How many tables were added."""
        return _openmmcg.count_tables(self._number)

    def getTableParameters(self, index: int) -> tuple[float, float, NDArray[np.float64]]:
        """Start, stop and energies ``[K]`` of a table, as of `addTable`."""
        return _openmmcg.get_table(self._number, index)

    def setTableParameters(self, index: int, start: float, stop: float, energies: ArrayLike) -> None:
        """Replace a table, as of `addTable`; a Context that exists keeps those it was made with."""
        _openmmcg.set_table(self._number, index, float(start), float(stop), np.asarray(energies, float))

    def addTerm(self, particles: Sequence[int], table: int) -> int:
        """Add a term.

        Parameters
        ----------
        particles
            Those of the bond, of the angle (the vertex in the middle) or of the dihedral, in order.
        table
            The index of a table that has been added.

        Returns
        -------
        int
            The index of the term.

        Raises
        ------
        openmm.OpenMMException
            The number of particles is not that of the kind, one is negative, or there is no such table.
        """
        return _openmmcg.add_term(self._number, integers(particles, "particles"), operator.index(table))

    def getNumTerms(self) -> int:
        """How many terms were added."""
        return _openmmcg.count_terms(self._number)

    def getTermParameters(self, index: int) -> tuple[list[int], int]:
        """Particles and table of a term, as of `addTerm`."""
        return _openmmcg.get_term(self._number, index)

    def setUsesPeriodicBoundaryConditions(self, periodic: bool) -> None:
        """Whether displacements between the particles of a term are those of the minimum image."""
        _openmmcg.set_tabulated_periodic(self._number, periodic)
