"""Simple liquids, ready to sample: argon and methane."""

from __future__ import annotations

import itertools

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmmcg.constants import GRAM_PER_CUBIC_CENTIMETER
from openmmcg.reference.molecules.water import AllAtomSystem, cutoff_in, without_overlaps

_CALORIE = 4.184
_ARGON = (0.3405, 0.238 * _CALORIE)  # nm, kJ/mol
_CARBON = (0.3345, 0.066 * _CALORIE)
_CHARGES = (-0.24, 0.06)  # e, of carbon and hydrogen
_BOND = 0.109  # nm
_ANGLE = np.arccos(-1 / 3)
_BEND = 2 * 33.0 * _CALORIE  # kJ/mol/rad²
_TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)


def argon_box(
    atoms: int = 512,
    density: float = 1.374,
    cutoff: float = 1.0,
    seed: int = 0,
    *,
    sigma: float = _ARGON[0],
    epsilon: float = _ARGON[1],
) -> AllAtomSystem:
    """A cubic periodic box of argon, Lennard-Jones atoms, with exactly this number of atoms and this density.

    The default density is that of the liquid at 94.4 K (Rahman, Phys. Rev. 136, A405 (1964)). With ε = 0.238 kcal/mol
    (119.8 K) it is a liquid there, under less than 100 bar. Some papers print 0.238 kJ/mol: that is a fluid under a
    thousand bar, far above its critical temperature of some 40 K.

    Parameters
    ----------
    atoms
        Their number.
    density
        g/cm³
    cutoff
        nm; 0.49 of the box width where that is less. The energy is switched off over its last tenth.
    seed
        Of the places in the lattice that remain empty, and of small displacements.
    sigma, epsilon
        nm and kJ/mol.

    Raises
    ------
    ValueError
        Numbers that are not positive, or too few atoms for a cutoff of 0.5 nm.

    Examples
    --------
    >>> topology, system, positions = argon_box(108)
    >>> system.getNumParticles(), positions.shape
    (108, (108, 3))
    """
    element = app.element.argon
    width, centers = _lattice(atoms, density, element.mass._value, seed)
    topology, (system, force) = (
        app.Topology(),
        _system(width, cutoff, atoms, density, openmm.NonbondedForce.CutoffPeriodic),
    )
    topology.setPeriodicBoxVectors(np.eye(3) * width * unit.nanometer)
    chain = topology.addChain()
    for _ in range(atoms):
        topology.addAtom("Ar", element, topology.addResidue("AR", chain))
        system.addParticle(element.mass)
        force.addParticle(0.0, sigma, epsilon)
    return AllAtomSystem(topology, system, without_overlaps(system, centers))


def methane_box(
    molecules: int = 512,
    density: float = 0.4226,
    cutoff: float = 1.0,
    seed: int = 0,
) -> AllAtomSystem:
    """A cubic periodic box of five-site methane, with exactly this number of molecules and this density.

    σ = 3.345 Å and ε = 0.066 kcal/mol of carbon, charges of −0.24 and 0.06 e ("Achieving dynamic accuracy in
    machine-learned CG potentials by modulating potential energy landscape", which prints the energy as kJ/mol and the
    hydrogens' charge as −0.06). Bonds of 1.09 Å are constraints, angles have the spring of OPLS-AA, 33 kcal/mol/rad²
    (Jorgensen et al., J. Am. Chem. Soc. 118, 11225 (1996)). Electrostatics are particle-mesh Ewald. The default density
    is that of liquid methane at 111.7 K. Its hydrogens attract nothing, so this methane is no liquid there, whatever
    the unit of energy: it is a fluid under some 480 bar (560 with 0.066 kJ/mol).

    Parameters
    ----------
    molecules
        Their number.
    density
        g/cm³
    cutoff
        nm, of the Lennard-Jones energy, switched off over its last tenth, and of direct Coulomb energies; 0.49 of the
        box width where that is less.
    seed
        Of orientations, of the places in the lattice that remain empty, and of small displacements.

    Raises
    ------
    ValueError
        Numbers that are not positive, or too few molecules for a cutoff of 0.5 nm.

    Examples
    --------
    >>> topology, system, positions = methane_box(64)
    >>> system.getNumParticles(), system.getNumConstraints()
    (320, 256)
    """
    carbon, hydrogen = app.element.carbon, app.element.hydrogen
    mass = carbon.mass._value + 4 * hydrogen.mass._value
    width, centers = _lattice(molecules, density, mass, seed)
    system, force = _system(width, cutoff, molecules, density, openmm.NonbondedForce.PME)
    topology, chain = _topology(width)
    bends = openmm.HarmonicAngleForce()
    for _ in range(molecules):
        residue = topology.addResidue("CH4", chain)
        center = topology.addAtom("C", carbon, residue)
        first = system.addParticle(carbon.mass)
        force.addParticle(_CHARGES[0], *_CARBON)
        hydrogens = []
        for index in range(4):
            topology.addBond(center, topology.addAtom(f"H{index + 1}", hydrogen, residue))
            hydrogens.append(system.addParticle(hydrogen.mass))
            force.addParticle(_CHARGES[1], 0.1, 0.0)
            system.addConstraint(first, hydrogens[-1], _BOND)
        for pair in itertools.combinations(hydrogens, 2):
            bends.addAngle(pair[0], first, pair[1], _ANGLE, _BEND)
        for pair in itertools.combinations([first, *hydrogens], 2):
            force.addException(*pair, 0.0, 0.1, 0.0)
    system.addForce(bends)
    turns = _random_rotations(molecules, seed)
    shape = np.concatenate([np.zeros((1, 3)), _BOND * _TETRAHEDRON])
    positions = (centers[:, None] + np.einsum("ad,mde->mae", shape, turns)).reshape(-1, 3)
    return AllAtomSystem(topology, system, without_overlaps(system, positions))


def _lattice(molecules: int, density: float, mass: float, seed: int) -> tuple[float, NDArray[np.float64]]:
    """The width of the box, nm, and where molecules are placed at first, ``[molecules, 3]``."""
    if not (molecules > 0 and 0 < density < np.inf):
        raise ValueError(
            f"a liquid needs molecules and a positive density, got {molecules} molecules at {density} g/cm³"
        )
    width = (molecules * mass / (density * GRAM_PER_CUBIC_CENTIMETER)) ** (1 / 3)
    cells = int(np.ceil(molecules ** (1 / 3) - 1e-9))
    sites = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) + 0.5
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(sites))[:molecules])
    return width, (sites[chosen] + random.uniform(-0.05, 0.05, (molecules, 3))) * width / cells


def _system(
    width: float, cutoff: float, molecules: int, density: float, method: int
) -> tuple[openmm.System, openmm.NonbondedForce]:
    reach = cutoff_in(width, cutoff, molecules, density)
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*np.eye(3) * width)
    force.setNonbondedMethod(method)
    force.setCutoffDistance(reach)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.9 * reach)
    force.setUseDispersionCorrection(True)
    force.setReactionFieldDielectric(1.0)
    system.addForce(force)
    system.addForce(openmm.CMMotionRemover())
    return system, force


def _topology(width: float) -> tuple[app.Topology, app.topology.Chain]:
    topology = app.Topology()
    topology.setPeriodicBoxVectors(np.eye(3) * width * unit.nanometer)
    return topology, topology.addChain()


def _random_rotations(number: int, seed: int) -> NDArray[np.float64]:
    """Rotation matrices, evenly distributed, ``[number, 3, 3]``."""
    quaternions = np.random.default_rng([seed, 1]).normal(size=(number, 4))
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1)[:, None]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
