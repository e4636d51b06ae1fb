"""Frames of a molecule with HOMO and LUMO of each: the data of electronic coarse graining.

    python benchmarks/bithiophene_data.py data/bithiophene
    python benchmarks/bithiophene_data.py data/tempo --molecule tempo --frames 2000

All-atom runs of MMFF94 in the gas phase, four for training and four for testing, each from another conformer and with
its own random numbers; then GFN2-xTB labels. In the directory appear `train.h5md` and `test.h5md` (positions, forces;
run after run), `train_labels.h5` and `test_labels.h5` (the same frames), and `summary.json`. It may be interrupted at
any moment: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np

from openmmcg.analysis import autocorrelation_time, dihedrals, effective_samples, on_circle
from openmmcg.frames import Frames
from openmmcg.reference import (
    BITHIOPHENE,
    TEMPO,
    Labels,
    find_atoms,
    join_runs,
    label_frames,
    organic_molecule,
    sample_conformers,
)

# Molecule, the pattern of its slow dihedral (S-C-C-S between the rings, C-N-C-C in the ring), and whether that turns.
MOLECULES = {"bithiophene": (BITHIOPHENE, "sc-!@cs", True), "tempo": (TEMPO, "[C;R]N[C;R][C;R]", False)}
SETS = ("train", "test")


def make_data(options: argparse.Namespace) -> None:
    """Sample, join and label what is not there yet, and write the summary."""
    options.directory.mkdir(parents=True, exist_ok=True)
    smiles, pattern, turns = MOLECULES[options.molecule]
    dihedral = find_atoms(smiles, pattern)[0]
    per_run = options.frames // options.runs
    molecule = organic_molecule(smiles, name=options.molecule)
    runs = sample_conformers(
        molecule,
        options.runs_directory or options.directory / "runs",
        dihedral=dihedral if turns else None,
        sets=SETS,
        runs=options.runs,
        frames=per_run,
        interval=options.interval,
        equilibration=options.equilibration,
        processes=options.processes,
    )
    summary = {
        "molecule": options.molecule,
        "smiles": smiles,
        "dihedral": dihedral.tolist(),
        "interval_ps": options.interval,
    }
    for name in SETS:
        frames = options.directory / f"{name}.h5md"
        if not frames.exists():
            join_runs(runs[name], frames, frames=per_run)
        started = perf_counter()
        labels = label_frames(
            frames, options.directory / f"{name}_labels.h5", engine=options.engine, processes=options.processes
        )
        print(f"{name}: labelled in {perf_counter() - started:.0f} s")
        summary[name] = describe(frames, labels, dihedral, per_run, options.interval)
    (options.directory / "summary.json").write_text(json.dumps(summary, indent=1))
    print(json.dumps(summary, indent=1))


def describe(path: Path, labels: Labels, dihedral: np.ndarray, per_run: int, interval: float) -> dict[str, object]:
    """Numbers of one set: energies, failures, and how much its slow dihedral and its HOMO remember."""
    with Frames(path) as frames:
        angles = dihedrals(frames.positions, dihedral[None])[:, 0]
    homo = labels["homo"]
    slow = on_circle(angles).reshape(-1, per_run, 2)
    summary: dict[str, object] = {
        "frames": len(labels),
        "failed": len(labels.failures),
        "homo_mean_eV": float(np.nanmean(homo)),
        "homo_standard_deviation_eV": float(np.nanstd(homo)),
        "dihedral_autocorrelation_time_ps": autocorrelation_time(*slow, interval=interval),
        "dihedral_effective_samples": effective_samples(*slow),
        # The mirror image of a conformer has the same energies: for them only the size of the angle counts.
        "dihedral_size_autocorrelation_time_ps": autocorrelation_time(*slow[..., 0], interval=interval),
        "dihedral_size_effective_samples": effective_samples(*slow[..., 0]),
        "dihedral_histogram_of_12": np.histogram(angles, 12, (-np.pi, np.pi))[0].tolist(),
    }
    if not labels.failures:
        energies = homo.reshape(-1, per_run)
        summary["homo_autocorrelation_time_ps"] = autocorrelation_time(*energies, interval=interval)
        summary["homo_effective_samples"] = effective_samples(*energies)
        summary["homo_mean_of_runs_eV"] = energies.mean(axis=1).tolist()
    return summary


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--molecule", choices=MOLECULES, default="bithiophene")
    parser.add_argument("--frames", type=int, default=10_000, help="of each of the two sets")
    parser.add_argument("--runs", type=int, default=4, help="of each set")
    parser.add_argument("--interval", type=float, default=1.0, help="ps")
    parser.add_argument("--equilibration", type=float, default=100.0, help="ps of each run")
    parser.add_argument("--engine", default="gfn2-xtb")
    parser.add_argument("--processes", type=int, help="at the same time; by default one for each core")
    parser.add_argument("--runs-directory", type=Path, help="of the runs, by default DIRECTORY/runs")
    make_data(parser.parse_args())
