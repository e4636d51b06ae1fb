"""Seconds for the orbital energies of one frame, by molecule and engine.

    OMP_NUM_THREADS=1 python benchmarks/label_time.py --json label_time.json

One process; the environment's OMP_NUM_THREADS says with how many threads. Geometries are minima of MMFF94 with normal
noise of 5 pm on each coordinate, about as far from the minimum as atoms are at 300 K.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from md_water import processor, versions

from openmmcg.reference import BITHIOPHENE, SEXITHIOPHENE, TEMPO, orbital_energies, organic_molecule
from openmmcg.reference.quantum.engines import ENGINES

MOLECULES = {"bithiophene": BITHIOPHENE, "tempo": TEMPO, "sexithiophene": SEXITHIOPHENE}
NOISE = 0.005  # nm
FRAMES = {"gfn2-xtb": 50, "wb97x-d3/def2-svp": 3}


def measure(name: str, engine: str, frames: int) -> dict:
    """Times of as many frames, after one that is not counted."""
    molecule = organic_molecule(MOLECULES[name])
    elements = [atom.element.symbol for atom in molecule.topology.atoms()]
    random = np.random.default_rng(0)
    seconds = []
    for _ in range(frames + 1):
        positions = molecule.positions + random.normal(scale=NOISE, size=np.shape(molecule.positions))
        begin = time.perf_counter()
        orbital_energies(elements, positions, engine=engine)
        seconds.append(time.perf_counter() - begin)
    found = {"molecule": name, "atoms": len(elements), "engine": engine, "frames": frames}
    return {**found, "mean_seconds": float(np.mean(seconds[1:])), "longest_seconds": max(seconds[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", nargs="+", choices=MOLECULES, default=["bithiophene", "tempo"])
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=sorted(ENGINES))
    parser.add_argument("--frames", type=int, help=f"by default {FRAMES}")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for engine in arguments.engines:
        for name in arguments.molecules:
            rows.append(measure(name, engine, arguments.frames or FRAMES[engine]))
            seconds = f"{rows[-1]['mean_seconds']:8.3f} s a frame, at most {rows[-1]['longest_seconds']:.3f} s"
            print(f"{name:14} {rows[-1]['atoms']:3} atoms  {engine:18} {seconds}", flush=True)
    if arguments.json:
        about = {"machine": processor(), "threads": os.environ.get("OMP_NUM_THREADS", "all"), "versions": versions()}
        arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
