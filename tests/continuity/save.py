"""Files of every kind that OpenMM-CG writes, and what they give; `python tests/continuity/save.py DIRECTORY`.

Run it when a release changes a format, and keep the new directory: `test_continuity.py` asks of all of them that they
give what they gave when they were written. A directory once kept is not written again.
"""

import json
import sys
from pathlib import Path

import numpy as np
import openmm
import torch
from openmm import app, unit

from openmmcg import CGForce, CGPotential, TabulatedBondedForce
from openmmcg.electronic import DistanceFeatures, DKLPredictor
from openmmcg.electronic.predictor import DenseLayers, Member
from openmmcg.frames import Frames, FrameWriter
from openmmcg.potentials import (
    GNN,
    CGnet,
    CosineAngles,
    Ensemble,
    HarmonicAngles,
    HarmonicBonds,
    PaiNN,
    PeriodicDihedrals,
    Repulsion,
    SchNet,
    Table,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
    TabulatedPairs,
)

BEAD_TYPES = [("A", 20.0), ("B", 30.0)]
NAMES = ["A", "B", "A", "B", "A", "A"]  # a chain
BOX = [[2.6, 0, 0], [-1.2, 2.5, 0], [0.9, -1.1, 2.4]]
POSITIONS = [
    [0.0, 0.0, 0.0],
    [0.3, 0.05, 0.0],
    [0.4, 0.33, 0.05],
    [0.7, 0.4, 0.0],
    [0.8, 0.65, 0.17],
    [1.05, 0.71, 0.3],
]
SIZE = {"channels": 8, "blocks": 2, "cutoff": 0.6, "basis_size": 8, "neighbors": 3, "energy_scale": 5.0}


def bonded_priors():
    return [
        HarmonicBonds({(0, 1): (0.3, 900.0), (0, 0): (0.28, 800.0)}),
        HarmonicAngles({(0, 1, 0): (2.0, 20.0)}),
        CosineAngles({(1, 0, 1): (-0.2, 10.0)}),
        PeriodicDihedrals({(0, 1, 0, 1): [(1, 0.3, 2.0), (2, -1.0, 1.0)]}),
    ]


def tabulated_priors():
    turn = np.linspace(-np.pi, np.pi, 13)
    return [
        TabulatedBonds(
            {types: Table(0.2, 0.4, 450 * (np.linspace(0.2, 0.4, 11) - 0.3) ** 2) for types in ((0, 1), (0, 0))}
        ),
        TabulatedAngles({(0, 1, 0): Table(0.5, 3.0, 10 * np.cos(np.linspace(0.5, 3.0, 11)) ** 2)}),
        TabulatedDihedrals({(0, 1, 0, 1): Table(-np.pi, np.pi, 2 * np.cos(turn) + np.sin(2 * turn))}),
        TabulatedPairs({(0, 0): 5 * (1 - np.linspace(0, 1, 12)) ** 2, (0, 1): np.linspace(3, 0, 12)}, cutoff=0.8),
    ]


def network_of(kind, seed):
    torch.manual_seed(seed)
    return kind(types=2, **SIZE)


def potentials():
    molecule = CGnet([0, 1, 0, 1, 0, 0], channels=8, layers=2, energy_scale=5.0)
    random = np.random.default_rng(0)
    molecule.standardize(np.array(POSITIONS) + 0.03 * random.normal(size=(50, 6, 3)))
    repulsion = Repulsion([[0.3, 0.25], [0.25, 0.2]], exponent=8, cutoff=0.7)
    content = {
        "schnet": (network_of(SchNet, 0), [repulsion]),
        "gnn": (network_of(GNN, 1), []),
        "painn": (network_of(PaiNN, 2), bonded_priors()),
        "cgnet": (molecule, bonded_priors()),
        "priors": (None, [*tabulated_priors(), repulsion]),
    }
    return {
        name: CGPotential(network, BEAD_TYPES, priors=priors, temperature=300.0, provenance={"seed": 0})
        for name, (network, priors) in content.items()
    }


def predictor():
    features = DistanceFeatures(len(POSITIONS))
    random = np.random.default_rng(0)
    values = features(np.array(POSITIONS) + 0.03 * random.normal(size=(50, 6, 3)))

    def member():
        return Member(
            feature_mean=values.mean(0),
            feature_scale=values.std(0),
            energy=np.array([-9.0, 0.3]),
            inducing_points=random.normal(size=(5, 2)),
            lengths=np.array([1.0, 2.0]),
            trend=random.normal(size=3),
            kernel_variance=np.ones(1),
            whitening=np.eye(5),
            values=random.normal(size=5),
            root=np.tril(random.normal(size=(5, 5))) / 5,
            recalibration=np.array([0.5, 0.4, 1.2, 0.1]),
            kernel_network=DenseLayers([random.normal(size=(len(features), 2)) / 3], [random.normal(size=2)]),
            noise_network=DenseLayers([random.normal(size=(2, 1)) / 3], [np.array([-1.0])]),
        )

    return DKLPredictor(features, [member(), member()], bead_names=NAMES, variance_factor=0.8, provenance={"seed": 0})


