"""Predictions per second, and what ElectronicReporter adds to a run of one small molecule.

    python benchmarks/electronic_reporter.py --inducing-points 200 1000 --members 1 5 --json result.json

The molecule is a chain of 10 beads with bonds, angles and dihedrals at 300 K, `tabulated` as iterative Boltzmann
inversion makes them, or `harmonic`, which is as light a System as coarse graining knows: a run of anything else is
slower, and the reporter's share of it smaller. The predictor has the networks of Maier & Jackson, 45-80-40-20-10-6,
with random weights, which do not change the cost; a cross-validation makes a predictor of five members.

Predictions per second are of frames predicted one by one, and 2000 together. A report's cost is measured by reporting
after every step, what OpenMM adds for it included; the share is the part of a whole run's time that one report at every
1000 steps takes, as the reporter comes (up to five seconds of a run predicted together) and with `delay=0` (each at
once). Time is that of the processor on one thread, least of several blocks, so that other programs count little. The
bar: a share of at most 5 %.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import openmm
from md_water import machine, versions
from openmm import app
from tqdm import tqdm

from openmmcg import TabulatedBondedForce
from openmmcg.electronic import DistanceFeatures, DKLPredictor, ElectronicReporter, Recalibration
from openmmcg.electronic.predictor import DenseLayers, Member

BEADS = 10
WIDTHS = (80, 40, 20, 10, 6)
INTERVAL = 1000  # steps from report to report
TIME_STEP = 0.005  # ps
TOGETHER = 2000
BLOCKS = 5
BAR = 0.05


def random_predictor(inducing_points: int, members: int) -> DKLPredictor:
    """A predictor of the paper's size that was not trained."""
    random = np.random.default_rng(0)
    features = DistanceFeatures(BEADS)
    latent = WIDTHS[-1]

    def layers(*widths: int) -> DenseLayers:
        pairs = list(itertools.pairwise(widths))
        return DenseLayers(
            [random.normal(size=pair) / np.sqrt(pair[0]) for pair in pairs], [np.zeros(pair[1]) for pair in pairs]
        )

    triangle = np.tril(random.normal(size=(inducing_points, inducing_points))) / inducing_points
    member = Member(
        feature_mean=np.full(len(features), 0.8),
        feature_scale=np.full(len(features), 0.5),
        energy=np.array([-6.0, 0.2]),
        inducing_points=random.normal(size=(inducing_points, latent)),
        lengths=np.ones(latent),
        trend=np.zeros(latent + 1),
        kernel_variance=np.ones(1),
        whitening=triangle,
        values=random.normal(size=inducing_points),
        root=triangle,
        recalibration=Recalibration().to_array(),
        kernel_network=layers(len(features), *WIDTHS),
        noise_network=layers(latent, 32, 1),
    )
    return DKLPredictor(features, [member] * members)


def bonded_forces(potential: str) -> tuple[openmm.Force, openmm.Force, openmm.Force]:
    """Of bonds, angles and dihedrals, without any of them."""
    if potential == "harmonic":
        return openmm.HarmonicBondForce(), openmm.HarmonicAngleForce(), openmm.PeriodicTorsionForce()
    forces = tuple(TabulatedBondedForce(kind) for kind in ("bonds", "angles", "dihedrals"))
    for force, energy, begin, end in zip(
        forces,
        (lambda r: 1e4 * (r - 0.25) ** 2, lambda t: 100 * (t - 2.1) ** 2, lambda t: 5 * (1 + np.cos(2 * t))),
        (0.0, 0.0, -np.pi),
        (1.0, np.pi, np.pi),
        strict=True,
    ):
        values = energy(np.linspace(begin, end, 201))
        values[-1] = values[0] if begin < 0 else values[-1]
        force.addTable(begin, end, values)
    return forces


def chain(potential: str, platform: str) -> app.Simulation:
    """A chain of 10 beads, bonded only, at 300 K."""
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for bead in range(BEADS):
        system.addParticle(20.0)
        topology.addAtom(f"B{bead}", None, residue)
    bonds, angles, dihedrals = bonded_forces(potential)
    for bead in range(BEADS - 1):
        if potential == "harmonic":
            bonds.addBond(bead, bead + 1, 0.25, 2e4)
            if bead < BEADS - 2:
                angles.addAngle(bead, bead + 1, bead + 2, 2.1, 200.0)
            if bead < BEADS - 3:
                dihedrals.addTorsion(bead, bead + 1, bead + 2, bead + 3, 2, 0.0, 5.0)
        else:
            for size, force in enumerate((bonds, angles, dihedrals), 2):
                if bead + size <= BEADS:
                    force.addTerm(range(bead, bead + size), 0)
    for force in (bonds, angles, dihedrals):
        system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(300, 1.0, TIME_STEP)
    properties = {"Threads": "1"} if platform == "CPU" else {}
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatform(platform), properties)
    zigzag = np.arange(BEADS)[:, None] * [0.22, 0.0, 0.0] + (np.arange(BEADS) % 2)[:, None] * [0.0, 0.12, 0.0]
    simulation.context.setPositions(zigzag)
    simulation.context.setVelocitiesToTemperature(300, 1)
    simulation.step(2000)
    return simulation


