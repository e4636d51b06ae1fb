"""Copies of a molecule with a model of mlcg: OpenMM-CG, and mlcg's own loop where mlcg is installed.

    python benchmarks/mlcg_replicas.py chignolin_model_and_config.pt --replicas 1 8 64 100 --json mlcg.json

The file is what mlcg's simulations begin with, see `openmmcg.external.from_mlcg`. OpenMM-CG runs its network natively
and integrates all copies in one Context (`create_system(replicas=…)`, LangevinMiddleIntegrator); mlcg integrates them
as one batch (`LangevinSimulation`, float32). Both at 4 fs, 350 K and a friction of 1/ps, each in a process of its own
with the `tuned` settings of md_water.py. `aggregate` is the ns/day of all copies together; the least of several blocks
of steps counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from md_water import measure_all, measure_in_process

TIME_STEP, FRICTION, TEMPERATURE = 0.004, 1.0, 350.0  # ps, 1/ps, K
BETA = 1 / (8.31446261815324e-3 / 4.184 * TEMPERATURE)  # mol/kcal


def openmm_steps(row: dict) -> Callable[[int], None]:
    """A function that makes a number of steps in OpenMM."""
    import openmm

    from openmmcg import CGPotential
    from openmmcg.mapping import cg_topology

    potential, topology = CGPotential.load(row["potential"]), cg_topology(row["beads"])
    system = potential.create_system(topology, replicas=row["replicas"], remove_center_of_mass_motion=False)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, TIME_STEP)
    properties = {"Threads": str(row["threads"])} if row["platform"] == "CPU" else {}
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(row["platform"]), properties)
    context.setPositions(np.tile(row["positions"], (row["replicas"], 1)))
    context.setVelocitiesToTemperature(TEMPERATURE, 1)

    def run(steps: int) -> None:
        integrator.step(steps)
        if not np.isfinite(context.getState(energy=True).getPotentialEnergy()._value):
            raise RuntimeError("the run is not stable")

    return run


def mlcg_steps(row: dict) -> Callable[[int], None]:
    """The same by mlcg, which loads its own pickle: the file must be one to be trusted."""
    import copy

    import torch
    from mlcg.simulation import LangevinSimulation

    torch.set_num_threads(row["threads"])
    models, structures = torch.load(row["model"], weights_only=False)

    def run(steps: int) -> None:
        simulation = LangevinSimulation(friction=FRICTION, dt=TIME_STEP, n_timesteps=steps, save_interval=steps)
        copies = [copy.deepcopy(structures[0]) for _ in range(row["replicas"])]
        # Specialised priors are of as many structures as the file holds, one after the other.
        own = copy.deepcopy(models)
        for part in own.models.values():
            for name in getattr(part.model, "param_names", ()):
                values = getattr(part.model, name)
                rows = len(values) // len(structures)
                setattr(part.model, name, values[:rows].repeat(row["replicas"], *[1] * (values.ndim - 1)))
        simulation.attach_model_and_configurations(own, copies, BETA)
        simulation.simulate()

    return run


def measure(row: dict) -> dict:
    """Fill in `ms_per_step`."""
    run = (openmm_steps if row["engine"] == "OpenMM-CG" else mlcg_steps)(row)
    run(20)
    begin = time.perf_counter()
    run(20)
    number = max(20, int(20 * row["seconds"] / 5 / (time.perf_counter() - begin)))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        run(number)
        times.append((time.perf_counter() - begin) / number)
    kept = ("engine", "model", "network", "replicas", "threads", "platform")
    return {**{name: row[name] for name in kept}, "ms_per_step": 1e3 * min(times)}


def print_table(rows: list[dict]) -> None:
    print(f"{'engine':<10} {'network':<15} {'replicas':>8} {'threads':>7} {'ms/step':>9} {'aggregate ns/day':>17}")
    for row in rows:
        speed = 86400 * TIME_STEP / row["ms_per_step"] * row["replicas"]
        print(
            f"{row['engine']:<10} {row['network']:<15} {row['replicas']:>8} {row['threads']:>7} "
            f"{row['ms_per_step']:>9.3f} {speed:>17.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="the file of mlcg")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64, 100])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--platform", default="CPU", help="of OpenMM-CG; mlcg's loop runs on the CPU")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--json", help="where to write the rows")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    if arguments.model is None:
        parser.error("name the file of a model")

    from openmmcg.external import from_mlcg

    potential, topology, positions = from_mlcg(arguments.model, temperature=TEMPERATURE)
    engines = ["OpenMM-CG", *(["mlcg"] if find_spec("mlcg") else [])]
    with tempfile.TemporaryDirectory() as folder:
        potential.save(Path(folder) / "potential.pt")
        common = {
            "model": arguments.model,
            "network": potential.provenance["network"],
            "potential": str(Path(folder) / "potential.pt"),
            "beads": [bead.name for bead in topology.atoms()],
            "positions": positions.tolist(),
            "threads": arguments.threads,
            "platform": arguments.platform,
            "seconds": arguments.seconds,
        }
        plan = [{**common, "replicas": number, "engine": engine} for number in arguments.replicas for engine in engines]
        measure_all(plan, lambda row: measure_in_process(row, __file__), arguments.json, print_table)


if __name__ == "__main__":
    main()
