"""Priors as templates: OpenMM forces whose particles are bead types, and forces made of them.

A template is an OpenMM force in XML, so that one file serves any number of beads: a ``CustomNonbondedForce``
without particles and with one per-particle parameter, the bead type; or a force of bonds, angles or torsions in
which every term names *bead types* where an ordinary force names particles. Such a term is meant for all bonds,
angles or dihedrals between beads of these types, in this order or the reverse. Or it is a ``CustomVolumeForce``, to
whose energy the number of ``beads`` is added.

Where the XML has the attribute ``molecule``, the types of a molecule's beads, the terms name its beads, and the prior
is for no other beads (`MoleculePrior`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias
from xml.etree import ElementTree

import numpy as np
import openmm
from numpy.typing import NDArray

from openmmcg._openmmcg import is_tabulated
from openmmcg.forces.pair_force import PairForce
from openmmcg.forces.tabulated_bonded_force import TabulatedBondedForce
from openmmcg.geometry.indices import check_indices
from openmmcg.geometry.internal_coordinates import bonded_terms
from openmmcg.potentials.priors.molecule import MoleculePrior
from openmmcg.simulation.replicas import TERMS

_BONDED = {kind: description for kind, description in TERMS.items() if description[1] > 1}


class HasTemplate(Protocol):
    """A prior of `openmmcg.potentials`, such as `Repulsion` or `HarmonicBonds`."""

    def template(self) -> openmm.Force: ...


Prior: TypeAlias = "HasTemplate | openmm.Force"


def to_xml(prior: Prior, types: int | None = None) -> str:
    """A prior as OpenMM XML, the form in which files hold it, among so many bead types.

    Raises
    ------
    ValueError
        It knows fewer types, and would act on the others as on the first. It is no template: neither a
        ``CustomNonbondedForce`` with ``type`` as its only per-particle parameter and no particles, nor a
        ``CustomVolumeForce``, nor a force with bonds, angles or torsions. Or the terms of a `MoleculePrior` are of
        beads that its molecule does not have.
    """
    known = getattr(prior, "types", None)
    if types is not None and known is not None and known < types:
        if not hasattr(prior, "for_types"):
            raise ValueError(
                f"a {type(prior).__name__} for {known} bead types is among {types}; give it numbers for all pairs of "
                "types, such as none at all (σ or C12 of 0)"
            )
        prior = prior.for_types(types)
    force = prior if isinstance(prior, openmm.Force) else prior.template()
    pair = isinstance(force, openmm.CustomNonbondedForce) and (
        force.getNumParticles() == 0
        and force.getNumPerParticleParameters() == 1
        and force.getPerParticleParameterName(0) == "type"
    )
    of_volume = isinstance(force, openmm.CustomVolumeForce)
    term = _term(force)
    bonded = term is not None and getattr(force, f"getNum{term[0]}s")() > 0
    if not (pair or of_volume or bonded):
        raise ValueError(
            "a prior must be one of openmmcg.potentials, a CustomNonbondedForce without particles whose only "
            "per-particle parameter is 'type', a CustomVolumeForce, or a force of bonds, angles or torsions between "
            f"bead types ({', '.join(kind.__name__ for kind in _BONDED)}, TabulatedBondedForce, "
            f"CustomCompoundBondForce of 2 to 4); got {force!r}"
        )
    if not isinstance(prior, MoleculePrior):
        return openmm.XmlSerializer.serialize(force)
    if not bonded:
        raise ValueError(f"a MoleculePrior needs a force of bonds, angles or torsions, not a {type(force).__name__}")
    xml = _with_molecule(openmm.XmlSerializer.serialize(force), prior.molecule)
    check_indices(_terms_of(xml), len(prior.molecule), f"beads of the prior {force.getName()}")
    return xml


def from_xml(xml: str) -> openmm.Force:
    """The force of a prior in OpenMM XML, of its own class."""
    force = openmm.XmlSerializer.deserialize(xml)
    return TabulatedBondedForce.of(force) if is_tabulated(int(force.this)) else force


def restore_prior(xml: str) -> Prior:
    """What `to_xml` was given: a force, or a `MoleculePrior`."""
    force, molecule = from_xml(xml), _molecule_of(xml)
    return force if molecule is None else MoleculePrior(force, molecule)


def scale_prior(xml: str, factor: float) -> str:
    """A prior, as OpenMM XML, with its energy times a factor."""
    force = from_xml(xml)
    _scale(force, factor)
    scaled, molecule = openmm.XmlSerializer.serialize(force), _molecule_of(xml)
    return scaled if molecule is None else _with_molecule(scaled, molecule)


def _scale(force: openmm.Force, factor: float) -> None:
    if isinstance(force, TabulatedBondedForce):
        for index in range(force.getNumTables()):
            start, stop, energies = force.getTableParameters(index)
            force.setTableParameters(index, start, stop, factor * energies)
        return
    if hasattr(force, "setEnergyFunction"):
        energy, *definitions = force.getEnergyFunction().split(";", 1)
        force.setEnergyFunction(";".join([f"{factor!r}*({energy})", *definitions]))
        return
    term = _BONDED[type(force)][0]
    constants = 6 if isinstance(force, openmm.RBTorsionForce) else 1  # the last parameters, which are energies
    for index in range(getattr(force, f"getNum{term}s")()):
        parameters = getattr(force, f"get{term}Parameters")(index)
        scaled = [factor * constant for constant in parameters[-constants:]]
        getattr(force, f"set{term}Parameters")(index, *parameters[:-constants], *scaled)


def add_priors(
    system: openmm.System,
    templates: Iterable[str],
    types: Sequence[int],
    bonds: Iterable[Iterable[int]],
    periodic: bool,
    type_names: Sequence[str] | None = None,
) -> None:
    """Add priors to a System of beads; pair forces leave out beads one or two bonds apart.

    Parameters
    ----------
    system
        Its particles are the beads.
    templates
        OpenMM XML of the priors, see `to_xml`.
    types
        Bead types, ``[N]``.
    bonds
        Pairs of bonded beads. Angles and dihedrals are all paths along two and three bonds.
    periodic
        Whether distances are those of the minimum image.
    type_names
        What error messages call the types.

    Raises
    ------
    ValueError
        There are priors of bonds, but none for a bond that is there; a prior is of a molecule, and these beads are
        not those of the molecule; or one is of the volume, and there is no box.
    """
    terms = bonded_terms(bonds)
    paths = {2: terms.bonds, 3: terms.angles, 4: terms.dihedrals}
    unbound, bonds_have_priors = set(terms.bonds), False
    for xml in templates:
        force, molecule = from_xml(xml), _molecule_of(xml)
        if molecule is not None:
            _check_molecule(molecule, types, force.getName(), type_names)
            force.setUsesPeriodicBoundaryConditions(periodic)
            unbound -= {(min(beads), max(beads)) for beads in _terms_of(xml) if len(beads) == 2}
        elif isinstance(force, openmm.CustomNonbondedForce):
            for bead_type in types:
                force.addParticle([int(bead_type)])
            force.createExclusionsFromBonds(terms.bonds, 2)
            method = openmm.CustomNonbondedForce
            force.setNonbondedMethod(method.CutoffPeriodic if periodic else method.CutoffNonPeriodic)
            force = PairForce(force)
        elif isinstance(force, openmm.CustomVolumeForce):
            if not periodic:
                raise ValueError(
                    f"the prior {force.getName()} is an energy of the box, and there is none; give the topology its "
                    "box, or take the potential without that prior"
                )
            force.setEnergyFunction(f"{force.getEnergyFunction()}; beads = {len(types)}")
        else:
            term, size = _term(force)  # type: ignore[misc]
            force, found = _instantiate(xml, term, paths[size], types)
            force.setUsesPeriodicBoundaryConditions(periodic)
            bonds_have_priors |= size == 2
            unbound -= set(found)
        system.addForce(force)
    if bonds_have_priors and unbound:
        pair = min(unbound)
        kinds = [str(types[bead]) if type_names is None else type_names[types[bead]] for bead in pair]
        raise ValueError(
            f"no prior is for the bond of beads {pair[0]} and {pair[1]}, of types {kinds[0]} and {kinds[1]}, and "
            "nothing would hold them together; fit the priors to frames that have such a bond, or correct the bonds of "
            "the topology"
        )


def _molecule_of(xml: str) -> list[int] | None:
    """The bead types of the molecule whose beads the terms of a prior name; None where they name types."""
    molecule = ElementTree.fromstring(xml).get("molecule")
    return None if molecule is None else [int(kind) for kind in molecule.split()]


def _with_molecule(xml: str, molecule: Sequence[int]) -> str:
    root = ElementTree.fromstring(xml)
    root.set("molecule", " ".join(str(int(kind)) for kind in molecule))
    return ElementTree.tostring(root, encoding="unicode")


def _terms_of(xml: str) -> list[tuple[int, ...]]:
    """What each term of a force of bonds, angles or torsions names, beads or types."""
    elements = (element for element in ElementTree.fromstring(xml).iter() if "p1" in element.attrib)
    return [tuple(int(element.attrib[name]) for name in _particle_names(element)) for element in elements]


def _check_molecule(
    molecule: Sequence[int], types: Sequence[int], prior: str, type_names: Sequence[str] | None
) -> None:
    if list(types) == list(molecule):
        return
    names = dict(enumerate(type_names or ()))
    expected, found = (" ".join(names.get(kind, str(kind)) for kind in beads) for beads in (molecule, types))
    raise ValueError(
        f"the terms of the prior {prior} are those of one molecule of the beads {expected}; the topology has the beads "
        f"{found}. Give it one molecule, with its beads in this order, and replicas= for several copies"
    )


def _term(force: openmm.Force) -> tuple[str, int] | None:
    """What a force calls its terms, and between how many beads one is; None where it has no bonded terms."""
    if isinstance(force, openmm.CustomCompoundBondForce) and force.getNumParticlesPerBond() in (2, 3, 4):
        return "Bond", force.getNumParticlesPerBond()
    if isinstance(force, TabulatedBondedForce):
        return "Term", force.getNumParticlesPerTerm()
    return _BONDED.get(type(force))


def _instantiate(
    xml: str, term: str, paths: Iterable[tuple[int, ...]], types: Sequence[int]
) -> tuple[openmm.Force, list[tuple[int, ...]]]:
    """A template's force with a term for each path along bonds whose types it names, and these paths."""
    root = ElementTree.fromstring(xml)
    container = root.find(f"{term}s")
    assert container is not None
    by_types: dict[tuple[int, ...], list[ElementTree.Element]] = {}
    for element in list(container):
        key = tuple(int(element.attrib[name]) for name in _particle_names(element))
        by_types.setdefault(min(key, key[::-1]), []).append(element)
        container.remove(element)
    found = []
    for path in paths:
        key = tuple(int(types[bead]) for bead in path)
        for term_of_types in by_types.get(min(key, key[::-1]), []):
            element = ElementTree.SubElement(container, term_of_types.tag, term_of_types.attrib)
            for name, bead in zip(_particle_names(element), path, strict=True):
                element.set(name, str(bead))
            found.append(path)
    return from_xml(ElementTree.tostring(root, encoding="unicode")), found


