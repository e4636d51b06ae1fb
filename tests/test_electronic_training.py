"""DKL-ECG finds a known mean and a known noise, and refuses what it cannot learn from."""

import copy
import subprocess
import sys
import warnings

import gpytorch
import numpy as np
import pytest
import torch

from openmmcg.electronic import DKLPredictor, DKLTraining, ExactProcessTraining, scores
from openmmcg.electronic.data import check_training_data
from openmmcg.electronic.deep_kernel import DeepKernel
from openmmcg.electronic.kernel_network import batch_divergence, draw_latent
from openmmcg.state import lock

NEAREST, FARTHEST = 0.3, 0.9  # nm
QUICK = {"steps": 20, "inducing_points": 20, "widths": (10,)}


def dumbbells(distances):
    """Two beads, at any place and in any direction."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(len(distances), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    first = random.normal(size=(len(distances), 3))
    return np.stack([first, first + distances[:, None] * directions], axis=1)


def true_mean(distances):
    return -9 + 0.3 * np.sin(2 * np.pi * (distances - NEAREST) / 0.4)


def true_noise(distances):
    """Five times as much in the middle as at the ends."""
    return 0.03 + 0.12 * np.sin(np.pi * (distances - NEAREST) / (FARTHEST - NEAREST)) ** 2


def toy(frames, seed=0, noise=true_noise):
    random = np.random.default_rng(seed)
    distances = random.uniform(NEAREST, FARTHEST, frames)
    return dumbbells(distances), true_mean(distances) + noise(distances) * random.normal(size=frames)


@pytest.fixture(scope="module")
def trained():
    positions, energies = toy(10000)
    training = DKLTraining(seed=1)
    return training.fit(positions, energies, bead_names=["A", "B"], folds=2, progress=False)


def test_a_known_mean_and_heteroscedastic_noise_are_recovered(trained):
    """The paper's figure 8; both within 5 %."""
    distances = np.linspace(NEAREST + 0.01, FARTHEST - 0.01, 200)
    prediction = trained.predictor.predict(dumbbells(distances))
    assert np.sqrt(np.mean((prediction.mean - true_mean(distances)) ** 2)) < 0.05 * 0.3
    ratio = prediction.standard_deviation / true_noise(distances)
    assert np.sqrt(np.mean((ratio - 1) ** 2)) < 0.05
    # Inside the training domain, the fit is certain and the variance is that of the data.
    inside = trained.predictor.predict(dumbbells(np.linspace(NEAREST + 0.1, FARTHEST - 0.1, 100)))
    assert (inside.variance_parts.sigma_K < 0.2 * inside.standard_deviation**2).all()


def test_error_bars_are_true_on_other_frames_in_every_fold(trained):
    positions, energies = toy(20000, seed=5)
    for predictor in [trained.predictor, *(fold.predictor for fold in trained.folds)]:
        prediction = predictor.predict(positions)
        found = scores(prediction.mean, prediction.standard_deviation, energies)
        assert 0.9 < found.standardised_deviation < 1.1
        assert 0.65 < found.coverage_68 < 0.71
        assert 0.93 < found.coverage_95 < 0.97


def test_it_is_better_than_an_exact_process_of_one_noise_where_the_noise_varies(trained):
    positions, energies = toy(2000, seed=6)
    exact = ExactProcessTraining(steps=60, likelihood_frames=300).fit(*toy(1500), progress=False)
    densities = []
    for predictor in (trained.predictor, exact):
        prediction = predictor.predict(positions)
        densities.append(scores(prediction.mean, prediction.standard_deviation, energies).negative_log_density)
    assert densities[0] < densities[1] - 0.1


def test_uncertainty_of_the_fit_takes_over_where_there_were_no_frames(trained):
    """Appendix A: outside the training domain sigma_K controls the variance."""
    prediction = trained.predictor.predict(dumbbells(np.array([0.6, 1.6])))
    inside, outside = prediction.variance_parts.sigma_K
    assert outside > 20 * inside


def test_numpy_predicts_what_gpytorch_predicts():
    """The exported arrays, batch normalisation folded in, against the model they come from."""
    torch.manual_seed(0)
    inputs = torch.randn(300, 6)
    kernel = DeepKernel(inputs, (12, 8), 3, 40).double()
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    kernel.train()
    kernel.network(inputs.double())  # moves the running averages of the batch normalisation
    places = torch.randn(50, 6).double()
    mean, variance = kernel.predict(places)
    member = kernel.export(np.zeros(6), np.ones(6), np.array([-9.0, 0.5]))
    found = member.predict(places.numpy())
    np.testing.assert_allclose(found.mean, -9 + 0.5 * mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.standard_deviation, 0.5 * variance.sqrt().numpy(), rtol=1e-4)


