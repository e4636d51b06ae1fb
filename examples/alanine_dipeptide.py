"""Capped alanine from all-atom forces to free energies: sample, map, train by cross-validation, simulate, compare.

    python examples/alanine_dipeptide.py --directory alanine

Capped alanine ("alanine dipeptide") in implicit solvent becomes the six beads C-[N-CA(CB)-C]-N of Husic et al.,
J. Chem. Phys. 153, 194101 (2020). A network learns the mean forces beyond harmonic bonds and angles and a repulsion,
once for each fold of the frames: a PaiNN, or with `--network` the paper's CGSchNet or CGnet. The mean force of these
networks drives a hundred copies that start all over the Ramachandran plane, and the free energy of the dihedrals is
compared with that of the atoms, by the noise-equivalent σ. Every step writes into the directory and goes on where it
was when the script is run again. The report at the end is `report.html`, its figures are in `summary.json`. `--quick`
is a minute's worth of everything.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from openmmcg.analysis import (
    Histogram,
    NoiseCurve,
    NoiseEquivalent,
    Report,
    assign_regions,
    backbone_dihedrals,
    basin_populations,
    dihedral_edges,
    dihedrals,
    figures,
    histogram,
    kl_divergence,
    mean_squared_difference,
    noise_curve,
)
from openmmcg.fitting import ForceMatching, cross_validate
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, constraint_aware_force_map, map_frames, mean_square_force, optimal_force_map
from openmmcg.potentials import CGnet, CGPotential, Ensemble, HarmonicAngles, HarmonicBonds, PaiNN, Repulsion, SchNet
from openmmcg.reference import capped_alanine, sample
from openmmcg.simulation import run

TEMPERATURE = 300.0
SQUARE = 41.84**2  # (kcal/mol/Å)² in (kJ/mol/nm)²
BEADS = [("ACE", "C"), ("ALA", "N"), ("ALA", "CA"), ("ALA", "CB"), ("ALA", "C"), ("NME", "N")]
# φ and ψ in radians; an interval from a higher to a lower value goes through ±π.
BASINS = {
    "right-handed helix": [(-3.0, 0.0), (-2.0, 0.9)],
    "extended": [(2.6, 0.0), (0.9, -2.0)],
    "left-handed helix": [(0.0, 2.6), (-3.15, 3.15)],
}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    frames: int = 50_000
    interval: float = 1.0  # ps from frame to frame
    equilibration: float = 100.0  # ps
    folds: int = 5
    channels: int = 32
    epochs: int = 10
    batch_size: int = 256
    replicas: int = 100
    cg_duration: float = 200.0  # ps, of each replica
    noise_trials: int = 5
    bins: int = 60


FULL = Size()
QUICK = Size(
    frames=400,
    interval=0.2,
    equilibration=1.0,
    folds=2,
    channels=16,
    epochs=3,
    batch_size=32,
    replicas=10,
    cg_duration=10.0,
    noise_trials=1,
    bins=12,
)


def bead_map(topology) -> Mapping:
    """The six beads."""
    places = {(atom.residue.name, atom.name): atom.index for atom in topology.atoms()}
    return Mapping.slice(topology, [places[bead] for bead in BEADS])


def all_atom_frames(size: Size, directory: Path):
    """Positions and forces of the atoms, and of the beads in two force maps."""
    peptide = capped_alanine("implicit")
    atoms = directory / "all_atom.h5md"
    sample(
        peptide.system,
        peptide.topology,
        peptide.positions,
        atoms,
        frames=size.frames,
        interval=size.interval,
        equilibration=size.equilibration,
        temperature=TEMPERATURE,
        platform="Reference",  # the fastest for so few atoms
    )
    beads = bead_map(peptide.topology)
    with Frames(atoms) as source:
        first_half = source.select(range(0, len(source) // 2, 2))
        second_half = source.select(range(len(source) // 2, len(source), 2))
        maps = {
            "slice": constraint_aware_force_map(beads, peptide.system),
            "optimal": optimal_force_map(beads, first_half.forces, system=peptide.system),
        }
        noise = {
            name: float(mean_square_force(force_map, second_half.forces).mean()) for name, force_map in maps.items()
        }
        for name, force_map in maps.items():
            map_frames(source, force_map, directory / f"beads_{name}.h5md")
    return beads, {name: directory / f"beads_{name}.h5md" for name in maps}, noise


def make_network(name: str, size: Size):
    """A network of this name, or what makes it from frames."""
    if name == "cgnet":
        return lambda frames: CGnet.from_frames(frames, channels=8 * size.channels, layers=2, seed=1)
    return {"painn": PaiNN, "cgschnet": SchNet}[name](
        types=4,
        channels=size.channels,
        blocks=2,
        seed=1,
        cutoff=1.2,  # nm, beyond the molecule's length: every bead sees every other
        activation="tanh",
        basis_size=32,
        basis_start=0.1,
        neighbors=5.0,
        energy_scale=2.0,
    )


def force_matching(network_name: str, size: Size) -> ForceMatching:
    """A network on top of harmonic bonds and angles and a repulsion."""
    torch.set_num_threads(1)  # batches of a small molecule are too little to share
    return ForceMatching(
        make_network(network_name, size),
        [HarmonicBonds.from_frames, HarmonicAngles.from_frames, Repulsion.from_frames],
        learning_rate=3e-3,
        batch_size=size.batch_size,
        epochs=size.epochs,
    )


def simulate(size: Size, potential: CGPotential | Ensemble, topology, beads: Path, path: Path):
    """Copies of the coarse-grained peptide, from all over the sampled Ramachandran plane."""
    with Frames(beads) as source:
        starts = source.positions[np.linspace(0, len(source) - 1, size.replicas).astype(int)]
    system = potential.create_system(topology, remove_center_of_mass_motion=False)
    return run(
        system,
        starts,
        None,
        path,
        duration=size.cg_duration,
        interval=min(2.0, size.cg_duration / 10),
        equilibration=size.cg_duration / 20,
        time_step=0.004,
        temperature=TEMPERATURE,
        friction=5.0,
    )


def ramachandran(beads: Mapping):
    """What finds φ and ψ in positions of the beads."""
    found = backbone_dihedrals(beads.topology())
    return partial(dihedrals, indices=np.concatenate([found.phi, found.psi]))


def noise_equivalents(curve: NoiseCurve, model: Histogram) -> dict[str, NoiseEquivalent]:
    """The noise-equivalent σ by both measures of the paper."""
    return {
        "kl_divergence": curve.equivalent(model, kl_divergence),
        "mean_squared_difference": curve.equivalent(model, mean_squared_difference),
    }


def compare(size: Size, beads: Mapping, mapped: Path, noise: dict, training, result, directory: Path) -> dict:
    """Both free energies, the report, and what goes into the summary."""
    angles = ramachandran(beads)
    edges = [dihedral_edges(size.bins)] * 2
    with Frames(mapped) as source:
        reference = source.positions[:]
    coarse = []
    for replica in result.replicas:
        with Frames(replica.path) as source:
            coarse.append(angles(source.positions[:]))
            times = source.times
    curve = noise_curve(reference, angles, edges, trials=size.noise_trials)
    model = histogram(coarse, edges)
    equivalents = noise_equivalents(curve, model)
    populations = {
        "all-atom": basin_populations(assign_regions(angles(reference), BASINS), list(BASINS)),
        "coarse-grained": basin_populations([assign_regions(copy, BASINS) for copy in coarse], list(BASINS)),
    }
    summary = {
        "mean_square_force_kcal_mol_A": {name: value / SQUARE for name, value in noise.items()},
        "cross_validation": training.summary(),
        "noise_equivalent": {name: {**asdict(value), "text": str(value)} for name, value in equivalents.items()},
        "populations": {
            name: dict(zip(value.names, value.value.tolist(), strict=True)) for name, value in populations.items()
        },
        "temperature_K": result.mean_temperature,
        "nanoseconds_per_day": result.nanoseconds_per_day,
        "stable": result.stable,
    }
    perturbed = {f"noise of {sigma:g} Å": curve.at(sigma / 10) for sigma in (0.1, 0.2, 0.3)}
    samples = {"all-atom": curve.reference, "coarse-grained": model, **perturbed}
    rows = [
        (name, *(f"{100 * values.value[i]:.1f} ± {100 * values.error[i]:.1f}" for values in populations.values()))
        for i, name in enumerate(BASINS)
    ]
    report = Report("Coarse-grained capped alanine")
    report.text(
        f"{size.frames * size.interval / 1000:g} ns of the atoms, {size.folds} networks, "
        f"{size.replicas} copies of {size.cg_duration:g} ps of the beads."
    )
    report.section("Forces")
    report.text(
        "Mean square of a force component on frames that the maps have not seen, (kcal/mol/Å)²: "
        + ", ".join(f"{name} map {value / SQUARE:.1f}" for name, value in noise.items())
        + ". Maps of the same beads differ in noise alone."
    )
    report.text(training.table())
    report.section("Free energies")
    report.figure(figures.free_energy_maps(samples, ("φ", "ψ"), degrees=True), "Free energies, k_B T.")
    for coordinate, name in enumerate("φψ"):
        curves = {label: sample.marginal(coordinate) for label, sample in samples.items()}
        report.figure(figures.free_energies(curves, name, degrees=True), f"Free energy of {name}.")
    report.table(("basin", "all-atom (%)", "coarse-grained (%)"), rows)
    report.figure(figures.noise_curves(curve, {"coarse-grained": model}), "The reference against itself with noise.")
    for name, value in equivalents.items():
        report.text(f"Noise-equivalent σ by {name.replace('_', ' ')}: {value}")
    series = {"φ": coarse[0][:, 0], "ψ": coarse[0][:, 1]}
    report.figure(figures.dihedral_series(times, series), "Dihedrals of one copy.")
    report.write(directory / "report.html")
    print(training.table())
    for row in [("basin", "all-atom (%)", "coarse-grained (%)"), *rows]:
        print("  ".join(cell.ljust(20) for cell in row))
    for name, value in equivalents.items():
        print(f"noise-equivalent σ, {name.replace('_', ' ')}: {value}")
    print(f"{result.nanoseconds_per_day:.0f} ns/day of all copies together, files included")
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("alanine"), help="where everything is written")
    parser.add_argument("--network", choices=("painn", "cgschnet", "cgnet"), default="painn")
    parser.add_argument("--quick", action="store_true", help="a minute's worth, to see that it runs")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    directory = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    beads, mapped, noise = all_atom_frames(size, directory)
    matching = force_matching(arguments.network, size)
    folder = directory / f"training_{arguments.network}"
    training = cross_validate(matching, mapped["optimal"], folder, folds=size.folds)
    ensemble = Ensemble(training.potentials)
    run_path = directory / f"coarse_grained_{arguments.network}.h5md"
    result = simulate(size, ensemble, beads.topology(), mapped["optimal"], run_path)
    summary = compare(size, beads, mapped["optimal"], noise, training, result, directory)
    (directory / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"report: {directory / 'report.html'}")


if __name__ == "__main__":
    main()
