"""Trainings from which nothing can come are refused before the first epoch; those from which nothing came say so."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch
from test_potentials_contract import PairEnergies, Unscriptable
from test_state_of_force_matching import BEADS, FORCES, FRAMES, POSITIONS, Work, fit

from openmmcg.fitting import ForceErrors, ForceMatching, force_rmse
from openmmcg.frames import Frames, write_frames

SHORT = Work(priors=()).change("settings", epochs=1)


def write(work, tmp_path):
    return work.write(tmp_path / "run" / "beads.h5md")


def refused(words, path, tmp_path, work=SHORT, network=None, kind=ValueError):
    matching = work.matching()
    matching.network = matching.network if network is None else network
    with pytest.raises(kind, match=words):
        matching.fit(path, tmp_path / "fit", progress=False)
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize("periodic", [True, False])
def test_angstrom_taken_for_nanometres_are_refused_with_the_distance_of_neighbours(periodic, tmp_path):
    chain = np.linspace([0.0, 0, 0], [12.0, 0, 0], BEADS)  # 0.4 nm apart, in Å
    positions = chain + 0.1 * np.random.default_rng(0).normal(size=(FRAMES, BEADS, 3))
    work = dataclasses.replace(SHORT, positions=positions)
    work = work.change("particles", boxes=16 * np.eye(3) if periodic else None)
    words = r"in 6 of 6 frames of .*beads\.h5md no two beads .* 0\.6 nm.* is [34]\.\d+ nm.* in Å\?.*'angstrom'"
    refused(words, write(work, tmp_path), tmp_path, work)


def test_some_frames_without_pairs_are_no_harm(tmp_path):
    positions = np.where(np.arange(FRAMES)[:, None, None] % 4 == 1, 10 * POSITIONS, POSITIONS)
    fit(SHORT, write(dataclasses.replace(SHORT, positions=positions), tmp_path), tmp_path / "fit")


def test_a_frame_that_outweighs_all_others_is_named(tmp_path):
    forces = np.tile(FORCES, (2, 1, 1))
    forces[5] *= 1000
    work = dataclasses.replace(SHORT, positions=np.tile(POSITIONS, (2, 1, 1)), forces=forces)
    path = write(work, tmp_path)
    with pytest.warns(UserWarning, match=r"frame 5 of .*beads\.h5md alone has 100% of the squared forces.* leave it"):
        fit(work, path, tmp_path / "fit")


def test_frames_without_a_temperature_are_refused(tmp_path):
    path = write(SHORT, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["parameters/temperature"]
    refused("does not say at which temperature", path, tmp_path)


def test_a_part_without_frames_is_refused(tmp_path):
    with Frames(write(SHORT, tmp_path)) as frames:
        for parts, words in (((range(4), []), "no frames to validate on"), (([], range(4)), "no frames to train on")):
            training, validation = ([frames.select(part)] for part in parts)
            with pytest.raises(ValueError, match=words):
                SHORT.matching().fit_frames(training, validation, tmp_path / "fit", record={}, progress=False)
    assert not (tmp_path / "fit").exists()


def test_networks_that_openmm_could_not_run_are_refused_before_the_first_epoch(tmp_path):
    path = write(SHORT, tmp_path)
    for _ in range(2):  # TorchScript would have another message the second time
        refused("Unscriptable cannot be translated .*import statements", path, tmp_path, network=Unscriptable())
    network = PairEnergies()
    del network.cutoff
    refused("needs the attribute 'cutoff'", path, tmp_path, network=network)


def test_a_network_without_parameters_is_refused(tmp_path):
    network = PairEnergies().requires_grad_(False)
    refused("no parameters that could be learned", write(SHORT, tmp_path), tmp_path, network=network)


def test_beads_at_the_same_place_are_refused_where_the_network_cannot_stand_them(tmp_path):
    positions = POSITIONS.copy()
    positions[:, 1] = positions[:, 0]
    path = write(dataclasses.replace(SHORT, positions=positions), tmp_path)
    refused("not finite in the first frame of .*beads at the same place", path, tmp_path, network=PairEnergies())


def test_the_number_of_epochs_has_one_place():
    with pytest.raises(ValueError, match="give epochs to ForceMatching"):
        ForceMatching(PairEnergies(), trainer_options={"max_epochs": 3})


def test_a_diverged_training_is_an_error_that_says_what_helps(tmp_path):
    work = SHORT.change("settings", epochs=3, learning_rate=1e30)
    path = write(work, tmp_path)
    with pytest.raises(FloatingPointError, match=r"diverged in epoch \d.* is (inf|nan)\. Take a lower learning_rate"):
        fit(work, path, tmp_path / "fit")
    assert not (tmp_path / "fit" / "result.json").exists()
    assert not (tmp_path / "fit" / "potential.pt").exists()


def test_a_training_that_learns_nothing_says_so_each_time(tmp_path):
    work = SHORT.change("settings", learning_rate=1e-9)
    path = write(work, tmp_path)  # forces that are noise
    for _ in range(2):
        with pytest.warns(UserWarning, match="the network has learned nothing: .*no better than none.* Are units"):
            result = fit(work, path, tmp_path / "fit")
        assert not result.has_learned
    assert result.potential.provenance["verdict"] == result.verdict


def test_a_training_that_learns_says_how_much(tmp_path):
    displacements = POSITIONS[:, :, None] - POSITIONS[:, None]
    distances = np.linalg.norm(displacements, axis=3) + np.eye(BEADS)
    slopes = np.where(distances < 0.6, 15 * (0.6 - distances), 0.0) * (1 - np.eye(BEADS))
    work = dataclasses.replace(SHORT, forces=(slopes[..., None] * displacements / distances[..., None]).sum(2))
    work = work.change("settings", epochs=20, learning_rate=1.0)
    path = write(work, tmp_path)
    matching = work.matching()
    matching.network = PairEnergies(strength=1.0)
    result = matching.fit(path, tmp_path / "fit", progress=False)
    assert result.has_learned and "lowers the mean squared error of the forces by" in result.verdict
    assert result.errors.gain > 0.99 * result.errors.priors
    assert result.errors.gain_error < 0.3 * result.errors.gain


@pytest.mark.parametrize("number", [2, FRAMES])
def test_the_error_of_the_gain_is_that_of_its_mean_over_frames(tmp_path, number):
    from openmmcg.fitting.force_matching.data import ForceDataset
    from openmmcg.fitting.force_matching.force_errors import measure_errors
    from openmmcg.fitting.force_matching.forces import network_forces

    network = SHORT.matching().network
    with Frames(write(SHORT, tmp_path)) as frames:
        data = ForceDataset(frames, range(number), 0.6, progress=False)
    gains = [
        float((data[i].forces ** 2 - (data[i].forces - network_forces(network, data[i], exact=True)) ** 2).mean())
        for i in range(number)
    ]
    errors = measure_errors(network, data)
    assert errors.gain == pytest.approx(np.mean(gains), rel=1e-4)
    assert errors.gain_error == pytest.approx(np.std(gains, ddof=1) / number**0.5, rel=1e-4)
    joined = ForceErrors.combine([errors, errors])
    assert joined.gain_error == pytest.approx(errors.gain_error / 2**0.5)


def test_the_errors_of_a_potential_on_frames_in_other_units_are_not_measured(tmp_path):
    path = write(SHORT, tmp_path)
    with pytest.warns(UserWarning, match="learned nothing"):
        potential = fit(SHORT, path, tmp_path / "fit").potential
    particles = {**SHORT.particles, "names": list("ABAB"), "type_names": ["A", "B"], "boxes": None}
    write_frames(tmp_path / "angstrom.h5md", 10 * POSITIONS, FORCES, **particles)
    with pytest.raises(ValueError, match="Are these lengths in Å"):
        force_rmse(potential, tmp_path / "angstrom.h5md", progress=False)
    assert torch.isfinite(potential.network.readout.weight).all()
