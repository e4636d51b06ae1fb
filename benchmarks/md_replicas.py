"""Cost of a molecular-dynamics step of many replicas of a small chain in one Context.

    python benchmarks/md_replicas.py --beads 5 10 166 269 --replicas 1 8 64 --json replicas.json

A chain has one bead for each residue, at the place of its C-alpha atom: consecutive beads are 0.38 nm apart, no two are
closer than 0.36 nm, and they fill a ball at the density of folded proteins, 7.5 residues/nm³: a residue weighs 110 amu
on average and 0.73 cm³/g is proteins' partial specific volume, so that it takes up 0.133 nm³ (Harpaz, Gerstein and
Chothia, Structure 2, 641 (1994)). Harmonic bonds between beads that are closer than 0.8 nm at the start, of that
length, keep it so while it moves at 300 K; there is no box. The network is a SchNet with random weights, which do not
change the cost; its defaults are those of Majewski et al., Nat. Commun. 14, 5739 (2023): 128 channels, 4 blocks, a
cutoff of 1.2 nm.

Every measurement is a process of its own, in the `tuned` settings of md_water.py. A step is one of
LangevinMiddleIntegrator at 4 fs; the least of several blocks of steps counts. `ns/day` is that of one replica,
`aggregate` that of all together. The bar: on one thread of the CPU platform, 64 replicas of 10 beads cost no more for
each bead and step than one chain of 640 beads, which has the longer neighbor lists.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time

import numpy as np
import openmm
from md_water import make_context, measure_all, measure_in_process

BEADS_PER_VOLUME = 7.5  # 1/nm³
BOND, CLOSEST, CONTACT = 0.38, 0.36, 0.8  # nm
RESIDUE_MASS = 110.0  # amu
TIME_STEP = 0.004  # ps
BAR = (10, 64)  # beads, replicas
SECONDS_PER_MEASUREMENT = 4.0
BLOCKS = 5
MOST_STEPS = 5000


def globule(beads: int) -> np.ndarray:
    """A self-avoiding chain grown at random in a ball, from its middle, stepping back where it gets stuck."""
    random = np.random.default_rng(0)
    radius = (3 * beads / (4 * np.pi * BEADS_PER_VOLUME)) ** (1 / 3)
    chain = [np.zeros(3)]
    while len(chain) < beads:
        steps = random.normal(size=(50, 3))
        places = chain[-1] + BOND * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        distances = np.linalg.norm(places[:, None] - np.array(chain[:-1]).reshape(-1, 3), axis=2)
        free = (np.linalg.norm(places, axis=1) < radius) & (distances > CLOSEST).all(1)
        if free.any():
            chain.append(places[np.argmax(free)])
        else:
            del chain[max(1, len(chain) - random.integers(1, 30)) :]
    return np.array(chain)


def chain_system(row: dict) -> tuple[openmm.System, np.ndarray]:
    """The replicas of the row's chain, and their positions."""
    from openmmcg import CGForce, CGPotential
    from openmmcg.potentials import SchNet
    from openmmcg.simulation.replicas import replicate_system

    network = SchNet(
        types=1,
        channels=row["channels"],
        blocks=row["blocks"],
        cutoff=row["cutoff"],
        basis_start=0.3,
        neighbors=20.0,
        energy_scale=0.1,
    )
    positions = globule(row["beads"])
    system = openmm.System()
    bonds = openmm.HarmonicBondForce()
    for i in range(row["beads"]):
        system.addParticle(RESIDUE_MASS)
        for j in range(i):
            length = np.linalg.norm(positions[i] - positions[j])
            if length < CONTACT:
                bonds.addBond(i, j, length, 1e4 if i - j == 1 else 200.0)
    system.addForce(bonds)
    system.addForce(CGForce(CGPotential(network, [("CA", RESIDUE_MASS)]).to_bytes(), engine=row["engine"]))
    return replicate_system(system, row["replicas"]), np.tile(positions, (row["replicas"], 1))


