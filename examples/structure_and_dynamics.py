"""Coarse-grained liquids with the structure, the pressure and the diffusion of the atoms.

    python examples/structure_and_dynamics.py --directory liquids

For each liquid, SPC/E water, five-site methane and argon: all-atom frames and dynamics; a GNN with a C12 repulsion that
is fitted to the radial distribution through trajectories of its own, and a PaiNN that is matched to forces and then
goes on to the radial distribution; an energy of the volume that gives the atoms' pressure; and a landscape of high
frequency, or a friction, with which beads diffuse as the atoms do. Every step goes on where it was when the script is
run again. The report is `report.html`, with figures like 4 and 5 of "Achieving dynamic accuracy in machine-learned CG
potentials by modulating potential energy landscape"; its numbers are in `summary.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from openmmcg.analysis import Report, radial_distribution
from openmmcg.analysis.autocorrelation import autocorrelation
from openmmcg.constants import GAS_CONSTANT, GRAM_PER_CUBIC_CENTIMETER
from openmmcg.fitting import (
    DiffusionMatching,
    ForceMatching,
    Friction,
    Landscape,
    PairDistances,
    PressureMatching,
    RelativeEntropy,
    TrajectoryMatching,
    force_rmse,
)
from openmmcg.fitting.dynamics import displacement
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, cg_topology, map_frames
from openmmcg.potentials import GNN, CGPotential, HighFrequency, LennardJones, PaiNN
from openmmcg.potentials.priors import shortest_distances
from openmmcg.reference import argon_box, methane_box, sample, water_box
from openmmcg.simulation import read_log, run
from openmmcg.simulation.landscape import longest_time_step

KCAL_PER_MOL_PER_ANGSTROM = 41.84


@dataclass(frozen=True)
class Liquid:
    """A liquid of molecules of one kind, each a bead.

    `compressibility` is of the experiment, 1/bar; `steps` are time steps, ps, of the atoms and of the beads.
    """

    name: str
    box: Callable[[int], object]
    temperature: float
    compressibility: float
    steps: tuple[float, float]
    stretch: float = 1.0  # of all times, with that of a molecule's motion


LIQUIDS = {
    "water": Liquid("SPC/E water", lambda n: water_box("spce", molecules=n), 300.0, 4.6e-5, (0.002, 0.002)),
    "methane": Liquid("methane", lambda n: methane_box(n), 111.7, 1.5e-4, (0.001, 0.002)),
    "argon": Liquid("argon", lambda n: argon_box(n), 94.4, 2.1e-4, (0.004, 0.004), 2.0),
}


@dataclass(frozen=True)
class Size:
    """How much of everything; times in ps."""

    molecules: int = 512
    training_frames: int = 100
    validation_frames: int = 10
    unseen_frames: int = 30
    interval: float = 1.0
    equilibration: float = 20.0
    motion: float = 200.0  # of the run from which the atoms' diffusion is taken
    window: tuple[float, float] = (2.0, 10.0)
    epochs: int = 30
    iterations: tuple[int, int] = (30, 8)  # from scratch, and from where force matching ended
    fit: float = 20.0
    pressure: float = 40.0
    diffusion: float = 100.0
    held: float = 200.0  # under a barostat
    relative_entropy: int = 10
    wavenumbers: tuple[float, ...] = (100.0, 200.0, 300.0, 500.0, 700.0, 1000.0, 1500.0)
    amplitudes: tuple[float, ...] = (0.5, 1.0, 1.5)  # of that which is found
    searches: int = 8


FULL = Size()
QUICK = Size(
    molecules=216,
    training_frames=12,
    validation_frames=2,
    unseen_frames=4,
    interval=0.2,
    equilibration=1.0,
    motion=8.0,
    window=(0.5, 1.0),
    epochs=2,
    iterations=(1, 1),
    fit=1.0,
    pressure=1.0,
    diffusion=4.0,
    held=1.0,
    relative_entropy=1,
    wavenumbers=(500.0,),
    amplitudes=(1.0,),
    searches=1,
)


class Fit:
    """All steps for one liquid, in a folder of its own."""

    def __init__(self, liquid: Liquid, size: Size, folder: Path, report: Report) -> None:
        self.liquid, self.size, self.folder, self.report = liquid, size, folder, report
        folder.mkdir(parents=True, exist_ok=True)
        self.beads, self.moving = folder / "beads.h5md", folder / "beads_moving.h5md"
        self.known = slice(0, size.training_frames + size.validation_frames)
        self.unseen = slice(size.training_frames + size.validation_frames, None)
        self.summary: dict[str, object] = {}
        self.settings = {"temperature": liquid.temperature, "time_step": liquid.steps[0]}

    def atoms(self) -> None:
        """Frames with forces and pressures for structure, and a run under a Nosé-Hoover chain for dynamics."""
        size, liquid = self.size, self.liquid
        box = liquid.box(size.molecules)
        # One type of bead: every molecule is the same.
        mapping = Mapping.center_of_mass(box.topology, names=["B"] * size.molecules)
        still, moving = self.folder / "atoms.h5md", self.folder / "atoms_moving.h5md"
        sample(
            box.system, box.topology, box.positions, still, frames=self.known.stop + size.unseen_frames,
            interval=size.interval, equilibration=size.equilibration, pressures=True, **self.settings,
        )  # fmt: skip
        with Frames(still) as frames:
            start, vectors = frames.positions[-1], np.asarray(frames.boxes[-1])
        run(
            box.system, start, vectors, moving, duration=size.motion * liquid.stretch, interval=0.1,
            thermostat="Nose-Hoover", types=[0] * box.system.getNumParticles(), type_names=["atom"], **self.settings,
        )  # fmt: skip
        for source, target in ((still, self.beads), (moving, self.moving)):
            with Frames(source) as frames:
                map_frames(frames, mapping, target)
        self.vectors = vectors
        self.pressure = float(np.mean(read_log(still)["pressure_bar"]))
        self.topology = cg_topology(["B"] * size.molecules, vectors)
        self.atoms_msd = displacement([self.moving], self.window[1], progress=False)
        self.atoms_diffusion = self.atoms_msd.diffusion(*self.window)
        with Frames(self.beads) as frames:
            self.maximum = min(1.0, 0.499 * float(np.diagonal(vectors).min()))
            self.g = radial_distribution(frames.positions, frames.boxes, maximum=self.maximum, progress=False)
            mass = float(np.sum(frames.masses))
        self.density = mass / float(np.linalg.det(vectors)) / GRAM_PER_CUBIC_CENTIMETER
        self.summary["atoms"] = {
            "pressure_bar": self.pressure,
            "density_g_cm3": self.density,
            "diffusion_1e-5_cm2_s": [1e3 * each for each in self.atoms_diffusion],
        }

    @property
    def window(self) -> tuple[float, float]:
        first, last = self.size.window
        return first * self.liquid.stretch, last * self.liquid.stretch

    def difference(self, path: Path) -> float:
        """Mean |Δg| from 2 to 10 Å between beads and atoms."""
        with Frames(path) as frames:
            boxes = np.broadcast_to(self.vectors, (len(frames), 3, 3))
            found = radial_distribution(frames.positions, boxes, maximum=self.maximum, progress=False)
        return found.mean_absolute_difference(self.g, 0.2, self.maximum)

    def measured(self, name: str, potential: CGPotential) -> dict[str, float]:
        """Structure of a run that took no part in a fit, and the error of the forces on unseen frames."""
        path = self.folder / f"{name}.h5md"
        with Frames(self.beads) as frames:
            start = frames.positions[-1]
        system = potential.create_system(self.topology)
        result = run(
            system, start, self.vectors, path, duration=2 * self.size.fit, interval=0.2,
            equilibration=self.size.fit / 2, time_step=self.liquid.steps[1], temperature=self.liquid.temperature,
        )  # fmt: skip
        rmse = force_rmse(potential, self.beads, frames=self.unseen) / KCAL_PER_MOL_PER_ANGSTROM
        found = {
            "mean_abs_difference_of_g": self.difference(path),
            "force_rmse_kcal_mol_A": float(rmse),
            "temperature_K": result.mean_temperature,
            "ns_per_day": result.nanoseconds_per_day,
        }
        self.summary[name] = found
        return found

    def structure(self) -> dict[str, CGPotential]:
        """The two networks."""
        size, step = self.size, self.liquid.steps[1]
        thermal = GAS_CONSTANT * self.liquid.temperature
        options = {"duration": size.fit, "interval": 0.2, "time_step": step}
        with Frames(self.beads) as frames:
            shortest = float(np.asarray(shortest_distances(frames, 0.6))[0, 0])
        core = LennardJones([[thermal * shortest**12]], None, 0.6)
        entropy = RelativeEntropy([core], iterations=size.relative_entropy, **options)
        repulsion = entropy.fit(self.beads, self.folder / "c12", frames=self.known).potential
        observable = PairDistances(maximum=self.maximum, bin_width=0.01)
        priors = repulsion.priors
        scratch = TrajectoryMatching(
            GNN(types=1, channels=16, blocks=2, cutoff=0.6), [observable], priors=priors,
            iterations=size.iterations[0], **options,
        )  # fmt: skip
        gnn = scratch.fit(self.beads, self.folder / "gnn", frames=self.known).potential
        network = PaiNN(
            types=1, channels=32, blocks=1, seed=1, cutoff=0.7, activation="tanh", basis_size=24, basis_start=0.2
        )
        fraction = size.validation_frames / self.known.stop
        matching = ForceMatching(network, priors, epochs=size.epochs, learning_rate=6e-3, validation_fraction=fraction)
        matched = matching.fit(self.beads, self.folder / "forces", frames=self.known).potential
        network.load_state_dict(matched.network.state_dict())
        onwards = TrajectoryMatching(network, [observable], priors=priors, iterations=size.iterations[1], **options)
        painn = onwards.fit(self.beads, self.folder / "painn", frames=self.known).potential
        potentials = {"C12 alone": repulsion, "PaiNN, forces": matched, "GNN": gnn, "PaiNN": painn}
        rows = []
        for name, potential in potentials.items():
            found = self.measured(name.replace(", ", "_").replace(" ", "_"), potential)
            rows.append((name, *(f"{value:.4g}" for value in found.values())))
        self.report.table(("", "mean |Δg|", "force RMSE (kcal/mol/Å)", "temperature (K)", "ns/day"), rows)
        return {"GNN": gnn, "PaiNN": painn}

    def pressured(self, name: str, potential: CGPotential) -> CGPotential:
        """The potential with the atoms' pressure, and how it keeps the density at 1 bar."""
        size, step = self.size, self.liquid.steps[1]
        matching = PressureMatching(
            compressibility=self.liquid.compressibility, duration=size.pressure, interval=0.2, time_step=step
        )
        folder = self.folder / f"{name}_pressure"
        result = matching.fit(potential, self.beads, folder, pressures=self.folder / "atoms.h5md", frames=self.known)
        with Frames(self.beads) as frames:
            start = frames.positions[-1]
        held = run(
            result.potential.create_system(self.topology), start, self.vectors, self.folder / f"{name}_held.h5md",
            duration=size.held, interval=0.2, time_step=step, temperature=self.liquid.temperature,
            ensemble="NPT", pressure=1.0,
        )  # fmt: skip
        # What the atoms would have at 1 bar.
        wanted = self.density * (1 - (self.pressure - 1.0) * self.liquid.compressibility)
        self.summary[f"{name} pressure"] = {
            **result.summary(),
            "density_at_1_bar": [held.mean_density, held.density_error],
            "wanted": wanted,
        }
        self.report.table(
            ("", "without correction", "with", "atoms"),
            [
                ("pressure (bar)", f"{result.beads[0]:.0f}", f"{result.pressures[0]:.0f}", f"{self.pressure:.0f}"),
                (
                    "density at 1 bar (g/cm³)",
                    "",
                    f"{held.mean_density:.4f} ± {held.density_error:.4f}",
                    f"{wanted:.4f}",
                ),
            ],
        )
        return result.potential

    def slowed(self, name: str, potential: CGPotential) -> None:
        """Diffusion by a landscape and by a friction, and the figures."""
        size, stretch = self.size, self.liquid.stretch
        options = {
            "window": self.window,
            "duration": size.diffusion * stretch,
            "iterations": size.searches,
            "interval": 0.1,
        }
        curves = {"atoms": self.atoms_msd}
        found = {}
        for brake in (Landscape(wavenumber=1000.0, cutoff=0.6), Friction()):
            fit = DiffusionMatching(brake, **options)
            folder = self.folder / f"{name}_{brake.name}"
            found[brake.name] = fit.fit(
                potential, self.beads, folder, diffusion=self.atoms_diffusion, frames=self.known
            )
            curves[f"beads, {brake.name}"] = found[brake.name].mean_squared_displacement
            self.summary[f"{name} {brake.name}"] = found[brake.name].summary()
            self.report.text(f"{name}, {brake.name}: {found[brake.name].verdict}")
        self.report.figure(
            self._displacements(name, curves), f"{name}: mean squared displacement, and that by the atoms'."
        )
        landscape = found["amplitude"]
        if landscape.value:
            self._scan(name, potential, landscape.value)
        self._velocities(name, potential, found)

    def _displacements(self, name: str, curves: dict) -> Figure:
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        atoms = curves["atoms"]
        for label, curve in curves.items():
            number = min(len(curve.time), len(atoms.time))
            left.loglog(curve.time[1:], curve.value[1:], label=label)
            right.semilogx(curve.time[1:number], curve.value[1:number] / atoms.value[1:number], label=label)
        left.set(xlabel="time (ps)", ylabel="mean squared displacement (nm²)")
        right.set(xlabel="time (ps)", ylabel="that of the atoms = 1")
        left.legend(frameon=False)
        self.summary[f"{name} mean squared displacement"] = {
            label: [
                float(np.interp(t, curve.time, curve.value) / np.interp(t, atoms.time, atoms.value))
                for t in (0.1, 0.3, 1.0, 3.0, self.window[1])
            ]
            for label, curve in curves.items()
        }
        return figure

    def _short_run(self, potential: CGPotential, path: Path, time_step: float, duration: float, **options):
        with Frames(self.beads) as frames:
            start = frames.positions[-1]
        system = potential.create_system(self.topology, remove_center_of_mass_motion=False)
        defaults = {"interval": 0.1, "thermostat": "Nose-Hoover"}
        return run(
            system, start, self.vectors, path, duration=duration, equilibration=duration / 5, time_step=time_step,
            temperature=self.liquid.temperature, **{**defaults, **options},
        )  # fmt: skip

    def _step_for(self, potential: CGPotential, interval: float = 0.1) -> float:
        with Frames(self.beads) as frames:
            start = frames.positions[-1]
        longest = longest_time_step(potential.create_system(self.topology), start, self.vectors)
        return interval / np.ceil(interval / min(0.002, longest or 0.002) - 1e-9)

    def _scan(self, name: str, potential: CGPotential, amplitude: float) -> None:
        """Structure against the wavenumber at this amplitude, and diffusion against the amplitude."""
        size = self.size
        by_wavenumber, by_amplitude = [], []
        for wavenumber in size.wavenumbers:
            slow = potential.with_priors([HighFrequency(amplitude, wavenumber, 0.6)])
            path = self.folder / f"{name}_wavenumber_{wavenumber:g}.h5md"
            result = self._short_run(slow, path, self._step_for(slow), size.fit)
            by_wavenumber.append((wavenumber / 10, self.difference(path), result.mean_temperature))
        for share in size.amplitudes:
            slow = potential.with_priors([HighFrequency(share * amplitude, 1000.0, 0.6)])
            path = self.folder / f"{name}_amplitude_{share:g}.h5md"
            duration = size.diffusion / 2 * self.liquid.stretch
            result = self._short_run(slow, path, self._step_for(slow), duration)
            constant, error = displacement([path], self.window[1], progress=False).diffusion(*self.window)
            by_amplitude.append(
                (share * amplitude, 1e3 * constant, 1e3 * error, self.difference(path), result.mean_temperature)
            )
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(*np.array(by_wavenumber).T[:2], "o-")
        left.set(xlabel="wavenumber (1/Å)", ylabel="mean |Δg|")
        columns = np.array(by_amplitude).T
        right.errorbar(columns[0], columns[1], columns[2], fmt="o-")
        right.axhline(1e3 * self.atoms_diffusion.constant, color="black")
        right.set(xlabel="amplitude (kJ/mol nm²)", ylabel="D (1e-5 cm²/s)", yscale="log")
        self.report.figure(
            figure, f"{name}: structure against ω at the amplitude found, diffusion against A at ω = 100 Å⁻¹."
        )
        self.summary[f"{name} scan"] = {
            "wavenumber_1_A, mean_abs_difference_of_g, temperature_K": by_wavenumber,
            "amplitude, diffusion, error, mean_abs_difference_of_g, temperature_K": by_amplitude,
        }

    def _velocities(self, name: str, potential: CGPotential, found: dict) -> None:
        """Velocity autocorrelation, by differences of positions 0.02 ps apart."""
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.subplots()
        runs = {"beads": (potential, {})}
        if found["amplitude"].value:
            runs["landscape"] = (found["amplitude"].potential, {})
        if found["friction"].value:
            runs["friction"] = (potential, {"thermostat": "Langevin", "friction": found["friction"].value})
        for label, (each, options) in runs.items():
            path = self.folder / f"{name}_velocities_{label}.h5md"
            self._short_run(
                each, path, self._step_for(each, 0.02), max(2.0, self.size.fit / 2), interval=0.02, **options
            )
            with Frames(path) as frames:
                velocities = np.diff(np.asarray(frames.positions[:], float), axis=0) / 0.02
            curve = autocorrelation(velocities.reshape(len(velocities), -1))
            axes.plot(0.02 * np.arange(min(50, len(curve))), curve[:50], label=label)
        axes.axhline(0, color="0.8", zorder=0)
        axes.set(xlabel="time (ps)", ylabel="velocity autocorrelation")
        axes.legend(frameon=False)
        self.report.figure(figure, f"{name}: velocity autocorrelation of the beads.")

    def go(self) -> dict[str, object]:
        self.report.section(self.liquid.name)
        self.atoms()
        for name, potential in self.structure().items():
            corrected = self.pressured(name, potential)
            self.slowed(name, corrected)
        return self.summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("liquids"), help="where everything is written")
    parser.add_argument("--liquids", nargs="+", choices=LIQUIDS, default=list(LIQUIDS))
    parser.add_argument("--molecules", type=int, help="in a box")
    parser.add_argument("--quick", action="store_true", help="some minutes' worth, to see that it runs")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)  # one frame is too little to share
    size = QUICK if arguments.quick else FULL
    if arguments.molecules:
        size = replace(size, molecules=arguments.molecules)
    report = Report("Structure, pressure and dynamics of coarse-grained liquids")
    summary = {name: Fit(LIQUIDS[name], size, arguments.directory / name, report).go() for name in arguments.liquids}
    report.write(arguments.directory / "report.html")
    (arguments.directory / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"report: {arguments.directory / 'report.html'}")


if __name__ == "__main__":
    main()