def test_an_exact_process_is_that_of_its_equations():
    """Mean and variance of equation 5 in float64, with the lengths and the noise that were found."""
    positions, energies = toy(200, noise=lambda distances: 0.05 + 0 * distances)
    predictor = ExactProcessTraining(steps=80).fit(positions, energies, progress=False)
    (member,) = predictor.members
    noise = np.exp(member.noise_network.biases[0][0])
    assert np.sqrt(noise) * member.energy[1] == pytest.approx(0.05, rel=0.15)

    def kernel(first, second):
        return member.kernel_variance * np.exp(-0.5 * np.square((first[:, None] - second) / member.lengths).sum(2))

    places, truth = toy(20, seed=3, noise=lambda distances: 0.05 + 0 * distances)
    inputs, others = (
        (predictor.features(array) - member.feature_mean) / member.feature_scale for array in (positions, places)
    )
    inverse = np.linalg.inv(kernel(inputs, inputs) + noise * np.eye(200))
    targets = (energies - member.energy[0]) / member.energy[1] - member.trend[-1]
    mean = member.energy[0] + member.energy[1] * (kernel(others, inputs) @ inverse @ targets + member.trend[-1])
    across = kernel(others, inputs)
    variance = member.kernel_variance + noise - np.einsum("ij,jk,ik->i", across, inverse, across)
    prediction = predictor.predict(places)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-8)
    np.testing.assert_allclose(prediction.standard_deviation, member.energy[1] * np.sqrt(variance), rtol=1e-6)
    assert scores(prediction.mean, prediction.standard_deviation, truth).rmse < 0.08


def test_exact_hyperparameters_maximise_the_marginal_likelihood():
    positions, energies = toy(150)
    training = ExactProcessTraining(steps=300)
    inputs = torch.tensor(np.random.default_rng(0).normal(size=(150, 1)))
    targets = torch.sin(2 * inputs[:, 0]) + 0.1 * torch.randn(150, generator=torch.Generator().manual_seed(0))
    process = training._maximise_likelihood(inputs, targets, progress=False)
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
    objective(process(inputs), targets).backward()
    assert all(parameter.grad.abs().max() < 0.01 for parameter in process.parameters())


def test_the_divergence_of_a_batch_is_that_of_its_mixture():
    """Of frames whose latent places together have variance v: (v − 1 − log v)/2 in each dimension."""
    torch.manual_seed(0)
    spread = 0.25
    for variance in (1.0, 2.0, 0.5):
        mean = (variance - spread) ** 0.5 * torch.randn(5000, 2)
        log_variance = torch.full((5000, 1), float(np.log(spread)))
        found = batch_divergence(draw_latent(mean, log_variance), mean, log_variance)
        assert found.item() == pytest.approx(variance - 1 - np.log(variance), abs=0.03)


def test_regularisation_brings_the_latent_space_to_the_prior():
    positions, energies = toy(1000)
    options = {"latent": 2, "steps": 200, "inducing_points": 20, "batch_size": 200}
    spreads = []
    for weight in (0.0, 1.0):
        training = DKLTraining(latent_regularisation=weight, **options)
        result = training.fit(positions, energies, folds=2, progress=False)
        spreads.append(result.folds[0].predictor.predict(positions).latent.std(0))
    assert np.abs(np.log(spreads[1])).max() < 0.25
    assert np.abs(np.log(spreads[1])).max() < np.abs(np.log(spreads[0])).max()


def test_a_seed_gives_the_same_predictor_again_and_leaves_the_users_random_numbers_alone():
    positions, energies = toy(300)
    torch.manual_seed(11)
    first = DKLTraining(seed=3, **QUICK).fit(positions, energies, folds=2, progress=False)
    drawn = torch.randn(1)
    second = DKLTraining(seed=3, **QUICK).fit(positions, energies, folds=2, progress=False)
    other = DKLTraining(seed=4, **QUICK).fit(positions, energies, folds=2, progress=False)
    means = [result.predictor.predict(positions).mean for result in (first, second, other)]
    np.testing.assert_array_equal(means[0], means[1])
    assert np.abs(means[0] - means[2]).max() > 1e-4
    torch.manual_seed(11)
    assert drawn == torch.randn(1)


def test_an_interrupted_training_goes_on_after_its_last_finished_fold(tmp_path):
    positions, energies = toy(300)
    training = DKLTraining(**QUICK)
    whole = training.fit(positions, energies, folds=3, directory=tmp_path, progress=False)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "fold_2.npz").unlink()
    again = training.fit(positions, energies, folds=3, directory=tmp_path, progress=False)
    np.testing.assert_array_equal(again.predictor.predict(positions).mean, whole.predictor.predict(positions).mean)
    assert [fold.held_out for fold in again.folds] == [slice(0, 100), slice(100, 200), slice(200, 300)]
    assert [fold.scores for fold in again.folds] == [fold.scores for fold in whole.folds]
    assert (tmp_path / "fold_1.npz").stat().st_mtime_ns == times["fold_1.npz"]
    loaded = DKLPredictor.load(tmp_path / "predictor.npz")
    np.testing.assert_array_equal(loaded.predict(positions).mean, whole.predictor.predict(positions).mean)


def test_a_directory_of_another_training_is_refused(tmp_path):
    positions, energies = toy(300)
    DKLTraining(**QUICK).fit(positions, energies, folds=2, directory=tmp_path, progress=False)
    with pytest.raises(ValueError, match="other weight_decay"):
        DKLTraining(weight_decay=0.3, **QUICK).fit(positions, energies, folds=2, directory=tmp_path, progress=False)
    with pytest.raises(ValueError, match="other data"):
        DKLTraining(**QUICK).fit(positions, energies + 1, folds=2, directory=tmp_path, progress=False)


