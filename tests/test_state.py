"""What resumable works depend on, by content; who may work where; files that are complete or not there."""

import copy
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import openmm
import pytest
import torch
from conftest import random_network, random_potential, system_of

from openmmcg import CGForce
from openmmcg.potentials import SchNet
from openmmcg.state import (
    claim,
    describe,
    describe_system,
    differences,
    lock,
    read_json,
    replacing,
    system_differences,
    write_json,
)

ARRAY = np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.1, float("nan"), "text", "long " * 100, b"bytes", [1, 2], {"a": ARRAY}, slice(2, None), ARRAY],
)
def test_a_description_survives_json(value):
    description = describe(value)
    assert differences(json.loads(json.dumps(description, allow_nan=False)), description) == []


def test_equal_numbers_are_equal_content_whatever_they_are_stored_as():
    exact = np.arange(30.0).reshape(10, 3)
    same = [exact.astype(np.float32), np.asfortranarray(exact), torch.tensor(exact), exact[::-1][::-1]]
    assert all(describe(array) == describe(exact) for array in same)


@pytest.mark.parametrize("change", [lambda x: x * 5, lambda x: x[:-1], lambda x: x.reshape(-1, 6), lambda x: x[::-1]])
def test_other_numbers_are_other_content(change):
    (difference,) = differences(describe({"forces": ARRAY}), describe({"forces": change(ARRAY)}))
    assert difference.startswith("forces float[40, 3] of rms ")


def test_arrays_are_read_in_blocks(monkeypatch):
    whole = describe(ARRAY)
    monkeypatch.setattr("openmmcg.state.content._BLOCK", 50)
    assert describe(ARRAY) == whole


def change_weight(network):
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-3
    return network


@pytest.mark.parametrize(
    "other",
    [
        lambda: random_network(2, activation="shifted_softplus"),
        lambda: random_network(2, basis="exponential_normal"),
        lambda: random_network(2, energy_scale=6.0),
        lambda: random_network(2, cutoff=0.61),
        lambda: random_network(2, network="gnn"),
        lambda: change_weight(random_network(2)),
    ],
)
def test_networks_differ_in_structure_settings_and_weights(other):
    networks = []
    for make in (lambda: random_network(2), other):
        torch.manual_seed(0)
        networks.append(describe(make()))
    assert differences(networks[0], copy.deepcopy(networks[0])) == []
    assert differences(*networks)


def test_a_network_is_the_same_in_training_and_in_evaluation_and_has_all_its_parts():
    network = SchNet(types=1, channels=8)
    before = describe(network)
    network.eval()
    assert describe(network) == before
    assert len(before["weights"]) >= len(network.state_dict())


def harmonic_system(constants=(100.0, 200.0), lengths=(0.1, 0.2), bonds=2):
    force = openmm.HarmonicBondForce()
    for bond in range(bonds):
        force.addBond(bond, bond + 1, lengths[bond], constants[bond])
    return system_of(force, beads=3)


def test_systems_differ_by_what_was_changed():
    there = json.loads(json.dumps(describe_system(harmonic_system())))
    assert system_differences(there, describe_system(harmonic_system())) == []
    (difference,) = system_differences(there, describe_system(harmonic_system(constants=(100.0, 201.0))))
    assert difference == "force 0 (HarmonicBondForce) Bonds/Bond@k ['100', '200'] there, ['100', '201'] here"
    periodic = harmonic_system()
    periodic.getForce(0).setUsesPeriodicBoundaryConditions(True)
    (difference,) = system_differences(there, describe_system(periodic))
    assert difference.startswith("force 0 (HarmonicBondForce) @usesPeriodic")
    heavier = system_of(*[], beads=3, mass=21.0)
    assert any("mass" in text for text in system_differences(there, describe_system(heavier)))
    assert any("force 0" in text for text in system_differences(there, describe_system(heavier)))


def test_a_systems_potential_counts():
    systems = [system_of(CGForce(random_potential(seed).to_bytes(), types=[0, 1]), beads=2) for seed in (1, 1, 2)]
    descriptions = [describe_system(system) for system in systems]
    assert system_differences(*descriptions[:2]) == []
    assert len(system_differences(*descriptions[1:])) == 1


def of_a_later_version(description):
    """As a version of OpenMM would write it that knows one more attribute, and one more list."""
    later = copy.deepcopy(description)
    for section in later.values():
        section["format"] = "99.0 17"
        section["columns"] |= {"@novelty": "0", "Novelties#": 1}
    return later


