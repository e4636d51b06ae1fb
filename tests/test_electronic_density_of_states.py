"""Densities of states of mixtures whose answer is known, and error bars that are true."""

import numpy as np
import pytest
from scipy import integrate, stats

from openmmcg.electronic import DensityOfStates, common_edges


@pytest.fixture(scope="module")
def mixture():
    """Two kinds of frames; a quarter of them is higher in energy, and less certain."""
    high = np.arange(4000) % 4 == 0
    return DensityOfStates(np.where(high, -5.5, -6.2), np.where(high, 0.15, 0.08))


def exact(function, energy):
    return 0.25 * function(energy, -5.5, 0.15) + 0.75 * function(energy, -6.2, 0.08)


def test_density_and_cumulative_probability_are_those_of_the_mixture(mixture):
    energy = np.linspace(-7, -4.5, 301).reshape(7, 43)
    np.testing.assert_allclose(mixture.density(energy).value, exact(stats.norm.pdf, energy), rtol=1e-12)
    np.testing.assert_allclose(mixture.cumulative(energy).value, exact(stats.norm.cdf, energy), rtol=1e-12)
    line = np.linspace(-8, -3.5, 4001)
    assert integrate.simpson(mixture.density(line).value, x=line) == pytest.approx(1, abs=1e-9)
    assert mixture.average == pytest.approx(0.25 * -5.5 + 0.75 * -6.2)
    second = integrate.simpson((line - mixture.average) ** 2 * exact(stats.norm.pdf, line), x=line)
    assert mixture.spread == pytest.approx(np.sqrt(second), rel=1e-8)


def test_far_tails_keep_their_digits(mixture):
    for energy in (-4.0, -3.5):
        assert mixture.tail(energy, upper=True).value == pytest.approx(
            0.25 * stats.norm.sf(energy, -5.5, 0.15), rel=1e-10
        )
    assert mixture.tail(-7.2).value == pytest.approx(exact(stats.norm.cdf, -7.2), rel=1e-10)
    assert mixture.tail(-6.0).value + mixture.tail(-6.0, upper=True).value == pytest.approx(1)


def test_quantiles_invert_the_cumulative_probability(mixture):
    probability = np.array([1e-6, 0.01, 0.5, 0.75, 0.99])
    np.testing.assert_allclose(mixture.cumulative(mixture.quantile(probability).value).value, probability, rtol=1e-9)
    gaussian = DensityOfStates(np.full(20, -5.0), 0.2)
    np.testing.assert_allclose(gaussian.quantile(probability).value, stats.norm.ppf(probability, -5.0, 0.2), atol=1e-9)


def test_two_normal_distributions_overlap_as_their_distance_says():
    """For equal widths the integral of the smaller is 2 Φ(−d / 2σ)."""
    first = DensityOfStates(np.full(50, -5.0), 0.2)
    for distance in (0.0, 0.1, 0.3, 1.0):
        second = DensityOfStates(np.full(50, -5.0 + distance), 0.2)
        edges = common_edges(first, second, bins=400)
        assert first.overlap(second, edges).value == pytest.approx(2 * stats.norm.cdf(-distance / 0.4), abs=1e-4)
        assert first.overlap(second).value == pytest.approx(2 * stats.norm.cdf(-distance / 0.4), abs=0.01)
    assert first.overlap(DensityOfStates(np.full(50, 5.0), 0.2)).value == pytest.approx(0, abs=1e-6)


def test_bins_take_plain_samples_and_mixtures_alike(mixture):
    edges = np.linspace(-7, -4.5, 26)
    np.testing.assert_allclose(
        mixture.bin_probabilities(edges).value, np.diff(exact(stats.norm.cdf, edges)), rtol=1e-9, atol=1e-15
    )
    labels = np.random.default_rng(0).normal(-6, 0.3, size=997)
    counts = np.histogram(labels, edges)[0]
    np.testing.assert_allclose(DensityOfStates(labels).bin_probabilities(edges).value, counts / 997, atol=1e-12)


