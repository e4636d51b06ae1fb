"""Energy conservation of a trained liquid: drift of the total energy at constant energy, with a figure.

    python benchmarks/nve_drift.py demo/training/potential.pt demo/beads.h5md --duration 200 --figure nve_drift.png

The liquid starts from the last frame, is brought to 300 K by the thermostat and then runs without it at 1 fs. The error
of the drift takes into account that successive energies resemble each other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from md_water import processor, versions

from openmmcg import CGPotential
from openmmcg.analysis import effective_samples
from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.simulation import minimise, read_log, run

GAS_CONSTANT = 0.00831446  # kJ/mol/K


def total_energy(potential: CGPotential, beads: Path, duration: float, threads: int | None, folder: Path):
    """Times (ps) and total energies (kJ/mol) of the run, and the number of beads."""
    with Frames(beads) as frames:
        start, box, names = frames.positions[-1], frames.boxes[-1], frames.names
    system = potential.create_system(cg_topology(names, box), remove_center_of_mass_motion=False)
    start = minimise(system, start, box)
    thermal = folder / "thermal.h5md"
    run(system, start, box, thermal, duration=10, interval=5, threads=threads)
    with Frames(thermal) as frames:
        start = frames.positions[-1]
    path = folder / "nve.h5md"
    run(
        system,
        start,
        box,
        path,
        duration=duration,
        interval=0.1,
        equilibration=1.0,
        time_step=0.001,
        ensemble="NVE",
        threads=threads,
    )
    log = read_log(path)
    return log["time_ps"], log["potential_energy_kJ_mol"] + log["kinetic_energy_kJ_mol"], len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("beads", type=Path, help="frames of the beads; the last one is the start")
    parser.add_argument("--duration", type=float, default=200.0, help="ps")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    with tempfile.TemporaryDirectory() as folder:
        times, energies, beads = total_energy(
            CGPotential.load(arguments.potential), arguments.beads, arguments.duration, arguments.threads, Path(folder)
        )
    per_bead = (energies - energies[0]) / (beads * GAS_CONSTANT * 300)  # k_B T per bead
    (slope, offset), covariance = np.polyfit(times / 1000, per_bead, 1, cov=True)
    residuals = per_bead - (slope * times / 1000 + offset)
    error = float(np.sqrt(covariance[0, 0] * len(residuals) / effective_samples(residuals)))
    print(f"drift {slope:.1e} ± {error:.1e} k_B T per bead per ns over {arguments.duration:g} ps, {beads} beads, 1 fs")
    if arguments.json:
        about = {"machine": processor(), "versions": versions()}
        result = {"drift_kT_per_bead_per_ns": slope, "error": error, "beads": beads, "duration_ps": arguments.duration}
        arguments.json.write_text(json.dumps({**about, **result}, indent=1))
    if arguments.figure:
        figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
        axes.plot(times, 1e4 * per_bead, linewidth=0.7, label="total energy")
        axes.plot(times, 1e4 * (slope * times / 1000 + offset), label=f"{slope:.1e} $k_BT$ per bead per ns")
        axes.set(xlabel="time (ps)", ylabel="10⁻⁴ $k_BT$ per bead", title=f"NVE, {beads} beads, 1 fs")
        axes.legend()
        figure.savefig(arguments.figure, dpi=120)


if __name__ == "__main__":
    main()
