"""Electronic coarse graining of bithiophene against a plain network and an exact Gaussian process.

    python benchmarks/dkl_ecg.py train.h5md train_labels.h5 test.h5md test_labels.h5 --beads 10 4 --json dkl_ecg.json

Frames of 3',4-dipropyl-2,2'-bithiophene (CCCc1csc(c1)-c1sccc1CCC, atoms in this order, hydrogens last), or with
`--molecule tempo` of TEMPO, and their orbital energies, as `bithiophene_data.py` makes them; without files, a chain of
ten beads whose mean and noise are known functions. Every fold and seed trains on the same frames, stops by the same
held-out frames, and is scored on the same test frames:

* `DKL-ECG`: `openmmcg.electronic.DKLTraining` as it comes;
* `plain network`: two layers of 128, mean and logarithm of the variance, AdamW, early stopping, not recalibrated;
* `plain, recalibrated`: the same with DKL-ECG's recalibration on the held-out frames;
* `exact process`: one noise for all frames, lengths from the marginal likelihood, at most `--exact-frames` frames.

σ_z is the standard deviation of (E − mean)/σ, NLPD the mean of −log p(E) with E in eV. The bars: σ_z within 0.9 … 1.1,
68 % intervals that hold 65 … 71 %, 95 % intervals that hold 93 … 97 % in every fold; RMSE and NLPD no worse than
the plain network's, NLPD better than the exact process's.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from md_water import processor, versions
from torch import nn
from tqdm import tqdm

from openmmcg.electronic import DistanceFeatures, DKLTraining, ExactProcessTraining, recalibrate, scores
from openmmcg.electronic.data import standardisation
from openmmcg.frames import Frames
from openmmcg.reference import (
    BITHIOPHENE,
    BITHIOPHENE_BEADS,
    TEMPO,
    TEMPO_BEADS,
    heavy_atom_map,
    organic_molecule,
)

TOY_BEADS = 10
# Molecule, its maps, and those that are compared by default.
MOLECULES = {
    "bithiophene": (BITHIOPHENE, BITHIOPHENE_BEADS, [4, 6, 8, 10, 12]),
    "tempo": (TEMPO, TEMPO_BEADS, sorted(TEMPO_BEADS)),
}
BARS = {"standardised_deviation": (0.9, 1.1), "coverage_68": (0.65, 0.71), "coverage_95": (0.93, 0.97)}


def read(frames_path: Path, labels_path: Path, orbital: str) -> tuple[np.ndarray, np.ndarray]:
    """Atoms' positions of the frames that have a label, and the labels in eV."""
    with Frames(frames_path) as frames, h5py.File(labels_path) as labels:
        computed = labels["status"][:] == 1
        return frames.positions[:][computed], labels[orbital][:][computed]


