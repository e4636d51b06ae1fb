"""Free energies, their differences and basins, against systems whose answers are known."""

import numpy as np
import pytest

from openmmcg.analysis import (
    assign_regions,
    basin_populations,
    dihedral_edges,
    histogram,
    kl_divergence,
    mean_squared_difference,
    missed_probability,
)

KT = 0.0083144626 * 300


def test_the_free_energy_of_a_harmonic_well_is_a_parabola_within_its_errors():
    random = np.random.default_rng(0)
    edges = np.linspace(-2, 2, 41)
    counts = histogram([random.normal(size=4000) for _ in range(25)], [edges])
    surface = counts.free_energy(temperature=300)
    centers = (edges[1:] + edges[:-1]) / 2
    # Of bins of 0.1 standard deviations; the outermost ones hold all beyond and are left out.
    inner = slice(1, -1)
    expected = KT * (centers**2 / 2 + np.log(np.sqrt(2 * np.pi) / 0.1))[inner]
    deviation = (surface.value[inner] - expected) / surface.error[inner]
    assert (deviation**2).mean() == pytest.approx(1, abs=0.6)
    assert np.isnan(histogram(random.normal(size=100), [edges], blocks=1).free_energy().error).all()


def test_the_error_is_the_spread_of_independent_samples():
    random = np.random.default_rng(1)
    edges = [[-np.inf, 0.5, np.inf]]
    samples = [histogram(list(random.normal(size=(20, 200))), edges) for _ in range(200)]
    values = np.array([sample.free_energy().value for sample in samples])
    errors = np.array([sample.free_energy(seed=seed).error for seed, sample in enumerate(samples)])
    assert np.sqrt((errors**2).mean(axis=0)) == pytest.approx(values.std(axis=0), rel=0.15)


def test_energies_are_in_thermal_units_or_kilojoule_per_mole():
    counts = histogram(np.repeat([0.5, 1.5], [30, 10]), [[0, 1, 2, 3]], blocks=4)
    assert counts.probability.tolist() == [0.75, 0.25, 0]
    in_kt, in_kj = counts.free_energy(), counts.free_energy(temperature=300)
    assert in_kt.value[1] - in_kt.value[0] == pytest.approx(np.log(3))
    assert in_kj.value[:2] == pytest.approx(KT * in_kt.value[:2])
    assert in_kj.error[:2] == pytest.approx(KT * in_kt.error[:2])
    assert np.isinf(in_kt.value[2]) and np.isnan(in_kt.error[2])


def test_a_dihedral_at_the_boundary_is_in_the_first_or_the_last_bin():
    counts = histogram(np.array([[-np.pi, np.pi], [np.pi - 1e-9, -np.pi + 1e-9]]), [dihedral_edges()] * 2, blocks=1)
    assert counts.counts[0, 0, 59] == counts.counts[0, 59, 0] == 1
    assert counts.counts.sum() == 2


def test_the_marginal_is_the_histogram_of_one_coordinate():
    values = np.random.default_rng(2).uniform(-np.pi, np.pi, size=(500, 2))
    both = histogram(values, [dihedral_edges(), dihedral_edges(30)])
    for axis, bins in enumerate((60, 30)):
        alone = histogram(values[:, axis], [dihedral_edges(bins)])
        np.testing.assert_array_equal(both.marginal(axis).counts, alone.counts)
        np.testing.assert_array_equal(both.marginal(axis).edges[0], alone.edges[0])


def test_no_frame_is_lost_beyond_the_edges():
    counts = histogram(np.array([-5.0, 0.5, 7.0]), [[0, 1, 2]], blocks=1)
    assert counts.counts.tolist() == [[2, 1]]


def test_weights_turn_a_flat_sample_into_a_gaussian():
    values = [np.random.default_rng(seed).uniform(-4, 4, 20000) for seed in range(3)]
    edges = [np.linspace(-4, 4, 17)]
    weighted = histogram(values, edges, weights=[np.exp(-(value**2) / 2) for value in values])
    gaussian = histogram(np.random.default_rng(9).normal(size=60000), edges)
    assert kl_divergence(gaussian.probability, weighted.probability) < 2e-3


def test_divergences_by_hand():
    p, q = np.array([0.4, 0.6, 0.0, 0.0]), np.array([0.5, 0.25, 0.25, 0.0])
    assert kl_divergence(p, q) == pytest.approx(0.4 * np.log(0.8) + 0.6 * np.log(2.4))
    expected = (np.log(0.8) ** 2 + np.log(2.4) ** 2) / 2
    assert mean_squared_difference(p, q) == pytest.approx(expected)
    assert mean_squared_difference(q, p) == pytest.approx(expected)
    assert mean_squared_difference(p, q, temperature=300) == pytest.approx(expected * KT**2)
    # Counts are normalised, two dimensions are as good as one.
    assert kl_divergence(10 * p.reshape(2, 2), 7 * q.reshape(2, 2)) == pytest.approx(kl_divergence(p, q))
    # The basin that only the reference has is left out of the measures, and said to be missed.
    assert missed_probability(q, p) == 0.25
    assert kl_divergence(q, p) == pytest.approx(0.5 * np.log(1.25) + 0.25 * np.log(0.25 / 0.6))
    assert kl_divergence(p, p) == mean_squared_difference(p, p) == missed_probability(p, p) == 0


