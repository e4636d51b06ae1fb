"""The noise-equivalent σ of models whose error is a known noise."""

import numpy as np
import pytest

from openmmcg.analysis import (
    dihedral_edges,
    dihedrals,
    histogram,
    kl_divergence,
    mean_squared_difference,
    noise_curve,
)

EDGES = [np.linspace(-0.12, 0.12, 41)]
WIDTH = 0.02


def first_x(positions):
    return positions[:, 0, :1]


def well(frames, width=WIDTH, seed=0):
    return np.random.default_rng([seed, 7]).normal(scale=width, size=(frames, 1, 3))


@pytest.fixture(scope="module")
def curve():
    return noise_curve([well(5000, seed=10 + seed) for seed in range(10)], first_x, EDGES, trials=3, progress=False)


def test_the_curve_of_a_harmonic_well_is_the_divergence_of_gaussians(curve):
    ratio = (WIDTH**2 + curve.sigma**2) / WIDTH**2
    expected = (np.log(ratio) + 1 / ratio - 1) / 2
    values = curve.measured(kl_divergence)
    assert values.shape == (3, 31)
    assert (values[:, 0] == 0).all()
    np.testing.assert_allclose(values, np.tile(expected, (3, 1)), atol=0.005)
    assert (np.diff(values[:, 2:]) > 0).all()


@pytest.mark.parametrize("measure", [kl_divergence, mean_squared_difference])
def test_a_model_with_added_noise_is_equivalent_to_it(curve, measure):
    noise = 0.012
    model = histogram([first_x(well(5000, np.hypot(WIDTH, noise), 100 + seed)) for seed in range(10)], EDGES)
    equivalent = curve.equivalent(model, measure)
    assert equivalent.sigma == pytest.approx(noise, abs=3 * equivalent.error + 1e-3)
    assert 0 < equivalent.error < 3e-3
    assert str(equivalent).startswith(f"{10 * equivalent.sigma:.3f} ± {10 * equivalent.error:.3f} Å")
    assert equivalent.beyond == 0


def test_the_error_is_the_spread_over_independent_models_and_references():
    results = []
    for seed in range(25):
        reference = [well(400, seed=1000 * seed + part) for part in range(10)]
        model = [first_x(well(400, np.hypot(WIDTH, 0.015), 1000 * seed + 500 + part)) for part in range(10)]
        curve = noise_curve(reference, first_x, EDGES, trials=2, sigma=np.arange(0, 0.04, 0.002), progress=False)
        results.append(curve.equivalent(histogram(model, EDGES), resamples=50))
    spread = np.std([result.sigma for result in results])
    assert np.sqrt(np.mean([result.error**2 for result in results])) == pytest.approx(spread, rel=0.5)


def test_the_reference_itself_needs_no_noise(curve):
    equivalent = curve.equivalent(curve.reference)
    assert equivalent.sigma == 0 and equivalent.value == 0
    assert "does not exceed the curve without noise" in str(equivalent)


def test_a_model_beyond_the_curve_is_said_to_be(curve):
    model = histogram(first_x(well(5000, 0.06)), EDGES)
    equivalent = curve.equivalent(model)
    assert equivalent.sigma == np.inf and equivalent.beyond == 1 and np.isnan(equivalent.error)
    assert str(equivalent).startswith("above 0.30 Å: the model's")


def test_a_model_without_one_of_two_wells_is_said_to_miss_it():
    reference = np.concatenate([well(3000), well(1000, seed=1) + 0.5])
    edges = [np.linspace(-0.2, 0.7, 19)]
    curve = noise_curve(reference[np.random.default_rng(0).permutation(4000)], first_x, edges, progress=False)
    equivalent = curve.equivalent(histogram(first_x(well(4000, seed=2)), edges))
    assert equivalent.missed == pytest.approx(0.25, abs=0.01)
    # All bins that are left are over-populated, so that the sum without the others is negative.
    assert equivalent.value < 0 and equivalent.sigma == 0
    assert "25.0 % of the reference missed" in str(equivalent)


def test_dihedrals_are_perturbed_by_noise_on_the_beads():
    """For small noise a dihedral scatters by σ times the norm of its gradient, the same for both curves."""
    chain = np.array([[0.1, 0.1, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.15], [-0.1, 0.1, 0.15]])
    sigma = 1e-4
    gradient = np.zeros((4, 3))
    for index in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[index] = 1e-6
        angle = dihedrals(np.stack([chain + step, chain - step]), [[0, 1, 2, 3]])[:, 0]
        gradient[index] = (angle[0] - angle[1]) / 2e-6
    center = dihedrals(chain[None], [[0, 1, 2, 3]])[0, 0]
    expected = sigma * np.linalg.norm(gradient)
    edges = center + expected * np.array([-100, -1.0, 1.0, 100])
    curve = noise_curve(
        np.tile(chain, (20000, 1, 1)), lambda x: dihedrals(x, [[0, 1, 2, 3]]), [edges], sigma=[0, sigma], progress=False
    )
    within = curve.perturbed[:, 1, :, 1].sum(axis=1) / 20000
    np.testing.assert_allclose(within, 0.6827, atol=0.02)


def test_weights_go_with_their_frames():
    frames = np.concatenate([well(300), well(300, seed=1) + 0.08])
    weights = np.repeat([1.0, 0.0], 300)
    weighted = noise_curve(frames, first_x, EDGES, weights=weights, blocks=2, progress=False)
    alone = noise_curve(well(300), first_x, EDGES, blocks=1, progress=False)
    np.testing.assert_array_equal(weighted.perturbed[0, :, 0], alone.perturbed[0, :, 0])
    assert (weighted.perturbed[:, :, 1] == 0).all()


def test_many_trajectories_are_put_together_into_blocks():
    runs = [well(20 + run, seed=run) for run in range(23)]
    curve = noise_curve(runs, first_x, EDGES, blocks=5, trials=1, progress=False)
    assert curve.reference.counts.shape == (5, 40) and curve.perturbed.shape == (1, 31, 5, 40)
    np.testing.assert_array_equal(curve.perturbed[0, 0], curve.reference.counts)
    np.testing.assert_array_equal(curve.perturbed.sum(axis=3), np.tile(curve.reference.counts.sum(axis=1), (1, 31, 1)))
    assert curve.reference.counts.sum() == sum(len(run) for run in runs)


def test_bad_input_is_refused(curve):
    with pytest.raises(ValueError, match="increase from 0"):
        noise_curve(well(10), first_x, EDGES, sigma=[0.01, 0.02])
    with pytest.raises(ValueError, match="other bins than the reference"):
        curve.equivalent(histogram(np.zeros(10), [dihedral_edges()]))
    with pytest.raises(ValueError, match="by the edges, not"):
        noise_curve(well(10), lambda positions: positions[:, 0], EDGES)


@pytest.mark.parametrize("measure", [kl_divergence, mean_squared_difference])
def test_a_model_that_was_never_where_the_reference_was_is_beyond_every_noise(measure):
    curve = noise_curve([well(500, 0.002)] * 2, first_x, EDGES, trials=1, sigma=[0, 1e-3], progress=False)
    equivalent = curve.equivalent(histogram([first_x(well(500, 0.002)) + 0.1] * 2, EDGES), measure)
    assert equivalent.sigma == np.inf and equivalent.beyond == 1 and equivalent.missed == 1
    assert str(equivalent).startswith("above 0.01 Å")