def test_a_new_version_of_the_xml_changes_nothing():
    there = describe_system(harmonic_system())
    assert system_differences(there, of_a_later_version(there)) == []
    assert system_differences(of_a_later_version(there), there) == []
    # Of one and the same version it would be a difference.
    later = of_a_later_version(there)
    for name, section in later.items():
        section["format"] = there[name]["format"]
    assert system_differences(there, later)


@pytest.mark.parametrize("bonds", [0, 1])
def test_a_new_version_hides_no_change(bonds):
    there = of_a_later_version(describe_system(harmonic_system(bonds=bonds)))
    assert system_differences(there, describe_system(harmonic_system()))


def test_a_claim_is_for_the_same_work_with_the_same_inputs(tmp_path):
    inputs = {"positions": ARRAY, "settings": {"seed": 1, "box": np.eye(3)}}
    with claim(tmp_path / "work", "a training", inputs) as first:
        assert not first.begun
    with claim(tmp_path / "work", "a training", inputs) as again:
        assert again.begun
    assert [file.name for file in (tmp_path / "work").iterdir()] == ["inputs.json"]
    for changed, words in [
        (
            {**inputs, "positions": 5 * ARRAY},
            r"positions float\[40, 3\] of rms .* there, float\[40, 3\] of rms .* here",
        ),
        ({**inputs, "settings": {"seed": 1, "box": 2 * np.eye(3)}}, "settings box .* there, .* here"),
        ({**inputs, "more": 1}, "more nothing there, 1 here"),
        ({"positions": ARRAY}, "settings something there, nothing here"),
    ]:
        with pytest.raises(ValueError, match=words), claim(tmp_path / "work", "a training", changed):
            pass
    with pytest.raises(ValueError, match="holds a training, not an inversion"):
        claim(tmp_path / "work", "an inversion", inputs).__enter__()


def test_a_refusal_says_what_helps(tmp_path):
    remedies = {"weights": "Make them again.", "seed": "Never shown."}
    with claim(tmp_path, "a training", {"weights": ARRAY, "seed": 1}):
        pass
    with pytest.raises(ValueError, match=r"remove it\. Make them again\.$"):
        claim(tmp_path, "a training", {"weights": 2 * ARRAY, "seed": 1}, remedies).__enter__()


def test_a_work_that_left_nothing_has_claimed_nothing(tmp_path):
    class FailureError(Exception):
        pass

    with pytest.raises(FailureError), claim(tmp_path / "work", "a training", {"seed": 1}):
        raise FailureError
    assert not (tmp_path / "work").exists()
    with pytest.raises(FailureError), claim(tmp_path / "work", "a training", {"seed": 2}) as second:
        (second.folder / "half").touch()
        raise FailureError
    with pytest.raises(ValueError, match="seed 2 there, 3 here"):
        claim(tmp_path / "work", "a training", {"seed": 3}).__enter__()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["half", "inputs.json"]


def test_the_claim_on_a_system_outlives_the_format_of_its_xml(tmp_path):
    there = describe_system(harmonic_system())
    with claim(tmp_path, "a training", {"priors": there}):
        pass
    with claim(tmp_path, "a training", {"priors": of_a_later_version(there)}) as again:
        assert again.begun
    with pytest.raises(ValueError, match=r"priors force 0 \(HarmonicBondForce\) Bonds/Bond@k \['100', '200'\] there"):
        claim(tmp_path, "a training", {"priors": describe_system(harmonic_system((1.0, 2.0)))}).__enter__()


def test_a_damaged_claim_is_named(tmp_path):
    (tmp_path / "inputs.json").write_text("{")
    with pytest.raises(ValueError, match=r"inputs\.json is damaged"), claim(tmp_path, "a training", {}):
        pass


def test_two_cannot_work_in_one_place(tmp_path):
    refused = pytest.raises(BlockingIOError, match=rf"process {os.getpid()} on .* works on a training in .*")
    with lock(tmp_path / "lock", "a training"), refused:
        lock(tmp_path / "lock", "a training").__enter__()
    with lock(tmp_path / "lock", "a training"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_no_lock(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from openmmcg.state import lock\n"
        "with lock(Path(sys.argv[1]) / 'lock', 'a run'):\n    print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(BlockingIOError, match=f"process {process.pid} on"):
        lock(tmp_path / "lock", "a run").__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    with lock(tmp_path / "lock", "a run"):
        pass


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    file = tmp_path / "numbers.json"
    write_json(file, {"a": 1})
    with pytest.raises(RuntimeError), replacing(file) as unfinished:
        unfinished.write_text("half of")
        raise RuntimeError
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    assert read_json(file, "numbers") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    refused = pytest.raises(OSError, match=r"numbers\.json could not be written \(No space left on device\); nothing")
    with refused, replacing(tmp_path / "numbers.json"):
        raise OSError(28, "No space left on device")
