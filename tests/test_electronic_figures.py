"""What the figures of predicted energies show."""

import numpy as np
import pytest
from scipy import stats

from openmmcg.electronic import DensityOfStates, Estimate, local_noise, noise_curves, shapiro_wilk
from openmmcg.electronic import figures as draw


@pytest.fixture(scope="module")
def predicted():
    """Energies of 3000 frames, and a right prediction of them."""
    random = np.random.default_rng(0)
    latent = random.normal(size=(3000, 3))
    mean, deviation = -6 + 0.2 * latent[:, 0], 0.05 + 0.03 * abs(latent[:, 1])
    return latent, random.normal(mean, deviation), mean, deviation


def labels_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_parity_has_the_error_of_all_frames_and_the_bars_of_those_drawn(predicted, tmp_path):
    _, energies, mean, deviation = predicted
    figure = draw.parity(energies, mean, deviation)
    (axes,) = figure.axes
    points = axes.containers[0]
    x, y = points.lines[0].get_data()
    assert len(x) == 2000 and set(x) <= set(mean)
    rmse = np.sqrt(np.mean((energies - mean) ** 2))
    assert labels_of(axes) == [f"RMSE {1000 * rmse:.0f} meV, R² {1 - rmse**2 / energies.var():.3f}"]
    bars = np.array(points.lines[2][0].get_segments())
    widths = (bars[:, 1, 0] - bars[:, 0, 0]) / 2
    assert widths == pytest.approx(deviation[np.searchsorted(np.arange(3000), np.linspace(0, 2999, 2000).astype(int))])
    figure.savefig(tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 1000


def test_noise_is_drawn_in_millielectronvolts_with_a_line_for_each_estimate():
    estimates = {beads: {"RMSE": Estimate(0.5 / beads, 0.01)} for beads in (4, 6, 10)}
    estimates[4]["constrained"] = Estimate(0.12, 0.02)
    (axes,) = draw.noise(noise_curves(estimates)).axes
    assert axes.get_xlabel() == "number of beads" and axes.get_ylabel() == "noise (meV)"
    assert labels_of(axes) == ["RMSE", "constrained"]
    x, y = axes.containers[0].lines[0].get_data()
    np.testing.assert_allclose(x, [4, 6, 10])
    np.testing.assert_allclose(y, [125, 500 / 6, 50])
    (bar,) = axes.containers[1].lines[2][0].get_segments()
    np.testing.assert_allclose(bar[:, 1], [100, 140])
    (axes,) = draw.noise(noise_curves(estimates), "temperature (K)").axes
    assert axes.get_xlabel() == "temperature (K)"


def test_the_latent_space_is_coloured_by_energy_with_groups_on_top(predicted):
    latent, energies, *_ = predicted
    axes, bar = draw.latent_space(
        latent, energies, dimensions=(0, 2), groups={"0°": latent[:20], "90°": latent[-9:]}
    ).axes
    np.testing.assert_allclose(axes.collections[0].get_offsets(), latent[:, [0, 2]])
    np.testing.assert_allclose(axes.collections[0].get_array(), energies)
    assert [len(line.get_xdata()) for line in axes.lines] == [20, 9] and labels_of(axes) == ["0°", "90°"]
    assert axes.get_ylabel() == "latent $z_{3}$" and bar.get_ylabel() == "energy E (eV)"
    for dimensions in ((0, 3), (1, 1)):
        with pytest.raises(ValueError, match="are not two of latent positions"):
            draw.latent_space(latent, energies, dimensions=dimensions)


def test_a_calibration_curve_is_the_diagonal_where_error_bars_are_true(predicted):
    _, energies, mean, deviation = predicted
    coverage, spread = draw.calibration(
        energies, {"right": (mean, deviation), "four times too wide": (mean, 4 * deviation)}
    ).axes
    nominal, observed = coverage.lines[0].get_data()
    np.testing.assert_allclose(observed, nominal, atol=4 * np.sqrt(0.25 / 3000))
    nominal, observed = coverage.lines[1].get_data()
    expected = 2 * stats.norm.cdf(4 * stats.norm.ppf((1 + nominal) / 2)) - 1
    np.testing.assert_allclose(observed, expected, atol=4 * np.sqrt(0.25 / 3000))
    right, wide = (float(label.split(": ")[1]) for label in labels_of(spread))
    assert right == pytest.approx(1, abs=0.06) and wide == pytest.approx(0.25, abs=0.02)
    right_bars = spread.patches[0].get_data()
    assert (right_bars.values * np.diff(right_bars.edges)).sum() == pytest.approx(1, abs=0.002)


def test_densities_of_states_are_drawn_with_their_tails(predicted, tmp_path):
    _, energies, mean, deviation = predicted
    mixture = DensityOfStates(mean, deviation)
    reference = DensityOfStates(energies)
    figure = draw.density_of_states({"all-atom": reference, "predicted": mixture, "means alone": mixture.means_alone()})
    linear, logarithmic = figure.axes
    assert (linear.get_yscale(), logarithmic.get_yscale()) == ("linear", "log")
    name, *others = (text.get_text() for text in figure.legends[0].get_texts())
    assert name == "all-atom"
    overlap = mixture.overlap(reference).value
    assert others[0] == f"predicted, overlap {overlap:.3f}" and overlap > 0.95
    line = next(line for line in linear.lines if line.get_label().startswith("predicted"))
    np.testing.assert_allclose(line.get_ydata(), mixture.density(line.get_xdata()).value)
    for patch, expected in zip(linear.patches, (energies, mean), strict=True):
        edges = patch.get_data().edges
        np.testing.assert_allclose(patch.get_data().values, np.histogram(expected, edges)[0] / 3000 / np.diff(edges)[0])
    quantiles = [line.get_xdata()[0] for line in linear.lines if line.get_linestyle() == ":"]
    assert quantiles[2:4] == pytest.approx(mixture.quantile([0.01, 0.99]).value)
    # The smallest bin is seen, a single frame.
    single = 1 / (3000 * np.diff(edges)[0])
    assert single / 4 < logarithmic.get_ylim()[0] < single
    figure.savefig(tmp_path / "states.png")


def test_clusters_lie_on_the_diagonal_where_the_prediction_is_right(predicted):
    latent, energies, mean, deviation = predicted
    local = local_noise(latent, energies, mean, deviation, clusters=(10, 20), progress=False)
    (axes,) = draw.cluster_noise(local).axes
    assert labels_of(axes) == [f"{np.count_nonzero(local.clustering == each)} clusters" for each in (0, 1)]
    x, y = axes.containers[0].lines[0].get_data()
    np.testing.assert_allclose(x, 1000 * local.predicted_noise[local.clustering == 0])
    np.testing.assert_allclose(y, 1000 * local.noise[local.clustering == 0])


def test_rejected_fractions_are_drawn_with_the_significance():
    random = np.random.default_rng(1)
    curve = shapiro_wilk([random.normal(size=100) for _ in range(20)], [20, 50], repeats=3)
    (axes,) = draw.normality({"10 beads": curve}).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), curve.fraction)
    assert axes.lines[1].get_ydata()[0] == 0.05 and axes.get_ylim()[0] == 0


def test_too_many_curves_or_none_are_refused(predicted):
    _, energies, mean, deviation = predicted
    states = DensityOfStates(mean, deviation)
    for call in (
        lambda: draw.noise({}),
        lambda: draw.calibration(energies, {}),
        lambda: draw.density_of_states({str(number): states for number in range(7)}),
    ):
        with pytest.raises(ValueError, match="a figure takes 1 to 6 curves"):
            call()
    with pytest.raises(ValueError, match=r"mean has the shape \[2999\]; there are 3000 frames"):
        draw.parity(energies, mean[1:], deviation)
