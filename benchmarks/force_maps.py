"""How many frames a force map saves: noise-equivalent σ of capped alanine against the number of training frames.

    python examples/alanine_dipeptide.py --directory alanine
    python benchmarks/force_maps.py alanine --json force_maps.json

From the frames of the example, as many as wanted are drawn at random. The optimal force map is found from their forces
alone; they are mapped with it and with the slice map; and a PaiNN with priors is trained on each, with a tenth of the
frames to choose the epoch. A hundred copies of the beads are compared with all frames of the example, in the noise of
the positions that would change the free energy of φ and ψ as much. Both maps see the same frames. What is finished is
in the JSON file, and the same command goes on after it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from md_water import processor, versions
from tqdm import tqdm

from openmmcg.analysis import NoiseCurve, dihedral_edges, histogram, noise_curve
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, constraint_aware_force_map, map_frames, mean_square_force, optimal_force_map
from openmmcg.reference import capped_alanine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from alanine_dipeptide import (
    FULL,
    QUICK,
    SQUARE,
    Size,
    bead_map,
    force_matching,
    noise_equivalents,
    ramachandran,
    simulate,
)

MEASURES = {"kl_divergence": "KL divergence", "mean_squared_difference": "mean squared difference"}
MOST_EPOCHS = 60  # of few frames: the best epoch comes long before


def choose(available: int, frames: int, repeat: int) -> list[int]:
    """The frames to learn from."""
    if frames > available:
        raise SystemExit(f"there are {available} frames, not {frames}: give fewer --frames, or sample more")
    return sorted(np.random.default_rng(repeat).permutation(available)[:frames].tolist())


def make_map(name: str, beads: Mapping, forces: np.ndarray, system) -> Mapping:
    if name == "slice":
        return constraint_aware_force_map(beads, system)
    return optimal_force_map(beads, forces, system=system)


def measure(size: Size, atoms: Path, curve: NoiseCurve, row: dict, directory: Path) -> dict:
    """Map, train, simulate and compare."""
    peptide = capped_alanine("implicit")
    beads = bead_map(peptide.topology)
    folder = directory / "{map}_{frames}_{repeat}".format(**row)
    folder.mkdir(parents=True, exist_ok=True)
    mapped = folder / "beads.h5md"
    with Frames(atoms) as source:
        chosen = choose(len(source), row["frames"], row["repeat"])
        others = source.select(sorted(set(range(0, len(source), 7)) - set(chosen)))
        force_map = make_map(row["map"], beads, source.select(chosen).forces, peptide.system)
        noise = float(mean_square_force(force_map, others.forces).mean()) / SQUARE
        map_frames(source.select(chosen), force_map, mapped)
    epochs = min(MOST_EPOCHS, round(size.epochs * size.frames / row["frames"]))
    matching = force_matching("painn", replace(size, epochs=epochs))
    trained = matching.fit(mapped, folder / "training")
    result = simulate(size, trained.potential, beads.topology(), mapped, folder / "coarse_grained.h5md")
    angles = ramachandran(beads)
    copies = []
    for replica in result.replicas:
        with Frames(replica.path) as source:
            copies.append(angles(source.positions[:]))
    found = noise_equivalents(curve, histogram(copies, curve.reference.edges))
    return {
        **row,
        "mean_square_force": noise,
        "force_error": trained.errors.potential / SQUARE,
        "best_epoch": trained.best_epoch,
        "training_seconds": round(trained.seconds, 1),
        **{name: {"sigma": value.sigma, "error": value.error, "missed": value.missed} for name, value in found.items()},
    }


def show(rows: list[dict]) -> None:
    print(f"{'map':8} {'frames':>7} {'repeat':>6} {'noise':>7}  σ by KL (Å)     σ by mean squared difference (Å)")
    for row in rows:
        sigmas = (row[name] for name in MEASURES)
        both = "   ".join(f"{10 * value['sigma']:.3f} ± {10 * value['error']:.3f}" for value in sigmas)
        print(f"{row['map']:8} {row['frames']:7} {row['repeat']:6} {row['mean_square_force']:7.1f}  {both}")


def draw(rows: list[dict], path: Path) -> None:
    """σ against the number of frames, a curve for each map and a panel for each measure."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, layout="constrained")
    for axis, (name, label) in zip(axes, MEASURES.items(), strict=True):
        for kind in ("slice", "optimal"):
            those = [row for row in rows if row["map"] == kind and np.isfinite(row[name]["sigma"])]
            frames = sorted({row["frames"] for row in those})
            means = [
                10 * np.mean([row[name]["sigma"] for row in those if row["frames"] == number]) for number in frames
            ]
            (line,) = axis.plot(frames, means, label=f"{kind} map")
            axis.errorbar(
                [row["frames"] for row in those],
                [10 * row[name]["sigma"] for row in those],
                [10 * row[name]["error"] for row in those],
                fmt="o",
                markersize=4,
                color=line.get_color(),
            )
        axis.set(xscale="log", xlabel="training frames", ylabel="noise-equivalent σ (Å)", title=label)
        axis.axhline(0.1, color="gray", linestyle=":")
        numbers = sorted({row["frames"] for row in rows})
        axis.set_xticks(numbers, [f"{number:,}".replace(",", " ") for number in numbers])
        axis.minorticks_off()
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="of the example, with its all-atom frames")
    parser.add_argument("--frames", type=int, nargs="+", default=[1250, 2500, 5000, 10_000, 20_000, 40_000])
    parser.add_argument("--repeats", type=int, default=2, help="draws of the frames")
    parser.add_argument("--duration", type=float, default=100.0, help="ps of each copy of the beads")
    parser.add_argument("--quick", action="store_true", help="for a directory of the example's --quick")
    parser.add_argument("--json", type=Path, default=Path("force_maps.json"))
    parser.add_argument("--figure", type=Path, help="where to draw, as PNG")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else replace(FULL, cg_duration=arguments.duration)
    atoms = arguments.directory / "all_atom.h5md"
    settings = {"duration_ps": size.cg_duration, "replicas": size.replicas}
    rows: list[dict] = []
    if arguments.json.exists():
        there = json.loads(arguments.json.read_text())
        if there["settings"] != settings:
            parser.error(f"{arguments.json} is of other settings, {there['settings']}; give another file")
        rows = there["rows"]
    wanted = [
        {"map": name, "frames": frames, "repeat": repeat}
        for repeat in range(arguments.repeats)
        for frames in arguments.frames
        for name in ("slice", "optimal")
    ]
    missing = [row for row in wanted if not any(row.items() <= done.items() for done in rows)]
    if missing:
        beads = bead_map(capped_alanine("implicit").topology)
        with Frames(atoms) as source:
            reference = beads.map_positions(source.positions[:])
        curve = noise_curve(reference, ramachandran(beads), [dihedral_edges(size.bins)] * 2, trials=size.noise_trials)
    for row in tqdm(missing, "force maps", unit="model"):
        rows.append(measure(size, atoms, curve, row, arguments.directory / "force_maps"))
        about = {"machine": processor(), "versions": versions(), "settings": settings}
        arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1))
    show(sorted(rows, key=lambda row: (row["map"], row["frames"], row["repeat"])))
    if arguments.figure:
        draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
