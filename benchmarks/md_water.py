"""Cost of a molecular-dynamics step of coarse-grained water: our engines, plain torch, all-atom.

    python benchmarks/md_water.py --beads 3916 --cutoff 0.6 --channels 128 --threads 1 --json result.json

Networks: SchNet, GNN and PaiNN, all with the same numbers of channels and blocks.
Engines: `native` and `torchscript` are CGForce's. `torch-operators` is the same SchNet as a user of
openmm-torch would write it: a module that finds its pairs itself and treats each as two directed edges.
`torch-export` is what `CGPotential.export_openmm_torch` writes, in which a pair's filter serves both directions.
`all-atom` is TIP3P water with the same number of molecules; `integrator` is a System without forces, OpenMM's floor.

Every measurement is a process of its own and is made twice: as it comes (`default`), and `tuned`:
OMP_WAIT_POLICY=PASSIVE and glibc's mmap and trim thresholds raised, without which torch is two to three times slower,
and the cores kept awake by loops of idle priority, without which, on a virtual machine that is otherwise idle, waking
OpenMM's worker threads costs some 0.3 ms a step, with no force at all. On a GPU it is made tuned only. A step is one of
LangevinMiddleIntegrator at 2 fs; the least of several blocks of steps counts, and with few beads the least of three
processes, since it differs between them how fast OpenMM wakes its threads. Weights are random: they do not change the
cost.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import openmm
from openmm import unit
from tqdm import tqdm

BEADS_PER_VOLUME = 33.3  # water, 1/nm³
TUNED = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}
NETWORKS = {"schnet": "SchNet", "gnn": "GNN", "painn": "PaiNN"}
FOREIGN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # would keep OpenBLAS from using what the processor has
ENGINES = ("native", "torchscript", "torch-operators", "torch-export", "all-atom", "integrator")
SECONDS_PER_MEASUREMENT = 4.0
MOST_STEPS = 2000
FEW_BEADS = 50  # up to so many, a chain without box, measured in three processes


def liquid(beads: int) -> tuple[np.ndarray, np.ndarray]:
    """Beads at the density of water, scattered about a lattice, and their cubic box."""
    random = np.random.default_rng(0)
    width = (beads / BEADS_PER_VOLUME) ** (1 / 3)
    sites = int(np.ceil(beads ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(sites)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = lattice[random.permutation(len(lattice))[:beads]]
    return (chosen + 0.5) * width / sites + random.normal(scale=0.03, size=(beads, 3)), np.eye(3) * width


def user_module(network, beads: int, periodic: bool):
    """SchNet for TorchForce as one finds it in the literature's codes: directed edges, torch operators only."""
    import torch
    from torch import Tensor, nn

    from openmmcg.geometry.cells import near_pairs
    from openmmcg.geometry.scriptable import minimum_image

    class UserSchNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.blocks = network.embedding, network.blocks
            self.output, self.readout = network.output, network.readout
            self.cutoff = float(network.cutoff)
            self.register_buffer("types", torch.zeros(beads, dtype=torch.int64))

        def energy(self, positions: Tensor, box: Tensor) -> Tensor:
            with torch.no_grad():
                first, second = near_pairs(positions, box, self.cutoff)
                rows, columns = torch.cat([first, second]), torch.cat([second, first])
            displacements = minimum_image(positions[columns] - positions[rows], box)
            distances = torch.linalg.vector_norm(displacements, dim=1)
            features = self.embedding(self.types)
            for block in self.blocks:
                messages = block.input(features)[columns] * block.convolution.filter(distances)
                sums = torch.zeros_like(features).index_add(0, rows, messages)
                features = features + block.output(block.hidden(sums))
            return self.readout(self.output(features)).sum()

    class Periodic(UserSchNet):
        def forward(self, positions: Tensor, box: Tensor) -> Tensor:
            return self.energy(positions, box)

    class NotPeriodic(UserSchNet):
        def forward(self, positions: Tensor) -> Tensor:
            return self.energy(positions, torch.empty(0))

    return torch.jit.script((Periodic if periodic else NotPeriodic)().eval())


