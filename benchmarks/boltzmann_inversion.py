"""Iterative Boltzmann inversion of 3',4-dipropyl-2,2'-bithiophene: do the beads' distributions become the atoms'?

    python benchmarks/boltzmann_inversion.py run.0.h5md run.1.h5md --beads 4 10 --directory inversion --json rows.json

The files hold all-atom frames of the molecule in vacuum, hydrogens after the 16 heavy atoms in the order of the SMILES
CCCc1csc(c1)-c1sccc1CCC, as `openmmcg.reference` samples them. Beads are centres of mass with types of their own, so
that every bond, angle and dihedral has a distribution of its own. The bar: after convergence every one of them is
within a Jensen-Shannon divergence of 0.005 of the mapped reference.

Figures and trajectories go to the directory; an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from md_water import processor, versions

from openmmcg.fitting import BoltzmannInversion
from openmmcg.fitting.boltzmann_inversion.figures import convergence, distributions
from openmmcg.frames import Frames
from openmmcg.mapping import map_frames
from openmmcg.reference import BITHIOPHENE, BITHIOPHENE_BEADS, heavy_atom_map, organic_molecule

BAR = 0.005  # bits


def measure(files: list[Path], beads: int, directory: Path, options: dict) -> dict:
    """Map, invert and draw. The Reference platform is the fastest for tabulated bonded terms alone."""
    folder = directory / f"{beads}_beads"
    folder.mkdir(parents=True, exist_ok=True)
    mapping = heavy_atom_map(organic_molecule(BITHIOPHENE).topology, BITHIOPHENE_BEADS[beads])
    mapped = []
    for file in files:
        mapped.append(folder / f"mapped_{file.name}")
        with Frames(file) as frames:
            map_frames(frames, mapping, mapped[-1])
    start = time.perf_counter()
    result = BoltzmannInversion(**options).fit(mapped, folder / "inversion", platform="Reference")
    seconds = time.perf_counter() - start
    distributions(result).savefig(folder / "distributions.png", dpi=120)
    convergence(result).savefig(folder / "convergence.png", dpi=120)
    row = {"beads": beads, "seconds": round(seconds, 1), **options, **result.summary()}
    worst = max(row["divergences"].items(), key=lambda item: item[1]["best"])
    print(
        f"{beads} beads, {len(row['divergences'])} distributions: largest divergence "
        f"{max(entry['first'] for entry in row['divergences'].values()):.4f} bits after direct inversion, "
        f"{worst[1]['best']:.4f} ({worst[0]}) in iteration {result.best} of {len(result.divergences) - 1}; the bar is "
        f"{BAR}: {'met' if worst[1]['best'] <= BAR else 'missed'}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="all-atom frames, H5MD")
    parser.add_argument("--beads", type=int, nargs="+", choices=sorted(BITHIOPHENE_BEADS), default=[4, 10])
    parser.add_argument("--directory", type=Path, default=Path("boltzmann_inversion"))
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--duration", type=float, default=500.0, help="ps of each replica in an iteration")
    parser.add_argument("--interval", type=float, default=0.5, help="ps")
    parser.add_argument("--time-step", type=float, default=0.001, help="ps")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--damping", type=float, default=1.0)
    parser.add_argument("--bins", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keys = ("replicas", "duration", "interval", "time_step", "iterations", "damping", "bins")
    options = {"tolerance": BAR, "achiral": True, **{key: getattr(arguments, key) for key in keys}}
    rows = []
    for beads in arguments.beads:
        rows.append(measure(arguments.files, beads, arguments.directory, options))
        if arguments.json:
            about = {"machine": processor(), "versions": versions(), "bar": BAR}
            arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
