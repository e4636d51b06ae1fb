"""Reports and figures."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from openmmcg.analysis import AngleDistribution, MeanSquaredDisplacement, RadialDistribution, Report, figures


class Page(HTMLParser):
    """Collects the tags, the text and the image sources of a page, and that every tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.sources = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def distributions():
    distance = np.arange(0.005, 1, 0.01)
    return {
        "all-atom": RadialDistribution(distance, np.ones(100), np.full(100, 0.02)),
        "CG": RadialDistribution(distance, np.full(100, 1.1), np.full(100, 0.02)),
    }


def test_report_is_one_complete_file(tmp_path, distributions):
    report = Report("Water & <oil>").section("Structure").text("g < 1 & g > 0")
    report.table(
        ["quantity", "value"],
        [["peak (Å)", 2.76543], ["stable", True], ["beads", np.int64(512)], ["ns/day", 25012.3]],
        caption="a < b",
    )
    report.figure(figures.radial_distributions(distributions), caption='"g(r)"')
    page = Page(report.write(tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    for words in ("Water & <oil>", "g < 1 & g > 0", "2.765", "True", "512", "25012", "a < b", '"g(r)"'):
        assert words in page.words
    (source,) = page.sources
    image = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))
    assert ElementTree.fromstring(image).tag.endswith("svg")


def test_nothing_is_fetched_from_elsewhere(tmp_path, distributions):
    report = Report("title").figure(figures.radial_distributions(distributions))
    page = report.write(tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="3 entries, the table 2 columns"):
        Report("title").table(["a", "b"], [[1, 2, 3]])


def test_radial_figure_shows_the_difference_to_the_first_in_angstrom(distributions):
    main, difference = figures.radial_distributions(distributions).axes
    assert [line.get_label() for line in main.lines[:2]] == ["all-atom", "CG"]
    assert main.lines[0].get_xdata()[-1] == pytest.approx(9.95)
    assert difference.lines[1].get_ydata() == pytest.approx(0.1)


def test_curves_with_other_bins_are_refused(distributions):
    distributions["CG"] = RadialDistribution(np.arange(3.0), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="'CG' has other bins"):
        figures.radial_distributions(distributions)


def test_angle_figure_covers_the_range_of_the_bins():
    angle = np.arange(30.5, 150)
    figure = figures.angle_distributions({"all-atom": AngleDistribution(angle, np.ones(120), np.ones(120))})
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_xlim() == (30, 150)


def test_diffusion_constant_in_the_legend_is_in_the_tabulated_unit():
    time = np.arange(11.0)
    # Water: 2.3·10⁻⁵ cm²/s = 2.3·10⁻³ nm²/ps.
    walk = MeanSquaredDisplacement(time, np.tile(6 * 2.3e-3 * time, (3, 1)))
    figure = figures.mean_squared_displacements({"water": walk}, fit=(2, 10))
    (entry,) = figure.axes[0].get_legend().get_texts()
    assert "D = (2.30 ± 0.00)·10⁻⁵ cm²/s" in entry.get_text()
