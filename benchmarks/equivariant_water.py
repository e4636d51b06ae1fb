"""Coarse-grained water with 1, 10 and 100 frames: our networks, Allegro and DeePMD, trained and run on one machine.

    scripts/setup_external.sh nequip deepmd
    python benchmarks/equivariant_water.py --directory water_table --json benchmarks/results/equivariant_water.json

After Loose, Sahrmann, Qu and Voth, J. Phys. Chem. B 127, 10564 (2023): 512 molecules of SPC/E or TIP3P, a bead at each
centre of mass, a frame every 2 ps. Each model is trained on the first 1, 10 and 100 frames, of which the last tenth
decides which epoch is the best (of one frame, the same frame); priors see the frames of the training only. Trainings on
few frames are shorter; those of our networks have fewer radial functions and more weight decay, and on a single frame
fewer channels (`Recipe`). Force errors are those on later frames. Then 3916 beads are run at 2 fs, and compared with
the atoms: g(r) to 10 Å, the angles of equation 5, diffusion. Every training is a process of one thread. What is
finished is not done again, so the command may be interrupted, or asked for more. Figures and a table go to the
directory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import openmm
from md_water import processor, versions

from openmmcg.analysis import angle_distribution, figures, mean_squared_displacement, radial_distribution
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, cg_topology, map_frames
from openmmcg.potentials import CGPotential, PaiNN, Repulsion, SchNet, external
from openmmcg.progress import tqdm
from openmmcg.reference import sample, time_per_step, water_box
from openmmcg.simulation import UnstableSimulationError, minimise, run
from openmmcg.state import claim, read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
KCAL = 41.84  # kJ/mol/nm in kcal/mol/Å
TEMPERATURE = 300.0
CUTOFF = 0.7  # nm
MASS = 18.015


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    known: int = 100  # frames, of which trainings take the first ones
    molecules: int = 512
    beads: int = 3916
    interval: float = 2.0  # ps
    equilibration: float = 20.0  # ps
    unseen: int = 30  # frames
    updates: int = 250  # steps of our optimiser and of Allegro's, times the square root of the number of frames
    deepmd_steps: int = 10_000
    duration: float = 100.0  # ps, of potentials that run natively
    others: float = 10.0  # ps, of the rest


FULL = Size()
QUICK = Size(4, 216, 216, 0.05, 0.5, 12, 6, 20, 1.0, 0.2)


@dataclass(frozen=True)
class Recipe:
    """How our networks are made and trained."""

    channels: int = 32
    basis_size: int = 24
    weight_decay: float = 0.1

    @classmethod
    def of(cls, frames: int) -> Recipe:
        """The fewer the data, the less may vary: what is left to vary learns their noise."""
        if frames < 10:
            return cls(8, 12, 0.3)
        return cls(32, 12, 0.3) if frames < 100 else cls()


OURS: dict[str, tuple[type[SchNet] | type[PaiNN], dict]] = {
    "SchNet-1": (SchNet, {"blocks": 1}),
    "SchNet-2": (SchNet, {"blocks": 2}),
    "PaiNN-1": (PaiNN, {"blocks": 1, "degree": 2}),
    "PaiNN-2": (PaiNN, {"blocks": 2, "degree": 2}),
    "PaiNN-1, vectors only": (PaiNN, {"blocks": 1}),
}
OTHERS = {"Allegro": "nequip", "DeePMD": "deepmd"}
MODELS = [*OURS, *OTHERS]
STEPS = {"train": "training.json", "simulate": "simulation.json", "time": "time.json"}  # what each leaves behind


@dataclass(frozen=True)
class Training:
    """A model, and what it is trained on."""

    water: str
    model: str
    frames: int
    seed: int

    def folder(self, directory: Path) -> Path:
        return directory / self.water / f"{self.model.replace(', ', '-').replace(' ', '-')}-{self.frames}-{self.seed}"


def reference(water: str, size: Size, directory: Path) -> Path:
    """The beads of the all-atom liquid: the known frames, then the unseen ones."""
    folder = directory / water
    folder.mkdir(parents=True, exist_ok=True)
    box = water_box(water, molecules=size.molecules)
    atoms, beads = folder / "atoms.h5md", folder / "beads.h5md"
    options = {"interval": size.interval, "equilibration": size.equilibration, "temperature": TEMPERATURE}
    sample(box.system, box.topology, box.positions, atoms, frames=size.known + size.unseen, **options)
    with Frames(atoms) as source:
        map_frames(source, Mapping.center_of_mass(box.topology, names=["W"] * size.molecules), beads)
    return beads


def divide(frames: int) -> tuple[range, range]:
    """Frames to train on, and to validate on."""
    last = max(1, frames // 10)
    return (range(1), range(1)) if frames == 1 else (range(frames - last), range(frames - last, frames))


def count_epochs(frames: int, size: Size) -> int:
    return max(1, round(size.updates * frames**0.5 / len(divide(frames)[0])))


def train_ours(training: Training, beads: Path, folder: Path, size: Size) -> CGPotential:
    from openmmcg.fitting import ForceMatching

    parts = divide(training.frames)
    epochs = count_epochs(training.frames, size)
    kind, options = OURS[training.model]
    recipe = Recipe.of(training.frames)
    network = kind(
        1,
        channels=recipe.channels,
        cutoff=CUTOFF,
        activation="tanh",
        basis_size=recipe.basis_size,
        basis_start=0.2,
        seed=training.seed,
        **options,
    )
    fitting = ForceMatching(
        network,
        [Repulsion.from_frames],
        epochs=epochs,
        patience=epochs,
        learning_rate=4e-3,
        weight_decay=recipe.weight_decay,
        seed=training.seed,
    )
    with Frames(beads) as source:
        chosen = [[source.select(part)] for part in parts]
        return fitting.fit_frames(*chosen, folder / "training", record=asdict(training)).potential


def read_frames(beads: Path, part: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (Å), forces (kcal/mol/Å) and boxes (Å) of frames."""
    with Frames(beads) as source:
        chosen = source.select(part)
        positions, forces, boxes = (np.asarray(a[:], float) for a in (chosen.positions, chosen.forces, chosen.boxes))
    return 10 * positions, forces / KCAL, 10 * boxes


