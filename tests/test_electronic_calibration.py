"""Scores of error bars that are known to be true or false, and their correction."""

import numpy as np
import pytest
from scipy import stats

from openmmcg.electronic import recalibrate, scores

FRAMES = 40000


@pytest.fixture
def truth():
    """Means, variances that differ from frame to frame, and energies drawn with them."""
    random = np.random.default_rng(0)
    mean = random.normal(-9.0, 0.3, FRAMES)
    variance = np.exp(random.normal(-4.0, 1.0, FRAMES))
    return mean, variance, mean + np.sqrt(variance) * random.normal(size=FRAMES)


def test_true_error_bars_score_as_the_normal_distribution_says(truth):
    mean, variance, energies = truth
    found = scores(mean, np.sqrt(variance), energies)
    assert found.standardised_deviation == pytest.approx(1.0, abs=0.015)
    assert found.coverage_68 == pytest.approx(0.68, abs=0.01)
    assert found.coverage_95 == pytest.approx(0.95, abs=0.005)
    density = stats.norm(mean, np.sqrt(variance)).logpdf(energies).mean()
    assert found.negative_log_density == pytest.approx(-density, rel=1e-9)
    assert found.rmse == pytest.approx(np.sqrt(variance.mean()), rel=0.02)
    assert found.r_squared == pytest.approx(1 - variance.mean() / energies.var(), abs=0.02)


def test_error_bars_four_times_too_wide_show(truth):
    mean, variance, energies = truth
    found = scores(mean, 4 * np.sqrt(variance), energies)
    assert found.standardised_deviation == pytest.approx(0.25, abs=0.005)
    assert found.negative_log_density > scores(mean, np.sqrt(variance), energies).negative_log_density


@pytest.mark.parametrize("scale, exponent", [(1.0, 1.0), (16.0, 1.0), (0.5, 1.0), (2.0, 0.5), (1.0, 2.0)])
def test_recalibration_finds_what_was_done_to_the_error_bars(truth, scale, exponent):
    mean, variance, energies = truth
    spoiled = scale * variance**exponent
    correction = recalibrate(mean, spoiled, energies)
    assert correction.exponent == pytest.approx(1 / exponent, rel=0.03)
    np.testing.assert_allclose(correction.factor(spoiled) * spoiled, variance, rtol=0.12)
    assert abs(correction.shift) < 0.002


def test_recalibration_finds_the_level_of_the_means(truth):
    mean, variance, energies = truth
    correction = recalibrate(mean + 0.05, variance, energies)
    assert correction.shift == pytest.approx(-0.05, abs=4 / np.sqrt(np.sum(1 / variance)))
    assert correction.exponent == pytest.approx(1, rel=0.03)


def test_recalibration_does_not_depend_on_the_unit(truth):
    mean, variance, energies = truth
    electronvolt = recalibrate(mean, 3 * variance, energies)
    millielectronvolt = recalibrate(1e3 * mean, 3e6 * variance, 1e3 * energies)
    np.testing.assert_allclose(electronvolt.factor(3 * variance), millielectronvolt.factor(3e6 * variance), rtol=1e-4)


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        scores(np.zeros(3), np.ones(3), np.zeros(4))


@pytest.mark.parametrize("judge", [scores, recalibrate])
@pytest.mark.parametrize(
    "broken", [([np.nan, 0.0], [1, 1], [0, 0]), ([0, 0], [1, 0], [0, 0]), ([0, 0], [1, 1], [0, np.inf])]
)
def test_distributions_that_are_none_are_refused(judge, broken):
    with pytest.raises(ValueError, match="1 of 2 frames"):
        judge(*broken)
