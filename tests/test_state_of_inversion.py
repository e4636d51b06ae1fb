"""An inversion goes on with what it was begun with, or says what differs; broken files and full disks lose nothing."""

import errno
import json
import shutil

import numpy as np
import pytest
from conftest import random_potential
from test_fitting_boltzmann_inversion_distributions import write

from openmmcg.fitting import BoltzmannInversion
from openmmcg.state import lock

QUIET = {"progress": False, "platform": "Reference"}
BOX = np.eye(3) * 2.0
MOLECULES, FRAMES = 8, 300
BONDS = [(2 * molecule, 2 * molecule + 1) for molecule in range(MOLECULES)]
NAMES = ["A", "B"] * MOLECULES
SHORT = {"replicas": 2, "duration": 0.06, "interval": 0.02, "patience": 9, "tolerance": 1e-6, "cutoff": 0.9}


def dumbbells(seed=0):
    """Positions of an ideal gas of dumbbells."""
    random = np.random.default_rng(seed)
    centers = random.uniform(0, 2, (FRAMES, MOLECULES, 1, 3))
    axes = random.normal(size=(FRAMES, MOLECULES, 1, 3))
    axes *= random.normal(0.15, 0.01, (FRAMES, MOLECULES, 1, 1)) / np.linalg.norm(axes, axis=-1, keepdims=True)
    return np.concatenate([centers - axes, centers + axes], axis=2).reshape(FRAMES, -1, 3)


def reference(path, *, positions=None, names=NAMES, bonds=BONDS, box=BOX, **options):
    return write(path, dumbbells() if positions is None else positions, names, bonds, box=box, **options)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return reference(tmp_path_factory.mktemp("reference") / "dumbbells.h5md")


@pytest.fixture(scope="module")
def begun(frames, tmp_path_factory):
    """An inversion of one iteration."""
    folder = tmp_path_factory.mktemp("inversion")
    fit(frames, folder)
    return folder


def fit(frames, folder, potential=None, select=slice(None), **options):
    return BoltzmannInversion(potential, **{**SHORT, "iterations": 1, **options}).fit(
        frames, folder, frames=select, **QUIET
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positions": 1.001 * dumbbells()}, "reference positions of run 0 .* there, .* here"),
        ({"positions": dumbbells(seed=1)}, "reference positions of run 0 .* there, .* here"),
        ({"positions": dumbbells()[::-1]}, "reference positions of run 0 .* there, .* here"),
        ({"box": 1.01 * BOX}, r"reference box \[\[2.0, .* there, \[\[2.02"),
        ({"bonds": BONDS[:-1]}, "reference bonds .* there, .* here"),
        ({"names": ["B", "A"] * MOLECULES}, "reference types .* there, .* here"),
        ({"temperature": 310.0}, "reference temperature 300.0 there, 310.0 here"),
    ],
)
def test_frames_of_other_content_are_refused(begun, tmp_path, change, words):
    before = contents(begun)
    other = reference(tmp_path / "dumbbells.h5md", **change)
    with pytest.raises(ValueError, match=f"holds an inversion with other inputs .*{words}"):
        fit(other, begun)
    assert contents(begun) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"select": slice(1, None)}, r"positions of run 0 float\[300, 16, 3\] .* there, float\[299, 16, 3\]"),
        ({"coordinates": ["bonds"]}, r"coordinates \['bonds', 'pairs'\] there, \['bonds'\] here"),
        ({"cutoff": 0.8}, "cutoff 0.9 there, 0.8 here"),
        ({"cutoff": None}, "cutoff 0.9 there, None here"),
        ({"achiral": True}, "achiral False there, True here"),
        ({"damping": 0.5}, "damping 1.0 there, 0.5 here"),
        ({"bins": 50}, "bins 60 there, 50 here"),
        ({"replicas": 3}, "replicas 2 there, 3 here"),
        ({"duration": 0.08}, "duration 0.06 there, 0.08 here"),
        ({"interval": 0.01}, "interval 0.02 there, 0.01 here"),
        ({"time_step": 0.001}, "time_step 0.002 there, 0.001 here"),
        ({"friction": 2.0}, "friction 1.0 there, 2.0 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
    ],
)
def test_other_settings_are_refused(begun, frames, change, words):
    before = contents(begun)
    with pytest.raises(ValueError, match=f"holds an inversion with other inputs .*{words}"):
        fit(frames, begun, **change)
    assert contents(begun) == before


