"""Boltzmann inversion of liquids with the default settings: does the beads' g(r) become the atoms'?

    python benchmarks/liquid_inversion.py --directory liquids --json benchmarks/results/liquid_inversion.json

A repeated command goes on where it was. The references, 216 molecules each, are sampled here at constant volume:

* ``argon-krypton``: an equimolar mixture at 115.77 K; Lennard-Jones parameters of argon (119.8 K, 0.3405 nm) and
  krypton (167.0 K, 0.3633 nm) with the rules of Lorentz and Berthelot (Singer and Singer, Mol. Phys. 24, 357 (1972)).
* ``water``: SPC/E, a bead at the centre of mass.
* ``methanol-1``, ``methanol-2``: TraPPE-UA (Chen, Potoff and Siepmann, J. Phys. Chem. B 105, 3093 (2001)) at the
  density of the experiment, where the bond C-O has GAFF's spring (Wang et al., J. Comput. Chem. 25, 1157 (2004)) in
  place of a rigid rod, which has no distribution. A bead at the centre of mass; beads at CH3 and at that of OH.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from md_water import processor, versions
from openmm import app, unit

from openmmcg.constants import GAS_CONSTANT, GRAM_PER_CUBIC_CENTIMETER
from openmmcg.fitting import BoltzmannInversion
from openmmcg.fitting.boltzmann_inversion.figures import convergence, distributions
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, map_frames
from openmmcg.reference import sample, water_box
from openmmcg.simulation import minimise
from openmmcg.state import read_json, write_json

MOLECULES = 216
INTERVAL = 0.1  # ps


def lattice(molecules: int, width: float) -> np.ndarray:
    """Places for molecules in a cubic box, ``[molecules, 3]``, nm, in random order."""
    side = int(np.ceil(molecules ** (1 / 3)))
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = np.random.default_rng(0).permutation(len(places))[:molecules]
    return (places[chosen] + 0.5) * width / side


def argon_krypton() -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Equimolar, at the molar volume of the liquid near 116 K and no pressure, 34.0 cm³/mol."""
    width = (MOLECULES * 34.0 / GRAM_PER_CUBIC_CENTIMETER) ** (1 / 3)
    topology, system, force = app.Topology(), openmm.System(), openmm.NonbondedForce()
    chain = topology.addChain()
    parameters = {"Ar": (0.3405, 119.8 * GAS_CONSTANT), "Kr": (0.3633, 167.0 * GAS_CONSTANT)}
    for index in range(MOLECULES):
        symbol = ("Ar", "Kr")[index % 2]
        element = app.Element.getBySymbol(symbol)
        topology.addAtom(symbol, element, topology.addResidue(symbol, chain))
        system.addParticle(element.mass)
        force.addParticle(0.0, *parameters[symbol])
    finish(topology, system, force, width, openmm.NonbondedForce.CutoffPeriodic)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.9)
    return topology, system, minimise(system, lattice(MOLECULES, width), np.eye(3) * width)


def methanol() -> tuple[app.Topology, openmm.System, np.ndarray]:
    """TraPPE-UA at 0.7866 g/cm³."""
    sites = {  # charge (e), σ (nm), ε/k_B (K), mass (amu)
        "CH3": (0.265, 0.375, 98.0, 15.035),
        "O": (-0.700, 0.302, 93.0, 15.999),
        "H": (0.435, 0.1, 0.0, 1.008),
    }
    mass = sum(site[-1] for site in sites.values())
    width = (MOLECULES * mass / 0.7866 / GRAM_PER_CUBIC_CENTIMETER) ** (1 / 3)
    bonds, bend = (0.143, 0.0945), np.radians(108.5)
    shape = np.array([[-bonds[0], 0, 0], [0, 0, 0], [-bonds[1] * np.cos(bend), bonds[1] * np.sin(bend), 0]])
    topology, system, force = app.Topology(), openmm.System(), openmm.NonbondedForce()
    stretches, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    chain, random, positions = topology.addChain(), np.random.default_rng(1), []
    for place in lattice(MOLECULES, width):
        residue, first = topology.addResidue("MOH", chain), system.getNumParticles()
        atoms = [topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in sites]
        for charge, sigma, epsilon, site_mass in sites.values():
            system.addParticle(site_mass)
            force.addParticle(charge, sigma, epsilon * GAS_CONSTANT)
        topology.addBond(atoms[0], atoms[1])
        topology.addBond(atoms[1], atoms[2])
        stretches.addBond(first, first + 1, bonds[0], 262_900.0)
        system.addConstraint(first + 1, first + 2, bonds[1])
        angles.addAngle(first, first + 1, first + 2, bend, 55400 * GAS_CONSTANT)
        for pair in ((0, 1), (1, 2), (0, 2)):
            force.addException(first + pair[0], first + pair[1], 0.0, 1.0, 0.0)
        axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
        positions.append(place + shape @ axes)
    system.addForce(stretches)
    system.addForce(angles)
    finish(topology, system, force, width, openmm.NonbondedForce.PME)
    return topology, system, minimise(system, np.concatenate(positions), np.eye(3) * width, tolerance=500.0)