def test_two_processes_do_not_train_in_one_directory(tmp_path):
    positions, energies = toy(60)
    with lock(tmp_path / "lock", "a training"), pytest.raises(BlockingIOError, match="choose another place"):
        DKLTraining(**QUICK).fit(positions, energies, folds=2, directory=tmp_path, progress=False)


def test_labels_that_do_not_fit_are_refused_before_work_starts():
    positions, energies = toy(300)
    training = DKLTraining()
    with pytest.raises(ValueError, match=r"300 frames need as many energies, got the shape \[299\]"):
        training.fit(positions, energies[:-1])
    broken = copy.copy(energies)
    broken[[7, 9]] = np.nan
    with pytest.raises(ValueError, match="2 of 300 energies are not finite, the first is of frame 7"):
        training.fit(positions, broken)
    with pytest.raises(ValueError, match="nothing to learn"):
        training.fit(positions, np.zeros(300))
    with pytest.raises(ValueError, match="training needs 20 frames for each of 5 folds, got 60"):
        training.fit(positions[:60], energies[:60])
    with pytest.raises(ValueError, match="at least 2 folds"):
        training.fit(positions, energies, folds=1)
    with pytest.raises(ValueError, match="bead names"):
        training.fit(positions, energies, bead_names=["A", "B", "C"])
    with pytest.raises(ValueError, match="all energies outside the frames 0 to 149, a fold, are -9"):
        training.fit(positions, np.where(np.arange(300) < 150, energies, -9), folds=2)
    broken = positions.copy()
    broken[5, 0, 1] = np.nan
    for either in (training, ExactProcessTraining()):
        with pytest.raises(ValueError, match="the first is frame 5"):
            either.fit(broken, energies)


TRAININGS = pytest.mark.parametrize("training", [DKLTraining(**QUICK), ExactProcessTraining(steps=2)], ids=type)


@TRAININGS
@pytest.mark.parametrize("kind", ["distances", "squared distances"])
def test_distances_that_constraints_hold_are_said_and_count_for_nothing(training, kind):
    """To the tolerance of a constraint, 1e-5; and where they vary later, predictions do not."""
    positions, energies = toy(200)
    third = positions[:, :1] + 0.2 * (1 + 1e-5 * np.random.default_rng(0).normal(size=(200, 1, 1))) * [1, 0, 0]
    positions = np.concatenate([positions, third], axis=1)
    training.features = kind
    with pytest.warns(UserWarning, match=r"1 of 3 distances do not vary .* of the beads 0 and 2"):
        result = training.fit(positions, energies, progress=False, **folds_of(training))
    predictor = getattr(result, "predictor", result)
    for member in predictor.members:
        assert member.feature_scale[1] == 1 and member.feature_scale[[0, 2]].max() < 0.5
    prediction = predictor.predict(positions)
    assert np.isfinite(prediction.mean).all() and np.isfinite(prediction.standard_deviation).all()


@TRAININGS
def test_frames_in_which_nothing_varies_are_refused_before_work_starts(training):
    _, energies = toy(200)
    positions = dumbbells(np.full(200, 0.4))
    with pytest.raises(ValueError, match="none of the 1 distances varies in the"):
        training.fit(positions, energies, progress=False, **folds_of(training))


@TRAININGS
def test_a_label_far_from_all_others_is_said(training):
    positions, energies = toy(200)
    energies[77] = 1e4
    with pytest.warns(UserWarning, match=r"1 of 200 energies .* frame 77, 10000 eV"):
        training.fit(positions, energies, progress=False, **folds_of(training))


def test_nothing_is_said_of_ordinary_labels():
    positions, energies = toy(20_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_training_data(positions, energies)
        check_training_data(positions, np.where(np.arange(20_000) % 3, energies, -2))  # two states


def folds_of(training):
    return {"folds": 2} if isinstance(training, DKLTraining) else {}


@pytest.mark.parametrize(
    "option", [{"steps": 0}, {"latent": 0}, {"widths": (8, 0)}, {"learning_rate": 0}, {"weight_decay": -1}]
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match="must"):
        DKLTraining(**option)


def test_predicting_needs_no_torch(tmp_path):
    positions, energies = toy(300)
    path = tmp_path / "predictor.npz"
    result = DKLTraining(**QUICK).fit(positions, energies, folds=2, progress=False)
    result.predictor.save(path)
    program = f"""
import sys
import numpy as np
from openmmcg.electronic import DKLPredictor
print(DKLPredictor.load({str(path)!r}).predict(np.array([[[0, 0, 0], [0, 0, 0.5]]])).mean[0])
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = result.predictor.predict(np.array([[[0, 0, 0], [0, 0, 0.5]]])).mean[0]
    energy, imported = done.stdout.split()
    assert float(energy) == pytest.approx(expected, rel=1e-12)
    assert imported == "False"