def write_xyz(path: Path, beads: Path, part: range) -> None:
    """Frames as extended XYZ, with beads as oxygen."""
    with open(path, "w", encoding="utf-8") as file:
        for positions, forces, box in zip(*read_frames(beads, part), strict=True):
            lattice = " ".join(f"{x:.8f}" for x in box.ravel())
            file.write(f'{len(positions)}\nLattice="{lattice}" pbc="T T T" energy=0.0 ')
            file.write("Properties=species:S:1:pos:R:3:forces:R:3\n")
            for row in np.concatenate([positions, forces], 1):
                file.write("O " + " ".join(f"{x:.8f}" for x in row) + "\n")


def train_allegro(training: Training, beads: Path, folder: Path, size: Size) -> CGPotential:
    """By ``nequip-train``, on forces alone."""
    for name, part in zip(("train", "validate"), divide(training.frames), strict=True):
        write_xyz(folder / f"{name}.xyz", beads, part)
    last = folder / "last.ckpt"
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": 1}
    loss = {"_target_": "nequip.train.EnergyForceLoss", "coeffs": {"total_energy": 0.0, "forces": 1.0}}
    metrics = {"_target_": "nequip.train.EnergyForceMetrics", "coeffs": {"forces_rmse": 1.0}}
    config = {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": training.seed,
            "train_file_path": str(folder / "train.xyz"),
            "val_file_path": str(folder / "validate.xyz"),
            "transforms": [
                {
                    "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                    "model_type_names": ["W"],
                    "chemical_species_to_atom_type_map": {"O": "W"},
                },
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": 10 * CUTOFF},
            ],
            "train_dataloader": {**loader, "shuffle": True},
            "val_dataloader": loader,
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": count_epochs(training.frames, size),
            "enable_progress_bar": False,
            "logger": False,
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": str(folder),
                    "filename": "best",
                    "monitor": "val0_epoch/weighted_sum",
                    "save_last": True,
                }
            ],
        },
        "training_module": {
            "_target_": "nequip.train.EMALightningModule",
            "ema_decay": 0.99,
            "loss": loss,
            "val_metrics": metrics,
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.002},
            "model": {
                "_target_": "allegro.model.AllegroModel",
                "seed": training.seed,
                "model_dtype": "float32",
                "type_names": ["W"],
                "r_max": 10 * CUTOFF,
                "num_layers": 1,
                "l_max": 1,
                "num_scalar_features": 32,
                "num_tensor_features": 8,
                "radial_chemical_embed": {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 8},
                "avg_num_neighbors": 4 / 3 * np.pi * (10 * CUTOFF) ** 3 * 0.0334,
                "per_type_energy_scales": 1.0,
                "per_type_energy_shifts": 0.0,
            },
        },
        **({"ckpt_path": str(last)} if last.exists() else {}),
    }
    write_json(folder / "config.yaml", config)  # JSON is YAML
    call(
        folder, [Path(sys.executable).parent / "nequip-train", "--config-path", str(folder), "--config-name", "config"]
    )
    return external.from_nequip(folder / "best.ckpt", masses=MASS, energy="kcal/mol", temperature=TEMPERATURE)


