"""How far each kernel of the native engine is from what the machine can do.

    python benchmarks/roofline.py --beads 3916 --platform CPU --json roofline.json

Three ceilings are measured first: floating-point operations (a large float32 matrix product, on a CPU through the
OpenBLAS that the engine calls, with the kernels it chooses for this processor), bytes from memory (a
copy much larger than the caches) and bytes from the cache that a convolution's features and tables live in (a copy of
256 KiB on a CPU, of 8 MiB on a GPU; what stays in a first-level cache can be faster). For every kernel of an evaluation
of energy and forces follow the operations and bytes it cannot do without (`CGForce.profile`), the times those take at
the ceilings, the time it took, and which part of that time the highest of the three is. One thread on the CPU. Of every
figure the best of several measurements counts, so that other work on the machine shows as little as it can. On CUDA
products are torch's.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openmm
from md_water import FOREIGN, NETWORKS, coarse_grained_system, cores_awake, machine, make_context, versions
from tqdm import tqdm

from openmmcg import CGForce, _openmmcg

CPU_MATRIX, GPU_MATRIX = 512, 4096
MEASUREMENTS = 30  # of which the best counts; short ones, between which other processes can have their turn
LARGE, CPU_CACHE, GPU_CACHE = 2**28, 2**18, 2**23  # bytes


def best_time(task: Callable[[], object], wait: Callable[[], object], repeats: int) -> float:
    """Seconds of one run."""
    times = []
    for _ in range(MEASUREMENTS):
        wait()
        begin = time.perf_counter()
        for _ in range(repeats):
            task()
        wait()
        times.append((time.perf_counter() - begin) / repeats)
    return min(times)


def openblas() -> ctypes.CDLL:
    """The library that the native engine multiplies with."""
    import scipy_openblas32

    return ctypes.CDLL(str(Path(scipy_openblas32.get_lib_dir()) / "libscipy_openblas.so"))


def multiply_by_openblas(size: int, matrix: int, product: int) -> None:
    """The square of a float32 matrix at an address, with one thread."""
    blas, row_major, as_is = openblas(), 101, 111
    blas.scipy_openblas_set_num_threads(1)
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    there = [(ctypes.c_void_p(address), size) for address in (matrix, matrix, product)]
    blas.scipy_cblas_sgemm(row_major, as_is, as_is, size, size, size, one, *there[0], *there[1], zero, *there[2])


def kernel_choice(platform: str) -> dict[str, str]:
    """What the engine and its OpenBLAS chose for this processor."""
    if platform == "CUDA":
        return {}
    name = openblas().scipy_openblas_get_corename
    name.restype = ctypes.c_char_p
    return {"kernel set": _openmmcg.get_kernel_set(), "OpenBLAS core": name().decode()}


def ceilings(platform: str) -> dict[str, float]:
    """Operations per second, bytes per second from memory and from the cache, in float32."""
    import torch

    torch.set_num_threads(1)
    device = "cuda" if platform == "CUDA" else "cpu"
    wait = torch.cuda.synchronize if platform == "CUDA" else lambda: None
    rows, cache = (GPU_MATRIX, GPU_CACHE) if platform == "CUDA" else (CPU_MATRIX, CPU_CACHE)

    def copy_speed(size: int) -> float:
        source = torch.ones(size // 4, device=device)
        target = torch.empty_like(source)
        return 2 * size / best_time(lambda: target.copy_(source), wait, max(1, LARGE // size // 32))

    matrix = torch.ones(rows, rows, device=device)
    product = torch.empty_like(matrix)

    def multiply() -> None:
        if platform == "CUDA":
            torch.mm(matrix, matrix, out=product)
        else:
            multiply_by_openblas(rows, matrix.data_ptr(), product.data_ptr())

    operations = 2 * rows**3 / best_time(multiply, wait, 1)
    return {"operations": operations, "memory": copy_speed(LARGE), "cache": copy_speed(cache)}


def measure(network: str, arguments: argparse.Namespace) -> list[dict]:
    """A row for each kernel of a network."""
    row = {"network": network, "engine": "native", "threads": 1, "blocks": arguments.blocks}
    row |= {"platform": arguments.platform, "precision": arguments.precision}
    row |= {"beads": arguments.beads, "cutoff": arguments.cutoff, "channels": arguments.channels}
    system, positions = coarse_grained_system(row)
    context = make_context(system, openmm.VerletIntegrator(0.001), row)
    context.setPositions(positions)
    force = CGForce.of(system.getForce(system.getNumForces() - 1))
    profiles = [force.profile(context, arguments.repeats) for _ in range(MEASUREMENTS)]
    best = [min(kernels, key=lambda kernel: kernel.seconds) for kernels in zip(*profiles, strict=True)]
    fields = ("operations", "memory", "cache")
    return [
        {**row, "kernel": kernel.name, "ms": 1e3 * kernel.seconds, **{name: getattr(kernel, name) for name in fields}}
        for kernel in sorted(best, key=lambda kernel: -kernel.seconds)
    ]


def print_table(rows: list[dict], ceiling: dict[str, float]) -> None:
    """All kernels, with their times at the ceilings."""
    print(f"ceilings: {ceiling['operations'] / 1e9:.0f} Gflop/s, memory {ceiling['memory'] / 1e9:.1f} GB/s, "
          f"cache {ceiling['cache'] / 1e9:.0f} GB/s")  # fmt: skip
    print(f"{'network':<7} {'kernel':<20} {'ms':>8} {'Mflop':>9} {'memory MB':>9} {'cache MB':>9} "
          f"{'flop ms':>8} {'mem. ms':>8} {'cache ms':>8} {'of roof':>7}")  # fmt: skip
    for row in rows:
        roofs = [1e3 * row[name] / ceiling[name] for name in ("operations", "memory", "cache")]
        share = f"{max(roofs) / row['ms']:.0%}" if max(roofs) > 0 else ""
        print(
            f"{row['network']:<7} {row['kernel']:<20} {row['ms']:>8.3f} {row['operations'] / 1e6:>9.1f} "
            f"{row['memory'] / 1e6:>9.2f} {row['cache'] / 1e6:>9.1f} {roofs[0]:>8.3f} {roofs[1]:>8.3f} "
            f"{roofs[2]:>8.3f} {share:>7}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beads", type=int, default=3916)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["schnet", "painn"])
    parser.add_argument("--cutoff", type=float, default=0.6, help="nm")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--platform", default="CPU")
    parser.add_argument("--precision", default="single", help="of a GPU platform")
    parser.add_argument("--repeats", type=int, help="evaluations in a measurement; by default 1 on a CPU, 5 on a GPU")
    parser.add_argument("--json", help="where to write the rows")
    arguments = parser.parse_args()
    arguments.repeats = arguments.repeats or (1 if arguments.platform == "CPU" else 5)
    if any(name in os.environ for name in FOREIGN):  # OpenBLAS has read them already
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {k: v for k, v in os.environ.items() if k not in FOREIGN}
        )
    load = os.getloadavg()[0]
    with cores_awake():
        ceiling = ceilings(arguments.platform)
        rows = [row for network in tqdm(arguments.network, unit="network") for row in measure(network, arguments)]
    if arguments.json:
        about = {"machine": machine(arguments.platform), "versions": versions(), "ceilings": ceiling}
        about |= {"choice": kernel_choice(arguments.platform), "load": load}
        with open(arguments.json, "w") as file:
            json.dump({**about, "rows": rows}, file, indent=1)
    print(machine(arguments.platform))
    print_table(rows, ceiling)


if __name__ == "__main__":
    main()
