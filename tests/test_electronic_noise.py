"""Noise found without believing the predictor: it is the true one where that is known."""

import numpy as np
import pytest
from scipy import stats

from openmmcg.electronic import (
    DensityOfStates,
    Estimate,
    average_noise,
    conditional_noise,
    local_noise,
    noise_curves,
    rank_maps,
    shapiro_wilk,
    total_noise,
)


def true_mean(x):
    return -6 + 0.3 * np.sin(2 * x[:, 0])


def true_noise(x):
    return 0.05 + 0.04 * x[:, 0] ** 2


@pytest.fixture(scope="module")
def toy():
    """Two features; the energy depends on the first, and so does its noise."""
    random = np.random.default_rng(0)
    x = np.column_stack([random.uniform(-2, 2, size=6000), random.normal(size=6000)])
    return x, random.normal(true_mean(x), true_noise(x))


@pytest.fixture(scope="module")
def found(toy):
    x, energies = toy
    return local_noise(x, energies, true_mean(x), true_noise(x), clusters=(20, 40), progress=False)


def test_local_noise_is_the_true_one_within_its_statistical_error(toy, found):
    """The predictor being right, deviations over errors are a sample of a standard normal distribution."""
    assert len(found.noise) > 50 and set(found.clustering) == {0, 1}
    for value, error, predicted in (
        (found.noise, found.noise_error, found.predicted_noise),
        (found.mean, found.mean_error, found.predicted_mean),
    ):
        standardised = (value - predicted) / error
        assert abs(standardised.mean()) < 4 / np.sqrt(len(value))
        assert standardised.std() == pytest.approx(1, abs=0.35)
    # From 0.05 eV in the middle to 0.21 eV at the ends.
    assert found.predicted_noise.max() > 2.5 * found.predicted_noise.min()
    assert np.corrcoef(found.noise, found.predicted_noise)[0, 1] > 0.95


def test_the_average_local_noise_is_the_noise_of_all_frames(toy, found):
    x, energies = toy
    for power in (1, 2):
        exact = np.mean(true_noise(x) ** power) ** (1 / power)
        value, error = found.average(power)
        assert error < 0.02 * exact
        # Of a cluster, the root mean square is found, which is a little more than the mean.
        assert value == pytest.approx(exact, abs=3 * error + 0.02 * (2 - power) * exact)
    rmse = average_noise(energies - true_mean(x))
    assert rmse.value == pytest.approx(found.average().value, rel=0.03)


def test_a_wrong_predictor_is_found_out(toy, found):
    """Figure 5: a constant width is wrong by its distance from the true ones, a shifted mean by the shift."""
    x, energies = toy
    width = np.full(len(x), np.sqrt(np.mean(true_noise(x) ** 2)))
    wrong = local_noise(x, energies, true_mean(x) + 0.05, width, clusters=(20, 40), progress=False)
    mean, noise = wrong.discrepancy()
    assert mean == pytest.approx(0.05, rel=0.1)
    assert noise == pytest.approx(true_noise(x).std(), rel=0.2)
    # The shift does not count as noise, and a right predictor is off by no more than the sampling.
    assert wrong.average().value == pytest.approx(found.average().value, rel=0.01)
    mean, noise = found.discrepancy()
    assert mean < 1.3 * np.sqrt(np.mean(found.mean_error**2))
    assert noise < 1.3 * np.sqrt(np.mean(found.noise_error**2))


def test_without_subtracting_the_mean_its_variation_is_noise(toy, found):
    x, energies = toy
    flat = local_noise(x, energies, np.full(len(x), -6.0), true_noise(x), clusters=(20,), progress=False)
    assert flat.average().value > 1.02 * found.average().value


def test_small_clusters_are_left_out(toy):
    x, energies = toy
    arguments = (x[:300], energies[:300], true_mean(x[:300]), true_noise(x[:300]))
    kept = local_noise(*arguments, clusters=(20,), least_members=15, progress=False)
    assert 0 < len(kept.members) < 20 and min(map(len, kept.members)) >= 15
    with pytest.raises(ValueError, match="no cluster has 400 of the 300 frames; take fewer clusters"):
        local_noise(*arguments, clusters=(20,), least_members=400, progress=False)


def test_conditional_noise_has_true_errors():
    random = np.random.default_rng(5)
    found = [conditional_noise(random.normal(-6, 0.1, size=500)) for _ in range(60)]
    for kind, exact in (("mean", -6.0), ("noise", 0.1)):
        values, errors = np.array([getattr(each, kind) for each in found]).T
        assert values.mean() == pytest.approx(exact, abs=4 * values.std() / np.sqrt(60))
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3)
    assert found[0].samples == pytest.approx(500)


