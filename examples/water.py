"""From all-atom water to a coarse-grained liquid: sample, map, train, run, compare.

    python examples/water.py --directory demo

SPC/E water is simulated with OpenMM, every molecule becomes one bead at its centre of mass, a PaiNN with one block
learns the beads' mean forces (its vectors see the angles between neighbors), and the coarse-grained liquid is
simulated. Every step writes into the directory and goes on where it was when the script is run again. The report at the
end is `report.html`, its figures are in `summary.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from openmmcg.analysis import (
    Report,
    angle_distribution,
    figures,
    mean_squared_displacement,
    radial_distribution,
)
from openmmcg.fitting import ForceMatching, force_rmse
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, cg_topology, map_frames
from openmmcg.potentials import PaiNN, Repulsion
from openmmcg.reference import sample, time_per_step, water_box
from openmmcg.simulation import minimise, run

KCAL_PER_MOL_PER_ANGSTROM = 41.84  # kJ/mol/nm
TEMPERATURE = 300.0


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    molecules: int = 512
    training_frames: int = 100
    validation_frames: int = 10  # they decide which epoch is the best
    unseen_frames: int = 30
    interval: float = 1.0  # ps from frame to frame
    equilibration: float = 10.0  # ps
    channels: int = 32
    epochs: int = 30
    cg_duration: float = 100.0  # ps
    cutoff: float = 0.7  # nm

    @property
    def known_frames(self) -> int:
        """Frames that training sees, the first ones."""
        return self.training_frames + self.validation_frames


FULL = Size()
QUICK = Size(
    molecules=216,
    training_frames=12,
    validation_frames=2,
    unseen_frames=6,
    interval=0.2,
    equilibration=1.0,
    channels=16,
    epochs=3,
    cg_duration=2.0,
)


def all_atom_frames(size: Size, directory: Path):
    """Positions and forces of all atoms, and of the beads."""
    water = water_box("spce", molecules=size.molecules)
    mapping = Mapping.center_of_mass(water.topology, names=["W"] * size.molecules)
    atoms = directory / "all_atom.h5md"
    sample(
        water.system,
        water.topology,
        water.positions,
        atoms,
        frames=size.known_frames + size.unseen_frames,
        interval=size.interval,
        equilibration=size.equilibration,
        temperature=TEMPERATURE,
    )
    beads = directory / "beads.h5md"
    with Frames(atoms) as source:
        map_frames(source, mapping, beads)
    return water, beads


def train(size: Size, beads: Path, directory: Path):
    """A network with a repulsive prior, trained on the first frames."""
    torch.set_num_threads(1)  # one frame is too little to share
    with Frames(beads) as source:
        prior = Repulsion.from_frames(source)
    network = PaiNN(
        types=1,
        channels=size.channels,
        blocks=1,
        seed=1,
        cutoff=size.cutoff,
        activation="tanh",  # bounded, so that it stays sensible where there were no data
        basis_size=24,
        basis_start=0.2,
    )
    fitting = ForceMatching(
        network,
        [prior],
        epochs=size.epochs,
        learning_rate=6e-3,
        validation_fraction=size.validation_frames / size.known_frames,
    )
    matched = fitting.fit(beads, directory / "training", frames=slice(0, size.known_frames))
    matched.potential.save(directory / "water.pt")
    return matched


def simulate(size: Size, potential, beads: Path, directory: Path):
    """The coarse-grained liquid, from the last all-atom frame."""
    with Frames(beads) as source:
        start, box = source.positions[-1], source.boxes[-1]
    topology = cg_topology(["W"] * size.molecules, box)
    system = potential.create_system(topology)
    start = minimise(system, start, box)
    path = directory / "coarse_grained.h5md"
    result = run(
        system,
        start,
        box,
        path,
        duration=size.cg_duration,
        interval=0.2,
        equilibration=0.1 * size.cg_duration,
        temperature=TEMPERATURE,
    )
    return system, start, result


def compare(size: Size, water, system, start, matched, beads: Path, result, directory: Path) -> dict:
    """Measure both liquids, write the report, and return what goes into the summary."""
    unseen = slice(size.known_frames, None)
    rmse = force_rmse(matched.potential, beads, frames=unseen) / KCAL_PER_MOL_PER_ANGSTROM
    liquids = {"all-atom": beads, "coarse-grained": result.path}
    rdf, angles, msd = {}, {}, {}
    for name, path in liquids.items():
        with Frames(path) as frames:
            widths = np.diagonal(np.asarray(frames.boxes[0]))
            maximum = min(1.0, 0.499 * float(widths.min()))
            rdf[name] = radial_distribution(frames.positions, frames.boxes, maximum=maximum)
            angles[name] = angle_distribution(frames.positions, frames.boxes)
            msd[name] = mean_squared_displacement(frames.positions, frames.times)
    peaks = {name: curve.first_peak() for name, curve in rdf.items()}
    cg, atomistic = rdf["coarse-grained"], rdf["all-atom"]
    cg_time = time_per_step(system, start)
    all_atom_time = time_per_step(water.system, water.positions)
    stop = min(1.0, float(cg.distance[-1]))
    summary = {
        "force_rmse_kcal_mol_A": rmse,
        "rdf_first_peak_A": {
            "cg": 10 * peaks["coarse-grained"].position,
            "all_atom": 10 * peaks["all-atom"].position,
        },
        "rdf_first_peak_height": {"cg": peaks["coarse-grained"].height, "all_atom": peaks["all-atom"].height},
        "rdf_mean_abs_difference": cg.mean_absolute_difference(atomistic, 0.2, stop),
        "angle_distribution_difference": angles["coarse-grained"].difference(angles["all-atom"]),
        "temperature_K": result.mean_temperature,
        "cg_ms_per_step": cg_time.best,
        "cg_ns_per_day": 172.8 / cg_time.best,
        "all_atom_ms_per_step": all_atom_time.best,
        "cg_stable": result.stable,
        "training_seconds": matched.seconds,
    }
    peak, reference_peak = peaks["coarse-grained"], peaks["all-atom"]
    rows = [
        ("force RMSE on unseen frames (kcal/mol/Å)", f"{rmse:.3f}", "paper, SPC/E: 3.49 to 3.64"),
        (
            "RDF, first peak (Å)",
            f"{10 * peaks['coarse-grained'].position:.3f}",
            f"{10 * peaks['all-atom'].position:.3f}",
        ),
        ("RDF, height of the first peak", f"{peak.height:.3f}", f"{reference_peak.height:.3f}"),
        (f"RDF, mean |Δg| from 2 to {10 * stop:.0f} Å", f"{summary['rdf_mean_abs_difference']:.4f}", "0"),
        ("angles, total variation", f"{summary['angle_distribution_difference']:.4f}", "0"),
        ("temperature (K)", f"{result.mean_temperature:.2f} ± {result.temperature_error:.2f}", f"{TEMPERATURE:.0f}"),
        ("time per step (ms)", f"{cg_time.best:.3f}", f"{all_atom_time.best:.3f}"),
        ("speed at 2 fs (ns/day)", f"{172.8 / cg_time.best:.0f}", f"{172.8 / all_atom_time.best:.0f}"),
    ]
    columns = ("", "coarse-grained", "all-atom")
    report = Report("Coarse-grained water from SPC/E")
    report.text(
        f"{size.molecules} molecules, {size.training_frames} training frames, "
        f"{size.cg_duration:g} ps of the coarse-grained liquid."
    )
    report.table(columns, rows)
    report.figure(figures.radial_distributions(rdf), "Radial distribution of the molecules' centres of mass.")
    report.figure(figures.angle_distributions(angles), "Angles between neighbours within 4.5 Å.")
    report.figure(figures.mean_squared_displacements(msd), "Mean squared displacement; beads move faster.")
    report.write(directory / "report.html")
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(3)]
    for row in [columns, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("demo"), help="where everything is written")
    parser.add_argument("--quick", action="store_true", help="a minute's worth, to see that it runs")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    size = QUICK if arguments.quick else FULL
    directory = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    water, beads = all_atom_frames(size, directory)
    matched = train(size, beads, directory)
    system, start, result = simulate(size, matched.potential, beads, directory)
    summary = compare(size, water, system, start, matched, beads, result, directory)
    (directory / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"report: {directory / 'report.html'}")


if __name__ == "__main__":
    main()
