"""What priors of pairs cost beside a network: as PairForce, and as the CustomNonbondedForce of which it is made.

    python benchmarks/pair_priors.py --json benchmarks/results/pair_priors.json

Milliseconds per step and replica on the CPU platform, on one thread: beads at the density of water, with the network
of the demo (PaiNN, 16 channels, 0.7 nm) and without; the demo's repulsion, and a tabulated Lennard-Jones energy to
0.7 nm of one type of beads and of two. Each figure is the least of several blocks of steps of LangevinMiddleIntegrator
at 2 fs. Weights are random.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openmm
from md_water import liquid, processor, versions

from openmmcg import PairForce
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential, PaiNN, Repulsion, TabulatedPairs
from openmmcg.reference import time_per_step
from openmmcg.simulation import minimise
from openmmcg.simulation.replicas import replicate_system
from openmmcg.state import write_json

CUTOFF = 0.7


def lennard_jones(types: int) -> TabulatedPairs:
    """Of argon's size, half as deep between unlike types, shifted to zero at the cutoff."""
    distances = np.linspace(0, CUTOFF, 181)
    ratios = 0.3 / np.maximum(distances, 0.18)
    energies = 4 * (ratios**12 - ratios**6)
    energies -= energies[-1]
    pairs = [(first, second) for second in range(types) for first in range(second + 1)]
    return TabulatedPairs({pair: (energies if pair[0] == pair[1] else energies / 2).tolist() for pair in pairs}, CUTOFF)


def as_openmm(system: openmm.System) -> openmm.System:
    """The same, with a CustomNonbondedForce in place of the PairForce."""
    pairs = [index for index, force in enumerate(system.getForces()) if isinstance(force, openmm.CustomNonbondedForce)]
    definition = PairForce.of(system.getForce(pairs[0])).getDefinition()
    system.removeForce(pairs[0])
    system.addForce(definition)
    return system


def measure(beads: int, replicas: int, prior: str, types: int, steps: int) -> dict:
    """A row: the step with the network alone, with the prior as well, and with the prior as OpenMM computes it."""
    places, box = liquid(beads)
    if box[0, 0] < 2 * CUTOFF:  # a few beads in a box that is large enough
        places, box = places + 1.0, np.eye(3) * 2.4
    network = PaiNN(types, channels=16, blocks=1, cutoff=0.7, seed=0)
    names = ["AB"[index % types] for index in range(beads)]
    beads_of = [(name, 18.0) for name in "AB"[:types]]
    chosen = (
        [Repulsion(np.full((types, types), 0.25).tolist(), cutoff=0.38)]
        if prior == "repulsion"
        else [lennard_jones(types)]
    )

    def system(priors: Sequence, network: PaiNN | None) -> openmm.System:
        potential = CGPotential(network, beads_of, priors=priors, temperature=300.0)
        return potential.create_system(cg_topology(names, box), remove_center_of_mass_motion=False)

    systems = {
        "network": system([], network),
        "network and prior": system(chosen, network),
        "prior": system(chosen, None),
        "prior by OpenMM": as_openmm(system(chosen, None)),
    }
    positions = np.tile(minimise(systems["prior"], places, box), (replicas, 1))
    row: dict = {"beads": beads, "replicas": replicas, "energy": prior, "types": types}
    for name, made in systems.items():
        timed = time_per_step(
            replicate_system(made, replicas), positions, threads=1, steps=steps, blocks=5, warm_up=steps
        )
        row[name] = timed.best / replicas
    row["cost of the prior"] = row["network and prior"] / row["network"] - 1
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beads", nargs="+", type=int, default=[10, 269, 512])
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 4, 64])
    parser.add_argument("--steps", type=int, default=200, help="in a block, of one replica")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for beads in arguments.beads:
        for replicas in arguments.replicas:
            for prior, types in (("repulsion", 1), ("table", 1), ("table", 2)):
                rows.append(measure(beads, replicas, prior, types, max(10, arguments.steps // replicas)))
                print(json.dumps(rows[-1]), flush=True)
                if arguments.json:
                    write_json(arguments.json, {"machine": processor(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
