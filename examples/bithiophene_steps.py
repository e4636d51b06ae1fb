"""The steps of `bithiophene_density_of_states.py`: sample, label, map, learn, hold, invert, simulate, predict.

Each writes into a directory and goes on where it was.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from openmmcg.analysis import dihedrals
from openmmcg.electronic import (
    DensityOfStates,
    DKLPredictor,
    DKLTraining,
    Estimate,
    LocalNoise,
    Prediction,
    Scores,
    average_noise,
    conditional_noise,
    local_noise,
    predict_trajectory,
    scores,
)
from openmmcg.fitting import BoltzmannInversion, BoltzmannInversionResult, jensen_shannon_divergence
from openmmcg.fitting.boltzmann_inversion.distributions import count
from openmmcg.frames import Frames
from openmmcg.mapping import Mapping, map_frames
from openmmcg.reference import (
    BITHIOPHENE,
    BITHIOPHENE_BEADS,
    AllAtomSystem,
    find_atoms,
    frames_nearby,
    heavy_atom_map,
    join_runs,
    label_frames,
    organic_molecule,
    sample_conformers,
    sample_constrained,
)
from openmmcg.simulation import RunResult, run

SETS = ("train", "test")
TEMPERATURE = 300.0
PLATFORM = "Reference"  # the fastest for tabulated bonded terms alone
TIME_STEP = 0.001  # ps; a longer one heats the bonds between beads of one heavy atom, stiff as those of the atoms
DIHEDRAL = find_atoms(BITHIOPHENE, "sc-!@cs")  # S-C-C-S, between the rings


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    beads: int = 10  # of the map that is simulated
    resolutions: tuple[int, ...] = (4, 6, 8, 10, 12)  # beads, of the maps whose noise is compared
    temperatures: tuple[float, ...] = (150.0, 225.0)  # K, at which the noise is compared with that at 300 K
    runs: int = 4  # of the atoms, for training and for testing
    frames: int = 2500  # of each run
    temperature_frames: int = 500  # of each run at the other temperatures
    interval: float = 1.0  # ps; the energy is forgotten in half of it
    equilibration: float = 100.0  # ps
    folds: int = 5
    steps: int = 1000  # of the optimiser
    clusters: tuple[int, ...] = (20, 40, 60, 80, 100)
    held_resolutions: tuple[int, ...] = (4, 10)
    held: int = 8  # configurations of the beads in which the atoms are sampled by themselves
    held_starts: int = 25  # frames of the atoms with nearly the same beads, each of which is sampled by itself
    held_frames: int = 10  # of each
    held_equilibration: float = 5.0  # ps
    samples: tuple[int, ...] = (25, 50, 100, 150, 200, 250)  # of them, for tests of normality
    iterations: int = 20
    tolerance: float = 0.004  # bits, of every distribution
    inversion_duration: float = 1000.0  # ps of each replica
    bins: int = 60
    replicas: int = 20
    cg_duration: float = 1000.0  # ps of each replica
    processes: int | None = None  # at the same time; by default one for each core

    @property
    def blocks(self) -> int:
        """Of test frames, for errors; no block is of two runs."""
        return 5 * self.runs


FULL = Size()
QUICK = Size(
    beads=4,
    resolutions=(4, 6),
    temperatures=(),
    runs=2,
    frames=100,
    interval=0.2,
    equilibration=0.5,
    folds=2,
    steps=60,
    clusters=(2, 3),
    held_resolutions=(4,),
    held=2,
    held_starts=2,
    held_frames=10,
    held_equilibration=0.5,
    samples=(10, 20),
    iterations=1,
    inversion_duration=10.0,
    bins=20,  # enough that also the peak of a distribution with a rare second one is seen
    replicas=4,
    cg_duration=10.0,
    processes=1,
)


@dataclass(frozen=True)
class Atoms:
    """All-atom frames of one temperature, and their labels in eV, NaN where one failed."""

    temperature: float
    files: dict[str, Path]
    energies: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Learned:
    """What was learned of one map, and what it is worth on the test frames that have labels."""

    mapping: Mapping
    files: dict[str, Path]
    predictor: DKLPredictor
    energies: NDArray[np.float64]
    prediction: Prediction
    folds: list[tuple[Prediction, Scores]]
    local: LocalNoise

    @property
    def scores(self) -> Scores:
        return scores(self.prediction.mean, self.prediction.standard_deviation, self.energies)

    def noise(self, blocks: int) -> dict[str, Estimate]:
        """The noise by what the predictor says, by its errors, and by clusters of test frames, eV."""
        return {
            "RMSE": average_noise(self.energies - self.prediction.mean, blocks=blocks),
            "predicted": average_noise(self.prediction.standard_deviation, blocks=blocks),
            "clusters": self.local.average(),
        }


@dataclass(frozen=True)
class Held:
    """Energies [configurations, frames], eV, of atoms sampled with their beads in place, and where they came from."""

    energies: NDArray[np.float64]
    angles: NDArray[np.float64]
    positions: NDArray[np.float64]

    def noise(self) -> Estimate:
        widths = [conditional_noise(each[np.isfinite(each)]).noise.value for each in self.energies]
        return average_noise(widths, blocks=len(widths))


@cache
def bithiophene() -> AllAtomSystem:
    return organic_molecule(BITHIOPHENE, name="bithiophene")


def sample_atoms(size: Size, temperature: float, directory: Path) -> Atoms:
    """Frames for training and for testing, from runs of their own, and the energies of their orbitals."""
    runs = sample_conformers(
        bithiophene(),
        directory / "runs",
        dihedral=DIHEDRAL[0],
        sets=SETS,
        runs=size.runs,
        frames=size.frames,
        interval=size.interval,
        equilibration=size.equilibration,
        temperature=temperature,
        processes=size.processes,
    )
    files, energies = {}, {}
    for name in SETS:
        files[name] = directory / f"{name}.h5md"
        if not files[name].exists():
            join_runs(runs[name], files[name], frames=size.frames)
        labels = label_frames(files[name], directory / f"{name}_labels.h5", processes=size.processes)
        energies[name] = labels["homo"]
    return Atoms(temperature, files, energies)


def learn(size: Size, atoms: Atoms, beads: int, directory: Path) -> Learned:
    """Map the frames, train by cross-validation, and predict the test frames."""
    directory.mkdir(parents=True, exist_ok=True)
    mapping = heavy_atom_map(bithiophene().topology, BITHIOPHENE_BEADS[beads])
    files = {name: directory / f"{name}.h5md" for name in SETS}
    positions, energies = {}, {}
    for name, path in files.items():
        with Frames(atoms.files[name]) as source:
            map_frames(source, mapping, path)
        labelled = np.isfinite(atoms.energies[name])
        with Frames(path) as mapped:
            positions[name] = mapped.positions[:][labelled]
        energies[name] = atoms.energies[name][labelled]
    training = DKLTraining(steps=size.steps).fit(
        positions["train"],
        energies["train"],
        bead_names=mapping.names,
        folds=size.folds,
        directory=directory / "training",
    )
    truth = energies["test"]
    prediction = training.predictor.predict(positions["test"])
    parts = [fold.predictor.predict(positions["test"]) for fold in training.folds]
    folds = [(part, scores(part.mean, part.standard_deviation, truth)) for part in parts]
    local = local_noise(
        prediction.latent, truth, prediction.mean, prediction.standard_deviation, clusters=size.clusters
    )
    return Learned(mapping, files, training.predictor, truth, prediction, folds, local)


def hold(size: Size, atoms: Atoms, mapping: Mapping, directory: Path) -> Held:
    """Sample the atoms with the beads in place, in test frames whose dihedrals are spread over all that there are."""
    directory.mkdir(parents=True, exist_ok=True)
    with Frames(atoms.files["test"]) as source:
        every = source.positions[:]
    angles = dihedrals(every, DIHEDRAL)[:, 0]
    # Quantiles, so that the average over these configurations is one of equilibrium.
    ranks = ((np.arange(size.held) + 0.5) / size.held * len(angles)).astype(int)
    chosen = np.sort(np.argsort(abs(angles))[ranks])
    together = directory / "held.h5md"
    if not together.exists():
        paths = []
        for number, start in enumerate(tqdm(every[chosen], "atoms with beads in place", unit="configuration")):
            beads = mapping.map_positions(start)
            # What the beads leave open, as the turn of a ring that is one bead, changes too slowly to be left to a run.
            for copy, nearby in enumerate(frames_nearby(every, mapping, beads, size.held_starts)):
                paths.append(directory / f"held.{number}.{copy}.h5md")
                sample_constrained(
                    bithiophene().system,
                    bithiophene().topology,
                    nearby,
                    mapping,
                    paths[-1],
                    bead_positions=beads,
                    frames=size.held_frames,
                    interval=size.interval / 2,
                    equilibration=size.held_equilibration,
                    time_step=0.00025,
                    temperature=atoms.temperature,
                    seed=copy,
                    progress=False,
                )
        join_runs(paths, together, frames=size.held_frames)
    labels = label_frames(together, directory / "held_labels.h5", processes=size.processes)
    shape = (size.held, size.held_starts * size.held_frames)
    with Frames(together) as frames:
        positions = mapping.map_positions(frames.positions[:]).reshape(*shape, -1, 3)
    return Held(labels["homo"].reshape(shape), np.degrees(angles[chosen]), positions)


def invert(size: Size, beads: Path, directory: Path) -> BoltzmannInversionResult:
    """The beads' potential, from the distributions of their bonds, angles and dihedrals."""
    inversion = BoltzmannInversion(
        achiral=True,
        iterations=size.iterations,
        tolerance=size.tolerance,
        bins=size.bins,
        replicas=size.replicas,
        duration=size.inversion_duration,
        interval=size.interval / 2,
        time_step=TIME_STEP,
    )
    return inversion.fit(beads, directory, platform=PLATFORM)


