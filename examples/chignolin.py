"""Chignolin (CLN025) from all-atom forces to free energies of folding: sample, map, train, simulate, compare.

    python examples/chignolin.py --directory chignolin

The ten alpha carbons of the miniprotein are the beads, typed by amino acid, the two terminal tyrosines apart, as in
Husic et al., J. Chem. Phys. 153, 194101 (2020). Two runs of the atoms in implicit solvent, from the hairpin and from an
extended strand, give forces; a CGSchNet learns what harmonic bonds and angles and a repulsion leave, once for each
fold; copies driven by the mean force of these networks are compared with the atoms along the slow coordinates of TICA.

The paper's reference is 180 µs long. The nanoseconds that one machine samples here do not hold the equilibrium between
folded and unfolded: what is compared is what has been visited, and the report says how much that is. Every step writes
into the directory and goes on where it was when the script is run again; with more `--nanoseconds` it becomes longer
(choose another directory for what is trained). The report is `report.html`, its figures are in `summary.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from openmmcg.analysis import (
    Report,
    assign_regions,
    basin_populations,
    distances,
    figures,
    histogram,
    kl_divergence,
    mean_squared_difference,
    noise_curve,
)
from openmmcg.analysis.kinetics import tica, tica_timescales, timescale_factor
from openmmcg.fitting import ForceMatching, cross_validate
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, constraint_aware_force_map, map_frames, mean_square_force, optimal_force_map
from openmmcg.potentials import Ensemble, HarmonicAngles, HarmonicBonds, Repulsion, SchNet
from openmmcg.reference import chignolin, sample
from openmmcg.simulation import run

TEMPERATURE = 300.0
SQUARE = 41.84**2  # (kcal/mol/Å)² in (kJ/mol/nm)²
STARTS = ("hairpin", "extended")
# Distances between the alpha carbons of residues 1 and 10, and of 3 and 8, nm: both ends of the hairpin.
ENDS = [(0, 9), (2, 7)]
BASINS = {
    "folded": [(0.0, 0.75), (0.0, 0.75)],
    "misfolded": [(0.75, 1.2), (0.0, 0.9)],
    "unfolded": [(0.0, 9.0), (0.0, 9.0)],  # the rest, since the first region counts
}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    nanoseconds: float = 10.0  # of each run of the atoms
    interval: float = 1.0  # ps from frame to frame
    equilibration: float = 20.0  # ps
    folds: int = 5
    channels: int = 64
    blocks: int = 2
    epochs: int = 15
    batch_size: int = 256
    replicas: int = 100
    cg_duration: float = 200.0  # ps, of each replica
    lag: float = 20.0  # ps
    noise_trials: int = 5
    bins: int = 40

    @property
    def frames(self) -> int:
        """Of each run."""
        return round(1000 * self.nanoseconds / self.interval)


FULL = Size()
QUICK = Size(
    nanoseconds=0.004,
    interval=0.04,
    equilibration=0.4,
    folds=2,
    channels=16,
    blocks=1,
    epochs=3,
    batch_size=32,
    replicas=8,
    cg_duration=4.0,
    lag=0.4,
    noise_trials=1,
    bins=8,
)


def all_atom_frames(size: Size, directory: Path):
    """Positions and forces of the atoms and of the beads, in a file for each start."""
    beads, files, noise = None, {}, {}
    for start in STARTS:
        peptide = chignolin(conformation=start, hydrogen_mass=3.0)
        atoms = directory / f"all_atom_{start}.h5md"
        sample(
            peptide.system,
            peptide.topology,
            peptide.positions,
            atoms,
            frames=size.frames,
            interval=size.interval,
            equilibration=size.equilibration,
            temperature=TEMPERATURE,
            time_step=0.004,
            seed=STARTS.index(start),
        )
        if beads is None:
            carbons = [atom for atom in peptide.topology.atoms() if atom.name == "CA"]
            kinds = [atom.residue.name for atom in carbons]
            kinds[0], kinds[-1] = f"N-{kinds[0]}", f"C-{kinds[-1]}"
            beads = Mapping.slice(peptide.topology, [atom.index for atom in carbons], types=kinds)
            beads = beads.with_bonds([(i, i + 1) for i in range(len(carbons) - 1)])
        with Frames(atoms) as source:
            known = source.select(range(0, len(source) // 2))
            unseen = source.select(range(len(source) // 2, len(source)))
            if not noise:
                best = optimal_force_map(beads, known.forces, system=peptide.system)
                noise = {
                    name: float(mean_square_force(force_map, unseen.forces).mean())
                    for name, force_map in {
                        "slice": constraint_aware_force_map(beads, peptide.system),
                        "optimal": best,
                    }.items()
                }
                beads = best
            files[start] = directory / f"beads_{start}.h5md"
            map_frames(source, beads, files[start])
    return beads, files, noise


def train(size: Size, files: dict[str, Path], directory: Path, types: int):
    """CGSchNets with priors, one for each fold of the frames of both files."""
    torch.set_num_threads(1)
    network = SchNet(
        types=types,
        channels=size.channels,
        blocks=size.blocks,
        seed=1,
        cutoff=1.5,  # nm
        activation="tanh",
        basis_size=40,
        basis_start=0.3,
        neighbors=9.0,
        energy_scale=2.0,
    )
    matching = ForceMatching(
        network,
        [HarmonicBonds.from_frames, HarmonicAngles.from_frames, Repulsion.from_frames],
        learning_rate=2e-3,
        batch_size=size.batch_size,
        epochs=size.epochs,
    )
    return cross_validate(matching, list(files.values()), directory / "training", folds=size.folds)


def simulate(size: Size, ensemble: Ensemble, beads: Mapping, files: dict[str, Path], directory: Path):
    """Copies of the coarse-grained miniprotein, from frames of both runs of the atoms."""
    starts = []
    for file in files.values():
        with Frames(file) as source:
            chosen = np.linspace(0, len(source) - 1, size.replicas // len(files)).astype(int)
            starts.append(source.positions[chosen])
    types = [beads.type_names[kind] for kind in beads.types]
    system = ensemble.create_system(beads.topology(), types=types, remove_center_of_mass_motion=False)
    return run(
        system,
        np.concatenate(starts),
        None,
        directory / "coarse_grained.h5md",
        duration=size.cg_duration,
        interval=size.cg_duration / 100,
        equilibration=size.cg_duration / 20,
        time_step=0.004,
        temperature=TEMPERATURE,
        friction=2.0,
    )


def some_of_each_basin(runs, most: int = 10) -> dict[str, np.ndarray]:
    """Frames of the basins, from all over the runs."""
    frames = np.concatenate(runs)
    regions = assign_regions(distances(frames, ENDS), BASINS)
    found = {}
    for number, basin in enumerate(BASINS):
        there = np.flatnonzero(regions == number)
        found[basin] = frames[there[np.linspace(0, len(there) - 1, min(most, len(there))).astype(int)]]
    return found


def compare(size: Size, files: dict[str, Path], noise: dict, training, result, directory: Path) -> dict:
    """Both samples in slow coordinates, the report, and what goes into the summary."""
    atoms, copies = [], []
    for file in files.values():
        with Frames(file) as source:
            atoms.append(source.positions[:])
    for replica in result.replicas:
        with Frames(replica.path) as source:
            copies.append(source.positions[:])
    features = [distances(run) for run in atoms]
    slow = tica(features, size.lag, size.interval, dimensions=2)

    def coordinates(positions):
        return slow.transform(distances(positions))

    reached = np.concatenate([slow.transform(run) for run in features])
    low, high = reached.min(0), reached.max(0)
    edges = [np.linspace(a - 0.1 * (b - a), b + 0.1 * (b - a), size.bins + 1) for a, b in zip(low, high, strict=True)]
    curve = noise_curve(
        atoms, coordinates, edges, sigma=np.arange(0, 31) * 3e-3, trials=size.noise_trials
    )  # up to 0.90 Å
    model = histogram([coordinates(run) for run in copies], edges)
    equivalents = {
        "kl_divergence": curve.equivalent(model, kl_divergence),
        "mean_squared_difference": curve.equivalent(model, mean_squared_difference),
    }
    cg_interval = size.cg_duration / 100
    cg_lag = max(1, round(size.lag / cg_interval)) * cg_interval
    scales = {
        "all-atom": tica_timescales(features, [size.lag], size.interval, number=1),
        "coarse-grained": tica_timescales([distances(run) for run in copies], [cg_lag], cg_interval, number=1),
    }
    longest = {
        "all-atom": scales["all-atom"].longest(size.lag),
        "coarse-grained": scales["coarse-grained"].longest(cg_lag),
    }
    samples = {"hairpin": [atoms[0]], "extended": [atoms[1]], "coarse-grained": copies}
    populations = {
        name: basin_populations([assign_regions(distances(run, ENDS), BASINS) for run in runs], list(BASINS))
        for name, runs in samples.items()
    }
    conformations = {
        f"{basin}, {name}": frames
        for name, runs in {"all-atom": atoms, "coarse-grained": copies}.items()
        for basin, frames in some_of_each_basin(runs).items()
    }
    summary = {
        "nanoseconds_of_atoms": size.nanoseconds * len(STARTS),
        "mean_square_force_kcal_mol_A": {name: value / SQUARE for name, value in noise.items()},
        "cross_validation": training.summary(),
        "noise_equivalent": {name: {**asdict(value), "text": str(value)} for name, value in equivalents.items()},
        "populations": {
            name: dict(zip(value.names, value.value.tolist(), strict=True)) for name, value in populations.items()
        },
        "longest_time_scale_ps": longest,
        "time_scale_factor": timescale_factor(longest["all-atom"], longest["coarse-grained"]),
        "nanoseconds_per_day": result.nanoseconds_per_day,
        "temperature_K": result.mean_temperature,
        "stable": result.stable,
    }
    maps = {"all-atom": curve.reference, "coarse-grained": model, "noise of 0.3 Å": curve.at(0.03)}
    rows = [
        (name, *(f"{100 * values.value[i]:.1f} ± {100 * values.error[i]:.1f}" for values in populations.values()))
        for i, name in enumerate(BASINS)
    ]
    header = ("basin (%)", "atoms from hairpin", "atoms from strand", "coarse-grained")
    report = Report("Coarse-grained chignolin")
    report.text(
        f"Two runs of the atoms, {size.nanoseconds:g} ns each, too short for folding: they do not hold the equilibrium "
        "between folded and unfolded, so the populations below are those of what was visited, and the free energies "
        f"compare shapes of basins. {len(copies)} copies of {size.cg_duration:g} ps of the beads."
    )
    report.text(training.table())
    report.figure(figures.free_energy_maps(maps, ("slow 1", "slow 2")), "Free energies in slow coordinates, k_B T.")
    report.table(header, rows)
    bonds = [(bead, bead + 1) for bead in range(atoms[0].shape[1] - 1)]
    report.figure(figures.structures(conformations, bonds), "Conformations of each basin, superposed.")
    report.figure(figures.noise_curves(curve, {"CGSchNet": model}), "The reference against itself with noise.")
    for name, value in equivalents.items():
        report.text(f"Noise-equivalent σ by {name.replace('_', ' ')}: {value}")
    report.text(
        "Longest time scale of TICA: "
        + ", ".join(f"{name} {value:.0f} ± {error:.0f} ps" for name, (value, error) in longest.items())
    )
    report.write(directory / "report.html")
    print(training.table())
    for row in [header, *rows]:
        print("  ".join(cell.ljust(20) for cell in row))
    for name, value in equivalents.items():
        print(f"noise-equivalent σ, {name.replace('_', ' ')}: {value}")
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("chignolin"), help="where everything is written")
    parser.add_argument("--nanoseconds", type=float, help="of each of the two runs of the atoms")
    parser.add_argument("--quick", action="store_true", help="a minute's worth, to see that it runs")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    if arguments.nanoseconds is not None:
        size = replace(size, nanoseconds=arguments.nanoseconds)
    directory = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    beads, files, noise = all_atom_frames(size, directory)
    training = train(size, files, directory, len(beads.type_names))
    result = simulate(size, Ensemble(training.potentials), beads, files, directory)
    summary = compare(size, files, noise, training, result, directory)
    (directory / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"report: {directory / 'report.html'}")


if __name__ == "__main__":
    main()
