"""Autocorrelation times are those of processes whose memory is known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from openmmcg.analysis.autocorrelation import autocorrelation, autocorrelation_time, effective_samples, on_circle


def first_order_process(memory, frames, seed=0, runs=1):
    """x' = memory·x + noise, in equilibrium from the start, variance 1: C(t) = memory^t."""
    random = np.random.default_rng(seed)
    noise = np.sqrt(1 - memory**2) * random.normal(size=(frames, runs))
    noise[0] = random.normal(size=runs)
    return lfilter([1.0], [1.0, -memory], noise, axis=0).T


@pytest.mark.parametrize("memory", [-0.5, 0.0, 0.5, 0.9, 0.98])
def test_the_time_of_a_first_order_process_is_the_sum_of_its_geometric_series(memory):
    (series,) = first_order_process(memory, 200_000)
    exact = 0.5 + memory / (1 - memory)
    # Sokal's estimate of its own error, window of five times.
    error = exact * np.sqrt(2 * (2 * 5 + 1) * exact / len(series))
    assert autocorrelation_time(series, interval=0.5) == pytest.approx(0.5 * exact, abs=0.5 * 3 * error + 0.01)
    np.testing.assert_allclose(autocorrelation(series)[:5], memory ** np.arange(5.0), atol=0.05)


def test_effective_samples_give_the_variance_of_the_mean():
    runs = first_order_process(0.9, 2_000, runs=2_000)
    of_one = np.mean([effective_samples(run) for run in runs[:200]])
    # Each estimate has an error of about 15 %, and all of them a bias from the mean that was taken out.
    assert 1 / np.var(runs.mean(axis=1)) == pytest.approx(of_one, rel=0.12)


def test_numbers_that_cancel_are_worth_more_than_their_number():
    assert 10 < effective_samples([1.0, -1.0] * 5) <= 10**2


def test_several_runs_are_worth_their_sum_and_runs_that_stay_apart_are_worth_little():
    runs = first_order_process(0.8, 20_000, runs=4)
    assert effective_samples(*runs) == pytest.approx(sum(effective_samples(run) for run in runs), rel=0.1)
    stuck = [run + offset for run, offset in zip(runs, (-5, 5, -5, 5), strict=True)]
    assert effective_samples(*stuck) < 0.01 * effective_samples(*runs)


def test_an_angle_that_jumps_at_half_a_turn_is_continuous_on_the_circle():
    (walk,) = np.cumsum(np.random.default_rng(3).normal(scale=0.1, size=(1, 100_000)), axis=1)
    wrapped = (walk + np.pi) % (2 * np.pi) - np.pi
    # Diffusion on a circle: the cosine decays as exp(-variance t / 2).
    assert autocorrelation_time(on_circle(wrapped)) == pytest.approx(2 / 0.1**2, rel=0.25)


@pytest.mark.parametrize(
    ("series", "message"),
    [([1.0], "at least two frames"), ([1.0, np.nan, 2.0], "not finite"), ([2.0, 2.0, 2.0], "never changes")],
)
def test_series_without_a_time_are_refused(series, message):
    with pytest.raises(ValueError, match=message):
        autocorrelation_time(series)
