"""Cost of tabulated bonds, angles and dihedrals in a step: TabulatedBondedForce and OpenMM's CustomCompoundBondForce.

    python benchmarks/tabulated_bonded.py --copies 1 20 --json tabulated_bonded.json

The molecule is the bithiophene of boltzmann_inversion.py as ten beads, with 11 bonds, 16 angles and 21 dihedrals, each
with a table of its own; its copies are replicas in one Context. Tables are wells with random bumps. The other force has
the same energy (but for dihedrals with an angle within 15° of straight, which in the other do not fade), with the table
as a Continuous2DFunction of the number of the term and the place: before anything is measured the forces are compared.

Every measurement is a process of its own on one thread, in the `tuned` settings of md_water.py, and both forces take
turns, several rounds of them; the least counts. A step is one of LangevinMiddleIntegrator at 2 fs; `µs/term` is without
what a step takes that has no such terms, which is measured as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence

import numpy as np
import openmm
from md_water import machine, measure_in_process, versions
from scipy.interpolate import CubicSpline
from tqdm import tqdm

from openmmcg import TabulatedBondedForce
from openmmcg.geometry.internal_coordinates import angles, bonded_terms, dihedrals, distances
from openmmcg.simulation.replicas import replicate_system

# nm: a propyl, a ring of four beads, another one and its propyl, slightly bent out of their plane.
MOLECULE = np.array(
    [
        [-0.25, 0.05, 0.03], [0.0, 0.0, 0.0], [0.14, 0.14, 0.02], [0.28, 0.0, 0.0], [0.14, -0.14, -0.02],
        [0.43, 0.02, 0.03], [0.57, 0.12, 0.1], [0.71, 0.0, 0.05], [0.56, -0.13, -0.06], [0.62, -0.37, 0.01],
    ]
)  # fmt: skip
BEADS = len(MOLECULE)
BONDS = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 4), (3, 5), (5, 6), (6, 7), (7, 8), (5, 8), (8, 9)]
KINDS = {"bonds": distances, "angles": angles, "dihedrals": dihedrals}
TERMS = dict(zip(KINDS, bonded_terms(BONDS), strict=True))
WIDTHS = {"bonds": 0.06, "angles": 1.2}  # nm, rad
STIFFNESS = {"bonds": 2e4, "angles": 100.0}  # kJ/mol/nm², kJ/mol/rad²
PLACES = 101
MASS, TEMPERATURE, TIME_STEP = 40.0, 300.0, 0.002  # amu, K, ps
FORCES = ("TabulatedBondedForce", "CustomCompoundBondForce", "none")
ROUNDS = 3
SECONDS_PER_MEASUREMENT = 2.0

Tables = list[tuple[float, float, np.ndarray]]
"""Start, stop and energies of the table of each term."""


def random_tables(kind: str) -> Tables:
    """For each term a well about its coordinate in the molecule, or a series of cosines, with random bumps."""
    random = np.random.default_rng(0)
    tables: Tables = []
    for value in KINDS[kind](MOLECULE[None], TERMS[kind])[0]:
        if kind == "dihedrals":
            turn = np.linspace(-np.pi, np.pi, PLACES)
            energies = sum(random.normal() * np.cos(n * (turn - value) + random.normal()) for n in (1, 2, 3))
            tables.append((-np.pi, np.pi, np.append(energies[:-1], energies[0])))
        else:
            x = np.linspace(value - WIDTHS[kind] / 2, value + WIDTHS[kind] / 2, PLACES)
            bumps = random.normal() * np.cos(4 * np.pi * (x - value) / WIDTHS[kind] + random.normal())
            tables.append((x[0], x[-1], STIFFNESS[kind] / 2 * (x - value) ** 2 + bumps))
    return tables


def tabulated(kind: str, terms: Sequence[Sequence[int]], tables: Tables) -> openmm.Force:
    """The force of this package."""
    force = TabulatedBondedForce(kind)
    for particles, table in zip(terms, tables, strict=True):
        force.addTerm(particles, force.addTable(*table))
    return force


def compound(kind: str, terms: Sequence[Sequence[int]], tables: Tables) -> openmm.Force:
    """OpenMM's force of the same energy, of tables of one length."""
    coordinate = {"bonds": "distance(p1, p2)", "angles": "angle(p1, p2, p3)", "dihedrals": "dihedral(p1, p2, p3, p4)"}
    rows = [energies for _, _, energies in tables]
    if kind == "dihedrals":
        force = openmm.CustomCompoundBondForce(4, f"u(term, {coordinate[kind]})")
        rows += [rows[0]] * 2  # periodic in both variables, with at least three points along each
        ends = (-np.pi, np.pi, True)
    else:
        force = openmm.CustomCompoundBondForce(
            len(terms[0]),
            "u(term, min(max(place, 0), 1)) + before*min(place, 0) + after*max(place - 1, 0);"
            f"place = ({coordinate[kind]} - start)/width",
        )
        rows += [rows[0]]
        ends = (0.0, 1.0, False)
    values = np.array(rows).ravel("F").tolist()
    force.addTabulatedFunction(
        "u", openmm.Continuous2DFunction(len(rows), len(rows[0]), values, 0.0, len(rows) - 1.0, *ends)
    )
    names = ["term"] if kind == "dihedrals" else ["term", "start", "width", "before", "after"]
    for name in names:
        force.addPerBondParameter(name)
    for number, (particles, (start, stop, energies)) in enumerate(zip(terms, tables, strict=True)):
        slopes = CubicSpline(np.linspace(0, 1, len(energies)), energies, bc_type="natural")([0.0, 1.0], 1)
        force.addBond(list(particles), [number, start, stop - start, *slopes][: len(names)])
    return force


