"""Cross-validated force errors on capped alanine: priors alone, CGnet and CGSchNet, and the floor of noise.

    python benchmarks/ala2_force_matching.py ala2_backbone_300K.npz work --json ala2_force_matching.json

The data are 8000 frames of five backbone beads (C, N, CA, C, N) in explicit water at 300 K, each with the force on its
atom, from the examples of the package cgnet (Wang et al., ACS Cent. Sci. 5, 755 (2019); Husic et al., J. Chem. Phys.
153, 194101 (2020)): ``coordinates`` in Å and ``forces`` in kcal/mol/Å, [frames, 5, 3]. Each bead is of a type of its
own. Priors are harmonic bonds and angles, fitted like everything else to the training folds only; errors are mean
squares per component on held-out frames in (kcal/mol/Å)², at the minimum of the validation error. Most of them is
the fluctuating force of the solvent, which no potential of the beads can know.

Floor of noise: a potential that is linear in many functions of distances, angles and both dihedrals is fitted to the
same training folds by least squares. Without regularisation its error on the training frames is below that of the
best potential of its kind by as much, on average, as its error on held-out frames is above; the mean of both
estimates the error of the best one, and is an upper bound of the floor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from md_water import machine, versions

from openmmcg.fitting import ForceMatching, cross_validate
from openmmcg.fitting.force_matching.data import split_folds
from openmmcg.fitting.force_matching.force_errors import KCAL_PER_MOL_PER_ANGSTROM
from openmmcg.frames import Frames, write_frames
from openmmcg.potentials import CGnet, HarmonicAngles, HarmonicBonds, PriorForces, SchNet

NAMES, MASSES = ["C1", "N1", "CA", "C2", "N2"], [12.011, 14.007, 12.011, 12.011, 14.007]
PRIORS = [HarmonicBonds.from_frames, HarmonicAngles.from_frames]
BAR = 3.0  # (kcal/mol/Å)² of gain over the priors
ORDER = 2  # of the Fourier series of dihedrals
DEGREE = 3  # of polynomials of distances and of cosines of angles


def convert(source: Path, target: Path) -> None:
    """Å and kcal/mol/Å to frames."""
    if target.exists():
        return
    data = np.load(source)
    write_frames(
        target,
        data["coordinates"],
        data["forces"],
        names=NAMES,
        types=range(5),
        type_names=NAMES,
        masses=MASSES,
        temperature=float(data["temperature"]),
        bonds=[(i, i + 1) for i in range(4)],
        length_unit="angstrom",
        force_unit="kcal/mol/angstrom",
    )


def schnet(settings: argparse.Namespace) -> ForceMatching:
    network = SchNet(
        seed=settings.seed,
        types=5,
        channels=settings.channels,
        blocks=settings.blocks,
        cutoff=settings.cutoff,
        neighbors=4,
        basis_start=0.1,
        basis_size=settings.basis_size,
    )
    return matching(network, settings, settings.learning_rate, settings.epochs, settings.weight_decay)


def cgnet(settings: argparse.Namespace) -> ForceMatching:
    def make(frames: Frames) -> CGnet:
        options = {"channels": settings.cgnet_channels, "layers": settings.cgnet_layers, "seed": settings.seed}
        return CGnet.from_frames(frames, **options)

    return matching(make, settings, settings.cgnet_learning_rate, settings.cgnet_epochs, settings.cgnet_weight_decay)


def matching(
    network: torch.nn.Module | Callable,
    settings: argparse.Namespace,
    learning_rate: float,
    epochs: int,
    weight_decay: float,
) -> ForceMatching:
    return ForceMatching(
        network,
        PRIORS,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=settings.batch_size,
        epochs=epochs,
        patience=epochs,
        trainer_options={"accelerator": "cpu"},
    )


def linear_forces(positions: np.ndarray) -> np.ndarray:
    """Forces of each function of the linear potential, ``[frames, beads, 3, functions]``."""
    places = torch.tensor(positions, dtype=torch.float64, requires_grad=True)
    network = CGnet(range(5))
    features = network.features(places.diff(dim=1))
    distances, cosines = features[:, :10], torch.cos(features[:, 10:13])
    dihedrals = torch.atan2(features[:, 15:17], features[:, 13:15])
    # Scaled, so that powers do not differ by orders of magnitude.
    coordinates = torch.cat([10 * distances, cosines], 1)
    coordinates = coordinates - coordinates.mean(0).detach()
    functions = [coordinates**k for k in range(1, DEGREE + 1)]
    for m in range(ORDER + 1):
        for n in range(-ORDER if m else 1, ORDER + 1):
            angle = m * dihedrals[:, :1] + n * dihedrals[:, 1:]
            functions += [torch.cos(angle), torch.sin(angle)]
    columns = torch.cat(functions, 1).unbind(1)
    gradients = [torch.autograd.grad(column.sum(), places, retain_graph=True)[0] for column in columns]
    return -torch.stack(gradients, 3).numpy()


def noise_floor(path: Path, folds: int, seed: int) -> dict[str, float]:
    """Errors of the linear potential with priors, means over folds, and the bound of the floor, (kcal/mol/Å)²."""
    with Frames(path) as frames:
        positions, forces = np.asarray(frames.positions[:], float), np.asarray(frames.forces[:], float)
        design = linear_forces(positions).reshape(len(frames), 15, -1)
        errors = []
        for held_out in split_folds(len(frames), folds, "random", seed):
            training = np.setdiff1d(np.arange(len(frames)), held_out)
            given = frames.select(training)
            prior = PriorForces(
                [make(given) for make in PRIORS], frames.types.tolist(), frames.bonds.tolist(), periodic=False
            )
            delta = (forces - [prior(places, None) for places in positions]).reshape(len(frames), 15)
            rows = design[training].reshape(-1, design.shape[2])
            scale = np.sqrt(np.square(rows).mean(0))
            rows = rows / scale
            coefficients = np.linalg.lstsq(rows.T @ rows, rows.T @ delta[training].ravel(), rcond=1e-12)[0] / scale
            squares = np.square(delta - design @ coefficients).mean(1) / KCAL_PER_MOL_PER_ANGSTROM**2
            errors.append((squares[training].mean(), squares[held_out].mean()))
    on_training, on_held_out = np.mean(errors, 0)
    return {
        "functions": design.shape[2],
        "training": on_training,
        "held_out": on_held_out,
        "floor_at_most": (on_training + on_held_out) / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="ala2_backbone_300K.npz")
    parser.add_argument("directory", type=Path, help="where trainings are kept; finished ones are not done again")
    parser.add_argument("--networks", nargs="*", choices=["schnet", "cgnet"], default=["schnet", "cgnet"])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--cutoff", type=float, default=0.8, help="nm; all pairs are seen")
    parser.add_argument("--basis-size", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--cgnet-channels", type=int, default=512)
    parser.add_argument("--cgnet-layers", type=int, default=1)
    parser.add_argument("--cgnet-learning-rate", type=float, default=0.02)
    parser.add_argument("--cgnet-epochs", type=int, default=30)
    parser.add_argument("--cgnet-weight-decay", type=float, default=1.0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    settings.directory.mkdir(parents=True, exist_ok=True)
    path = settings.directory / "ala2.h5md"
    convert(settings.data, path)
    floor = noise_floor(path, settings.folds, settings.seed)
    print("floor of noise, (kcal/mol/Å)²: " + ", ".join(f"{name} {value:.2f}" for name, value in floor.items()))
    results: dict[str, object] = {
        "noise_floor": floor,
        "bar": BAR,
        "settings": {name: value for name, value in vars(settings).items() if not isinstance(value, Path)},
        "machine": machine("CPU"),
        "versions": versions(),
    }
    for name in settings.networks:
        trained = {"schnet": schnet, "cgnet": cgnet}[name](settings)
        result = cross_validate(
            trained, path, settings.directory / name, folds=settings.folds, seed=settings.seed, progress=False
        )
        reached = "reached" if result.gain >= BAR * KCAL_PER_MOL_PER_ANGSTROM**2 else "missed"
        print(f"\n{name}\n{result.table()}\nbar of {BAR}: {reached}", flush=True)
        results[name] = result.summary()
    if settings.json:
        settings.json.write_text(json.dumps(results, indent=1, default=str))


if __name__ == "__main__":
    main()