def predictions_per_second(predictor: DKLPredictor, positions: np.ndarray) -> float:
    """Frames in one call over the least time of it."""
    times = []
    for _ in range(BLOCKS):
        calls = max(1, 200 // len(positions))
        begin = time.process_time()
        for _ in range(calls):
            predictor.predict(positions)
        times.append((time.process_time() - begin) / calls)
    return len(positions) / min(times)


def seconds_per_step(simulation: app.Simulation, steps: int) -> float:
    """Least time of a step, reports included where the simulation has reporters."""
    times = []
    for _ in range(BLOCKS):
        begin = time.process_time()
        simulation.step(steps)
        for reporter in simulation.reporters:
            reporter.flush()
        times.append((time.process_time() - begin) / steps)
    return min(times)


def seconds_per_report(simulation: app.Simulation, predictor: DKLPredictor, delay: float, reports: int) -> float:
    """What a report after every step adds to it."""
    alone = seconds_per_step(simulation, 10 * reports)
    with tempfile.TemporaryDirectory() as folder:
        simulation.reporters.append(ElectronicReporter(Path(folder) / "energies.csv", 1, predictor, delay=delay))
        simulation.step(1)  # the first is written at once
        reported = seconds_per_step(simulation, reports)
        simulation.reporters.clear()
    return reported - alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inducing-points", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--potentials", nargs="+", choices=("tabulated", "harmonic"), default=["tabulated", "harmonic"])
    parser.add_argument("--platform", choices=("Reference", "CPU"), default="Reference")
    parser.add_argument("--reports", type=int, default=500, help="in each of the blocks of which the least counts")
    parser.add_argument("--json", help="where to write the rows")
    arguments = parser.parse_args()
    about = {"machine": machine(arguments.platform), "versions": versions()}
    runs = {potential: chain(potential, arguments.platform) for potential in arguments.potentials}
    step_times = {name: seconds_per_step(run, 10 * arguments.reports) for name, run in runs.items()}
    frame = next(iter(runs.values())).context.getState(positions=True).getPositions(asNumpy=True)._value
    rows = []
    sizes = list(itertools.product(arguments.inducing_points, arguments.members))
    for inducing_points, members in tqdm(sizes, unit="predictor"):
        predictor = random_predictor(inducing_points, members)
        speeds = {
            "predictions_per_second_one_by_one": predictions_per_second(predictor, frame[None]),
            "predictions_per_second_together": predictions_per_second(predictor, np.tile(frame, (TOGETHER, 1, 1))),
        }
        for potential, run in runs.items():
            steps = INTERVAL * step_times[potential]
            together, at_once = (seconds_per_report(run, predictor, delay, arguments.reports) for delay in (5.0, 0.0))
            rows.append(
                {
                    "inducing_points": inducing_points,
                    "members": members,
                    **speeds,
                    "potential": potential,
                    "platform": arguments.platform,
                    "steps_per_second": 1 / step_times[potential],
                    "ms_per_report": 1e3 * together,
                    "ms_per_report_at_once": 1e3 * at_once,
                    "share": together / (together + steps),
                    "share_at_once": at_once / (at_once + steps),
                    **about,
                }
            )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    print_table(rows)


def print_table(rows: list[dict]) -> None:
    """All rows, and how they stand to the bar."""
    print(rows[0]["machine"])
    print(f"{'inducing points':>15} {'members':>7} {'one by one, 1/s':>15} {'together, 1/s':>13} {'potential':>10} "
          f"{'steps/s':>8} {'ms/report':>9} {'share':>6} {'at once':>7}")  # fmt: skip
    for row in rows:
        print(
            f"{row['inducing_points']:>15} {row['members']:>7} {row['predictions_per_second_one_by_one']:>15.0f} "
            f"{row['predictions_per_second_together']:>13.0f} {row['potential']:>10} {row['steps_per_second']:>8.0f} "
            f"{row['ms_per_report']:>9.3f} {row['share']:>6.1%} {row['share_at_once']:>7.1%}"
        )
    within = sum(row["share"] <= BAR for row in rows)
    print(f"the bar, {BAR:.0%} of a run, is met in {within} of {len(rows)}")


if __name__ == "__main__":
    main()