def test_another_potential_to_correct_is_refused(frames, begun, tmp_path):
    kinds = {"bead_types": [("A", 20.0), ("B", 20.0)], "channels": 4, "blocks": 1, "cutoff": 0.6}
    first, other = (random_potential(seed, energy_scale=1e-6, **kinds) for seed in (0, 1))
    with pytest.raises(ValueError, match="potential nothing there|potential None there"):
        fit(frames, begun, first)
    fit(frames, tmp_path, first, iterations=0)
    with pytest.raises(ValueError, match=r"potential network weights .* there, .* here"):
        fit(frames, tmp_path, other, iterations=0)
    fit(frames, tmp_path, random_potential(0, energy_scale=1e-6, **kinds), iterations=0)


def test_the_same_frames_elsewhere_are_the_same(begun, frames, tmp_path):
    before = contents(begun)
    fit(shutil.copy(frames, tmp_path / "moved.h5md"), begun)
    assert contents(begun) == before


@pytest.fixture
def copy(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "copy")


def test_more_iterations_go_on(copy, frames, tmp_path):
    before = contents(copy)
    result = fit(frames, copy, iterations=2)
    whole = fit(frames, tmp_path / "whole", iterations=2)
    assert len(result.deviations) == 3
    assert np.array_equal(result.deviations, whole.deviations)
    assert result.potential.to_bytes() == whole.potential.to_bytes()
    assert (copy / "potential.pt").read_bytes() == result.potential.to_bytes()
    kept = {name for name in before if name.startswith("iteration_")}
    assert len(kept) > 4 and all((copy / name).read_bytes() == before[name] for name in kept)


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        ({"tolerance": 0.99, "largest_difference": 1e9, "mean_difference": 1e9}, {}),
        ({"patience": 1, "iterations": 5}, {"patience": 2, "iterations": 5}),
    ],
)
def test_smaller_tolerances_and_more_patience_go_on(frames, tmp_path, loose, tight):
    first = fit(frames, tmp_path / "parts", **loose)
    result = fit(frames, tmp_path / "parts", **tight)
    whole = fit(frames, tmp_path / "whole", **tight)
    assert len(result.deviations) > len(first.deviations)
    assert np.array_equal(result.deviations[: len(first.deviations)], first.deviations)
    assert np.array_equal(result.deviations, whole.deviations)
    assert result.converged == whole.converged


@pytest.mark.parametrize(("number", "left"), [(0, 0.5), (1, 0.0), (1, 0.99)])
def test_a_truncated_iteration_is_done_again(copy, frames, number, left):
    file = copy / f"iteration_{number}.npz"
    before, whole = contents(copy), file.read_bytes()
    file.write_bytes(whole[: int(left * len(whole))])
    with pytest.warns(UserWarning, match=rf"{file} is damaged .*this iteration is done again"):
        fit(frames, copy)
    assert (copy / "divergences.json").read_bytes() == before["divergences.json"]
    assert (copy / "potential.pt").read_bytes() == before["potential.pt"]


def test_a_broken_result_is_written_again(copy, frames):
    before = contents(copy)
    (copy / "potential.pt").write_bytes(before["potential.pt"][:100])
    (copy / "divergences.json").unlink()
    fit(frames, copy)
    assert contents(copy) == before


def test_a_broken_claim_is_named(copy, frames):
    (copy / "inputs.json").write_text("{")
    with pytest.raises(ValueError, match=r"inputs.json is damaged"):
        fit(frames, copy)
    (copy / "inputs.json").unlink()
    with pytest.raises(ValueError, match=r"iterations, but not what they were begun with"):
        fit(frames, copy)
    assert not (copy / "inputs.json").exists()


def test_a_full_disk_loses_nothing(frames, begun, copy, monkeypatch):
    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(
            OSError, match=r"iteration_2.npz could not be written \(No space left.*Make room and repeat"
        ):
            fit(frames, copy, iterations=2)
    assert contents(copy) == contents(begun)
    assert len(fit(frames, copy, iterations=2).deviations) == 3


def test_two_processes_do_not_work_in_one_folder(copy, frames):
    with (
        lock(copy / "lock", "an inversion"),
        pytest.raises(BlockingIOError, match=r"process \d+ .* works on an inversion"),
    ):
        fit(frames, copy)
    # A lock that a killed process left locks nothing.
    (copy / "lock").write_text("process 1")
    fit(frames, copy)


def test_the_claim_says_what_the_inversion_depends_on(begun):
    inputs = json.loads((begun / "inputs.json").read_text())["inputs"]
    assert inputs["reference"]["box"] == [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    assert set(inputs["reference"]) == {"positions", "box", "temperature", "types", "masses", "bonds"}
    assert not {"iterations", "patience", "tolerance", "platform", "threads"} & set(inputs)