class Springs(torch.nn.Module):
    """A user's own module, with forces and a global parameter."""

    def forward(self, positions, box, strength):
        return strength * (positions * positions).sum(), -2 * strength * positions


def system_by_hand():
    """A System of the plugin's forces: a network, a user's module and a table."""
    system = openmm.System()
    for name in NAMES:
        system.addParticle(dict(BEAD_TYPES)[name])
    system.setDefaultPeriodicBoxVectors(*np.array(BOX))
    network = CGForce(CGPotential(network_of(GNN, 3), BEAD_TYPES).to_bytes())
    network.setTypes([0, 1, 0, 1, 0])
    network.setParticles([0, 1, 2, 3, 4])
    network.setUsesPeriodicBoundaryConditions(True)
    network.setForceGroup(3)
    system.addForce(network)
    module = {"contract": "plain", "outputs_forces": True, "global_parameters": {"strength": 2.0}}
    system.addForce(CGForce(torch.jit.script(Springs()), **module, periodic=True, engine="torchscript"))
    bonds = TabulatedBondedForce("bonds")
    bonds.addTerm([4, 5], bonds.addTable(0.2, 0.4, 450 * (np.linspace(0.2, 0.4, 11) - 0.3) ** 2))
    system.addForce(bonds)
    return system


def topology():
    result = app.Topology()
    residue = result.addResidue("M", result.addChain())
    atoms = [result.addAtom(name, None, residue) for name in NAMES]
    for pair in zip(atoms, atoms[1:], strict=False):
        result.addBond(*pair)
    result.setPeriodicBoxVectors(np.array(BOX) * unit.nanometer)
    return result


def energy_and_forces(system):
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(POSITIONS)
    state = context.getState(energy=True, forces=True)
    return {
        "energy": state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
        "forces": state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer),
    }


def save(directory):
    """Write a file of each kind."""
    directory.mkdir(parents=True)
    for name, potential in potentials().items():
        potential.save(directory / f"{name}.pt")
    members = [CGPotential(network_of(GNN, seed), BEAD_TYPES, temperature=300.0) for seed in (4, 5)]
    Ensemble(members, spread_limit=12.0).save(directory / "ensemble")
    predictor().save(directory / "predictor.npz")
    (directory / "system.xml").write_text(openmm.XmlSerializer.serialize(system_by_hand()))
    bonds = [(bead, bead + 1) for bead in range(5)]
    particles = {"names": NAMES, "types": [0, 1, 0, 1, 0, 0], "type_names": ["A", "B"]}
    masses = [dict(BEAD_TYPES)[name] for name in NAMES]
    with FrameWriter(directory / "frames.h5md", **particles, masses=masses, bonds=bonds, temperature=300.0) as writer:
        for frame in range(3):
            moved = np.array(POSITIONS) + 0.01 * frame
            writer.append(moved, (1 + 0.01 * frame) * np.array(BOX), 0.5 * (frame + 1), 100 * moved)


def contents(directory):
    """What the files of a directory give, by name."""
    result = {}
    for path in sorted(directory.glob("*.pt")):
        potential = CGPotential.load(path)
        result[path.stem] = {
            "bead types": [[bead.name, bead.mass] for bead in potential.bead_types],
            "temperature": potential.temperature,
            **energy_and_forces(potential.create_system(topology())),
        }
    ensemble = Ensemble.load(directory / "ensemble")
    spread = ensemble.force_spread([POSITIONS], topology(), boxes=[BOX], platform="Reference", progress=False)
    forces = energy_and_forces(ensemble.create_system(topology()))
    result["ensemble"] = {"spread limit": ensemble.spread_limit, "spread": spread, **forces}
    prediction = DKLPredictor.load(directory / "predictor.npz").predict([POSITIONS], bead_names=NAMES)
    result["predictor"] = {"mean": prediction.mean, "standard deviation": prediction.standard_deviation}
    system = openmm.XmlSerializer.deserialize((directory / "system.xml").read_text())
    result["system"] = {"groups": [force.getForceGroup() for force in system.getForces()], **energy_and_forces(system)}
    with Frames(directory / "frames.h5md") as frames:
        result["frames"] = {
            "positions": frames.positions[:],
            "forces": frames.forces[:],
            "boxes": frames.boxes,
            "times": frames.times,
            "names": frames.names,
            "types": frames.types,
            "type names": frames.type_names,
            "masses": frames.masses,
            "bonds": frames.bonds,
            "temperature": frames.temperature,
        }
    return result


if __name__ == "__main__":
    target = Path(sys.argv[1])
    save(target)
    text = json.dumps(contents(target), default=lambda array: array.tolist(), indent=1)
    (target / "contents.json").write_text(text + "\n")
