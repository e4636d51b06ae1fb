"""Copies of a System side by side in one System, none of which sees another."""

from __future__ import annotations

import copy

import openmm

from openmmcg._openmmcg import is_cgforce, is_pair_force, is_tabulated
from openmmcg.forces.cg_force import CGForce
from openmmcg.forces.pair_force import PairForce
from openmmcg.forces.tabulated_bonded_force import TabulatedBondedForce

# Forces that are sums of terms: the name of a term, and on how many particles it acts.
TERMS: dict[type[openmm.Force], tuple[str, int]] = {
    openmm.HarmonicBondForce: ("Bond", 2),
    openmm.HarmonicAngleForce: ("Angle", 3),
    openmm.PeriodicTorsionForce: ("Torsion", 4),
    openmm.RBTorsionForce: ("Torsion", 4),
    openmm.CustomBondForce: ("Bond", 2),
    openmm.CustomAngleForce: ("Angle", 3),
    openmm.CustomTorsionForce: ("Torsion", 4),
    openmm.CustomExternalForce: ("Particle", 1),
}


def replicate_system(system: openmm.System, replicas: int) -> openmm.System:
    """A System of `replicas` copies of a System, one after the other, that do not interact.

    Particle i of copy r is particle ``r * n + i``. A CGForce or PairForce becomes one of that many replicas, bonded and
    external forces repeat their terms, a CustomVolumeForce counts once for each, constraints are repeated, and a
    CustomNonbondedForce acts within each copy through an interaction group of its own, which costs the square of the
    particles of a copy: a `PairForce` made of it does not. All copies share the box.

    Parameters
    ----------
    system : openmm.System
        Of one copy, ``n`` particles; it is left as it is.
    replicas : int

    Raises
    ------
    ValueError
        There is no replica, or the System holds what would couple replicas or cannot be repeated: another kind of
        force (a NonbondedForce, a barostat, a CMMotionRemover, …), a long-range correction, or virtual sites.

    Examples
    --------
    >>> import openmm
    >>> dumbbell = openmm.System()
    >>> _ = dumbbell.addParticle(10.0), dumbbell.addParticle(20.0)
    >>> bond = openmm.HarmonicBondForce()
    >>> _ = bond.addBond(0, 1, 0.3, 1000.0)
    >>> _ = dumbbell.addForce(bond)
    >>> three = replicate_system(dumbbell, 3)
    >>> three.getNumParticles(), three.getForce(0).getBondParameters(2)[:2]
    (6, [4, 5])
    """
    if replicas < 1:
        raise ValueError(f"there must be at least 1 replica, not {replicas}")
    particles = system.getNumParticles()
    if any(system.isVirtualSite(particle) for particle in range(particles)):
        raise ValueError("the System has virtual sites, which cannot be repeated for replicas; run one replica")
    result = openmm.System()
    result.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
    for replica in range(replicas):
        for particle in range(particles):
            result.addParticle(system.getParticleMass(particle))
        for constraint in range(system.getNumConstraints()):
            first, second, distance = system.getConstraintParameters(constraint)
            result.addConstraint(first + replica * particles, second + replica * particles, distance)
    for force in system.getForces():
        result.addForce(_replicate(force, particles, replicas))
    return result


def _replicate(force: openmm.Force, particles: int, replicas: int) -> openmm.Force:
    result = copy.deepcopy(force)
    shifts = [replica * particles for replica in range(1, replicas)]
    if type(force) in TERMS:
        _repeat_terms(force, result, shifts)
    elif isinstance(force, openmm.CustomCompoundBondForce):
        for shift in shifts:
            for index in range(force.getNumBonds()):
                group, parameters = force.getBondParameters(index)
                result.addBond([particle + shift for particle in group], parameters)
    elif is_tabulated(int(force.this)):
        tabulated = TabulatedBondedForce.of(result)
        terms = [tabulated.getTermParameters(index) for index in range(tabulated.getNumTerms())]
        for shift in shifts:
            for group, table in terms:
                tabulated.addTerm([particle + shift for particle in group], table)
    elif is_pair_force(int(force.this)):
        pairs = PairForce.of(result)
        if pairs.replicas > 1:
            raise ValueError(f"the PairForce of the System has {pairs.replicas} replicas already; give one copy only")
        pairs.replicas = replicas
    elif isinstance(force, openmm.CustomVolumeForce):
        # The box is that of all.
        energy, *definitions = force.getEnergyFunction().split(";", 1)
        result.setEnergyFunction(";".join([f"{replicas}*({energy})", *definitions]))
    elif isinstance(force, openmm.CustomNonbondedForce):
        _repeat_pair_force(force, result, shifts)
    elif is_cgforce(int(force.this)):
        network = CGForce.of(result)
        if network.replicas > 1:
            raise ValueError(f"the CGForce of the System has {network.replicas} replicas already; give one copy only")
        network.replicas = replicas
        chosen = network.getParticles()
        if chosen is not None:
            network.setParticles(chosen + [particle + shift for shift in shifts for particle in chosen])
    elif isinstance(force, openmm.CMMotionRemover):
        raise ValueError(
            "a CMMotionRemover would couple replicas, since it removes the motion of all of them together; leave it "
            "out of the System (remove_center_of_mass_motion=False in CGPotential.create_system)"
        )
    else:
        raise ValueError(
            f"the force {force.getName()} ({type(force).__name__}) would couple replicas, or cannot be repeated for "
            "them; leave it out of the System, or run one replica. Besides a CGForce, known are PairForce, "
            "CustomNonbondedForce, CustomVolumeForce, CustomCompoundBondForce, TabulatedBondedForce, "
            f"{', '.join(kind.__name__ for kind in TERMS)}"
        )
    return result


def _repeat_terms(force: openmm.Force, result: openmm.Force, shifts: list[int]) -> None:
    term, size = TERMS[type(force)]
    parameters_of = getattr(force, f"get{term}Parameters")
    terms = [parameters_of(index) for index in range(getattr(force, f"getNum{term}s")())]
    add = getattr(result, f"add{term}")
    for shift in shifts:
        for parameters in terms:
            add(*(particle + shift for particle in parameters[:size]), *parameters[size:])


def _repeat_pair_force(
    force: openmm.CustomNonbondedForce, result: openmm.CustomNonbondedForce, shifts: list[int]
) -> None:
    if shifts and force.getUseLongRangeCorrection():
        raise ValueError(
            f"the long-range correction of the force {force.getName()} would be that of all replicas together; "
            "switch it off, or run one replica"
        )
    particles = range(force.getNumParticles())
    groups = [force.getInteractionGroupParameters(index) for index in range(force.getNumInteractionGroups())]
    if not groups:
        groups = [(particles, particles)]
        if shifts:
            result.addInteractionGroup(particles, particles)
    for shift in shifts:
        for particle in particles:
            result.addParticle(force.getParticleParameters(particle))
        for exclusion in range(force.getNumExclusions()):
            first, second = force.getExclusionParticles(exclusion)
            result.addExclusion(first + shift, second + shift)
        for first_set, second_set in groups:
            result.addInteractionGroup(
                [particle + shift for particle in first_set], [particle + shift for particle in second_set]
            )
