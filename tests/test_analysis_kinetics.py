"""Time scales, populations and basins of processes whose generator is known."""

import numpy as np
import pytest

from openmmcg.analysis import basin_populations, histogram
from openmmcg.analysis.kinetics import (
    ImpliedTimescales,
    assign_states,
    cluster_centers,
    implied_timescales,
    last_core,
    markov_model,
    tica,
    tica_timescales,
    timescale_factor,
)

# Reversible, with the stationary distribution below.
STATIONARY = np.array([0.5, 0.3, 0.2])
FLOW = np.array([[0.0, 0.01, 0.002], [0.01, 0.0, 0.02], [0.002, 0.02, 0.0]])
CHAIN = FLOW / STATIONARY[:, None] + np.diag(1 - FLOW.sum(axis=1) / STATIONARY)


def trajectories(matrix, starts, frames, seed=0):
    """Markov chains, one for each start."""
    random = np.random.default_rng(seed)
    cumulative = matrix.cumsum(axis=1)
    states = np.empty((frames, len(starts)), dtype=int)
    states[0] = starts
    for step in range(1, frames):
        states[step] = (random.random((len(starts), 1)) > cumulative[states[step - 1]]).sum(axis=1)
    return list(states.T)


def exact_timescales(matrix, interval=1.0):
    eigenvalues = np.sort(np.linalg.eigvals(matrix).real)[::-1]
    return -interval / np.log(eigenvalues[1:])


def test_a_three_state_chain_has_the_time_scales_of_its_matrix():
    runs = trajectories(CHAIN, np.arange(20) % 3, 5000)
    exact = exact_timescales(CHAIN, interval=0.5)
    scales = implied_timescales(runs, [0.5, 1.0, 5.0], 0.5, number=3, blocks=20, progress=False)
    for value, error in zip(scales.value, scales.error, strict=True):
        assert (abs(value[:2] - exact) < 4 * error[:2]).all()
        assert (error[:2] < 0.2 * exact).all()
    assert np.isnan(scales.value[:, 2]).all() and np.isnan(scales.error[:, 2]).all()
    model = markov_model(runs, 0.5, 0.5)
    np.testing.assert_allclose(model.transition_matrix, CHAIN, atol=0.01)
    np.testing.assert_allclose(model.timescales, scales.value[0, :2])
    flow = model.stationary[:, None] * model.transition_matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-8)


def test_the_error_of_a_time_scale_is_its_spread_over_independent_samples():
    samples = [
        implied_timescales(
            trajectories(CHAIN, np.arange(20) % 3, 500, seed), [1.0], 1.0, number=1, resamples=40, progress=False
        )
        for seed in range(25)
    ]
    spread = np.std([sample.value[0, 0] for sample in samples])
    assert np.sqrt(np.mean([sample.error[0, 0] ** 2 for sample in samples])) == pytest.approx(spread, rel=0.4)


def test_weights_of_a_markov_model_undo_the_choice_of_the_starts():
    """Many short trajectories from the rarest state are far from equilibrium; weighted, they are at it."""
    runs = trajectories(CHAIN, np.full(2000, 2), 30, seed=1)
    counted = np.bincount(np.concatenate(runs)) / (2000 * 30)
    assert counted[2] > 2 * STATIONARY[2]
    model = markov_model(runs, 1.0, 1.0)
    weights = model.frame_weights()
    assert sum(weight.sum() for weight in weights) == pytest.approx(1)
    populations = basin_populations(runs, ["a", "b", "c"], weights=weights)
    np.testing.assert_allclose(populations.value, STATIONARY, atol=0.03)
    np.testing.assert_allclose(
        histogram(runs, [np.arange(-0.5, 3)], weights=weights).probability, model.stationary, atol=1e-10
    )