def test_the_divergence_of_two_gaussians_is_the_analytic_one():
    random = np.random.default_rng(3)
    edges = [np.linspace(-6, 6, 61)]
    p = histogram(random.normal(size=400_000), edges).probability
    q = histogram(random.normal(0.3, 1.2, size=400_000), edges).probability
    expected = np.log(1.2) + (1 + 0.3**2) / (2 * 1.2**2) - 0.5
    assert kl_divergence(p, q) == pytest.approx(expected, rel=0.05)


def test_finite_samples_of_one_distribution_diverge_as_documented():
    random = np.random.default_rng(4)
    values = [
        kl_divergence(*(np.bincount(random.integers(100, size=n), minlength=100) for n in (20000, 10000)))
        for _ in range(100)
    ]
    assert np.mean(values) == pytest.approx(99 / 2 * (1 / 20000 + 1 / 10000), rel=0.05)


def test_populations_of_a_two_state_system_and_their_free_energy_difference():
    # Independent frames, 80 % in the first of two wells, 5 % of them between the wells.
    random = np.random.default_rng(5)
    runs = [random.choice([-1.0, 0.0, 1.0], p=[0.76, 0.05, 0.19], size=2000) for _ in range(20)]
    regions = {"left": [(-2.0, -0.5)], "right": [(0.5, 2.0)]}
    populations = basin_populations([assign_regions(run, regions) for run in runs], list(regions))
    assert (abs(populations.value - [0.76, 0.19]) < 4 * populations.error).all()
    assert populations.error == pytest.approx(np.sqrt([0.76 * 0.24 / 40000, 0.19 * 0.81 / 40000]), rel=0.5)
    difference, error = populations.free_energy_difference("right", "left", temperature=300)
    assert difference == pytest.approx(KT * np.log(4), abs=4 * error)
    assert error == pytest.approx(KT * np.sqrt((1 / 0.76 + 1 / 0.19) / 40000), rel=0.5)
    assert populations.free_energy_difference("left", "left") == (0.0, 0.0)


def test_regions_go_through_the_periodic_boundary_and_the_first_counts():
    regions = {"beta": [(-3.0, 0.0), (2.0, -2.5)], "all": [(-4, 4), (-4, 4)]}
    points = np.array([[-1.0, 2.5], [-1.0, -3.0], [-1.0, 0.0], [1.0, 3.0]])
    assert assign_regions(points, regions).tolist() == [0, 0, 1, 1]
    assert assign_regions(points, {"beta": regions["beta"]}).tolist() == [0, 0, -1, -1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: histogram(np.zeros((4, 3)), [[0, 1]] * 2), r"\[frames, 2\] by the edges, not \[4, 3\]"),
        (lambda: histogram([np.zeros(4), np.array([0, np.nan])], [[0, 1]]), "frame 1 has coordinates .* not finite"),
        (lambda: histogram([], [[0, 1]]), "there are no frames"),
        (lambda: histogram(np.zeros(4), [0, 1]), "edges of coordinate 0"),
        (lambda: histogram(np.zeros(4), [[0, 0, 1]]), "edges of coordinate 0 .* increasing"),
        (lambda: histogram(np.zeros(4), [[0, 1]], blocks=0), "at least 1, not 0"),
        (lambda: histogram(np.zeros(4), [[0, 1]], weights=np.ones(3)), "one number per frame"),
        (lambda: histogram(np.zeros(2), [[0, 1]], weights=np.array([1, -1.0])), "not negative"),
        (lambda: histogram(np.zeros(2), [[0, 1]]).free_energy(temperature=-1), "must be positive, in K, not -1"),
        (lambda: kl_divergence([1, 0], [1, 0, 0]), r"reference has bins \(2,\), the trial \(3,\)"),
        (lambda: kl_divergence([1, 0], [0, 0]), "of the trial must be"),
        (lambda: kl_divergence([1, np.nan], [1, 0]), "of the reference must be"),
        (lambda: mean_squared_difference([1, 0], [0, 1]), "no bin is visited by both"),
        (lambda: assign_regions(np.zeros((3, 2)), {"a": [(0, 1)]}), r"\[frames, 1\] by region 'a', not \[3, 2\]"),
        (lambda: assign_regions(np.zeros(3), {}), "no regions"),
        (lambda: basin_populations(np.array([0, 2]), ["a", "b"]), "from 0 to 2; there are names for 0 to 1"),
        (
            lambda: basin_populations(np.array([0, 0]), ["a", "b"]).free_energy_difference("b", "a"),
            "'b' was never visited",
        ),
        (
            lambda: basin_populations(np.array([0, 0]), ["a"]).free_energy_difference("a", "c"),
            "no basin 'c'; there are a",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