def coarse_grained_system(row: dict) -> tuple[openmm.System, np.ndarray]:
    """The network alone: a liquid, or for a handful of beads a chain without box."""
    import torch

    from openmmcg import CGForce, CGPotential
    from openmmcg.potentials import networks

    torch.set_num_threads(row["threads"])
    network = getattr(networks, NETWORKS[row["network"]])(
        types=1,
        channels=row["channels"],
        blocks=row["blocks"],
        cutoff=row["cutoff"],
        basis_start=0.2,
        neighbors=10.0,
        energy_scale=0.1,
    )
    potential = CGPotential(network, [("W", 18.015)])
    system = openmm.System()
    for _ in range(row["beads"]):
        system.addParticle(18.015)
    periodic = row["beads"] > FEW_BEADS
    if periodic:
        positions, box = liquid(row["beads"])
        system.setDefaultPeriodicBoxVectors(*box)
    else:
        bonds = openmm.HarmonicBondForce()
        for i in range(row["beads"] - 1):
            bonds.addBond(i, i + 1, 0.2, 1e4)
        system.addForce(bonds)
        positions = np.array([[0.17 * i, 0.1 * (i % 2), 0.05 * (i % 3)] for i in range(row["beads"])])
    if row["engine"] == "torch-operators":
        force = CGForce(user_module(network, row["beads"], periodic), contract="plain", periodic=periodic)
    elif row["engine"] == "torch-export":
        module = potential.export_openmm_torch(os.devnull, [0] * row["beads"], periodic=periodic)
        force = CGForce(module, contract="plain", periodic=periodic)
    else:
        force = CGForce(potential.to_bytes(), periodic=periodic, engine=row["engine"])
    system.addForce(force)
    return system, positions


def all_atom_system(row: dict) -> tuple[openmm.System, np.ndarray]:
    """Rigid TIP3P with PME."""
    from openmmcg.reference import water_box

    water = water_box("tip3p", molecules=row["beads"])
    return water.system, water.positions


def free_system(row: dict) -> tuple[openmm.System, np.ndarray]:
    """Particles without forces."""
    system = openmm.System()
    for _ in range(row["beads"]):
        system.addParticle(18.015)
    return system, np.zeros((row["beads"], 3))


def make_context(system: openmm.System, integrator: openmm.Integrator, row: dict) -> openmm.Context:
    """On the row's platform, with its threads or its precision."""
    known = openmm.Platform.getPlatformByName(row["platform"])
    possible = {"Threads": str(row["threads"]), "Precision": row["precision"]}
    properties = {name: value for name, value in possible.items() if name in known.getPropertyNames()}
    return openmm.Context(system, integrator, known, properties)


def measure(row: dict) -> dict:
    """Fill in `ms_per_step` and `peak_memory_MiB`."""
    build = {"all-atom": all_atom_system, "integrator": free_system}.get(row["engine"], coarse_grained_system)
    system, positions = build(row)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    context = make_context(system, integrator, row)
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300, 1)

    def seconds_per_step(steps: int) -> float:
        begin = time.perf_counter()
        integrator.step(steps)
        context.getState(positions=True)  # waits for what a GPU still has to do
        return (time.perf_counter() - begin) / steps

    seconds_per_step(3)
    blocks = 5
    steps = int(np.clip(SECONDS_PER_MEASUREMENT / blocks / seconds_per_step(3), 1, MOST_STEPS / blocks))
    times = [seconds_per_step(steps) for _ in range(blocks)]
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    if not np.isfinite(energy):
        raise RuntimeError(f"the run of {row} is not stable")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**row, "ms_per_step": 1e3 * min(times), "peak_memory_MiB": round(memory)}


def spin(core: int) -> None:
    """Keep a core from sleeping, giving way to everything else that runs."""
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


