"""A predictor: what it predicts, its file, and the maps it refuses."""

import numpy as np
import pytest

from openmmcg.electronic import DistanceFeatures, DKLPredictor
from openmmcg.electronic.predictor import DenseLayers, Member

BEADS = 4
RANDOM = np.random.default_rng(0)
POSITIONS = 0.5 * np.arange(BEADS)[:, None] + 0.02 * RANDOM.normal(size=(500, BEADS, 3))


def random_member(seed, features, points=20, latent=3):
    """Arrays that nobody trained."""
    random = np.random.default_rng(seed)
    values = features(POSITIONS)
    root = np.tril(random.normal(size=(points, points))) / points
    places = random.normal(size=(points, latent))
    kernel = np.exp(-0.5 * np.square(places[:, None] - places).sum(2)) + 1e-4 * np.eye(points)
    return Member(
        feature_mean=values.mean(0),
        feature_scale=values.std(0),
        energy=np.array([-9.0, 0.3]),
        inducing_points=places,
        lengths=np.ones(latent),
        trend=random.normal(size=latent + 1),
        kernel_variance=np.ones(1),
        whitening=np.linalg.inv(np.linalg.cholesky(kernel)),
        values=random.normal(size=points),
        root=root,
        recalibration=np.array([0.5, 0.4, 1.2, 0.1]),
        kernel_network=DenseLayers(
            [random.normal(size=(len(features), 8)) / 3, random.normal(size=(8, latent)) / 3],
            [random.normal(size=8), random.normal(size=latent)],
        ),
        noise_network=DenseLayers([random.normal(size=(latent, 1)) / 3], [np.array([-1.0])]),
    )


@pytest.fixture
def predictor():
    features = DistanceFeatures(BEADS)
    members = [random_member(seed, features) for seed in range(3)]
    names = ["A", "B", "B", "A"]
    return DKLPredictor(features, members, bead_names=names, variance_factor=0.8, provenance={"seed": 1})


def test_the_parts_of_the_variance_add_up(predictor):
    prediction = predictor.predict(POSITIONS)
    np.testing.assert_allclose(sum(prediction.variance_parts), prediction.standard_deviation**2, rtol=1e-12)
    assert all((part >= 0).all() for part in prediction.variance_parts)
    assert prediction.latent.shape == (500, 3)


def test_several_members_have_the_mean_of_their_mixture_and_its_variance_times_a_factor(predictor):
    singles = [DKLPredictor(predictor.features, [member]).predict(POSITIONS) for member in predictor.members]
    means = np.stack([single.mean for single in singles])
    squares = np.stack([single.standard_deviation**2 + single.mean**2 for single in singles])
    prediction = predictor.predict(POSITIONS)
    np.testing.assert_allclose(prediction.mean, means.mean(0), rtol=1e-12)
    mixture = squares.mean(0) - means.mean(0) ** 2
    np.testing.assert_allclose(prediction.standard_deviation**2, 0.8 * mixture, rtol=1e-8)


def test_frames_do_not_influence_each_other(predictor, monkeypatch):
    together = predictor.predict(POSITIONS)
    monkeypatch.setattr("openmmcg.electronic.predictor.BLOCK", 20 * 7)  # blocks of seven frames
    for other in (predictor.predict(POSITIONS), predictor.predict(POSITIONS[::-1])):
        order = np.argsort(other.mean)
        np.testing.assert_allclose(other.mean[order], np.sort(together.mean), rtol=1e-10)
    single = predictor.predict(POSITIONS[3:4])
    np.testing.assert_allclose(single.standard_deviation[0], together.standard_deviation[3], rtol=1e-10)


def test_no_frames_give_empty_arrays(predictor):
    prediction = predictor.predict(POSITIONS[:0])
    assert prediction.mean.shape == (0,) and prediction.latent.shape == (0, 3)


def test_samples_have_the_predicted_mean_and_deviation(predictor):
    prediction = predictor.predict(POSITIONS[:5])
    draws = predictor.sample(POSITIONS[:5], 20000, seed=4)
    assert draws.shape == (5, 20000)
    np.testing.assert_allclose(draws.mean(1), prediction.mean, atol=4 * prediction.standard_deviation.max() / 141)
    np.testing.assert_allclose(draws.std(1), prediction.standard_deviation, rtol=0.03)
    np.testing.assert_array_equal(draws, predictor.sample(POSITIONS[:5], 20000, seed=4))


def test_a_file_gives_the_same_predictor_again(predictor, tmp_path):
    path = tmp_path / "new" / "homo.npz"
    predictor.save(path)
    loaded = DKLPredictor.load(path)
    np.testing.assert_array_equal(loaded.predict(POSITIONS).mean, predictor.predict(POSITIONS).mean)
    np.testing.assert_array_equal(
        loaded.predict(POSITIONS).standard_deviation, predictor.predict(POSITIONS).standard_deviation
    )
    assert loaded.bead_names == ["A", "B", "B", "A"]
    assert loaded.provenance == {"seed": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["homo.npz"]


def test_files_that_are_something_else_are_refused(predictor, tmp_path):
    with pytest.raises(FileNotFoundError):
        DKLPredictor.load(tmp_path / "missing.npz")
    path = tmp_path / "homo.npz"
    predictor.save(path)
    content = path.read_bytes()
    for wrong in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"homo.npz is damaged"):
            DKLPredictor.load(path)
    np.savez(path, description=np.array('{"format": "another"}'))
    with pytest.raises(ValueError, match="its format is 'another'"):
        DKLPredictor.load(path)
    np.savez(path, positions=POSITIONS)
    with pytest.raises(ValueError, match="homo.npz is damaged, or not a predictor of this package"):
        DKLPredictor.load(path)


def test_a_file_of_a_newer_version_is_refused(predictor, tmp_path, monkeypatch):
    path = tmp_path / "homo.npz"
    with monkeypatch.context() as context:
        context.setattr("openmmcg.electronic.predictor.FORMAT_VERSION", 2)
        predictor.save(path)
    with pytest.raises(ValueError, match="upgrade openmm-cg"):
        DKLPredictor.load(path)


def test_another_map_is_refused(predictor):
    with pytest.raises(ValueError, match="have 3 beads, these features need 4"):
        predictor.predict(POSITIONS[:, :3])
    with pytest.raises(ValueError, match=r"trained on \['A', 'B', 'B', 'A'\]"):
        predictor.predict(POSITIONS, bead_names=["A", "B", "C", "A"])
    with pytest.raises(ValueError, match="map has 5 beads, the predictor was trained on 4"):
        predictor.check_beads(["A"] * 5)
    predictor.check_beads(["A", "B", "B", "A"])


def test_positions_in_another_unit_are_refused(predictor):
    with pytest.raises(ValueError, match="not in nm"):
        predictor.predict(10 * POSITIONS)


def test_members_and_names_must_fit():
    features = DistanceFeatures(BEADS)
    with pytest.raises(ValueError, match="at least one member"):
        DKLPredictor(features, [])
    with pytest.raises(ValueError, match="3 bead names for 4 beads"):
        DKLPredictor(features, [random_member(0, features)], bead_names=["A", "B", "C"])
