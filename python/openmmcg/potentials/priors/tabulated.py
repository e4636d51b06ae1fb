"""Tabulated priors: energies on a grid for each tuple of bead types, with cubic splines between.

Bonds, angles and dihedrals are a `TabulatedBondedForce` for each kind, which has a table for each tuple of bead types.
Pairs are a ``CustomNonbondedForce``, whose table is a ``Continuous2DFunction`` of the number of the pair of types and
the distance; at whole numbers it is the spline of that pair exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg.forces.tabulated_bonded_force import TabulatedBondedForce
from openmmcg.potentials.priors.bonded import check_types


class Table(NamedTuple):
    """Energies on a grid.

    Attributes
    ----------
    start, stop : float
        The first and the last place of the grid: nm or radians.
    energies : sequence of float [K]
        kJ/mol, at K equally spaced places.
    """

    start: float
    stop: float
    energies: Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class _TabulatedPrior:
    """What tabulated bonds, angles and dihedrals share: a table for each tuple of bead types."""

    terms: Mapping[tuple[int, ...], Table]

    what: ClassVar[str]
    size: ClassVar[int]

    def __post_init__(self) -> None:
        check_types(self.terms, self.size, self.what)
        for kinds, (start, stop, energies) in self.terms.items():
            if not (np.isfinite([start, stop]).all() and start < stop):
                raise ValueError(f"the table of {self.what} of the types {kinds} goes from {start} to {stop}")
            if len(energies) < 4 or not np.isfinite(energies).all():
                raise ValueError(
                    f"the table of {self.what} of the types {kinds} needs at least 4 energies, all finite, got "
                    f"{len(energies)}"
                )

    def template(self) -> TabulatedBondedForce:
        """The prior as an OpenMM force between bead types."""
        force = TabulatedBondedForce(self.what)
        force.setName(type(self).__name__)
        for kinds, table in self.terms.items():
            force.addTerm(kinds, force.addTable(*table))
        return force


class TabulatedBonds(_TabulatedPrior):
    """Bonds with tabulated energies; beyond a table's ends the energy goes on linearly.

    Parameters
    ----------
    terms : mapping
        From pairs of bead types to `Table` (or tuples) over the length in nm.

    Raises
    ------
    ValueError
        A key is no pair of types, or a table is not one.

    Examples
    --------
    >>> import numpy as np
    >>> lengths = np.linspace(0.1, 0.2, 11)
    >>> prior = TabulatedBonds({(0, 1): (0.1, 0.2, 5e4 * (lengths - 0.15) ** 2)})
    >>> prior.template().getNumTerms()
    1
    """

    what, size = "bonds", 2


class TabulatedAngles(_TabulatedPrior):
    """Angles with tabulated energies; beyond a table's ends the energy goes on linearly.

    Parameters
    ----------
    terms : mapping
        From triples of bead types to `Table` (or tuples) over the angle in radians; as of `TabulatedBonds`.

    Raises
    ------
    ValueError
        A key is no triple of types, or a table is not one.
    """

    what, size = "angles", 3


class TabulatedDihedrals(_TabulatedPrior):
    """Dihedrals with tabulated energies, periodic, relative to free rotation.

    They fade where three of the beads come into a line, see `openmmcg.TabulatedBondedForce`.

    Parameters
    ----------
    terms : mapping
        From quadruples of bead types to `Table` (or tuples) over the angle from −π to π; the energies at both ends are
        the same.

    Raises
    ------
    ValueError
        A key is no quadruple of types, or a table is not one of a whole turn.
    """

    what, size = "dihedrals", 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for kinds, (start, stop, energies) in self.terms.items():
            if not np.allclose([start, stop], [-np.pi, np.pi]) or not np.isclose(energies[0], energies[-1]):
                raise ValueError(
                    f"the table of dihedrals of the types {kinds} must go from -pi to pi and end as it begins; it goes "
                    f"from {start} to {stop} and from {energies[0]} to {energies[-1]} kJ/mol"
                )


@dataclass(frozen=True)
class TabulatedPairs:
    """Tabulated energies between beads more than two bonds apart.

    Parameters
    ----------
    terms : mapping
        From pairs of bead types to energies in kJ/mol ``[K]``, at K equally spaced distances from 0 to the cutoff,
        all of one length. The last one should be zero, or the energy jumps at the cutoff. Pairs of types that are not
        given do not interact.
    cutoff : float
        nm

    Raises
    ------
    ValueError
        A key is no pair of types, energies are not finite or of different number, or the cutoff is not positive.

    Examples
    --------
    >>> TabulatedPairs({(0, 0): [4.0, 3.0, 1.0, 0.0]}, cutoff=0.6).template().getNumTabulatedFunctions()
    1
    """

    terms: Mapping[tuple[int, ...], Sequence[float]]
    cutoff: float

    def __post_init__(self) -> None:
        check_types(self.terms, 2, "pairs")
        lengths = {len(energies) for energies in self.terms.values()}
        if len(lengths) > 1 or min(lengths) < 4:
            raise ValueError(f"all pairs need the same number of energies, at least 4, got {sorted(lengths)}")
        if not np.isfinite(list(self.terms.values())).all():
            raise ValueError("the energies of pairs must be finite")
        if not self.cutoff > 0:
            raise ValueError(f"the cutoff of pairs must be positive, got {self.cutoff} nm")

    @property
    def types(self) -> int:
        """How many bead types it knows."""
        return 1 + max(max(kinds) for kinds in self.terms)

    def for_types(self, number: int) -> TabulatedPairs:
        """The same among more bead types, which do not interact."""
        if number <= self.types:
            return self
        zeros = [0.0] * len(next(iter(self.terms.values())))
        return TabulatedPairs({**self.terms, (number - 1, number - 1): zeros}, self.cutoff)

    def template(self) -> openmm.CustomNonbondedForce:
        """The prior as an OpenMM force without particles."""
        rows = [list(map(float, energies)) for energies in self.terms.values()]
        types = self.types
        force = openmm.CustomNonbondedForce("u(r)" if types == 1 else "u(term(type1, type2), r)")
        force.setName("TabulatedPairs")
        force.addPerParticleParameter("type")
        cutoff = float(self.cutoff)
        if types == 1:
            force.addTabulatedFunction("u", openmm.Continuous1DFunction(rows[0], 0.0, cutoff))
        else:
            rows += [[0.0] * len(rows[0])]
            numbers = np.full((types, types), len(rows) - 1.0)
            for number, (first, second) in enumerate(self.terms):
                numbers[first, second] = numbers[second, first] = number
            force.addTabulatedFunction("u", _function(rows, 0.0, cutoff))
            force.addTabulatedFunction("term", openmm.Discrete2DFunction(types, types, numbers.ravel().tolist()))
        force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
        force.setCutoffDistance(cutoff)
        return force


def _function(rows: Sequence[Sequence[float]], start: float, stop: float) -> openmm.Continuous2DFunction:
    """u(number of the row, place) of rows that go from start to stop."""
    values = np.array(rows).ravel("F").tolist()
    return openmm.Continuous2DFunction(len(rows), len(rows[0]), values, 0.0, len(rows) - 1.0, start, stop)