def measure(row: dict) -> dict:
    """Fill in `ms_per_step` and `peak_memory_MiB`."""
    system, positions = chain_system(row)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, TIME_STEP)
    context = make_context(system, integrator, row)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300, 1)
    integrator.step(10)
    context.getState(positions=True)  # waits for what a GPU still has to do
    begin = time.perf_counter()
    integrator.step(5)
    context.getState(positions=True)
    estimate = (time.perf_counter() - begin) / 5
    steps = int(np.clip(SECONDS_PER_MEASUREMENT / BLOCKS / estimate, 1, MOST_STEPS / BLOCKS))
    times = []
    for _ in range(BLOCKS):
        begin = time.perf_counter()
        integrator.step(steps)
        state = context.getState(positions=True)
        times.append((time.perf_counter() - begin) / steps)
    size = np.ptp(state.getPositions(asNumpy=True)._value.reshape(row["replicas"], -1, 3), axis=1).max()
    if not size < 2 * np.ptp(positions, axis=0).max():
        raise RuntimeError(f"the run of {row} is not stable")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**row, "ms_per_step": 1e3 * min(times), "peak_memory_MiB": round(memory)}


def plan(arguments: argparse.Namespace) -> list[dict]:
    """The measurements asked for, and the one chain to compare with."""
    sizes = list(itertools.product(arguments.beads, arguments.replicas))
    if BAR in sizes:
        sizes.append((BAR[0] * BAR[1], 1))
    return [
        {
            "beads": beads,
            "replicas": replicas,
            "cutoff": arguments.cutoff,
            "channels": arguments.channels,
            "blocks": arguments.blocks,
            "engine": engine,
            "platform": arguments.platform,
            "precision": None if arguments.platform == "CPU" else arguments.precision,
            "threads": threads,
        }
        for engine, threads, (beads, replicas) in itertools.product(arguments.engines, arguments.threads, sizes)
    ]


def cost(row: dict) -> float:
    """Of a bead and step, µs."""
    return 1e3 * row["ms_per_step"] / (row["beads"] * row["replicas"])


def print_table(rows: list[dict]) -> None:
    """All rows, and the comparison."""
    print(f"{'beads':>6} {'replicas':>8} {'engine':<12} {'platform':<9} {'threads':>7} {'ms/step':>9} "
          f"{'ns/day':>9} {'aggregate':>9} {'µs/bead/step':>12} {'MiB':>5}")  # fmt: skip
    for row in rows:
        speed = 86400 * TIME_STEP / row["ms_per_step"]
        print(
            f"{row['beads']:>6} {row['replicas']:>8} {row['engine']:<12} {row['platform']:<9} {row['threads']:>7} "
            f"{row['ms_per_step']:>9.3f} {speed:>9.0f} {speed * row['replicas']:>9.0f} {cost(row):>12.2f} "
            f"{row['peak_memory_MiB']:>5}"
        )
    for row in rows:
        if (row["beads"], row["replicas"]) == BAR:
            (one,) = (other for other in rows if other["beads"] == BAR[0] * BAR[1] and key(other) == key(row))
            print(
                f"{row['engine']}, {row['threads']} threads: a bead and step of {BAR[1]} replicas of {BAR[0]} beads "
                f"costs {cost(row):.2f} µs, of one chain of {one['beads']} beads {cost(one):.2f} µs, "
                f"ratio {cost(row) / cost(one):.2f}"
            )


def key(row: dict) -> tuple:
    """What two rows must share to be compared."""
    return row["engine"], row["threads"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beads", type=int, nargs="+", default=[5, 10, 166, 269])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--cutoff", type=float, default=1.2, help="nm")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of the CPU platform")
    parser.add_argument("--platform", default="CPU")
    parser.add_argument("--precision", default="single", help="of a GPU platform")
    parser.add_argument("--engines", nargs="+", choices=("native", "torchscript"), default=["native"])
    parser.add_argument("--json", help="where to write the rows")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    measure_all(plan(arguments), lambda row: measure_in_process(row, __file__), arguments.json, print_table)


if __name__ == "__main__":
    main()