def test_samples_of_a_density_are_distributed_by_it(mixture):
    energies = mixture.sample(20_000, seed=3)
    statistic = stats.kstest(energies, lambda energy: exact(stats.norm.cdf, energy))
    assert statistic.pvalue > 0.01
    np.testing.assert_array_equal(energies, mixture.sample(20_000, seed=3))
    overlap = DensityOfStates(energies).overlap(mixture)
    # 40 bins of 20 000 energies, see the notes of `overlap`.
    assert 1 - 2 * 0.4 * np.sqrt(40 / 20_000) < overlap.value < 1


def test_means_alone_have_too_little_in_the_tails(mixture):
    """Figure 7 of the paper: the width given the beads is part of the density of states."""
    alone = mixture.means_alone()
    assert alone.tail(-6.3).value == 0 and mixture.tail(-6.3).value > 0.07
    assert alone.spread < mixture.spread
    assert mixture.overlap(alone).value < 0.5


def independent_frames(random, center=-6.0, frames=2000):
    mean = random.normal(center, 0.2, size=frames)
    return DensityOfStates(mean, 0.1 + 0.05 * (mean > center), blocks=20)


@pytest.mark.parametrize(
    "quantity",
    [
        lambda random: independent_frames(random).tail(-6.4),
        lambda random: independent_frames(random).density(-5.7),
        lambda random: independent_frames(random).quantile(0.01),
        lambda random: independent_frames(random).means_alone().quantile(0.9),
        lambda random: independent_frames(random).overlap(independent_frames(random, center=-5.8)),
    ],
    ids=["tail", "density", "quantile", "quantile of a sample", "overlap"],
)
def test_error_bars_are_the_spread_over_repeated_samples(quantity):
    random = np.random.default_rng(1)
    estimates = [quantity(random) for _ in range(60)]
    values, errors = np.array([(each.value, each.error) for each in estimates]).T
    # 60 repeats give the spread within 9 %; the errors of 20 blocks scatter by 16 %, their mean by 2 %.
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.25)


def test_blocks_longer_than_the_memory_give_the_error_of_the_independent_frames():
    distinct = np.random.default_rng(2).normal(-6, 0.2, size=100)
    memory = np.repeat(distinct, 50)
    true = DensityOfStates(distinct, 0.1, blocks=20).tail(-6.0).error
    short, long = (DensityOfStates(memory, 0.1, blocks=blocks).tail(-6.0).error for blocks in (2500, 20))
    assert long == pytest.approx(true)
    assert long / short == pytest.approx(np.sqrt(50 / 2), rel=0.35)


def test_molecules_of_one_frame_stay_in_one_block():
    """Twenty molecules that move as one are no more than one."""
    random = np.random.default_rng(4)
    one = random.normal(-6, 0.2, size=400)
    many = DensityOfStates(np.repeat(one[:, None], 20, axis=1), 0.1)
    np.testing.assert_allclose(many.tail(-6.2).error, DensityOfStates(one, 0.1).tail(-6.2).error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(0),), "no empty ones"),
        ((np.zeros((2, 2, 2)),), r"give \[frames\] or \[frames, molecules\]"),
        ((np.zeros(20), np.ones(19)), r"shape \[20\] and standard deviations of shape \[19\]"),
        ((np.array([0.0, np.nan]), 1.0, 2), "must be finite"),
        ((np.zeros(20), -1.0), "not negative"),
        ((np.zeros(5), 1.0), "5 frames cannot be cut into 10 blocks; choose 1 to 5"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DensityOfStates(*arguments)


def test_questions_that_make_no_sense_are_refused(mixture):
    with pytest.raises(ValueError, match="has no density; take probabilities of bins"):
        mixture.means_alone().density(-6.0)
    with pytest.raises(ValueError, match="between 0 and 1, both excluded"):
        mixture.quantile(1.0)
    with pytest.raises(ValueError, match="increasing energies"):
        mixture.bin_probabilities([1.0, 0.5])
    assert np.isnan(DensityOfStates(np.zeros(3), 1.0, blocks=1).tail(0.5).error)
