"""Priors of other packages, in Å, kcal/mol and conventions of their own, as those of OpenMM-CG.

| package | bonds | angles | dihedrals | repulsion |
|---|---|---|---|---|
| cgnet | ½ k (r − r0)² | ½ k (θ − θ0)² | | ½ (σ/r)ᶜ |
| mlcg | k (r − r0)² | k (cos θ − c0)² | Σ a sin nφ + b cos nφ | (σ/r)⁶ |
| torchmd-cg | k (r − r0)² | k (θ − θ0)², θ0 in degrees | Σ k (1 + cos(nφ − φ0)), φ0 in degrees | 4 ε (σ/r)⁶ |

All three take dihedrals by the convention of IUPAC, and OpenMM-CG writes ½ k (x − x0)² throughout. A `Repulsion` goes
to zero at its cutoff, by a linear function which the others do not have; take the cutoff large against σ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openmmcg.geometry.indices import check_indices
from openmmcg.potentials.priors.bonded import (
    Cosine,
    CosineAngles,
    Harmonic,
    HarmonicAngles,
    HarmonicBonds,
    PeriodicDihedrals,
)
from openmmcg.potentials.priors.repulsion import Repulsion
from openmmcg.potentials.priors.templates import HasTemplate

_KCAL = 4.184  # kJ
_ANGSTROM = 0.1  # nm

Terms = Mapping[Sequence[int], Mapping[str, Any]]


def from_cgnet(
    types: Sequence[int],
    *,
    bonds: Terms | None = None,
    angles: Terms | None = None,
    repulsion: Terms | None = None,
    cutoff: float = 1.5,
) -> list[HasTemplate]:
    """Priors of cgnet, as its ``GeometryStatistics.get_prior_statistics`` gives them.

    Parameters
    ----------
    types : sequence of int
        The bead type of each bead: cgnet's terms belong to beads, those of OpenMM-CG to bead types.
    bonds, angles : mapping, optional
        From tuples of beads to ``{"mean": Å or radians, "k": kcal/mol/Å² or kcal/mol/rad²}``.
    repulsion : mapping, optional
        From pairs of beads to ``{"ex_vol": Å, "exp": exponent}``.
    cutoff : float
        Of the repulsion, nm.

    Raises
    ------
    ValueError
        Terms between the same bead types differ, or exponents do; or a term is of beads that there are not.

    Examples
    --------
    >>> (prior,) = from_cgnet([0, 1], bonds={(0, 1): {"mean": 1.5, "k": 100.0}})
    >>> length, force_constant = prior.terms[0, 1]
    >>> round(length, 6), round(force_constant, 6)
    (0.15, 41840.0)
    """

    kinds = check_indices(types, None, "types")

    def by_types(terms: Terms, convert: Any) -> dict[tuple[int, ...], Any]:
        beads = check_indices([list(each) for each in terms], len(kinds), "beads of terms")
        return _merge(zip(map(tuple, kinds[beads].tolist()), map(convert, terms.values()), strict=True))

    priors: list[HasTemplate] = []
    if bonds:
        priors.append(
            HarmonicBonds(
                by_types(
                    bonds,
                    lambda term: Harmonic(float(term["mean"]) * _ANGSTROM, float(term["k"]) * _KCAL / _ANGSTROM**2),
                )
            )
        )
    if angles:
        priors.append(
            HarmonicAngles(by_types(angles, lambda term: Harmonic(float(term["mean"]), float(term["k"]) * _KCAL)))
        )
    if repulsion:
        exponents = {float(term["exp"]) for term in repulsion.values()}
        if len(exponents) > 1:
            raise ValueError(
                f"the repulsion has the exponents {sorted(exponents)}; a Repulsion has one, import them one by one"
            )
        (exponent,) = exponents
        factor = (0.5 * _KCAL) ** (1 / exponent)
        sigmas = by_types(repulsion, lambda term: float(term["ex_vol"]) * _ANGSTROM * factor)
        priors.append(Repulsion(_matrix(sigmas, int(kinds.max()) + 1), exponent, cutoff))
    return priors


def from_mlcg(
    *,
    bonds: Terms | None = None,
    angles: Terms | None = None,
    dihedrals: Terms | None = None,
    repulsion: Terms | None = None,
    type_of: Mapping[int, int] | None = None,
    cutoff: float = 1.5,
) -> list[HasTemplate]:
    """Priors of mlcg, from the ``statistics`` that its prior classes are made of.

    Parameters
    ----------
    bonds, angles : mapping, optional
        From tuples of mlcg's bead types to ``{"x_0": Å or cosine, "k": kcal/mol per unit squared}``.
    dihedrals : mapping, optional
        From quadruples to ``{"k1s": {"k1_1": …}, "k2s": {"k2_1": …}}``, coefficients of sin nφ and cos nφ, kcal/mol.
    repulsion : mapping, optional
        From pairs to ``{"sigma": Å}``.
    type_of : mapping, optional
        From mlcg's bead types to those of the potential; by default they are the same.
    cutoff : float
        Of the repulsion, nm.

    Raises
    ------
    ValueError
        A type is unknown, or terms that belong together differ.
    """

    def by_types(terms: Terms, convert: Any) -> dict[tuple[int, ...], Any]:
        unknown = {int(kind) for kinds in terms for kind in kinds} - set(type_of) if type_of is not None else set()
        if unknown:
            raise ValueError(f"the bead types {sorted(unknown)} of mlcg are not in type_of; add them")
        return _merge(
            (tuple(int(kind) if type_of is None else type_of[int(kind)] for kind in kinds), convert(values))
            for kinds, values in terms.items()
        )

    def series(term: Mapping[str, Any]) -> tuple[Cosine, ...]:
        sines, cosines = term["k1s"], term["k2s"]
        found = []
        for n in range(1, len(sines) + 1):
            sine, cosine = float(sines[f"k1_{n}"]) * _KCAL, float(cosines[f"k2_{n}"]) * _KCAL
            found.append(Cosine(n, math.atan2(sine, cosine), math.hypot(sine, cosine)))
        return tuple(found)

    priors: list[HasTemplate] = []
    if bonds:
        priors.append(
            HarmonicBonds(
                by_types(
                    bonds,
                    lambda term: Harmonic(float(term["x_0"]) * _ANGSTROM, 2 * float(term["k"]) * _KCAL / _ANGSTROM**2),
                )
            )
        )
    if angles:
        priors.append(
            CosineAngles(by_types(angles, lambda term: Harmonic(float(term["x_0"]), 2 * float(term["k"]) * _KCAL)))
        )
    if dihedrals:
        priors.append(PeriodicDihedrals(by_types(dihedrals, series)))
    if repulsion:
        factor = _ANGSTROM * _KCAL ** (1 / 6)
        sigmas = by_types(repulsion, lambda term: float(term["sigma"]) * factor)
        number = 1 + max(max(pair) for pair in sigmas) if type_of is None else 1 + max(type_of.values())
        priors.append(Repulsion(_matrix(sigmas, number), 6.0, cutoff))
    return priors


def from_torchmd_cg(
    force_field: Mapping[str, Any], type_names: Sequence[str], *, cutoff: float = 1.5
) -> list[HasTemplate]:
    """Priors of torchmd-cg, from the content of its force field file (YAML).

    Parameters
    ----------
    force_field : mapping
        ``bonds``, ``angles``, ``dihedrals`` and ``lj`` by names such as ``"(CAA, CAG)"``; other entries are not used.
        Of ``lj`` only the repulsive term ``RepulsionCG`` is meant, with σ the mean and ε the geometric mean of two.
    type_names : sequence of str
        The names of the potential's bead types, in their order. Terms of other types are left out.
    cutoff : float
        Of the repulsion, nm.

    Raises
    ------
    ValueError
        Terms that belong together differ.
    """
    number_of = {name: number for number, name in enumerate(type_names)}

    def by_types(section: str, convert: Any) -> dict[tuple[int, ...], Any]:
        terms = []
        for key, term in (force_field.get(section) or {}).items():
            names = [name.strip() for name in str(key).strip("() ").split(",")]
            if all(name in number_of for name in names):
                terms.append((tuple(number_of[name] for name in names), convert(term)))
        return _merge(terms)

    def bond(term: Mapping[str, Any]) -> Harmonic:
        return Harmonic(float(term["req"]) * _ANGSTROM, 2 * float(term["k0"]) * _KCAL / _ANGSTROM**2)

    def angle(term: Mapping[str, Any]) -> Harmonic:
        return Harmonic(math.radians(float(term["theta0"])), 2 * float(term["k0"]) * _KCAL)

    def series(term: Mapping[str, Any]) -> tuple[Cosine, ...]:
        return tuple(
            Cosine(int(part["per"]), math.radians(float(part["phase"])), float(part["phi_k"]) * _KCAL)
            for part in term["terms"]
        )

    priors: list[HasTemplate] = []
    if bonds := by_types("bonds", bond):
        priors.append(HarmonicBonds(bonds))
    if angles := by_types("angles", angle):
        priors.append(HarmonicAngles(angles))
    if dihedrals := by_types("dihedrals", series):
        priors.append(PeriodicDihedrals(dihedrals))
    if pairs := by_types("lj", lambda term: (float(term["sigma"]), float(term["epsilon"]))):
        sigmas = {}
        for (first,), (sigma_1, epsilon_1) in pairs.items():
            for (second,), (sigma_2, epsilon_2) in pairs.items():
                energy = 4 * math.sqrt(epsilon_1 * epsilon_2) * _KCAL
                sigmas[first, second] = 0.5 * (sigma_1 + sigma_2) * _ANGSTROM * energy ** (1 / 6)
        priors.append(Repulsion(_matrix(sigmas, len(type_names)), 6.0, cutoff))
    return priors


def _merge(terms: Any) -> dict[tuple[int, ...], Any]:
    """Terms by their types, each once; what is given twice must agree."""
    merged: dict[tuple[int, ...], Any] = {}
    for kinds, value in terms:
        key = min(kinds, kinds[::-1])
        if key in merged and not np.allclose(merged[key], value, rtol=1e-5):
            raise ValueError(
                f"two terms between beads of the types {key} differ, {merged[key]} and {value}; "
                "give the beads types of their own"
            )
        merged[key] = value
    return merged


def _matrix(sigmas: Mapping[Any, float], types: int) -> list[list[float]]:
    matrix = np.zeros((types, types))
    for (first, second), sigma in sigmas.items():
        matrix[first, second] = matrix[second, first] = sigma
    return matrix.tolist()