def chain(frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a chain of beads and energies of a known mean and noise, which follow its middle dihedral."""
    random = np.random.default_rng(seed)
    lengths = 0.25 + 0.006 * random.standard_normal((frames, TOY_BEADS - 1))
    angles = np.radians(130 + 6 * random.standard_normal((frames, TOY_BEADS - 2)))
    dihedrals = np.radians(180 * random.integers(0, 2, (frames, TOY_BEADS - 3)))
    dihedrals += np.radians(12 * random.standard_normal(dihedrals.shape))
    middle = (TOY_BEADS - 3) // 2
    dihedrals[:, middle] = random.uniform(0, 2 * np.pi, frames)
    positions = np.zeros((frames, TOY_BEADS, 3))
    positions[:, 1, 0] = lengths[:, 0]
    turn = np.stack([-np.cos(angles[:, 0]), np.sin(angles[:, 0]), np.zeros(frames)], 1)
    positions[:, 2] = positions[:, 1] + lengths[:, 1, None] * turn
    for bead in range(3, TOY_BEADS):
        along = positions[:, bead - 1] - positions[:, bead - 2]
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        normal = np.cross(positions[:, bead - 2] - positions[:, bead - 3], along)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        angle, dihedral = angles[:, bead - 2, None], dihedrals[:, bead - 3, None]
        across = np.cos(dihedral) * np.cross(normal, along) + np.sin(dihedral) * normal
        step = np.sin(angle) * across - np.cos(angle) * along
        positions[:, bead] = positions[:, bead - 1] + lengths[:, bead - 1, None] * step
    stretch, bend = (lengths - 0.25) / 0.006, (angles - np.radians(130)) / np.radians(6)
    weights = np.random.default_rng(7)
    planar = np.cos(dihedrals[:, middle]) ** 2
    mean = -9.5 + stretch @ (0.08 * weights.normal(size=TOY_BEADS - 1))
    mean += bend @ (0.05 * weights.normal(size=TOY_BEADS - 2)) - 0.25 * planar
    mean += (
        0.04 * planar * stretch[:, middle] + 0.02 * np.sin(2 * bend[:, middle]) + 0.02 * stretch[:, 0] * stretch[:, 2]
    )
    noise = 0.05 + 0.07 * (1 - planar) + 0.02 * np.tanh(stretch[:, 1])
    return positions, mean + noise * random.standard_normal(frames)


def plain_network(
    inputs: np.ndarray, targets: np.ndarray, held_out: slice, seed: int, epochs: int = 200, patience: int = 20
) -> nn.Module:
    """Two layers of 128 for mean and logarithm of the variance, at the epoch that suits the held-out frames best."""
    torch.manual_seed(seed)
    values, labels = (torch.tensor(array, dtype=torch.float32) for array in (inputs, targets))
    trained = torch.ones(len(labels), dtype=torch.bool)
    trained[held_out] = False
    network = nn.Sequential(
        nn.Linear(inputs.shape[1], 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2)
    )
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)

    def loss(chosen: torch.Tensor) -> torch.Tensor:
        mean, log_variance = network(values[chosen]).T
        return (0.5 * (labels[chosen] - mean) ** 2 * torch.exp(-log_variance) + 0.5 * log_variance).mean()

    frames = torch.arange(len(labels))
    best, best_epoch, state = np.inf, 0, network.state_dict()
    for epoch in range(epochs):
        order = frames[trained][torch.randperm(int(trained.sum()))]
        for chosen in order.split(128):
            optimizer.zero_grad()
            loss(chosen).backward()
            optimizer.step()
        with torch.no_grad():
            error = loss(frames[~trained]).item()
        if error < best:
            best, best_epoch = error, epoch
            state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(state)
    return network


def plain_rows(training, test, held_out: slice, seed: int, about: dict) -> list[dict]:
    """The plain network's scores, as it comes and recalibrated."""
    features = DistanceFeatures(training[0].shape[1])
    values, energies = features(training[0]), training[1]
    trained = np.ones(len(energies), bool)
    trained[held_out] = False
    mean, scale, (offset, unit) = standardisation(features, values[trained], energies[trained])
    begin = time.perf_counter()
    network = plain_network((values - mean) / scale, (energies - offset) / unit, held_out, seed)
    seconds = time.perf_counter() - begin

    def predict(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            output = network(torch.tensor((inputs - mean) / scale, dtype=torch.float32)).double().numpy()
        return offset + unit * output[:, 0], unit**2 * np.exp(output[:, 1])

    expected, variance = predict(features(test[0]))
    correction = recalibrate(*predict(values[held_out]), energies[held_out])
    predictions = {
        "plain network": (expected, variance),
        "plain, recalibrated": (expected + correction.shift, variance * correction.factor(variance)),
    }
    return [
        {**about, "method": name, "seconds": seconds, **scores(center, np.sqrt(width), test[1]).to_dict()}
        for name, (center, width) in predictions.items()
    ]


def dkl_rows(training, test, beads: int, seed: int, folds: int, steps: int) -> list[dict]:
    """Scores of every fold, and of all of them together."""
    begin = time.perf_counter()
    result = DKLTraining(seed=seed, steps=steps).fit(*training, folds=folds)
    total = time.perf_counter() - begin
    rows = []
    for number, fold in enumerate([*result.folds, None], start=1):
        predictor = result.predictor if fold is None else fold.predictor
        begin = time.perf_counter()
        prediction = predictor.predict(test[0])
        rate = len(test[0]) / (time.perf_counter() - begin)
        found = scores(prediction.mean, prediction.standard_deviation, test[1]).to_dict()
        parts = {name: float(part.mean()) for name, part in prediction.variance_parts._asdict().items()}
        about = {"beads": beads, "seed": seed, "fold": "all" if fold is None else number, "method": "DKL-ECG"}
        about["seconds"] = total if fold is None else fold.seconds
        rows.append({**about, **found, "mean_variance_parts": parts, "predictions_per_second": rate})
    return rows


def exact_row(training, test, beads: int, most: int) -> dict:
    begin = time.perf_counter()
    chosen = np.random.default_rng(0).permutation(len(training[1]))[:most]
    predictor = ExactProcessTraining().fit(training[0][chosen], training[1][chosen])
    prediction = predictor.predict(test[0])
    found = scores(prediction.mean, prediction.standard_deviation, test[1]).to_dict()
    about = {"beads": beads, "method": "exact process", "seed": 0, "fold": "all", "training_frames": len(chosen)}
    return {**about, "seconds": time.perf_counter() - begin, **found}


def show(rows: list[dict]) -> None:
    print(
        f"{'beads':>5} {'method':22} {'seed':>4} {'fold':>4} {'RMSE meV':>8} {'R²':>6} {'NLPD':>7} {'σ_z':>6} ", end=""
    )
    print(f"{'68 %':>6} {'95 %':>6} {'mean σ meV':>10} {'s':>6}")
    for row in rows:
        print(
            f"{row['beads']:5} {row['method']:22} {row['seed']:4} {row['fold']!s:>4} {1e3 * row['rmse']:8.2f} ", end=""
        )
        print(
            f"{row['r_squared']:6.3f} {row['negative_log_density']:7.4f} {row['standardised_deviation']:6.3f} ", end=""
        )
        print(
            f"{row['coverage_68']:6.3f} {row['coverage_95']:6.3f} {1e3 * row['mean_standard_deviation']:10.2f} ", end=""
        )
        print(f"{row['seconds']:6.1f}")


def verdict(rows: list[dict]) -> None:
    """Means over folds and seeds, in brackets the range, and how many folds meet the bars: the table of the docs."""

    def mean(those: list[dict], name: str, scale: float, digits: int, ranged: bool = False) -> str:
        values = [scale * row[name] for row in those]
        spread = f" ({min(values):.{digits}f}–{max(values):.{digits}f})" if ranged and len(values) > 2 else ""
        return f"{np.mean(values):.{digits}f}{spread}"

    print("\n| beads | method | RMSE (meV) | R² | NLPD | σ_z | in 68 % intervals | in 95 % intervals | calibrated |")
    print("|---|---|---|---|---|---|---|---|---|")
    for beads in sorted({row["beads"] for row in rows}):
        groups: dict[str, list[dict]] = {}
        for row in rows:
            if row["beads"] == beads:
                several = row["method"] == "DKL-ECG" and row["fold"] == "all"
                groups.setdefault("DKL-ECG, all folds" if several else row["method"], []).append(row)
        for name, those in groups.items():
            good = sum(all(low <= row[bar] <= high for bar, (low, high) in BARS.items()) for row in those)
            cells = [
                mean(those, "rmse", 1e3, 2),
                mean(those, "r_squared", 1, 3),
                mean(those, "negative_log_density", 1, 4),
                mean(those, "standardised_deviation", 1, 3, True),
                mean(those, "coverage_68", 100, 1, True),
                mean(those, "coverage_95", 100, 1, True),
                f"{good} of {len(those)}",
            ]
            print(f"| {beads} | {name} | {' | '.join(cells)} |")
    for name, together in {"a fold": False, "all folds": True}.items():
        those = [row for row in rows if row["method"] == "DKL-ECG" and (row["fold"] == "all") == together]
        seconds, rates = ([row[key] for row in those] for key in ("seconds", "predictions_per_second"))
        print(f"DKL-ECG, {name}: trained in {min(seconds):.0f} to {max(seconds):.0f} s, ", end="")
        print(f"{min(rates):.0f} to {max(rates):.0f} predictions a second, {np.mean(rates):.0f} on average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="train.h5md train_labels.h5 test.h5md test_labels.h5")
    parser.add_argument("--molecule", choices=MOLECULES, default="bithiophene")
    parser.add_argument("--beads", type=int, nargs="+", help="numbers of beads of the maps to compare")
    parser.add_argument("--orbital", choices=["homo", "lumo"], default="homo")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--frames", type=int, default=10000, help="of the chain, for training and for testing")
    parser.add_argument("--exact-frames", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=1000, help="of DKL-ECG's optimiser at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if len(arguments.files) not in (0, 4):
        parser.error("give four files, or none")
    smiles, maps, usual = MOLECULES[arguments.molecule]
    resolutions = (arguments.beads or usual) if arguments.files else [TOY_BEADS]
    if arguments.files and not set(resolutions) <= set(maps):
        parser.error(f"{arguments.molecule} has maps of {', '.join(map(str, sorted(maps)))} beads")
    torch.set_num_threads(arguments.threads)
    rows: list[dict] = []

    def write() -> None:
        """What there is so far, so that an interruption loses little."""
        if arguments.json:
            about = {"machine": processor(), "threads": arguments.threads, "versions": versions()}
            about |= {"training_frames": len(training[1]), "test_frames": len(test[1]), "orbital": arguments.orbital}
            arguments.json.write_text(json.dumps({**about, "rows": rows}, indent=1))

    for beads in resolutions:
        if arguments.files:
            mapping = heavy_atom_map(organic_molecule(smiles).topology, maps[beads])
            pairs = zip(arguments.files[::2], arguments.files[1::2], strict=True)
            atoms = [read(frames, labels, arguments.orbital) for frames, labels in pairs]
            training, test = ((mapping.map_positions(positions), energies) for positions, energies in atoms)
        else:
            training, test = (chain(arguments.frames, seed) for seed in (0, 1))
        for seed in arguments.seeds:
            rows += dkl_rows(training, test, beads, seed, arguments.folds, arguments.steps)
            bounds = np.arange(arguments.folds + 1) * len(training[1]) // arguments.folds
            for fold in tqdm(range(arguments.folds), desc="plain network", unit="fold"):
                about = {"beads": beads, "seed": seed, "fold": fold + 1}
                rows += plain_rows(training, test, slice(bounds[fold], bounds[fold + 1]), seed, about)
            write()
        if arguments.exact_frames:
            rows.append(exact_row(training, test, beads, arguments.exact_frames))
            write()
    show(rows)
    verdict(rows)


if __name__ == "__main__":
    main()
