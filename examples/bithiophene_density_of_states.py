"""Bithiophene's density of states from beads alone: sample, label, learn p(E|R), invert, simulate, predict, compare.

    python examples/bithiophene_density_of_states.py --directory bithiophene

3',4-dipropyl-2,2'-bithiophene in the gas phase is sampled with MMFF94 and labelled with the energy of its highest
occupied orbital by GFN2-xTB. DKL-ECG (Maier & Jackson, "Bypassing backmapping") learns the distribution of that energy
given the centres of mass of a few beads; iterative Boltzmann inversion gives the beads a potential, OpenMM a
trajectory, and the predictions along it the density of states of the molecule, tails included, without its atoms. The
figures are those of the paper, 2 to 7, and how true the error bars are.

Every step writes into the directory and goes on where it was when the script is run again. The report at the end is
`report.html`, its figures are in `summary.json`. `--quick` is a minute's worth of everything.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from bithiophene_steps import (
    DIHEDRAL,
    FULL,
    QUICK,
    TEMPERATURE,
    Atoms,
    Held,
    Learned,
    Size,
    densities_of_states,
    divergences,
    hold,
    invert,
    learn,
    sample_atoms,
    simulate,
)

from openmmcg.analysis import Report, autocorrelation_time, dihedrals, effective_samples, on_circle
from openmmcg.electronic import (
    DensityOfStates,
    DKLTraining,
    Estimate,
    NoiseCurve,
    figures,
    noise_curves,
    shapiro_wilk,
)
from openmmcg.fitting import BoltzmannInversionResult
from openmmcg.fitting.boltzmann_inversion.figures import convergence, distributions
from openmmcg.frames import Frames
from openmmcg.reference import BITHIOPHENE_BEADS
from openmmcg.simulation import RunResult


def picture(size: Size, learned: Learned, atoms: Atoms, held: Held, directory: Path):
    """A latent space of two dimensions with the standard normal distribution, for figure 3."""
    labelled = np.isfinite(atoms.energies["train"])
    energies = atoms.energies["train"][labelled]
    with Frames(learned.files["train"]) as frames:
        positions = frames.positions[:][labelled]
    # With the paper's 1e-4 the places spread twice as far, along a line.
    training = DKLTraining(latent=2, latent_regularisation=1e-2, steps=size.steps).fit(
        positions, energies, bead_names=learned.mapping.names, folds=2, directory=directory
    )
    # Every fold has a latent space of its own.
    predictor = training.folds[0].predictor
    groups = {
        f"{angle:.1f}°": predictor.predict(each).latent for angle, each in zip(held.angles, held.positions, strict=True)
    }
    return figures.latent_space(predictor.predict(positions).latent, energies, groups=groups)


def memory(size: Size, atoms: Atoms) -> dict[str, float]:
    """How long dihedral and energy of the test frames remember, ps, and how many frames they are worth."""
    with Frames(atoms.files["test"]) as frames:
        angles = dihedrals(frames.positions, DIHEDRAL)[:, 0]
    slow = on_circle(angles).reshape(size.runs, size.frames, 2)
    found = {
        "dihedral_autocorrelation_time_ps": autocorrelation_time(*slow, interval=size.interval),
        "dihedral_effective_samples": effective_samples(*slow),
    }
    energies = atoms.energies["test"]
    if np.isfinite(energies).all():
        series = energies.reshape(size.runs, size.frames)
        found["homo_autocorrelation_time_ps"] = autocorrelation_time(*series, interval=size.interval)
        found["homo_effective_samples"] = effective_samples(*series)
    return found


def errors_of_clusters(maps: dict[int, Learned]) -> dict[str, NoiseCurve]:
    """Root mean square errors of predicted means and noises in clusters, and what sampling alone makes (figure 5)."""
    beads = np.array(sorted(maps), float)
    locals_ = [maps[int(number)].local for number in beads]
    weights = [local.samples / local.samples.sum() for local in locals_]

    def sampled(name: str) -> list[float]:
        return [np.sqrt(w @ getattr(local, name) ** 2) for w, local in zip(weights, locals_, strict=True)]

    curves = {
        "mean": [local.discrepancy()[0] for local in locals_],
        "noise": [local.discrepancy()[1] for local in locals_],
        "mean, by sampling alone": sampled("mean_error"),
        "noise, by sampling alone": sampled("noise_error"),
    }
    return {name: NoiseCurve(beads, np.array(values), np.zeros(len(beads))) for name, values in curves.items()}


def in_mev(found: dict[float, dict[str, Estimate]]) -> dict:
    """Noises and their errors by x and kind, as JSON can hold them."""
    return {
        f"{x:g}": {kind: [float(1e3 * value), float(1e3 * error)] for kind, (value, error) in row.items()}
        for x, row in found.items()
    }


@dataclass(frozen=True)
class Study:
    """Everything that was found."""

    size: Size
    atoms: Atoms
    maps: dict[int, Learned]
    by_temperature: dict[float, Learned]
    held: dict[int, Held]
    inversion: BoltzmannInversionResult
    result: RunResult

    @property
    def learned(self) -> Learned:
        return self.maps[self.size.beads]

    def noise_of_beads(self) -> dict[float, dict[str, Estimate]]:
        noises = {beads: each.noise(self.size.blocks) for beads, each in self.maps.items()}
        for beads, each in self.held.items():
            noises[beads]["beads held"] = each.noise()
        return noises

    def noise_of_temperature(self) -> dict[float, dict[str, Estimate]]:
        return {temperature: each.noise(self.size.blocks) for temperature, each in self.by_temperature.items()}


def summarise(study: Study, states: dict[str, DensityOfStates]) -> dict:
    """All numbers, as JSON can hold them."""
    learned, energies = study.learned, study.atoms.energies
    summary = {
        "size": asdict(study.size),
        "frames": {name: int(np.isfinite(each).sum()) for name, each in energies.items()},
        "failed_labels": int(sum(np.isnan(each).sum() for each in energies.values())),
        **memory(study.size, study.atoms),
        "scores": {"all folds": learned.scores.to_dict()}
        | {f"fold {number}": found.to_dict() for number, (_, found) in enumerate(learned.folds, start=1)},
        "noise_of_beads_meV": in_mev(study.noise_of_beads()),
        "noise_of_temperature_meV": in_mev(study.noise_of_temperature()),
        "inversion": study.inversion.summary(),
        "divergences_of_the_run": divergences(study.inversion, study.result),
        "density_of_states": {},
        "temperature_K": study.result.mean_temperature,
        "nanoseconds_per_day": study.result.nanoseconds_per_day,
        "stable": study.result.stable,
    }
    labels = states["labels"]
    for name, each in states.items():
        overlap, quantiles = each.overlap(labels), each.quantile([0.01, 0.99])
        summary["density_of_states"][name] = {
            "overlap": float(overlap.value),
            "overlap_error": float(overlap.error),
            "quantiles_eV": quantiles.value.tolist(),
            "quantile_errors_eV": quantiles.error.tolist(),
            "quantiles_less_those_of_labels_eV": (quantiles.value - labels.quantile([0.01, 0.99]).value).tolist(),
            "mean_eV": each.average,
            "standard_deviation_eV": each.spread,
        }
    return summary


def table_of_states(summary: dict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows, for the report and the screen."""
    rows = []
    for name, found in summary["density_of_states"].items():
        quantiles = zip(found["quantiles_eV"], found["quantile_errors_eV"], strict=True)
        rows.append(
            (
                name,
                f"{found['overlap']:.3f} ± {found['overlap_error']:.3f}",
                *(f"{value:.3f} ± {error:.3f}" for value, error in quantiles),
                f"{found['mean_eV']:.3f}",
                f"{found['standard_deviation_eV']:.3f}",
            )
        )
    return ("density of states", "overlap", "1 % (eV)", "99 % (eV)", "mean (eV)", "width (eV)"), rows


