"""Boxes of rigid all-atom water, ready to sample."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import app, unit

from openmmcg.constants import GRAM_PER_CUBIC_CENTIMETER
from openmmcg.simulation.context import default_box
from openmmcg.simulation.minimise import minimise

WATER_MODELS = ("spce", "tip3p")
_CUTOFF_PER_WIDTH = 0.49
_SMALLEST_CUTOFF = 0.5
_SEAM = 0.15  # nm left free at the faces, so that no two molecules sit on top of each other there


class AllAtomSystem(NamedTuple):
    """What sampling starts from.

    Attributes
    ----------
    topology : openmm.app.Topology
        With the periodic box.
    system : openmm.System
    positions : float64 [atoms, 3], nm
        Whole molecules.
    """

    topology: app.Topology
    system: openmm.System
    positions: NDArray[np.float64]


def water_box(
    model: str = "spce",
    molecules: int = 512,
    density: float = 0.997,
    cutoff: float = 0.9,
    seed: int = 0,
) -> AllAtomSystem:
    """A cubic periodic box of rigid water with exactly this number of molecules and this density.

    The molecules come from a block of liquid water that OpenMM ships, repeated as often as needed, so
    that the box starts as a liquid with a seam at its faces, which the energy minimisation mends. What
    little order is left of the seam is gone after a picosecond or two of sampling. Electrostatics are
    particle-mesh Ewald.

    Parameters
    ----------
    model
        ``"spce"`` (Berendsen, Grigera & Straatsma, J. Phys. Chem. 91, 6269 (1987)) or ``"tip3p"``
        (Jorgensen et al., J. Chem. Phys. 79, 926 (1983)).
    molecules
        At least 36 at the default density: half the box has to hold a cutoff of 0.5 nm.
    density
        g/cm³.
    cutoff
        nm, of the Lennard-Jones and the direct Coulomb interaction; 0.49 of the box width where that is less.
    seed
        Chooses the part of the shipped liquid that is cut out.

    Raises
    ------
    ValueError
        Unknown model, density not positive, or too few molecules.

    Examples
    --------
    >>> topology, system, positions = water_box("spce", molecules=64)
    >>> system.getNumParticles(), positions.shape
    (192, (192, 3))
    """
    if model not in WATER_MODELS:
        raise ValueError(f"unknown water model {model!r}; known are {', '.join(WATER_MODELS)}")
    if not density > 0:
        raise ValueError(f"the density must be positive, got {density} g/cm³")
    shipped = app.PDBFile(str(Path(app.__file__).parent / "data" / f"{model}.pdb"))
    molecule_mass = sum(
        atom.element.mass.value_in_unit(unit.dalton) for atom in next(shipped.topology.residues()).atoms()
    )
    molecules_per_volume = density * GRAM_PER_CUBIC_CENTIMETER / molecule_mass
    width = (molecules / molecules_per_volume) ** (1 / 3)
    reach = cutoff_in(width, cutoff, molecules, density)

    topology = _water_topology(molecules, width)
    system = app.ForceField(f"{model}.xml").createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=reach,
        constraints=app.HBonds,
        rigidWater=True,
    )
    return AllAtomSystem(
        topology, system, without_overlaps(system, _cut_liquid(shipped, molecules, width - _SEAM, seed))
    )


def cutoff_in(width: float, cutoff: float, molecules: int, density: float) -> float:
    """A cutoff, nm, or what of it a cubic box of this width has room for."""
    smallest = math.ceil(molecules * (_SMALLEST_CUTOFF / (_CUTOFF_PER_WIDTH * width)) ** 3)
    if molecules < smallest:
        raise ValueError(
            f"{molecules} molecules at {density} g/cm³ make a box too small for a cutoff of "
            f"{_SMALLEST_CUTOFF} nm; take at least {smallest}"
        )
    return min(cutoff, _CUTOFF_PER_WIDTH * width)


def _water_topology(molecules: int, width: float) -> app.Topology:
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(molecules):
        residue = topology.addResidue("HOH", chain)
        oxygen = topology.addAtom("O", app.element.oxygen, residue)
        for name in ("H1", "H2"):
            topology.addBond(oxygen, topology.addAtom(name, app.element.hydrogen, residue))
    topology.setPeriodicBoxVectors(np.eye(3) * width * unit.nanometer)
    return topology


def _cut_liquid(shipped: app.PDBFile, molecules: int, width: float, seed: int) -> NDArray[np.float64]:
    """Positions ``[3 molecules, 3]``: a cube cut out of the shipped liquid, brought to the wanted width."""
    block = shipped.getPositions(asNumpy=True).value_in_unit(unit.nanometer).reshape(-1, 3, 3)
    block_width = shipped.topology.getUnitCellDimensions().value_in_unit(unit.nanometer)[0]
    origin = np.random.default_rng(seed).uniform(0, block_width, 3)
    oxygens = (block[:, 0] - origin) % block_width
    shapes = block - block[:, :1]

    repeats = int(np.ceil((molecules / len(block)) ** (1 / 3)))
    cells = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    oxygens = (oxygens + cells * block_width).reshape(-1, 3)
    # The molecules of smallest largest coordinate fill a cube, whatever their number.
    chosen = np.argsort(oxygens.max(axis=1))[:molecules]
    oxygens = oxygens[chosen] * (width / oxygens[chosen].max())
    return (oxygens[:, None] + shapes[chosen % len(block)]).reshape(-1, 3)


def without_overlaps(system: openmm.System, positions: ArrayLike) -> NDArray[np.float64]:
    """A liquid from positions ``[atoms, 3]`` in nm, minimised until its forces are as small as thermal ones.

    Going further would only cool it.
    """
    # On a CPU it is the same each time, so that a run that begins with it can be gone on with.
    return minimise(system, positions, default_box(system), tolerance=500.0, maximum_iterations=100)