@contextlib.contextmanager
def cores_awake():
    """No core sleeps within this context."""
    processes = [multiprocessing.Process(target=spin, args=(core,), daemon=True) for core in os.sched_getaffinity(0)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def measure_in_process(row: dict, program: str = __file__) -> dict:
    """Measure in a new process of a benchmark, on one thread and tuned unless the row says otherwise."""
    environment = {key: value for key, value in os.environ.items() if key not in (*TUNED, *FOREIGN)}
    environment["OMP_NUM_THREADS"] = str(row.get("threads", 1))
    tuned = row.get("settings", "tuned") == "tuned"
    if tuned:
        environment.update(TUNED)
    command = [sys.executable, program, "--measure", json.dumps(row)]
    with cores_awake() if tuned else contextlib.nullcontext():
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the measurement of {row} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(
    plan: Sequence[dict],
    measured: Callable[[dict], dict],
    path: str | None,
    print_table: Callable[[list[dict]], None],
) -> None:
    """Measure all rows of a plan, write them to a file as they come, and print them; say in the end what failed."""
    machines = {name: machine(name) for name in dict.fromkeys(row["platform"] for row in plan)}
    rows, failures, about = [], [], versions()
    for row in tqdm(plan, unit="measurement"):
        try:
            rows.append({**measured(row), "machine": machines[row["platform"]], "versions": about})
        except RuntimeError as error:
            failures.append(str(error))
        if path:
            with open(path, "w") as file:
                json.dump(rows, file, indent=1)
    print("\n".join(dict.fromkeys(machines.values())))
    print_table(rows)
    if failures:
        sys.exit("\n".join(failures))


def processor() -> str:
    """The processor's name and number of cores."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def machine(platform_name: str) -> str:
    """What computes: the GPU where there is one, and the processor."""
    if platform_name != "CUDA":
        return processor()
    import torch

    return f"{torch.cuda.get_device_name()}; {processor()}"


def versions() -> dict:
    """Of what was measured."""
    from importlib.metadata import version

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    packages = {name: version(name) for name in ("openmm-cg", "openmm", "torch", "numpy")}
    return {**packages, "python": platform.python_version(), "commit": commit}


def platforms(arguments: argparse.Namespace) -> list[tuple[str, int, str | None]]:
    """The platforms asked for, with threads and precisions where there is a choice."""
    result = []
    for name in arguments.platform:
        known = openmm.Platform.getPlatformByName(name).getPropertyNames()
        threads = arguments.threads if "Threads" in known else [1]
        result += itertools.product([name], threads, arguments.precision if "Precision" in known else [None])
    return result


def plan(arguments: argparse.Namespace) -> list[dict]:
    """The measurements asked for; all-atom water only where it can be a box."""
    rows = []
    for beads, network, cutoff, channels, (platform_name, threads, precision), engine in itertools.product(
        arguments.beads,
        arguments.network,
        arguments.cutoff,
        arguments.channels,
        platforms(arguments),
        arguments.engines,
    ):
        row = {
            "platform": platform_name,
            "precision": precision,
            "beads": beads,
            "network": network,
            "cutoff": cutoff,
            "channels": channels,
            "blocks": arguments.blocks,
            "threads": threads,
        }
        if engine in ("all-atom", "integrator"):
            first = (network, cutoff, channels) == (arguments.network[0], arguments.cutoff[0], arguments.channels[0])
            if not first or (engine == "all-atom" and beads < 216):
                continue
            row.update(network=None, cutoff=None, channels=None, blocks=None)
        elif engine == "torch-operators" and network != "schnet":
            continue
        for settings in ("tuned", "default") if precision is None else ("tuned",):
            rows.append({**row, "engine": engine, "settings": settings})
    return rows


def print_table(rows: list[dict]) -> None:
    """All rows, with the ratio to the native engine of the same system."""
    native = {key(row): row["ms_per_step"] for row in rows if row["engine"] == "native"}  # in the same settings
    print(f"{'beads':>6} {'network':<7} {'cutoff':>6} {'channels':>8} {'platform':<9} {'threads':>7} {'precision':<9} "
          f"{'engine':<15} {'settings':<8} {'ms/step':>10} {'ns/day (2 fs)':>14} {'/native':>8} {'MiB':>6}"
    )  # fmt: skip
    for row in rows:
        ratio = row["ms_per_step"] / native[key(row)] if key(row) in native else float("nan")
        print(
            f"{row['beads']:>6} {row['network'] or '':<7} {row['cutoff'] or '':>6} {row['channels'] or '':>8} "
            f"{row['platform']:<9} {row['threads']:>7} {row['precision'] or '':<9} "
            f"{row['engine']:<15} {row['settings']:<8} "
            f"{row['ms_per_step']:>10.3f} {172.8 / row['ms_per_step']:>14.1f} {ratio:>8.2f} {row['peak_memory_MiB']:>6}"
        )


def key(row: dict) -> tuple:
    """What two engines must share to be compared."""
    shared = ("platform", "beads", "network", "cutoff", "channels", "blocks", "threads", "precision", "settings")
    return tuple(row[name] for name in shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beads", type=int, nargs="+", default=[6, 10, 512, 3916, 20000])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["schnet"])
    parser.add_argument("--cutoff", type=float, nargs="+", default=[0.6, 0.7], help="nm")
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--platform", nargs="+", default=["CPU"])
    parser.add_argument("--precision", nargs="+", default=["single", "mixed"], help="of a GPU platform")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--json", help="where to write the rows")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return

    def best(row: dict) -> dict:
        processes = 3 if row["beads"] <= FEW_BEADS else 1
        return min((measure_in_process(row) for _ in range(processes)), key=lambda each: each["ms_per_step"])

    measure_all(plan(arguments), best, arguments.json, print_table)


if __name__ == "__main__":
    main()