def show(summary: dict) -> None:
    columns, rows = table_of_states(summary)
    for row in [columns, *rows]:
        print("  ".join(cell.ljust(18) for cell in row))
    for name, found in summary["scores"].items():
        print(
            f"{name}: RMSE {1e3 * found['rmse']:.1f} meV, R² {found['r_squared']:.3f}, (E − μ)/σ "
            f"{found['standardised_deviation']:.2f}, {100 * found['coverage_68']:.0f} % in 68 % intervals"
        )
    for beads, row in sorted(summary["noise_of_beads_meV"].items(), key=lambda item: float(item[0])):
        print(f"{beads} beads: noise " + ", ".join(f"{kind} {value:.1f} meV" for kind, (value, _) in row.items()))
    inverted = [entry["best"] for entry in summary["inversion"]["divergences"].values()]
    own = list(summary["divergences_of_the_run"].values())
    for name, values in {"inversion": inverted, "copies' own run": own}.items():
        print(f"{name}: divergences of at most {max(values):.4f} bits, {np.mean(values):.4f} on average")
    print(f"temperature of the copies: {summary['temperature_K']:.0f} K")
    print(f"{summary['nanoseconds_per_day']:.0f} ns/day of all copies together, files included")


def write_report(study: Study, states: dict[str, DensityOfStates], summary: dict, directory: Path) -> None:
    """Figures like the paper's 2 to 7."""
    size, maps, held, inversion = study.size, study.maps, study.held, study.inversion
    truth, prediction = study.learned.energies, study.learned.prediction
    report = Report("Bithiophene's density of states from beads alone")
    report.text(
        f"{size.runs} runs of {size.frames * size.interval:g} ps for training and as many for testing, "
        f"{summary['frames']['train']} and {summary['frames']['test']} frames with labels of GFN2-xTB; {size.beads} "
        f"beads. For the dihedral between the rings the test frames are worth "
        f"{summary['dihedral_effective_samples']:.0f} independent ones: its sign, which has no part in the energy, "
        "is what changes slowly."
    )
    report.section("Density of states")
    report.figure(figures.density_of_states(states), "Figure 7: labels, and what was predicted from beads.")
    report.table(*table_of_states(summary))
    report.section("What the predictions are worth")
    names = list(summary["scores"]["all folds"])
    report.table(("", *names), [(name, *found.values()) for name, found in summary["scores"].items()], "Test frames.")
    center, width = prediction.mean, prediction.standard_deviation
    report.figure(figures.parity(truth, center, width), "Energies and predicted means.")
    predictions = {"all folds": (center, width)}
    for number, (part, _) in enumerate(study.learned.folds[:5], start=1):
        predictions[f"fold {number}"] = (part.mean, part.standard_deviation)
    report.figure(figures.calibration(truth, predictions), "How true the error bars are.")
    report.figure(figures.cluster_noise(study.learned.local), "Noise in clusters of test frames and noise predicted.")
    report.section("Is p(E|R) normal?")
    fractions = {
        f"{beads} beads": shapiro_wilk([each[np.isfinite(each)] for each in found.energies], size.samples)
        for beads, found in sorted(held.items())
    }
    report.figure(figures.normality(fractions), "Figure 2: energies of atoms sampled with their beads in place.")
    report.section("Latent space")
    beads = size.beads if size.beads in held else min(held)
    latent = picture(size, maps[beads], study.atoms, held[beads], directory / f"latent_space_{beads}_beads")
    report.figure(
        latent,
        f"Figure 3: latent places of the training frames, {beads} beads, and of atoms sampled with their beads in "
        "place; the legend gives the dihedral S-C-C-S from which they started.",
    )
    report.section("Noise")
    beads_noise, temperature_noise = noise_curves(study.noise_of_beads()), noise_curves(study.noise_of_temperature())
    report.figure(figures.noise(beads_noise), "Figure 4: the noise of the energy that is left in the beads.")
    report.figure(figures.noise(errors_of_clusters(maps)), "Figure 5: errors of means and noises in clusters.")
    report.figure(figures.noise(temperature_noise, "temperature (K)"), f"Figure 6: the noise of {size.beads} beads.")
    report.section("The beads' potential")
    report.figure(distributions(inversion), "Distributions of the mapped frames and of the beads, divergences in bits.")
    report.figure(convergence(inversion), "Convergence of the inversion.")
    report.write(directory / "report.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("bithiophene"), help="where everything is written")
    parser.add_argument("--quick", action="store_true", help="a minute's worth, to see that it runs")
    parser.add_argument("--beads", type=int, choices=sorted(BITHIOPHENE_BEADS), help="of the map that is simulated")
    parser.add_argument("--resolutions", type=int, nargs="+", choices=sorted(BITHIOPHENE_BEADS), help="to compare")
    parser.add_argument("--processes", type=int, help="at the same time; by default one for each core")
    arguments = parser.parse_args()
    options = {name: getattr(arguments, name) for name in ("beads", "resolutions", "processes")}
    size = replace(QUICK if arguments.quick else FULL, **{name: value for name, value in options.items() if value})
    directory = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # batches of a small molecule are too little to share

    atoms, by_temperature = {}, {}
    for temperature in (TEMPERATURE, *size.temperatures):
        fewer = size if temperature == TEMPERATURE else replace(size, frames=size.temperature_frames)
        atoms[temperature] = sample_atoms(fewer, temperature, directory / f"atoms_{temperature:g}_K")
        folder = directory / f"{size.beads}_beads_{temperature:g}_K"
        by_temperature[temperature] = learn(size, atoms[temperature], size.beads, folder)
    reference = atoms[TEMPERATURE]
    maps = {size.beads: by_temperature[TEMPERATURE]}
    for beads in sorted({*size.resolutions, *size.held_resolutions} - {size.beads}):
        maps[beads] = learn(size, reference, beads, directory / f"{beads}_beads_{TEMPERATURE:g}_K")
    held = {
        beads: hold(size, reference, maps[beads].mapping, directory / f"held_{beads}_beads")
        for beads in size.held_resolutions
    }
    inversion = invert(size, maps[size.beads].files["train"], directory / f"inversion_{size.beads}_beads")
    result = simulate(size, inversion, maps[size.beads], directory)
    study = Study(size, reference, maps, by_temperature, held, inversion, result)
    states = densities_of_states(size, study.learned, result)
    summary = summarise(study, states)
    write_report(study, states, summary, directory)
    show(summary)
    (directory / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"report: {directory / 'report.html'}")


if __name__ == "__main__":
    main()
