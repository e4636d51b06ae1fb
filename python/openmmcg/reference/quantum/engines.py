"""Frontier orbital energies of one geometry: the engines behind `openmmcg.reference.label_frames`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from openmm import app

from openmmcg.optional import missing, optional_imports

_HARTREE = 27.211386245988  # eV
_BOHR = 0.0529177210903  # nm
_HEAVIEST_WITHOUT_CORE_POTENTIAL = 36  # of def2 basis sets


class OrbitalEnergies(NamedTuple):
    """Energies of frontier orbitals, eV, all of α spin.

    Attributes
    ----------
    homo : float
        Highest occupied α orbital; of a radical the singly occupied one (SOMO).
    lumo : float
        Lowest empty α orbital.
    """

    homo: float
    lumo: float

    @property
    def gap(self) -> float:
        """LUMO − HOMO, eV."""
        return self.lumo - self.homo


class Engine(NamedTuple):
    """A method of quantum chemistry.

    Attributes
    ----------
    package : str
        The Python package it needs.
    compute : callable
        (atomic numbers [N], positions [N, 3] in nm, charge, unpaired electrons) to `OrbitalEnergies`.
    frames_per_task : int
        As many as take about a second.
    """

    package: str
    compute: Callable[[NDArray[np.int64], NDArray[np.float64], int, int], OrbitalEnergies]
    frames_per_task: int


def orbital_energies(
    elements: Sequence[str],
    positions: ArrayLike,
    *,
    engine: str = "gfn2-xtb",
    charge: int = 0,
    unpaired_electrons: int | None = None,
) -> OrbitalEnergies:
    """HOMO and LUMO of one geometry in the gas phase.

    Parameters
    ----------
    elements
        ``[N]``, chemical symbols.
    positions
        ``[N, 3]``, nm.
    engine
        ``"gfn2-xtb"``: the tight-binding method of Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652 (2019),
        by tblite, electronic temperature 300 K. Its spin channels share their orbitals, so that α and β energies are
        the same. ``"wb97x-d3/def2-svp"``: density functional theory with ωB97X-D3 (Lin, Li, Mao & Chai, J. Chem. Theory
        Comput. 9, 263 (2013)) in the def2-SVP basis set, density fitting, by PySCF; spin-unrestricted with unpaired
        electrons. The dispersion term D3, a function of the geometry alone, does not act on orbitals and is left out.
    charge
        e.
    unpaired_electrons
        By default 0 with an even number of electrons, 1 with an odd number.

    Raises
    ------
    ValueError
        Unknown engine or element, or unpaired electrons that do not fit the number of electrons.
    ImportError
        The engine's package is not installed.
    RuntimeError
        The self-consistent field does not converge, or there is none for this geometry.

    Examples
    --------
    >>> water = [[0, 0, 0], [0, 0.0757, 0.0587], [0, -0.0757, 0.0587]]
    >>> print(f"{orbital_energies(['O', 'H', 'H'], water).homo:.1f} eV")
    -12.2 eV
    """
    numbers = atomic_numbers(elements)
    chosen = find_engine(engine)
    unpaired = count_unpaired_electrons(numbers, charge, unpaired_electrons)
    return chosen.compute(numbers, np.asarray(positions, dtype=np.float64), charge, unpaired)


def atomic_numbers(elements: Sequence[str]) -> NDArray[np.int64]:
    """Atomic numbers of chemical symbols; ValueError names what is no element."""
    numbers = []
    for index, symbol in enumerate(elements):
        try:
            numbers.append(app.Element.getBySymbol(str(symbol)).atomic_number)
        except KeyError as error:
            raise ValueError(f"atom {index} is of no known element, {symbol!r}; give chemical symbols") from error
    return np.array(numbers, dtype=np.int64)


def find_engine(name: str) -> Engine:
    """The engine of that name; ValueError where there is none, ImportError where its package is missing."""
    if name not in ENGINES:
        raise ValueError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
    engine = ENGINES[name]
    if find_spec(engine.package) is None:
        raise missing(engine.package)
    return engine


def count_unpaired_electrons(numbers: NDArray[np.int64], charge: int, unpaired: int | None) -> int:
    """The least possible number where none is given; ValueError where the given one is impossible."""
    electrons = int(numbers.sum()) - charge
    if unpaired is None:
        return electrons % 2
    if unpaired < 0 or unpaired > electrons or (electrons - unpaired) % 2:
        raise ValueError(f"{unpaired} of {electrons} electrons cannot be unpaired; check charge and unpaired_electrons")
    return unpaired


def _gfn2_xtb(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], charge: int, unpaired: int
) -> OrbitalEnergies:
    with optional_imports():
        from tblite.interface import Calculator

    calculator = Calculator("GFN2-xTB", numbers, positions / _BOHR, charge=charge, uhf=unpaired)
    calculator.set("verbosity", 0)
    result = calculator.singlepoint()
    # Fractional occupations add up to the number of valence electrons.
    electrons = round(float(result.get("orbital-occupations").sum()))
    return _frontier(result.get("orbital-energies"), (electrons + unpaired) // 2)


def _wb97x_d3(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], charge: int, unpaired: int
) -> OrbitalEnergies:
    with optional_imports():
        from pyscf import dft, gto, lib

    lib.num_threads(1)
    heavy = {int(number) for number in numbers if number > _HEAVIEST_WITHOUT_CORE_POTENTIAL}
    molecule = gto.M(
        atom=list(zip(numbers.tolist(), (positions / _BOHR).tolist(), strict=True)),
        unit="Bohr",
        basis="def2-svp",
        ecp={app.Element.getByAtomicNumber(number).symbol: "def2-svp" for number in heavy},
        charge=charge,
        spin=unpaired,
        verbose=0,
    )
    field = (dft.UKS(molecule) if unpaired else dft.RKS(molecule)).density_fit()
    field.xc = "HYB_GGA_XC_WB97X_D3"
    # Coarser than the defaults, which take most of the time; orbitals are still those of exact integrals to some meV.
    field.grids.level = 1
    field.conv_tol = 1e-6  # Hartree
    field.kernel()
    if not field.converged:
        raise RuntimeError(f"the self-consistent field did not converge in {field.max_cycle} cycles")
    return _frontier(field.mo_energy[0] if unpaired else field.mo_energy, molecule.nelec[0])


def _frontier(energies: NDArray[np.float64], occupied: int) -> OrbitalEnergies:
    """From orbital energies, Hartree, of α spin, in ascending order."""
    homo, lumo = _HARTREE * energies[occupied - 1], _HARTREE * energies[occupied]
    if not np.isfinite([homo, lumo]).all():
        raise RuntimeError("orbital energies are not finite")
    return OrbitalEnergies(float(homo), float(lumo))


ENGINES = {
    "gfn2-xtb": Engine("tblite", _gfn2_xtb, 10),
    "wb97x-d3/def2-svp": Engine("pyscf", _wb97x_d3, 1),
}
