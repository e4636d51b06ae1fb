"""The priors of mlcg as OpenMM forces, with terms by the indices of beads.

mlcg has them in two forms: by types, with a list of the beads that each is for, and specialised to the structures of
a simulation (``Static…``), with one row of parameters for each term, those of all structures one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg.potentials.external.archives import Inert
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm

_ANGSTROM, _KCAL = length_in_nm("angstrom"), energy_in_kilojoule_per_mole("kcal/mol")

_PARTICLES = {2: openmm.CustomBondForce, 3: openmm.CustomAngleForce, 4: openmm.CustomTorsionForce}
Parameters = Callable[[str], NDArray[np.float64]]


class Form(NamedTuple):
    """An energy, between how many beads it is, and what it takes, by name: a column for all terms."""

    beads: int
    energy: str
    parameters: dict[str, NDArray[np.float64]]


def _bonds(parameter: Parameters) -> Form:
    """k (r − r0)² + v0"""
    columns = {
        "r0": _ANGSTROM * parameter("x0"),
        "k": _KCAL / _ANGSTROM**2 * parameter("k"),
        "v0": _KCAL * parameter("V0"),
    }
    return Form(2, "k*(r-r0)^2+v0", columns)


def _angles(parameter: Parameters) -> Form:
    """k (cos θ − c0)² + v0"""
    columns = {"c0": parameter("x0"), "k": _KCAL * parameter("k"), "v0": _KCAL * parameter("V0")}
    return Form(3, "k*(cos(theta)-c0)^2+v0", columns)


def _quartic_angles(parameter: Parameters) -> Form:
    """v0 + Σ k_n cosⁿ θ, by Horner's rule."""
    factors = _KCAL * parameter("ks").T
    numbers = range(1, len(factors) + 1)
    energy = "v0" + "".join(f"+c*(k{n}" for n in numbers) + ")" * len(factors) + ";c=cos(theta)"
    return Form(
        3, energy, {"v0": _KCAL * parameter("v_0"), **{f"k{n}": k for n, k in zip(numbers, factors, strict=True)}}
    )


def _dihedrals(parameter: Parameters) -> Form:
    """v0 + Σ a_n sin nφ + b_n cos nφ"""
    sines, cosines = _KCAL * parameter("k1s").T, _KCAL * parameter("k2s").T
    # Specialised, the constant is the first of as many as there are sines.
    constants = parameter("v_0")
    columns = {"v0": _KCAL * (constants.sum(1) if constants.ndim == 2 else constants)}
    energy = "v0"
    for n, (sine, cosine) in enumerate(zip(sines, cosines, strict=True), start=1):
        energy += f"+a{n}*sin({n}*theta)+b{n}*cos({n}*theta)"
        columns |= {f"a{n}": sine, f"b{n}": cosine}
    return Form(4, energy, columns)


def _repulsion(parameter: Parameters) -> Form:
    """(σ/r)⁶ kcal/mol"""
    return Form(2, f"{_KCAL}*(sigma/r)^6", {"sigma": _ANGSTROM * parameter("sigma")})


def _exponential_repulsion(parameter: Parameters) -> Form:
    """6/α exp(α (1 − r/r0)) kcal/mol"""
    columns = {"r0": _ANGSTROM * parameter("r_0"), "alpha": parameter("alpha")}
    return Form(2, f"{_KCAL}*6/alpha*exp(alpha*(1-r/r0))", columns)


_FORMS = {
    "Dihedral": _dihedrals,
    "GeneralAngles": _angles,
    "GeneralBonds": _bonds,
    "HarmonicAngles": _angles,
    "HarmonicBonds": _bonds,
    "QuarticAngles": _quartic_angles,
    "Repulsion": _repulsion,
    "RepulsionBuckMod": _exponential_repulsion,
}
_BONDS = ("GeneralBonds", "HarmonicBonds")
# Those that mlcg specialises.
_STATIC = ("Dihedral", "GeneralAngles", "GeneralBonds", "HarmonicAngles", "HarmonicBonds")
#: The classes of priors that can be converted.
KINDS = (*_FORMS, *(f"Static{kind}" for kind in _STATIC))


def are_bonds(kind: str) -> bool:
    """Whether a class of priors is one of bonds."""
    return kind.removeprefix("Static") in _BONDS


def convert_prior(
    model: Inert, beads: NDArray[np.int64], types: NDArray[np.int64], begin: int, name: str
) -> openmm.Force:
    """A prior of mlcg as an OpenMM force of as many terms, in nm and kJ/mol.

    Parameters
    ----------
    model
        The prior.
    beads
        Of each term, ``[terms, beads of a term]``.
    types
        mlcg's bead type of each bead, ``[N]``.
    begin
        Where the first of these terms is among those of all structures.
    name
        Of the force.
    """
    static = model.kind.startswith("Static")
    types_of_terms = tuple(types[beads].T)

    def parameter(name: str) -> NDArray[np.float64]:
        """``[terms]``, or ``[terms, degrees]``."""
        if static:
            return np.asarray(model[name][begin : begin + len(beads)], float)
        if name == "V0":  # which only specialised priors have
            return np.zeros(len(beads))
        values = np.asarray(model[{"x0": "x_0"}.get(name, name)], float)
        degrees = values.ndim - len(types_of_terms)
        return values[types_of_terms] if degrees == 0 else np.stack([value[types_of_terms] for value in values], 1)

    form = _FORMS[model.kind.removeprefix("Static")](parameter)
    if beads.shape[1] != form.beads or any(len(column) != len(beads) for column in form.parameters.values()):
        raise ValueError(
            f"the prior '{name}' has parameters of {[len(column) for column in form.parameters.values()]} terms for "
            f"{len(beads)} terms between {beads.shape[1]} beads, in place of {form.beads}"
        )
    return _make_force(form, beads, name)


def _make_force(form: Form, beads: NDArray[np.int64], name: str) -> openmm.Force:
    force = _PARTICLES[form.beads](form.energy)
    force.setName(name)
    term = {2: "Bond", 3: "Angle", 4: "Torsion"}[form.beads]
    for parameter in form.parameters:
        getattr(force, f"addPer{term}Parameter")(parameter)
    for indices, values in zip(beads.tolist(), np.stack(list(form.parameters.values()), 1).tolist(), strict=True):
        getattr(force, f"add{term}")(*indices, values)
    return force