def test_states_that_are_never_left_are_outside_the_model():
    runs = [*trajectories(CHAIN, [0, 1], 2000), np.full(100, 5), np.full(100, -1)]
    model = markov_model(runs, 1.0, 1.0)
    assert model.active.tolist() == [0, 1, 2]
    assert model.active_share == pytest.approx(4000 / 4200)
    weights = model.frame_weights()
    assert (weights[2] == 0).all() and (weights[3] == 0).all()
    basins = model.basins(2)
    assert (basins[2] == -1).all() and (basins[3] == -1).all() and (basins[0] >= 0).all()


def test_pcca_finds_the_metastable_pairs_the_most_populated_first():
    # States {1, 3} and {0, 2} exchange quickly within and rarely between.
    matrix = np.array([[0.6, 0.0, 0.395, 0.005], [0.0, 0.6, 0.0, 0.4], [0.4, 0.0, 0.6, 0.0], [0.002, 0.398, 0.0, 0.6]])
    runs = trajectories(matrix, [0, 1, 2, 3], 20000)
    model = markov_model(runs, 1.0, 1.0)
    for run, basin in zip(runs, model.basins(2), strict=True):
        np.testing.assert_array_equal(basin, np.where(np.isin(run, [1, 3]), 0, 1))


def oscillators(memory, frames, runs, seed=0):
    """Independent autoregressions of variance 1, [runs, frames, len(memory)]."""
    random, memory = np.random.default_rng(seed), np.asarray(memory)
    values = np.empty((frames, runs, len(memory)))
    values[0] = random.normal(size=values.shape[1:])
    for step in range(1, frames):
        values[step] = memory * values[step - 1] + np.sqrt(1 - memory**2) * random.normal(size=values.shape[1:])
    return np.moveaxis(values, 0, 1)


MIXTURE = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0], [1.5, 0.2, -0.7]])


def test_tica_separates_mixed_processes_and_knows_their_time_scales():
    memory = np.array([0.98, 0.9, 0.3])
    processes = oscillators(memory, 5000, 10)
    features = list(processes @ MIXTURE)
    slow = tica(features, lag=0.4, interval=0.2, dimensions=3)
    exact = -0.2 / np.log(memory)
    np.testing.assert_allclose(slow.timescales[:2], exact[:2], rtol=0.1)
    found = slow.transform(features[0])
    assert found.shape == (5000, 3)
    for dimension in range(2):
        assert abs(np.corrcoef(found[:, dimension], processes[0, :, dimension])[0, 1]) > 0.97
    scales = tica_timescales(features, [0.2, 0.4], 0.2, number=2, resamples=20, progress=False)
    assert (abs(scales.value - exact[:2]) < 4 * scales.error).all()
    np.testing.assert_allclose(scales.value[1], slow.timescales[:2])


def double_well(walkers, frames, step=0.005, stride=20, seed=0):
    """Overdamped motion in U/k_B T = 2.5 (x² − 1)² with diffusion constant 1."""
    random = np.random.default_rng(seed)
    x = random.choice([-1.0, 1.0], size=walkers)
    saved = np.empty((frames, walkers))
    for frame in range(frames):
        for _ in range(stride):
            x = x - step * 10 * x * (x**2 - 1) + np.sqrt(2 * step) * random.normal(size=walkers)
        saved[frame] = x
    return list(saved.T[..., None])