def simulate(size: Size, inversion: BoltzmannInversionResult, learned: Learned, directory: Path) -> RunResult:
    """Copies of the beads, from frames spread over all of the training."""
    with Frames(learned.files["train"]) as frames:
        starts = frames.positions[np.linspace(0, len(frames) - 1, size.replicas).astype(int)]
        types, type_names = frames.types.tolist(), frames.type_names
    system = inversion.potential.create_system(
        learned.mapping.topology(), periodic=False, remove_center_of_mass_motion=False
    )
    return run(
        system,
        starts,
        None,
        directory / "coarse_grained.h5md",
        duration=size.cg_duration,
        interval=size.interval,
        equilibration=size.cg_duration / 10,
        time_step=TIME_STEP,
        temperature=TEMPERATURE,
        types=types,
        type_names=type_names,
        platform=PLATFORM,
    )


def divergences(inversion: BoltzmannInversionResult, result: RunResult) -> dict[str, float]:
    """Of the distributions in the copies' run, on which no correction was made, from the reference's, bits."""
    with ExitStack() as stack:
        sources = [stack.enter_context(Frames(replica.path)) for replica in result.replicas]
        counts = count(sources, inversion.coordinates).histograms
    return {
        coordinate.label: jensen_shannon_divergence(*pair)
        for coordinate, *pair in zip(inversion.coordinates, counts, inversion.reference, strict=True)
    }


def densities_of_states(size: Size, learned: Learned, result: RunResult) -> dict[str, DensityOfStates]:
    """That of the labels, and those from the test frames and from the beads' own trajectory (equation 20)."""
    predicted = [
        predict_trajectory(replica.path, learned.predictor, replica.path.with_suffix(".energies.csv"))
        for replica in result.replicas
    ]
    coarse = DensityOfStates(
        np.concatenate([each.mean for each in predicted]),
        np.concatenate([each.standard_deviation for each in predicted]),
        blocks=size.replicas,
    )
    return {
        "labels": DensityOfStates(learned.energies, blocks=size.blocks),
        "test frames": DensityOfStates(
            learned.prediction.mean, learned.prediction.standard_deviation, blocks=size.blocks
        ),
        "beads' trajectory": coarse,
        "its means alone": coarse.means_alone(),
    }