def train_deepmd(training: Training, beads: Path, folder: Path, size: Size) -> CGPotential:
    """By ``dp --pt train``, on forces alone."""
    for name, part in zip(("train", "validate"), divide(training.frames), strict=True):
        data = folder / name / "set.000"
        data.mkdir(parents=True, exist_ok=True)
        positions, forces, boxes = read_frames(beads, part)
        for label, values in (("coord", positions), ("force", forces), ("box", boxes)):
            np.save(data / f"{label}.npy", values.reshape(len(values), -1))
        np.save(data / "energy.npy", np.zeros(len(positions)))
        (folder / name / "type.raw").write_text("0\n" * positions.shape[1])
        (folder / name / "type_map.raw").write_text("W\n")
    descriptor = {"type": "se_e2_a", "sel": [120], "rcut": 10 * CUTOFF, "rcut_smth": 0.5, "neuron": [8, 16, 32]}
    config = {
        "model": {
            "type_map": ["W"],
            "descriptor": {**descriptor, "axis_neuron": 4, "seed": training.seed},
            "fitting_net": {"neuron": [32, 32, 32], "seed": training.seed},
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-6, "decay_steps": size.deepmd_steps // 20},
        "loss": {"type": "ener", "start_pref_e": 0, "limit_pref_e": 0, "start_pref_f": 1, "limit_pref_f": 1},
        "training": {
            "training_data": {"systems": [str(folder / "train")], "batch_size": 1},
            "validation_data": {"systems": [str(folder / "validate")], "batch_size": 1, "numb_btch": 1},
            "numb_steps": size.deepmd_steps,
            "seed": training.seed,
            "disp_freq": max(1, size.deepmd_steps // 20),
            "save_freq": max(1, size.deepmd_steps // 10),
        },
    }
    write_json(folder / "input.json", config)
    dp = Path(sys.executable).parent / "dp"
    restart = ["--restart", "model.ckpt.pt"] if (folder / "model.ckpt.pt").exists() else []
    call(folder, [dp, "--pt", "train", "input.json", *restart])
    call(folder, [dp, "--pt", "freeze", "-o", "frozen"])
    return external.from_deepmd(folder / "frozen.pth", masses=MASS, energy="kcal/mol", temperature=TEMPERATURE)


def call(folder: Path, command: list) -> None:
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=True)


def train(training: Training, directory: Path, size: Size) -> None:
    """Train a model, and measure its forces on unseen frames."""
    import torch

    from openmmcg.fitting import force_rmse

    torch.set_num_threads(1)
    folder = training.folder(directory)
    folder.mkdir(parents=True, exist_ok=True)
    beads = directory / training.water / "beads.h5md"
    trainer = {"Allegro": train_allegro, "DeePMD": train_deepmd}.get(training.model, train_ours)
    began = perf_counter()
    potential = trainer(training, beads, folder, size)
    seconds = perf_counter() - began
    potential.save(folder / "potential.pt")
    error = force_rmse(potential, beads, frames=slice(size.known, None), progress=False) / KCAL
    write_json(folder / "training.json", {**asdict(training), "force_rmse": error, "seconds": seconds})


def python_of(model: str) -> str:
    if model in OURS:
        return sys.executable
    python = ROOT / "build" / "external" / OTHERS[model] / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{model} needs its package: scripts/setup_external.sh {OTHERS[model]}")
    return str(python)


def in_process(training: Training, step: str, arguments: argparse.Namespace) -> None:
    """Do a step for a training in a process of its own."""
    folder = training.folder(arguments.directory)
    folder.mkdir(parents=True, exist_ok=True)
    command = [python_of(training.model), __file__, "--directory", str(arguments.directory), "--step", step]
    command += [json.dumps(asdict(training)), *(["--quick"] if arguments.quick else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with open(folder / f"{step}.log", "a", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        print(f"{training} failed: see {folder / f'{step}.log'}", flush=True)


def liquid(training: Training, directory: Path, size: Size) -> tuple[openmm.System, np.ndarray, np.ndarray]:
    """The coarse-grained liquid to be run: System, positions and box."""
    potential = CGPotential.load(training.folder(directory) / "potential.pt")
    box = water_box(training.water, molecules=size.beads)
    names = ["W"] * size.beads
    centers = Mapping.center_of_mass(box.topology, names=names).map_positions(box.positions[None])[0]
    vectors = np.asarray(box.topology.getPeriodicBoxVectors()._value, float)
    return potential.create_system(cg_topology(names, vectors)), centers, vectors


def simulate(training: Training, directory: Path, size: Size) -> None:
    """Run the coarse-grained liquid."""
    folder = training.folder(directory)
    system, centers, vectors = liquid(training, directory, size)
    duration = size.duration if training.model in OURS else size.others
    try:
        result = run(
            system,
            minimise(system, centers, vectors),
            vectors,
            folder / "simulation.h5md",
            duration=duration,
            interval=0.02 if size is QUICK else 0.5,
            equilibration=0.1 * duration,
            temperature=TEMPERATURE,
            threads=1,
        )
        row = {"stable": result.stable, "temperature": result.mean_temperature, "frames run": result.frames}
    except UnstableSimulationError as error:
        row = {"stable": False, "failure": str(error)}
    write_json(folder / "simulation.json", row)


def measure_time(training: Training, directory: Path, size: Size) -> None:
    """The time of a step of the coarse-grained liquid."""
    system, centers, _ = liquid(training, directory, size)
    write_json(training.folder(directory) / "time.json", {"ms per step": by_threads(system, centers)})


def by_threads(system: openmm.System, positions: np.ndarray) -> dict[str, float]:
    """Milliseconds per step with one and two threads."""
    options = {"steps": 5, "blocks": 3, "warm_up": 2}
    return {str(threads): time_per_step(system, positions, threads=threads, **options).best for threads in (1, 2)}


def structure(path: Path) -> dict:
    """g(r), angles and displacements of the frames in a file."""
    with Frames(path) as frames:
        options: dict = {"progress": False, "blocks": 5 if len(frames) > 50 else 2}
        width = float(np.diagonal(np.asarray(frames.boxes[0])).min())
        return {
            "rdf": radial_distribution(frames.positions, frames.boxes, maximum=min(1.0, 0.499 * width), **options),
            "angles": angle_distribution(frames.positions, frames.boxes, **options),
            "msd": mean_squared_displacement(frames.positions, frames.times, **options),
        }


def compare(trainings: list[Training], beads: dict[str, Path], directory: Path) -> list[dict]:
    """A row for each training: force error, and what its liquid differs by from the atoms."""
    rows = []
    for water, path in beads.items():
        atoms = structure(path)
        liquids: dict[str, dict[str, dict]] = {}
        for training in (training for training in trainings if training.water == water):
            folder = training.folder(directory)
            if not (folder / "training.json").exists():
                continue
            row = read_json(folder / "training.json", "a training of this table")
            for step in ("simulate", "time"):
                if (folder / STEPS[step]).exists():
                    row |= read_json(folder / STEPS[step], "a step of this table")
            if row.get("stable"):
                liquid = structure(folder / "simulation.h5md")
                liquids.setdefault(training.model, {})[f"{training.frames} frames"] = liquid
                stop = min(float(atoms["rdf"].distance[-1]), float(liquid["rdf"].distance[-1]))
                row["mean |Δg|"] = liquid["rdf"].mean_absolute_difference(atoms["rdf"], 0.2, stop)
                row["angles"] = liquid["angles"].difference(atoms["angles"])
                last = float(liquid["msd"].time[-1])
                row["diffusion (1e-5 cm2/s)"] = 1e3 * liquid["msd"].diffusion(0.2 * last, last).constant
            rows.append(row)
        draw(water, atoms, liquids, directory)
    return rows


def draw(water: str, atoms: dict, liquids: dict[str, dict[str, dict]], directory: Path) -> None:
    """g(r) and the angles of each model's liquids beside those of the atoms."""
    for model, found in liquids.items():
        curves = {"all-atom": atoms, **found}
        if all(len(each["rdf"].g) == len(atoms["rdf"].g) for each in found.values()):
            rdf = figures.radial_distributions({name: each["rdf"] for name, each in curves.items()})
            rdf.savefig(directory / f"{water}-{model}-rdf.png", dpi=120)
        angles = figures.angle_distributions({name: each["angles"] for name, each in curves.items()})
        angles.savefig(directory / f"{water}-{model}-angles.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("water_table"))
    parser.add_argument("--waters", nargs="+", choices=["spce", "tip3p"], default=["spce", "tip3p"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--frames", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="trainings of each, but for DeePMD, which takes hours; the first one's liquid is simulated",
    )
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time")
    parser.add_argument("--quick", action="store_true", help="minutes in place of hours, to see that it works")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", nargs=2, metavar=("NAME", "TRAINING"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.directory = arguments.directory.resolve()
    size = QUICK if arguments.quick else FULL
    if arguments.step:
        name, text = arguments.step
        step = {"train": train, "simulate": simulate, "time": measure_time}[name]
        step(Training(**json.loads(text)), arguments.directory, size)
        return
    for model in arguments.models:
        python_of(model)
    if not 1 <= min(arguments.frames) <= max(arguments.frames) <= size.known:
        parser.error(f"trainings have 1 to {size.known} frames, the later ones being unseen; got {arguments.frames}")
    # Tables of two sizes in one directory would be mixed.
    with claim(arguments.directory, "a table of water", {"size": asdict(size)}):
        make_table(arguments, size)


def make_table(arguments: argparse.Namespace, size: Size) -> None:
    beads = {water: reference(water, size, arguments.directory) for water in arguments.waters}
    trainings = [
        Training(water, model, frames, seed)
        for seed in range(arguments.seeds)
        for water in arguments.waters
        for frames in arguments.frames
        for model in arguments.models
        if model != "DeePMD" or seed == 0
    ]
    first = [each for each in trainings if each.seed == 0]
    for step, chosen, workers in (
        ("train", trainings, arguments.workers),
        ("simulate", first, arguments.workers),
        ("time", first, 1),
    ):
        waiting = [each for each in chosen if not (each.folder(arguments.directory) / STEPS[step]).exists()]
        with ThreadPoolExecutor(workers) as pool:
            steps = pool.map(lambda each, step=step: in_process(each, step, arguments), waiting)
            list(tqdm(steps, f"to {step}", total=len(waiting), unit="model"))
    atoms = {}
    for water in arguments.waters:
        box = water_box(water, molecules=size.beads)
        atoms[water] = by_threads(box.system, box.positions)
    rows = compare(trainings, beads, arguments.directory)
    for row in rows:
        print(json.dumps(row), flush=True)
    if arguments.json:
        write_json(
            arguments.json,
            {
                "machine": processor(),
                "versions": versions(),
                **asdict(size),
                "all-atom ms per step": atoms,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
