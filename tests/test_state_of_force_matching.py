"""Trainings that are called again: the same inputs give the result that is there, any other is refused by its name."""

import dataclasses
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from openmmcg.fitting import ForceMatching, cross_validate, grid_search
from openmmcg.frames import write_frames
from openmmcg.potentials import GNN, HarmonicBonds, Repulsion, SchNet
from openmmcg.state import lock

pytestmark = pytest.mark.filterwarnings("ignore:.*has learned nothing")

BEADS, FRAMES = 4, 8
RANDOM = np.random.default_rng(0)
POSITIONS = np.cumsum(0.15 + 0.03 * RANDOM.normal(size=(FRAMES, BEADS, 3)), 1)
FORCES = 50 * RANDOM.normal(size=(FRAMES, BEADS, 3))


@dataclass(frozen=True)
class Work:
    """All that is given to a training."""

    positions: np.ndarray = field(default_factory=lambda: POSITIONS)
    forces: np.ndarray = field(default_factory=lambda: FORCES)
    particles: dict = field(
        default_factory=lambda: {
            "types": [0, 1, 0, 1],
            "masses": [20.0, 30.0, 20.0, 30.0],
            "boxes": 3 * np.eye(3),
            "bonds": [(0, 1), (1, 2), (2, 3)],
            "temperature": 300.0,
        }
    )
    kind: type = SchNet
    network: dict = field(default_factory=dict)
    priors: tuple = (HarmonicBonds({(0, 1): (0.15, 100.0)}),)
    settings: dict = field(default_factory=dict)
    arguments: dict = field(default_factory=dict)

    def change(self, name, **changes):
        """The same with other entries of one of the mappings."""
        return dataclasses.replace(self, **{name: {**getattr(self, name), **changes}})

    def write(self, path):
        particles = {**self.particles, "names": ["AB"[kind] for kind in self.particles["types"]]}
        path.parent.mkdir(parents=True)
        write_frames(path, self.positions, self.forces, type_names=["A", "B"], **particles)
        return path

    def matching(self, **settings):
        options = {"channels": 4, "blocks": 1, "basis_size": 4, "cutoff": 0.6, "neighbors": 2, **self.network}
        defaults = {"epochs": 2, "patience": 5, "batch_size": 3, "validation_fraction": 0.25}
        return ForceMatching(self.kind(types=2, **options), self.priors, **{**defaults, **self.settings, **settings})


def fit(work, path, folder):
    return work.matching().fit(path, folder, progress=False, **work.arguments)


def crossed(work, path, folder):
    return cross_validate(work.matching(), path, folder, progress=False, **{"folds": 2, **work.arguments})


def searched(work, path, folder):
    def make(learning_rate):
        return work.matching(learning_rate=learning_rate)

    arguments = {"grid": {"learning_rate": [1e-3]}, **work.arguments}
    return grid_search(make, paths=path, directory=folder, progress=False, **arguments)


WORKS = {"fit": fit, "cross_validate": crossed, "grid_search": searched}