def test_weights_turn_one_distribution_into_another():
    """Normal energies weighted with exp(aE) are shifted by aσ² and as wide as before."""
    random = np.random.default_rng(6)
    energies = random.normal(size=20_000)
    mean, noise, samples = conditional_noise(energies, np.exp(0.7 * energies))
    assert mean.value == pytest.approx(0.7, abs=4 * mean.error)
    assert noise.value == pytest.approx(1.0, abs=4 * noise.error)
    assert samples == pytest.approx(20_000 * np.exp(-(0.7**2)), rel=0.1)


def test_the_noise_of_a_cluster_is_that_of_all_its_energies_together():
    """Equation 18 against the mixture itself."""
    random = np.random.default_rng(7)
    mean, width = random.normal(-6, 0.2, size=50), random.uniform(0.05, 0.3, size=50)
    assert total_noise(mean, width) == pytest.approx(DensityOfStates(mean, width).spread)
    energies = random.normal(mean, width, size=(20_000, 50))
    assert total_noise(mean, width) == pytest.approx(energies.std(), rel=0.01)
    weights = np.zeros(50)
    weights[3] = 2.0
    assert total_noise(mean, width, weights) == pytest.approx(width[3])


def test_normal_groups_are_rejected_as_often_as_the_significance_says():
    random = np.random.default_rng(8)
    normal = [random.normal(-6, 0.1, size=250) for _ in range(200)]
    for significance in (0.05, 0.2):
        found = shapiro_wilk(normal, [20, 100], repeats=5, significance=significance)
        np.testing.assert_allclose(found.fraction, significance, atol=4 * np.sqrt(significance / 200))


def test_more_samples_reject_more_often_what_is_not_normal():
    """The power of the test is that of the same test done by hand."""
    random = np.random.default_rng(9)
    skewed = [random.gumbel(size=250) for _ in range(60)]
    found = shapiro_wilk(skewed, [20, 60, 250], repeats=5)
    assert (np.diff(found.fraction) > 0.1).all()
    by_hand = np.mean([stats.shapiro(group).pvalue < 0.05 for group in skewed])
    assert found.fraction[-1] == pytest.approx(by_hand) and found.error[-1] == 0


def test_average_noise_has_a_true_error():
    random = np.random.default_rng(10)
    found = np.array([average_noise(random.normal(0, 0.1, size=2000), blocks=20) for _ in range(80)])
    assert found[:, 0].mean() == pytest.approx(0.1, rel=0.005)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=0.3)
    assert average_noise(np.full(50, 0.2), power=1) == pytest.approx((0.2, 0.0))


def test_curves_tell_where_information_is_lost():
    """Bithiophene: between six and four beads the inter-ring dihedral goes."""
    noise = {4: 0.14, 10: 0.07, 6: 0.09, 8: 0.08}
    curves = noise_curves({beads: {"RMSE": Estimate(value, 0.01)} for beads, value in noise.items()})
    assert curves["RMSE"].x.tolist() == [4, 6, 8, 10]
    assert curves["RMSE"].value.tolist() == [0.14, 0.09, 0.08, 0.07]
    below, above, factor = curves["RMSE"].largest_rise()
    assert (below, above) == (4, 6) and factor == pytest.approx(0.14 / 0.09)


def test_maps_are_ranked_by_what_they_leave_uncertain():
    random = np.random.default_rng(11)
    common = random.uniform(0.05, 0.15, size=2000)
    ranking = rank_maps({"frames": common + 0.01, "best": common, "worst": common * 2})
    assert [each.name for each in ranking] == ["best", "frames", "worst"]
    # What the frames have in common does not blur the difference.
    assert ranking[1].excess == pytest.approx((0.01, 0.0), abs=1e-9)
    assert ranking[1].noise.error > 1e-4
    assert ranking[0].excess == (0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_noise(np.zeros(9), *np.zeros((3, 9))), r"features have the shape \[9\]"),
        (lambda: local_noise(np.zeros((9, 2)), *np.zeros((3, 8))), r"energies has the shape \[8\]; there are 9 frames"),
        (lambda: local_noise(np.zeros((9, 2)), *np.zeros((3, 9))), "9 frames cannot be put into"),
        (lambda: conditional_noise([1.0, np.nan]), "energies has 1 entries that are not finite"),
        (lambda: conditional_noise(np.zeros(10)), "10 frames cannot be cut into 10 blocks; give 2 to 5"),
        (lambda: conditional_noise(np.zeros(40), np.zeros(40)), "nor all be zero"),
        (lambda: shapiro_wilk([np.zeros(10)], [20]), "no group has the 20 frames"),
        (lambda: shapiro_wilk([np.zeros(10)], [2]), "the test takes 3 to 5000 samples"),
        (lambda: average_noise(np.ones(3)), "3 values cannot be cut into 10 blocks"),
        (lambda: rank_maps({}), "no maps"),
        (lambda: rank_maps({"a": np.ones(30), "b": np.ones(20)}), "b has the shape"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
