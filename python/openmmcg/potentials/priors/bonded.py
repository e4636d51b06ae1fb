"""Priors of bonds, angles and dihedrals, fitted by Boltzmann statistics.

Section II C of Husic et al., J. Chem. Phys. 153, 194101 (2020): a harmonic term has the mean of its coordinate in the
frames and the force constant k = k_B T / Var. Terms belong to tuples of bead types, see `templates`; give beads that
need terms of their own types of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg.constants import GAS_CONSTANT
from openmmcg.geometry.internal_coordinates import RIGID, angles, bonded_terms, dihedrals, distances

if TYPE_CHECKING:
    from openmmcg.frames import Frames


class Harmonic(NamedTuple):
    """½ k (x − x0)².

    Attributes
    ----------
    center : float
        x0: nm, radians, or a cosine.
    force_constant : float
        k: kJ/mol, per unit of x squared.
    """

    center: float
    force_constant: float


class Cosine(NamedTuple):
    """k (1 + cos(n φ − φ0)).

    Attributes
    ----------
    periodicity : int
        n
    phase : float
        φ0, radians.
    force_constant : float
        k, kJ/mol.
    """

    periodicity: int
    phase: float
    force_constant: float


@dataclass(frozen=True)
class _HarmonicPrior:
    """What harmonic priors share: a term for each tuple of bead types."""

    terms: Mapping[tuple[int, ...], Harmonic]

    what: ClassVar[str]
    size: ClassVar[int]

    def __post_init__(self) -> None:
        check_types(self.terms, self.size, self.what)
        for kinds, (center, force_constant) in self.terms.items():
            if not (np.isfinite(center) and 0 < force_constant < np.inf):
                raise ValueError(
                    f"{self.what} of the types {kinds} need a finite centre and a positive force constant, got "
                    f"{center} and {force_constant}"
                )


class HarmonicBonds(_HarmonicPrior):
    """Harmonic bonds, ``½ k (r − r0)²``.

    Parameters
    ----------
    terms : mapping
        From pairs of bead types to `Harmonic` (or tuples) of the length r0 in nm and k in kJ/mol/nm².

    Raises
    ------
    ValueError
        A key is no pair of types, or a force constant is not positive.

    Examples
    --------
    >>> HarmonicBonds({(0, 1): (0.15, 1e5)}).template().getNumBonds()
    1
    """

    what, size = "bonds", 2

    @classmethod
    def from_frames(cls, frames: Frames | Sequence[Frames]) -> HarmonicBonds:
        """Mean length and k_B T / variance of the bonds of the frames, for each pair of bead types.

        Parameters
        ----------
        frames : Frames, or a sequence of them
            Mapped frames with bonds, molecules whole or wrapped into their boxes; of several molecules with the same
            type names.

        Raises
        ------
        ValueError
            There are no bonds, or some do not vary (a standard deviation below 1e-4 nm).
        """
        return cls(_boltzmann(frames, 2, distances, cls.what))

    def template(self) -> openmm.HarmonicBondForce:
        """The prior as an OpenMM force between bead types."""
        force = openmm.HarmonicBondForce()
        for kinds, (center, force_constant) in self.terms.items():
            force.addBond(*kinds, center, force_constant)
        return force


class HarmonicAngles(_HarmonicPrior):
    """Harmonic angles, ``½ k (θ − θ0)²``.

    Parameters
    ----------
    terms : mapping
        From triples of bead types to `Harmonic` (or tuples) of θ0 in radians and k in kJ/mol/rad².

    Raises
    ------
    ValueError
        A key is no triple of types, or a force constant is not positive.
    """

    what, size = "angles", 3

    @classmethod
    def from_frames(cls, frames: Frames | Sequence[Frames]) -> HarmonicAngles:
        """Mean and k_B T / variance of the angles along two bonds; as `HarmonicBonds.from_frames`."""
        return cls(_boltzmann(frames, 3, angles, cls.what))

    def template(self) -> openmm.HarmonicAngleForce:
        """The prior as an OpenMM force between bead types."""
        force = openmm.HarmonicAngleForce()
        for kinds, (center, force_constant) in self.terms.items():
            force.addAngle(*kinds, center, force_constant)
        return force


class CosineAngles(_HarmonicPrior):
    """Angles harmonic in their cosine, ``½ k (cos θ − c0)²``, which are smooth at 180°.

    Parameters
    ----------
    terms : mapping
        From triples of bead types to `Harmonic` (or tuples) of c0 and k in kJ/mol.

    Raises
    ------
    ValueError
        A key is no triple of types, or a force constant is not positive.
    """

    what, size = "cosines of angles", 3

    @classmethod
    def from_frames(cls, frames: Frames | Sequence[Frames]) -> CosineAngles:
        """Mean and k_B T / variance of the cosines; as `HarmonicBonds.from_frames`."""
        return cls(_boltzmann(frames, 3, lambda *arguments: np.cos(angles(*arguments)), cls.what))

    def template(self) -> openmm.CustomAngleForce:
        """The prior as an OpenMM force between bead types."""
        force = openmm.CustomAngleForce("0.5*k*(cos(theta)-c0)^2")
        force.setName("CosineAngles")
        force.addPerAngleParameter("c0")
        force.addPerAngleParameter("k")
        for kinds, parameters in self.terms.items():
            force.addAngle(*kinds, [float(value) for value in parameters])
        return force


@dataclass(frozen=True)
class PeriodicDihedrals:
    """Dihedrals with a Fourier series, ``Σ k (1 + cos(n φ − φ0))``, φ by the convention of IUPAC.

    Parameters
    ----------
    terms : mapping
        From quadruples of bead types to sequences of `Cosine` (or tuples) of n, φ0 in radians and k in kJ/mol.

    Raises
    ------
    ValueError
        A key is no quadruple of types, n is less than 1, or a number is not finite.
    """

    terms: Mapping[tuple[int, ...], Sequence[Cosine]]

    def __post_init__(self) -> None:
        check_types(self.terms, 4, "dihedrals")
        for kinds, series in self.terms.items():
            for periodicity, phase, force_constant in series:
                if periodicity < 1 or not np.isfinite([phase, force_constant]).all():
                    raise ValueError(
                        f"dihedrals of the types {kinds} need periodicities from 1 on and finite numbers, got "
                        f"{periodicity}, {phase} and {force_constant}"
                    )

    @classmethod
    def from_frames(cls, frames: Frames | Sequence[Frames], *, order: int = 3, bins: int = 72) -> PeriodicDihedrals:
        """The Fourier series nearest to −k_B T ln p(φ) of the dihedrals along three bonds.

        Least squares over the bins of a histogram, each weighted by its counts: what was never sampled does not count.

        Parameters
        ----------
        frames : Frames, or a sequence of them
            As of `HarmonicBonds.from_frames`.
        order
            The highest periodicity.
        bins
            Of the histogram.

        Raises
        ------
        ValueError
            There are no dihedrals, or fewer bins of some were visited than the series has parameters.
        """
        thermal, samples = _samples(frames, 4, dihedrals, "dihedrals")
        centers = (np.arange(bins) + 0.5) * 2 * np.pi / bins - np.pi
        numbers = np.arange(1, order + 1)
        design = np.concatenate(
            [np.ones((bins, 1)), np.cos(centers[:, None] * numbers), np.sin(centers[:, None] * numbers)], axis=1
        )
        terms = {}
        for kinds, values in samples.items():
            counts = np.histogram(values, bins, (-np.pi, np.pi))[0]
            seen = counts > 0
            if seen.sum() <= 2 * order:
                raise ValueError(
                    f"the dihedrals of the types {kinds} visit {int(seen.sum())} of {bins} bins only, too few for a "
                    f"Fourier series of order {order}; take more frames, or a lower order"
                )
            weights = np.sqrt(counts[seen])
            energies = -thermal * np.log(counts[seen])
            coefficients = np.linalg.lstsq(design[seen] * weights[:, None], energies * weights, rcond=None)[0][1:]
            cosines, sines = coefficients.reshape(2, order)
            terms[kinds] = [
                Cosine(int(n), float(np.arctan2(sine, cosine)), float(np.hypot(sine, cosine)))
                for n, cosine, sine in zip(numbers, cosines, sines, strict=True)
            ]
        return cls(terms)

    def template(self) -> openmm.PeriodicTorsionForce:
        """The prior as an OpenMM force between bead types."""
        force = openmm.PeriodicTorsionForce()
        for kinds, series in self.terms.items():
            for periodicity, phase, force_constant in series:
                force.addTorsion(*kinds, periodicity, phase, force_constant)
        return force


def check_types(terms: Mapping[tuple[int, ...], object], size: int, what: str) -> None:
    """Check that keys are tuples of `size` bead types, none of them also in the reverse order."""
    if not terms:
        raise ValueError(f"a prior of {what} needs at least one term")
    for kinds in terms:
        if len(kinds) != size or any(kind != int(kind) or kind < 0 for kind in kinds):
            raise ValueError(f"{what} are between {size} bead types, whole numbers from 0 on; got {kinds}")
        if kinds != kinds[::-1] and kinds[::-1] in terms:
            raise ValueError(f"{what} of the types {kinds} are given twice, also as {kinds[::-1]}")


def _boltzmann(
    frames: Frames | Sequence[Frames], size: int, measure: Callable[..., NDArray[np.float64]], what: str
) -> dict[tuple[int, ...], Harmonic]:
    thermal, samples = _samples(frames, size, measure, what)
    terms = {}
    for kinds, values in samples.items():
        variance = float(values.var())
        if not variance > RIGID**2:
            raise ValueError(
                f"the {what} of the types {kinds} do not vary in the frames (standard deviation "
                f"{np.sqrt(variance):.2g}, at least {RIGID:g} is needed), so they have no force constant; take more "
                "frames, or constrain them"
            )
        terms[kinds] = Harmonic(float(values.mean()), thermal / variance)
    return terms


def _samples(
    frames: Frames | Sequence[Frames], size: int, measure: Callable[..., NDArray[np.float64]], what: str
) -> tuple[float, dict[tuple[int, ...], NDArray[np.float64]]]:
    """k_B T, and all values of a coordinate along bonds, by the types of the beads it is between."""
    sources = list(frames) if isinstance(frames, Sequence) else [frames]
    names, temperature = sources[0].type_names, sources[0].temperature
    collected: dict[tuple[int, ...], list[NDArray[np.float64]]] = {}
    for source in sources:
        if source.type_names != names or source.temperature != temperature:
            raise ValueError(
                f"{source.path} has the bead types {source.type_names} at {source.temperature} K, {sources[0].path} "
                f"{names} at {temperature} K; priors need the same types and temperature"
            )
        paths = bonded_terms(source.bonds.tolist())[size - 2]
        if not paths or not len(source):
            continue
        try:
            values = measure(source.positions, paths, source.boxes)
        except ValueError as error:
            raise ValueError(f"{source.path}: {error}") from error
        for column, path in enumerate(paths):
            kinds = tuple(int(kind) for kind in source.types[list(path)])
            collected.setdefault(min(kinds, kinds[::-1]), []).append(values[:, column])
    if not collected:
        raise ValueError(
            f"there are no {what} in {', '.join(str(source.path) for source in sources)}: no frames, or too few bonds; "
            "map frames with a map whose beads are bonded (Mapping.with_bonds)"
        )
    return GAS_CONSTANT * temperature, {kinds: np.concatenate(values) for kinds, values in collected.items()}