# What is changed between two calls, and what the refusal says.
OTHER_FRAMES = {
    "forces": (
        lambda work: dataclasses.replace(work, forces=5 * work.forces),
        r"forces float\[\d, 4, 3\] of rms \S+ \(\w+\) there, float\[\d, 4, 3\] of rms \S+ \(\w+\) here",
    ),
    "positions": (lambda work: dataclasses.replace(work, positions=work.positions + 1e-3), r"positions float\["),
    "box": (lambda work: work.change("particles", boxes=3.5 * np.eye(3)), r"boxes float\["),
    "types": (lambda work: work.change("particles", types=[1, 0, 1, 0]), r"types \[0, 1, 0, 1\] there, \[1, 0, 1, 0\]"),
    "masses": (
        lambda work: work.change("particles", masses=[25.0, 30.0, 25.0, 30.0]),
        r"masses \[20.0, 30.0, 20.0, 30.0\] there, \[25.0,",
    ),
    "bonds": (lambda work: work.change("particles", bonds=[(0, 1), (1, 2)]), r"bonds \[\[0, 1\], .* there"),
    "temperature": (lambda work: work.change("particles", temperature=310.0), "temperature 300.0 there, 310.0 here"),
    "which frames": (lambda work: work.change("arguments", frames=slice(1, None)), r"positions float\["),
}
OTHER_MATCHING = {
    "network": (lambda work: dataclasses.replace(work, kind=GNN), r"network module class \S+SchNet there, \S+GNN here"),
    "activation": (
        lambda work: work.change("network", activation="silu"),
        "network output activation tanh there, silu here",
    ),
    "basis": (
        lambda work: work.change("network", basis="exponential_normal"),
        r"basis class \S+GaussianBasis there, \S+ExponentialNormalBasis here",
    ),
    "channels": (lambda work: work.change("network", channels=6), r"embedding.weight .* there, float\[2, 6\] .* here"),
    "cutoff": (lambda work: work.change("network", cutoff=0.7), "network module cutoff 0.6 there, 0.7 here"),
    "energy scale": (lambda work: work.change("network", energy_scale=5.0), "readout scale 10.0 there, 5.0 here"),
    "initial weights": (
        lambda work: work.change("network", seed=1),
        r"initial weights embedding.weight .* give it a seed.*initial.pt",
    ),
    "prior": (
        lambda work: dataclasses.replace(work, priors=(HarmonicBonds({(0, 1): (0.15, 200.0)}),)),
        r"priors force 0 \(HarmonicBondForce\) Bonds/Bond@k 100 there, 200 here",
    ),
    "another prior": (
        lambda work: dataclasses.replace(work, priors=(*work.priors, Repulsion([[0.1, 0.1], [0.1, 0.1]]))),
        r"priors force 1 \(CustomNonbondedForce\) is only here",
    ),
    "weight decay": (lambda work: work.change("settings", weight_decay=0.1), "weight_decay 0.0 there, 0.1 here"),
    "decay": (lambda work: work.change("settings", learning_rate_decay=0.5), "learning_rate_decay None there, 0.5"),
    "batch size": (lambda work: work.change("settings", batch_size=2), "batch_size 3 there, 2 here"),
    "seed": (lambda work: work.change("settings", seed=1), "seed 0 there, 1 here"),
    "clipping": (
        lambda work: work.change("settings", trainer_options={"gradient_clip_val": 1.0}),
        "trainer_options gradient_clip_val nothing there, 1.0 here",
    ),
    "fewer epochs": (lambda work: work.change("settings", epochs=1), "epochs 2 there, 1 here.* Only more"),
    "less patience": (lambda work: work.change("settings", patience=1), "patience 5 there, 1 here"),
}
CHANGES = {
    "fit": {
        **OTHER_FRAMES,
        **OTHER_MATCHING,
        "learning rate": (lambda work: work.change("settings", learning_rate=1e-2), "learning_rate 0.003 there, 0.01"),
        "split": (lambda work: work.change("settings", split="random"), "split last there, random here"),
        "fraction": (lambda work: work.change("settings", validation_fraction=0.5), "fraction 0.25 there, 0.5 here"),
    },
    "cross_validate": {
        **OTHER_FRAMES,
        **OTHER_MATCHING,
        "folds": (lambda work: work.change("arguments", folds=3), "folds 2 there, 3 here"),
        "split": (lambda work: work.change("arguments", split="blocks"), "fold_split random there, blocks here"),
        "seed of the folds": (lambda work: work.change("arguments", seed=1), "fold_seed 0 there, 1 here"),
    },
    "grid_search": {
        **OTHER_FRAMES,
        **OTHER_MATCHING,
        "folds": (lambda work: work.change("arguments", folds=2), "folds None there, 2 here"),
        "seed of torch": (lambda work: work.change("arguments", seed=1), "seed 0 there, 1 here"),
    },
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of each work, done once, and the file of its frames."""
    path = Work().write(tmp_path_factory.mktemp("frames") / "run" / "beads.h5md")
    folders = {}
    for name, do in WORKS.items():
        folders[name] = tmp_path_factory.mktemp(name) / "work"
        do(Work(), path, folders[name])
    return path, folders


def files(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in WORKS for change in CHANGES[name]])
def test_other_inputs_are_refused_by_their_name_and_nothing_is_touched(name, change, begun, tmp_path):
    path, folders = begun
    before = files(folders[name])
    make, words = CHANGES[name][change]
    other = make(Work())
    if change in OTHER_FRAMES:
        path = other.write(tmp_path / "run" / path.name)
    with pytest.raises(ValueError, match=words):
        WORKS[name](other, path, folders[name])
    assert files(folders[name]) == before


@pytest.mark.parametrize("name", WORKS)
def test_the_same_inputs_are_the_same_work_wherever_the_frames_lie(name, begun, tmp_path):
    path, folders = begun
    before = files(folders[name])
    moved = tmp_path / "moved.h5md"
    shutil.copyfile(path, moved)
    torch.rand(3)  # of the global generator, which no weights depend on
    WORKS[name](Work().change("settings", trainer_options={"enable_model_summary": False}), moved, folders[name])
    changed = {file.name for file, content in files(folders[name]).items() if before.get(file) != content}
    assert changed <= {"cross_validation.json", "grid_search.json", "grid_search.csv"}
    assert files(folders[name]).keys() == before.keys()


@pytest.mark.parametrize("name", WORKS)
def test_two_processes_cannot_work_in_one_directory(name, begun):
    path, folders = begun
    refused = pytest.raises(BlockingIOError, match=f"process {os.getpid()} on .* works on")
    with lock(folders[name] / "lock", "a training"), refused:
        WORKS[name](Work(), path, folders[name])


@pytest.mark.parametrize("name", WORKS)
def test_more_epochs_go_on_from_those_there_are(name, begun, tmp_path):
    path, folders = begun
    folder = tmp_path / "work"
    shutil.copytree(folders[name], folder)
    more = Work().change("settings", epochs=4)
    for _ in range(2):  # the second time everything is there
        WORKS[name](more, path, folder)
    for log in [place.parent for place in folder.rglob("log")]:
        assert sorted(path.name for path in (log / "log").iterdir()) == ["version_0", "version_1"]
        assert torch.load(log / "last.ckpt", weights_only=True)["epoch"] == 3


def test_a_larger_grid_is_completed(begun, tmp_path):
    path, folders = begun
    folder = tmp_path / "work"
    shutil.copytree(folders["grid_search"], folder)
    found = searched(Work().change("arguments", grid={"learning_rate": [1e-2, 1e-3]}), path, folder)
    assert [point.parameters["learning_rate"] for point in found.points] == [1e-2, 1e-3]
    first = [file for file in folder.rglob("potential.pt") if "0.001" in str(file)]
    assert len(first) == 1
    assert first[0].read_bytes() == (folders["grid_search"] / "learning_rate=0.001/fit/potential.pt").read_bytes()


def test_a_directory_of_an_earlier_version_is_left_alone(tmp_path):
    path = Work().write(tmp_path / "run" / "beads.h5md")
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="training of an earlier version"):
        fit(Work(), path, tmp_path / "fit")


def test_what_is_refused_leaves_the_directory_to_corrected_inputs(begun, tmp_path):
    path, _ = begun
    spoilt = dataclasses.replace(Work(), forces=0 * FORCES).write(tmp_path / "run" / "beads.h5md")
    with pytest.raises(ValueError, match="all forces in .*beads.h5md are zero"):
        fit(Work(), spoilt, tmp_path / "fit")
    assert not (tmp_path / "fit").exists()
    fit(Work(), path, tmp_path / "fit")


def test_the_initial_weights_that_are_kept_begin_the_same_training(begun):
    path, folders = begun
    network = Work().matching().network
    other = SchNet(types=2, channels=4, blocks=1, basis_size=4, cutoff=0.6, neighbors=2, seed=None)
    other.load_state_dict(torch.load(folders["fit"] / "initial.pt"))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    matching = Work().matching()
    matching.network = other
    assert matching.fit(path, folders["fit"], progress=False).epochs == 2