def test_a_double_well_has_the_slowest_time_scale_of_its_smoluchowski_operator():
    edges = np.linspace(-2.5, 2.5, 501)
    x, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    energy = 2.5 * (x**2 - 1) ** 2
    # Jump rates between neighbouring cells with detailed balance, symmetrised.
    rate = np.exp(-(energy[1:] - energy[:-1]) / 2) / width**2
    back = np.exp((energy[1:] - energy[:-1]) / 2) / width**2
    generator = np.diag(np.sqrt(rate * back), 1) + np.diag(np.sqrt(rate * back), -1)
    generator -= np.diag(np.append(rate, 0) + np.append(0, back))
    exact = -1 / np.sort(np.linalg.eigvalsh(generator))[-2]

    walks = double_well(40, 1200)
    states = assign_states(walks, cluster_centers(walks, 40))
    scales = implied_timescales(states, [0.1, 0.5, 1.0], 0.1, number=1, blocks=40, progress=False)
    value, error = scales.longest(0.5)
    assert value == pytest.approx(exact, abs=3 * error + 0.05 * exact)
    assert error < 0.2 * exact
    model = markov_model(states, 0.5, 0.1)
    x, basin = np.concatenate(walks)[:, 0], np.concatenate(model.basins(2))
    inside = abs(x) > 0.5
    assert len(set(zip((x[inside] > 0).tolist(), basin[inside].tolist(), strict=True))) == 2
    weights = model.frame_weights()
    counted = histogram(walks, [np.linspace(-2, 2, 21)], weights=weights).probability
    centers = np.linspace(-1.9, 1.9, 20)
    boltzmann = np.exp(-2.5 * (centers**2 - 1) ** 2)
    np.testing.assert_allclose(counted, boltzmann / boltzmann.sum(), atol=0.03)


def test_twice_the_interval_is_half_the_factor():
    runs = trajectories(CHAIN, np.arange(20) % 3, 3000)
    slow = implied_timescales(runs, [4.0], 2.0, number=1, progress=False)
    fast = implied_timescales(runs, [2.0], 1.0, number=1, progress=False)
    factor, error = timescale_factor(slow.longest(4.0), fast.longest(2.0))
    assert factor == pytest.approx(2)
    assert error == pytest.approx(2 * np.sqrt(2) * fast.error[0, 0] / fast.value[0, 0])


def test_frames_between_cores_belong_to_the_last_one():
    first, second = last_core([np.array([-1, 2, -1, 0, -1]), np.array([1, -1, -1])])
    assert first.tolist() == [-1, 2, 2, 0, 0] and second.tolist() == [1, 1, 1]


def test_one_short_trajectory_has_no_error():
    scales = implied_timescales(trajectories(CHAIN, [0], 1000)[0], [1.0], 1.0, blocks=1, progress=False)
    assert np.isfinite(scales.value[0, 0]) and np.isnan(scales.error).all()


STATES = np.array([0, 1, 0, 1, 1, 0])
FEATURES = np.random.default_rng(0).normal(size=(10, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: markov_model(STATES, 1.5, 1.0), "lag of 1.5 ps is not a multiple of .*, 1 ps"),
        (lambda: markov_model(STATES, 6.0, 1.0), "6 frames and the longest trajectory has 6"),
        (lambda: markov_model(STATES, 1.0, 0.0), "must be positive, not 0 ps"),
        (lambda: markov_model(np.zeros(9, dtype=int), 1.0, 1.0), "no two states are connected"),
        (lambda: markov_model(np.array([0.5, 1.0]), 1.0, 1.0), "states of trajectory 0 must be integers"),
        (lambda: markov_model(np.array([0, -2]), 1.0, 1.0), "states of trajectory 0 must be integers"),
        (lambda: markov_model([], 1.0, 1.0), "there are no frames"),
        (lambda: markov_model(STATES, 1.0, 1.0).basins(3), "must be 2 to 2, the active states, not 3"),
        (lambda: tica([FEATURES, FEATURES[:, :1]], 1.0, 1.0), r"trajectory 1 has the shape \[10, 1\]"),
        (lambda: tica(FEATURES * [1, np.nan], 1.0, 1.0), "frame 0 of trajectory 0 .* not finite"),
        (lambda: cluster_centers(FEATURES, 11), "must be 1 to 10, the frames, not 11"),
        (lambda: timescale_factor((np.nan, 1.0), (1.0, 1.0)), "none was resolved"),
        (
            lambda: ImpliedTimescales(np.array([1.0]), np.ones((1, 1)), np.ones((1, 1))).longest(2.0),
            r"no lag of 2 ps; the lags are \[1.0\] ps",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