def finish(topology: app.Topology, system: openmm.System, force: openmm.NonbondedForce, width: float, method: int):
    """Box and cutoff."""
    topology.setPeriodicBoxVectors(np.eye(3) * width * unit.nanometer)
    system.setDefaultPeriodicBoxVectors(*(np.eye(3) * width))
    force.setNonbondedMethod(method)
    force.setCutoffDistance(min(1.1, 0.49 * width))
    force.setUseDispersionCorrection(False)
    system.addForce(force)


def water() -> tuple[app.Topology, openmm.System, np.ndarray]:
    """SPC/E."""
    topology, system, positions = water_box("spce", molecules=MOLECULES)
    return topology, system, positions


@dataclass(frozen=True)
class Liquid:
    """What is sampled, and the beads that are made of each molecule."""

    make: Callable[[], tuple[app.Topology, openmm.System, np.ndarray]]
    temperature: float  # K
    time_step: float  # ps
    duration: float  # ps
    beads: dict[str, dict[str, list[int]]]  # name of the study: name of the bead: its atoms within the molecule


LIQUIDS = {
    "argon-krypton": Liquid(argon_krypton, 115.77, 0.005, 300.0, {"argon-krypton": {}}),
    "water": Liquid(water, 300.0, 0.002, 150.0, {"water": {"W": [0, 1, 2]}}),
    "methanol": Liquid(
        methanol, 298.15, 0.002, 150.0, {"methanol-1": {"M": [0, 1, 2]}, "methanol-2": {"C": [0], "O": [1, 2]}}
    ),
}


def mapping_of(groups: dict[str, list[int]], topology: app.Topology, masses: np.ndarray) -> Mapping:
    """Beads at the centres of mass of groups of atoms in each molecule; the masses are those of united atoms."""
    size = sum(map(len, groups.values()))
    matrix = np.zeros((len(masses) // size * len(groups), len(masses)))
    for bead, row in enumerate(matrix):
        molecule, index = divmod(bead, len(groups))
        atoms = molecule * size + np.array(list(groups.values())[index])
        row[atoms] = masses[atoms] / masses[atoms].sum()
    return Mapping.linear(topology, matrix, names=list(groups) * (len(masses) // size))


def reference(name: str, directory: Path, threads: int) -> dict[str, Path]:
    """Sample a liquid and map it: the files of frames of its studies."""
    liquid = LIQUIDS[name]
    topology, system, positions = liquid.make()
    atoms = directory / f"{name}.h5md"
    sample(
        system,
        topology,
        positions,
        atoms,
        frames=round(liquid.duration / INTERVAL),
        interval=INTERVAL,
        equilibration=liquid.duration / 10,
        temperature=liquid.temperature,
        time_step=liquid.time_step,
        platform="CPU",
        threads=threads,
    )
    files = {}
    for study, groups in liquid.beads.items():
        files[study] = directory / f"{study}.beads.h5md" if groups else atoms
        if groups:
            with Frames(atoms) as frames:
                map_frames(frames, mapping_of(groups, topology, frames.masses), files[study])
    return files


def invert(study: str, file: Path, directory: Path, threads: int) -> dict:
    """Invert with the default settings; peaks of g(r), the reference's and the beads'."""
    result = BoltzmannInversion().fit(file, directory / study, threads=threads)
    distributions(result).savefig(directory / f"{study}.distributions.png", dpi=120)
    convergence(result).savefig(directory / f"{study}.convergence.png", dpi=120)
    peaks = {
        coordinate.label: [round(float(g.max()), 3) for g in (result.reference[index], result.simulated[index])]
        for index, coordinate in enumerate(result.coordinates)
        if coordinate.kind == "pairs"
    }
    print(f"{study}: {result.verdict}; highest peaks of reference and beads {peaks}", flush=True)
    steps = {
        criterion.label: [round(float(value), 5) for value in result.deviations[:, index]]
        for index, criterion in enumerate(result.criteria)
    }
    cutoff = round(float(result.coordinates[-1].edges[-1]), 3)
    return {
        "study": study,
        "cutoff": cutoff,
        "peaks": peaks,
        "by iteration": steps,
        **result.summary(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--liquids", nargs="+", choices=sorted(LIQUIDS), default=list(LIQUIDS))
    parser.add_argument("--directory", type=Path, default=Path("liquids"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    rows = {}
    if arguments.json and arguments.json.exists():  # of other liquids, measured before
        rows = {row["study"]: row for row in read_json(arguments.json, "a result of this benchmark")["rows"]}
    for name in arguments.liquids:
        for study, file in reference(name, arguments.directory, arguments.threads).items():
            about = {"machine": processor(), "versions": versions()}
            rows[study] = {**about, **invert(study, file, arguments.directory, arguments.threads)}
            if arguments.json:
                write_json(arguments.json, {"molecules": MOLECULES, "rows": list(rows.values())})


if __name__ == "__main__":
    main()
