"""A hundred copies of a six-bead peptide: OpenMM-CG beside a batched Langevin loop in torch.

    python benchmarks/peptide_replicas.py --json peptide.json

Capped alanine as C-[N-CA(CB)-C]-N: a SchNet of 128 channels (random weights, which do not change the cost) with a
cutoff beyond its size, and harmonic bonds and angles as priors. OpenMM-CG integrates all copies in one Context
(`create_system(replicas=100)`, LangevinMiddleIntegrator). The loop in torch is what users of mlcg run: the copies are
one batch, bonds and angles are torch operators, forces come by autograd, and the integrator is BAOAB; the pairs within
a molecule are listed once, since all of them are neighbours. Both follow each other in one run on the same cores, each
in a process of its own with the `tuned` settings of md_water.py, float32, 4 fs. `aggregate` is the ns/day of all copies
together.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import combinations

import numpy as np
from md_water import machine, measure_in_process, versions

NAMES = ["C", "N", "CA", "CB", "C", "N"]
KINDS = [("C", 12.011), ("N", 14.007), ("CA", 13.019), ("CB", 15.035)]
BONDS = [(0, 1), (1, 2), (2, 3), (2, 4), (4, 5)]
# nm, and degrees: where each bead stands on the three before it along its bonds.
GEOMETRY = [
    (1, (0,), 0.133),
    (2, (1, 0), 0.146, 122.0),
    (3, (2, 1, 0), 0.153, 110.0, 160.0),
    (4, (2, 1, 0), 0.153, 111.0, -75.0),
    (5, (4, 2, 1), 0.133, 117.0, 150.0),
]
STIFFNESS = {"bond": 1.5e5, "angle": 400.0}  # kJ/mol/nm², kJ/mol/rad²
TIME_STEP, FRICTION, TEMPERATURE = 0.004, 1.0, 300.0  # ps, 1/ps, K
GAS_CONSTANT = 8.31446261815324e-3
SECONDS = 6.0


def molecule() -> np.ndarray:
    """Positions of the beads, nm."""
    places = [np.zeros(3)]
    for _, before, length, *degrees in GEOMETRY:
        angle, dihedral = np.radians([*degrees, 90.0, 0.0][:2]) if degrees else (np.pi / 2, 0.0)
        third = places[before[0]]
        second = places[before[1]] if len(before) > 1 else third - [1.0, 0, 0]
        first = places[before[2]] if len(before) > 2 else second + [0, 1.0, 0]
        axis = (third - second) / np.linalg.norm(third - second)
        normal = np.cross(second - first, axis)
        normal /= np.linalg.norm(normal)
        side = np.cross(normal, axis)
        angle = np.pi - angle
        step = np.cos(angle) * axis + np.sin(angle) * (np.cos(dihedral) * side + np.sin(dihedral) * normal)
        places.append(third + length * step)
    return np.array(places)


def potential(row: dict):
    """The network and its priors."""
    from openmmcg.geometry.internal_coordinates import angles, bonded_terms, distances
    from openmmcg.potentials import CGPotential, HarmonicAngles, HarmonicBonds, SchNet

    names = [name for name, _ in KINDS]
    types = [names.index(name) for name in NAMES]
    places, terms = molecule()[None], bonded_terms(BONDS)
    lengths, bends = distances(places, terms.bonds)[0], angles(places, terms.angles)[0]

    def by_types(paths, centers, stiffness):
        keys = [tuple(types[bead] for bead in path) for path in paths]
        return {min(key, key[::-1]): (center, stiffness) for key, center in zip(keys, centers, strict=True)}

    priors = [
        HarmonicBonds(by_types(terms.bonds, lengths, STIFFNESS["bond"])),
        HarmonicAngles(by_types(terms.angles, bends, STIFFNESS["angle"])),
    ]
    network = SchNet(
        types=len(KINDS),
        channels=row["channels"],
        blocks=row["blocks"],
        cutoff=row["cutoff"],
        activation="tanh",
        neighbors=5.0,
        energy_scale=1.0,
    )
    return network, CGPotential(network, KINDS, priors=priors, temperature=TEMPERATURE), priors, types


def openmm_step(row: dict):
    """A function that makes a number of steps in OpenMM, and one that returns the positions."""
    import openmm
    from openmm import app

    _, trained, _, _ = potential(row)
    topology = app.Topology()
    residue = topology.addResidue("ALA", topology.addChain())
    beads = [topology.addAtom(name, None, residue) for name in NAMES]
    for first, second in BONDS:
        topology.addBond(beads[first], beads[second])
    system = trained.create_system(topology, replicas=row["replicas"], remove_center_of_mass_motion=False)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, TIME_STEP)
    properties = {"Threads": str(row["threads"])} if row["platform"] == "CPU" else {}
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(row["platform"]), properties)
    context.setPositions(np.tile(molecule(), (row["replicas"], 1)))
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    return integrator.step, lambda: context.getState(positions=True).getPositions(asNumpy=True)._value


def torch_step(row: dict):
    """The same by torch."""
    import torch

    from openmmcg.geometry.internal_coordinates import bonded_terms

    torch.set_num_threads(row["threads"])
    network, _, (bonds, angles), types = potential(row)
    replicas, beads = row["replicas"], len(NAMES)

    def every(indices):
        shifts = torch.arange(replicas)[:, None, None] * beads
        return (torch.tensor(indices)[None] + shifts).flatten(0, 1).T.contiguous()

    def parameters(prior, paths):
        keys = [tuple(types[bead] for bead in path) for path in paths]
        values = torch.tensor([prior.terms[min(key, key[::-1])] for key in keys], dtype=torch.float32)
        return values.repeat(replicas, 1).unbind(1)

    terms = bonded_terms(BONDS)
    rows, columns = every(list(combinations(range(beads), 2)))
    pair, triple = every(terms.bonds), every(terms.angles)
    (length, bond_stiffness), (bend, angle_stiffness) = parameters(bonds, terms.bonds), parameters(angles, terms.angles)
    all_types = torch.tensor(types).repeat(replicas)
    masses = torch.tensor([KINDS[kind][1] for kind in types]).repeat(replicas)[:, None]
    positions = torch.tensor(np.tile(molecule(), (replicas, 1)), dtype=torch.float32)
    thermal = (GAS_CONSTANT * TEMPERATURE / masses).sqrt()
    velocities = torch.randn_like(positions) * thermal

    def forces(places):
        places = places.detach().requires_grad_()
        energy = network(places[columns] - places[rows], all_types, rows, columns).sum()
        lengths = (places[pair[1]] - places[pair[0]]).norm(dim=1)
        energy = energy + (0.5 * bond_stiffness * (lengths - length) ** 2).sum()
        first, second = places[triple[0]] - places[triple[1]], places[triple[2]] - places[triple[1]]
        bends = torch.atan2(torch.linalg.cross(first, second).norm(dim=1), (first * second).sum(1))
        energy = energy + (0.5 * angle_stiffness * (bends - bend) ** 2).sum()
        (gradient,) = torch.autograd.grad(energy, places)
        return -gradient

    kept = np.exp(-FRICTION * TIME_STEP)
    noise = np.sqrt(1 - kept**2)
    state = [positions, velocities, forces(positions)]

    def step(number: int) -> None:
        places, speeds, force = state
        for _ in range(number):
            speeds = speeds + 0.5 * TIME_STEP * force / masses
            places = places + 0.5 * TIME_STEP * speeds
            speeds = kept * speeds + noise * thermal * torch.randn_like(speeds)
            places = places + 0.5 * TIME_STEP * speeds
            force = forces(places)
            speeds = speeds + 0.5 * TIME_STEP * force / masses
        state[:] = places, speeds, force

    return step, lambda: state[0].numpy()


def measure(row: dict) -> dict:
    """Fill in `ms_per_step`, the least of several blocks of steps."""
    step, positions = (openmm_step if row["engine"] == "OpenMM-CG" else torch_step)(row)
    step(20)
    begin = time.perf_counter()
    step(20)
    number = max(20, int(20 * SECONDS / 5 / (time.perf_counter() - begin)))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        step(number)
        times.append((time.perf_counter() - begin) / number)
    size = np.ptp(positions().reshape(row["replicas"], -1, 3), axis=1).max()
    if not size < 1.5:
        raise RuntimeError(f"the run of {row} is not stable, a molecule is {size:.1f} nm long")
    return {**row, "ms_per_step": 1e3 * min(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--cutoff", type=float, default=1.5, help="nm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--platform", default="CPU", help="of OpenMM-CG; the loop in torch runs on the CPU")
    parser.add_argument("--json", help="where to write the rows")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    settings = {name: getattr(arguments, name) for name in ("replicas", "channels", "blocks", "cutoff", "threads")}
    about = {"machine": machine(arguments.platform), "versions": versions()}
    engines = {"OpenMM-CG": arguments.platform, "torch loop": "torch"}
    rows = [
        {**measure_in_process({"engine": engine, "platform": platform, **settings}, __file__), **about}
        for engine, platform in engines.items()
    ]
    print(about["machine"])
    print(f"{'engine':<12} {'replicas':>8} {'threads':>7} {'ms/step':>9} {'aggregate ns/day':>17}")
    for row in rows:
        speed = 86400 * TIME_STEP / row["ms_per_step"] * row["replicas"]
        print(f"{row['engine']:<12} {row['replicas']:>8} {row['threads']:>7} {row['ms_per_step']:>9.3f} {speed:>17.0f}")
    print(f"ratio {rows[1]['ms_per_step'] / rows[0]['ms_per_step']:.1f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