def _particle_names(element: ElementTree.Element) -> Iterator[str]:
    return (f"p{i}" for i in range(1, 5) if f"p{i}" in element.attrib)


class PriorForces:
    """The forces of priors on beads, as OpenMM's Reference platform computes them in double precision.

    Parameters
    ----------
    priors
        The priors.
    types : sequence of int
        Bead types, ``[N]``.
    bonds : iterable of pairs of int
        Bonded beads, see `add_priors`.
    periodic : bool
        Whether distances are those of the minimum image.
    type_names : sequence of str, optional
        What error messages call the types.
    others : iterable of openmm.Force
        Added as they are.
    """

    def __init__(
        self,
        priors: Iterable[Prior],
        types: Sequence[int],
        bonds: Iterable[Iterable[int]] = (),
        *,
        periodic: bool,
        type_names: Sequence[str] | None = None,
        others: Iterable[openmm.Force] = (),
    ) -> None:
        system = openmm.System()
        for _ in types:
            system.addParticle(1.0)
        # So wide that the cutoffs are checked against the boxes of the frames only.
        system.setDefaultPeriodicBoxVectors((1e3, 0, 0), (0, 1e3, 0), (0, 0, 1e3))
        number = 1 + max(types, default=0) if type_names is None else len(type_names)
        add_priors(system, [to_xml(prior, number) for prior in priors], types, bonds, periodic, type_names)
        for force in others:
            system.addForce(force)
        platform = openmm.Platform.getPlatformByName("Reference")
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

    def __call__(self, positions: NDArray[np.floating], box: NDArray[np.floating] | None) -> NDArray[np.float64]:
        """Forces ``[N, 3]`` in kJ/mol/nm at positions ``[N, 3]`` in a box ``[3, 3]`` of row vectors, nm."""
        if box is not None:
            self._context.setPeriodicBoxVectors(*np.asarray(box, float))
        self._context.setPositions(np.asarray(positions, float))
        return self._context.getState(forces=True).getForces(asNumpy=True)._value