def system_of(name: str) -> openmm.System:
    """One molecule with the terms as one of `FORCES`."""
    system = openmm.System()
    for _ in range(BEADS):
        system.addParticle(MASS)
    make = {"TabulatedBondedForce": tabulated, "CustomCompoundBondForce": compound}
    if name in make:
        for kind, terms in TERMS.items():
            system.addForce(make[name](kind, terms, random_tables(kind)))
    return system


def compare(platform: openmm.Platform) -> float:
    """Norm of the difference of both forces, over the norm."""
    positions = MOLECULE + np.random.default_rng(1).normal(scale=0.01, size=(BEADS, 3))
    forces = []
    for name in FORCES[:2]:
        context = openmm.Context(system_of(name), openmm.VerletIntegrator(TIME_STEP), platform)
        context.setPositions(positions)
        forces.append(context.getState(forces=True).getForces(asNumpy=True)._value)
    return float(np.linalg.norm(forces[0] - forces[1]) / np.linalg.norm(forces[1]))


def measure(row: dict) -> dict:
    """Fill in `ms_per_step`."""
    system = replicate_system(system_of(row["force"]), row["copies"])
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1, TIME_STEP)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName(row["platform"])
    properties = {"Threads": "1"} if row["platform"] == "CPU" else {}
    context = openmm.Context(system, integrator, platform, properties)
    context.setPositions(np.tile(MOLECULE, (row["copies"], 1)))
    context.setVelocitiesToTemperature(TEMPERATURE, 1)
    integrator.step(10)
    begin = time.perf_counter()
    integrator.step(10)
    steps = int(np.clip(SECONDS_PER_MEASUREMENT / 5 * 10 / (time.perf_counter() - begin), 10, 50_000))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        integrator.step(steps)
        state = context.getState(positions=True)
        times.append((time.perf_counter() - begin) / steps)
    size = np.ptp(state.getPositions(asNumpy=True)._value.reshape(row["copies"], BEADS, 3), axis=1).max()
    if row["force"] != "none" and not size < 2 * np.ptp(MOLECULE, axis=0).max():
        raise RuntimeError(f"the run of {row} is not stable")
    return {**row, "ms_per_step": 1e3 * min(times)}


def best_rows(rows: list[dict]) -> list[dict]:
    """The least of all rounds, and with it the time of a term."""
    best: dict[tuple, dict] = {}
    for row in rows:
        key = (row["platform"], row["copies"], row["force"])
        if key not in best or row["ms_per_step"] < best[key]["ms_per_step"]:
            best[key] = row
    for (platform, copies, _), row in best.items():
        alone = best[platform, copies, "none"]["ms_per_step"]
        row["terms"] = 0 if row["force"] == "none" else copies * sum(map(len, TERMS.values()))
        if row["terms"]:
            row["us_per_term"] = 1e3 * (row["ms_per_step"] - alone) / row["terms"]
    return list(best.values())


def print_table(rows: list[dict]) -> None:
    """All rows, and how they compare."""
    print(f"{'platform':<10} {'copies':>6} {'terms':>6} {'force':<24} {'ms/step':>9} {'µs/term':>8}")
    for row in rows:
        cost = f"{row['us_per_term']:.3f}" if row["terms"] else ""
        print(
            f"{row['platform']:<10} {row['copies']:>6} {row['terms']:>6} {row['force']:<24} {row['ms_per_step']:>9.4f} "
            f"{cost:>8}"
        )
    for ours in (row for row in rows if row["force"] == FORCES[0]):
        (other,) = (
            row
            for row in rows
            if (row["force"], row["platform"], row["copies"]) == (FORCES[1], ours["platform"], ours["copies"])
        )
        term, step = (other[key] / ours[key] for key in ("us_per_term", "ms_per_step"))
        print(f"{ours['platform']}, {ours['copies']} copies: a term is {term:.1f} times faster, a step {step:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--platforms", nargs="+", choices=("Reference", "CPU"), default=["Reference", "CPU"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", help="where to write the rows")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    for name in arguments.platforms:
        difference = compare(openmm.Platform.getPlatformByName(name))
        print(f"{name}: the forces of both differ by {difference:.1e}, relatively")
    about = {"machine": machine("CPU"), "versions": versions()}
    # Both forces take turns, so that what else the machine does meets both.
    plan = list(itertools.product(range(arguments.rounds), arguments.platforms, arguments.copies, FORCES))
    rows = [
        measure_in_process({"platform": platform, "copies": copies, "force": force}, __file__)
        for _, platform, copies, force in tqdm(plan, unit="measurement")
    ]
    best = [{**row, **about} for row in best_rows(rows)]
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(best, file, indent=1)
    print(about["machine"])
    print_table(best)


if __name__ == "__main__":
    main()
