"""What the figures of free energies and kinetics show."""

import numpy as np
import pytest
from matplotlib.colors import same_color

from openmmcg.analysis import dihedral_edges, figures, histogram, kl_divergence, noise_curve
from openmmcg.analysis.kinetics import ImpliedTimescales

KT = 0.0083144626 * 300


@pytest.fixture(scope="module")
def maps():
    random = np.random.default_rng(0)
    edges = [dihedral_edges(20)] * 2
    return {
        "all-atom": histogram(random.normal(-1, 0.3, size=(4000, 2)), edges),
        "CG": histogram(random.normal(-1, 0.4, size=(4000, 2)), edges),
    }


def test_maps_share_one_scale_that_starts_at_the_lowest_value_of_the_reference(maps):
    figure = figures.free_energy_maps(
        maps, ("φ", "ψ"), degrees=True, temperature=300, maximum=10, basins={"α": (-1.0, -0.5)}
    )
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == list(maps)
    assert panels[0].get_xlabel() == "φ (degrees)" and panels[0].get_ylabel() == "ψ (degrees)"
    for axes, sample in zip(panels, maps.values(), strict=True):
        (mesh,) = axes.collections
        assert mesh.get_clim() == (0, 10)
        shown = np.ma.asarray(mesh.get_array()).reshape(20, 20)
        reference = maps["all-atom"].probability.max()
        with np.errstate(divide="ignore"):
            expected = -KT * np.log(sample.probability.T / reference)
        np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.isinf(expected))
        np.testing.assert_allclose(shown.compressed(), expected[np.isfinite(expected)])
        (star,) = axes.lines
        assert star.get_xydata()[0] == pytest.approx(np.degrees([-1.0, -0.5]))
    assert bar.get_ylabel() == "free energy (kJ/mol)"


def test_one_dimensional_free_energies_have_gaps_where_nothing_was_seen(maps):
    marginals = {label: sample.marginal(0) for label, sample in maps.items()}
    main, difference = figures.free_energies(marginals, "φ", degrees=True).axes
    assert main.get_ylabel() == "free energy ($k_BT$)"
    reference = main.lines[0].get_ydata()
    assert np.nanmin(reference) == 0 and np.isnan(reference[-1])
    assert difference.get_xlabel() == "φ (degrees)" and difference.get_xlim() == pytest.approx((-180, 180))
    np.testing.assert_allclose(difference.lines[1].get_ydata(), main.lines[1].get_ydata() - reference)


def test_the_noise_curve_meets_the_model_at_its_equivalent():
    random = np.random.default_rng(3)
    edges = [np.linspace(-0.1, 0.1, 21)]
    beads = random.normal(scale=0.02, size=(5000, 1, 3))
    curve = noise_curve(beads, lambda positions: positions[:, 0, :1], edges, trials=2, progress=False)
    model = histogram(random.normal(scale=np.hypot(0.02, 0.015), size=5000), edges)
    bad = histogram(random.uniform(-0.1, 0.1, size=5000), edges)
    divergence, squared = figures.noise_curves(curve, {"model": model, "bad": bad}).axes
    assert divergence.lines[0].get_xdata()[-1] == pytest.approx(0.3)
    value, place = divergence.lines[2], divergence.lines[3]
    assert value.get_ydata()[0] == kl_divergence(curve.reference.probability, model.probability)
    assert place.get_xdata()[0] == pytest.approx(10 * curve.equivalent(model).sigma)
    # The bad one has a value, and no σ.
    assert len(divergence.lines) == 5
    assert "above 0.30 Å" in divergence.get_legend().get_texts()[1].get_text()
    assert squared.get_ylabel().startswith("mean squared difference")


def test_time_scales_are_drawn_on_a_logarithmic_axis_by_sample():
    lags = np.array([1.0, 2.0, 5.0])
    value = np.array([[90.0, 9.0], [100.0, 10.0], [100.0, np.nan]])
    scales = ImpliedTimescales(lags, value, np.full_like(value, 2.0))
    axes = figures.implied_timescales({"all-atom": scales, "CG": scales}).axes[0]
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["all-atom", "CG"]
    assert same_color(axes.lines[0].get_color(), axes.lines[1].get_color())
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), value[:, 0])


def test_the_moving_average_of_a_dihedral_has_no_jump_at_180_degrees():
    time = np.arange(100.0)
    angle = np.where(np.arange(100) % 2, np.radians(170), np.radians(-170))
    axes = figures.dihedral_series(time, {"ψ": angle}, window=10).axes[0]
    frames, average = axes.lines
    assert len(frames.get_xdata()) == 100 and len(average.get_xdata()) == 91
    assert average.get_xdata()[0] == pytest.approx(4.5)
    assert abs(average.get_ydata()) == pytest.approx(180)
    with pytest.raises(ValueError, match="'ψ' has 100 frames for 50 times"):
        figures.dihedral_series(time[:50], {"ψ": angle})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda maps: figures.free_energies(maps, "φ"), "'all-atom' has 2 coordinates; choose one"),
        (lambda maps: figures.free_energy_maps({}, ("φ", "ψ")), "one or more samples with two"),
        (
            lambda maps: figures.free_energy_maps({"x": maps["CG"].marginal(0)}, ("φ", "ψ")),
            "one or more samples with two",
        ),
        (lambda maps: figures.implied_timescales({}), "takes 1 to 6 curves, not 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message, maps):
    with pytest.raises(ValueError, match=message):
        make(maps)


def test_structures_are_superposed_on_the_first_of_their_group():
    random = np.random.default_rng(4)
    one = random.normal(size=(6, 3))
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    figure = figures.structures({"folded": [one, one @ turn + 2.0], "none": np.zeros((0, 6, 3))}, [(0, 1), (4, 5)])
    full, empty = figure.axes
    assert full.get_title() == "folded (2)" and empty.get_title() == "none (0)"
    first, second = full.lines[:2], full.lines[2:]
    for line, other in zip(first, second, strict=True):
        np.testing.assert_allclose(line.get_data_3d(), other.get_data_3d(), atol=1e-6)
    assert first[0].get_alpha() == 1.0 and second[0].get_alpha() == 0.25
    assert np.linalg.norm(np.diff(first[0].get_data_3d())) == pytest.approx(10 * np.linalg.norm(one[0] - one[1]))
    with pytest.raises(ValueError, match=r"shape \[6, 3\]; give \[structures, beads, 3\]"):
        figures.structures({"one": one}, [(0, 1)])
