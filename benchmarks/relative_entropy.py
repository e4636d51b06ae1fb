"""Relative entropy: a Lennard-Jones fluid's own parameters, and water's pair table beside Boltzmann inversion.

    python benchmarks/relative_entropy.py --json benchmarks/results/relative_entropy.json

The fluid is simulated with known parameters, and fitted from others. For SPC/E water, 512 molecules, a table of
energies of pairs up to 8 Å is fitted by relative entropy and by Boltzmann inversion with the same simulations; both
potentials then make a run of their own, whose g(r) is compared with that of the frames from 2 to 10 Å. Goes on where it
was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from md_water import processor, versions

from openmmcg.analysis import radial_distribution
from openmmcg.constants import GAS_CONSTANT
from openmmcg.fitting import BoltzmannInversion, RelativeEntropy
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, cg_topology, map_frames
from openmmcg.potentials import CGPotential, LennardJones, TabulatedPairs
from openmmcg.reference import sample, water_box
from openmmcg.simulation import run
from openmmcg.state import write_json

SIGMA, EPSILON = 0.3405, 0.996  # nm, kJ/mol
CUTOFF, KNOTS = 0.8, 41
SIMULATION = {"duration": 20.0, "interval": 0.2, "replicas": 2}


def lennard_jones(folder: Path, atoms: int, duration: float) -> dict:
    """Argon at 120 K, and its parameters back from (σ, ε) = (0.3, 0.6)."""
    cells = round(atoms ** (1 / 3))
    box = cells * 0.36 * np.eye(3)
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3), axis=-1).reshape(-1, 3) * 0.36
    exact = LennardJones.from_sigma_epsilon([SIGMA], [EPSILON], cutoff=0.85)
    potential = CGPotential(None, [("Ar", 39.95)], priors=[exact])
    frames = folder / "argon.h5md"
    run(
        potential.create_system(cg_topology(["Ar"] * len(grid), box)), grid, box, frames, duration=duration,
        interval=0.4, equilibration=20.0, time_step=0.004, temperature=120.0, types=[0] * len(grid),
        type_names=["Ar"],
    )  # fmt: skip
    start = LennardJones.from_sigma_epsilon([0.3], [0.6], cutoff=0.85)
    fit = RelativeEntropy([start], tolerance=1.0, duration=duration / 10, interval=0.4, time_step=0.004, replicas=2)
    result = fit.fit(frames, folder / "argon")
    found = {
        name: list(result.parameters[f"{name} 0-0 ({unit})"]) for name, unit in (("sigma", "nm"), ("epsilon", "kJ/mol"))
    }
    return {
        "atoms": len(grid),
        "frames": round(duration / 0.4),
        "simulations": len(result.gains),
        "steps": result.steps,
        "exact": {"sigma": SIGMA, "epsilon": EPSILON},
        **found,
    }


def water(folder: Path, duration: float) -> list[dict]:
    """A table for SPC/E, by both methods."""
    topology, system, positions = water_box("spce", molecules=512)
    atoms, beads = folder / "water.h5md", folder / "beads.h5md"
    sample(
        system, topology, positions, atoms, frames=round(duration / 0.5), interval=0.5, equilibration=10.0,
        temperature=300.0,
    )  # fmt: skip
    with Frames(atoms) as source:
        map_frames(source, Mapping.center_of_mass(topology, names=["W"] * 512), beads)
    with Frames(beads) as source:
        reference = radial_distribution(source.positions, source.boxes)
        start, box = source.positions[-1], source.boxes[-1]
    r = np.linspace(0, CUTOFF, KNOTS)
    g = np.interp(r, reference.distance, reference.g)
    first = int(np.argmax(g > 0.02))
    energies = np.zeros(KNOTS)
    energies[first:] = -GAS_CONSTANT * 300.0 * np.log(g[first:])
    energies[:first] = energies[first] + 8.0 * np.arange(first, 0, -1)
    table = TabulatedPairs({(0, 0): (energies - energies[-1]).tolist()}, CUTOFF)
    rows = []
    for name in ("relative entropy", "Boltzmann inversion"):
        place = folder / name.replace(" ", "_")
        if name == "relative entropy":
            result = RelativeEntropy([table], **SIMULATION).fit(beads, place)
            simulations, verdict, steps = len(result.gains), result.verdict, result.steps
        else:
            result = BoltzmannInversion(cutoff=CUTOFF, mean_difference=0.01, largest_difference=0.05, **SIMULATION).fit(
                beads, place
            )
            simulations, verdict = len(result.deviations), result.verdict
            steps = round(1.2 * SIMULATION["duration"] / 0.002) * SIMULATION["replicas"] * simulations
        path = folder / f"{place.name}.h5md"
        own = result.potential.create_system(cg_topology(["W"] * 512, box))
        run(own, start, box, path, duration=60.0, interval=0.3, equilibration=10.0, temperature=300.0)
        with Frames(path) as frames:
            found = radial_distribution(frames.positions, frames.boxes)
        rows.append(
            {
                "method": name,
                "simulations": simulations,
                "steps": steps,
                "mean |Δg|": found.mean_absolute_difference(reference, 0.2, 1.0),
                "largest |Δg|": float(np.abs(found.g - reference.g).max()),
                "verdict": verdict,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("relative_entropy"))
    parser.add_argument("--atoms", type=int, default=512)
    parser.add_argument("--fluid", type=float, default=2000.0, help="ps of the Lennard-Jones fluid")
    parser.add_argument("--water", type=float, default=100.0, help="ps of water; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    content: dict = {"machine": processor(), "versions": versions()}
    content["fluid"] = lennard_jones(arguments.directory, arguments.atoms, arguments.fluid)
    for name in ("sigma", "epsilon"):
        value, error = content["fluid"][name]
        exact = content["fluid"]["exact"][name]
        print(f"{name}: {value:.5f} ± {error:.5f}, exact {exact} ({100 * (value / exact - 1):+.2f} %)")
    if arguments.water:
        content["water"] = water(arguments.directory, arguments.water)
        for row in content["water"]:
            numbers = f"{row['simulations']} simulations, {row['steps']} steps, mean |Δg| {row['mean |Δg|']:.4f}"
            print(f"{row['method']}: {numbers}")
    if arguments.json:
        write_json(arguments.json, content)


if __name__ == "__main__":
    main()
