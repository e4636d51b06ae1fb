"""Distributions and the energies made of them, against exact samples of known potentials."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from scipy.stats import norm

from openmmcg.fitting import jensen_shannon_divergence
from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate, count, find_coordinates
from openmmcg.fitting.boltzmann_inversion.reference_distributions import ReferenceDistributions
from openmmcg.fitting.boltzmann_inversion.tables import extend, invert, log_ratio, make_priors, sampled_bins
from openmmcg.frames import Frames, FrameWriter
from openmmcg.geometry.internal_coordinates import angles, dihedrals, distances

KT = 8.314462618e-3 * 300
BOND, ANGLE = (0.3, 3e4), (1.9, 80.0)


def bond_energy(r):
    return 0.5 * BOND[1] * (r - BOND[0]) ** 2


def angle_energy(theta):
    return 0.5 * ANGLE[1] * (theta - ANGLE[0]) ** 2


def dihedral_energy(phi):
    return 3 * (1 + np.cos(phi - 0.5)) + 2 * (1 + np.cos(2 * phi))


def draw(random, energy, jacobian, start, stop, size):
    """Exact samples of exp(−U/kT) J by inversion of the cumulative distribution."""
    x = np.linspace(start, stop, 100_001)
    cumulative = np.cumsum(np.exp(-energy(x) / KT) * jacobian(x))
    return np.interp(random.random(size), cumulative / cumulative[-1], x)


def chains(random, frames, beads):
    """Positions of chains whose bonds, angles and dihedrals are independent, ``[frames, beads, 3]``."""
    lengths = draw(random, bond_energy, lambda r: r**2, 0.25, 0.35, (frames, beads))
    bends = draw(random, angle_energy, np.sin, 0, np.pi, (frames, beads))
    turns = draw(random, dihedral_energy, np.ones_like, -np.pi, np.pi, (frames, beads))
    positions = np.zeros((frames, beads, 3))
    positions[:, 1, 0] = lengths[:, 1]
    before = np.array([0.0, 1.0, 0.0]) * np.ones((frames, 1))
    for bead in range(2, beads):
        axis = positions[:, bead - 1] - positions[:, bead - 2]
        axis /= np.linalg.norm(axis, axis=1, keepdims=True)
        normal = np.cross(before, axis)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        across = np.cross(normal, axis)
        theta, phi = bends[:, bead, None], turns[:, bead, None]
        step = -np.cos(theta) * axis + np.sin(theta) * (np.cos(phi) * across + np.sin(phi) * normal)
        positions[:, bead] = positions[:, bead - 1] + lengths[:, bead, None] * step
        before = axis
    return positions


def write(path, positions, names, bonds, temperature=300.0, box=None):
    kinds = list(dict.fromkeys(names))
    particles = {
        "names": names,
        "types": [kinds.index(name) for name in names],
        "type_names": kinds,
        "masses": [20.0] * len(names),
    }
    options = {"temperature": temperature, "bonds": bonds, "forces": False, "periodic": box is not None}
    with FrameWriter(path, **particles, **options) as writer:
        boxes = None if box is None else np.broadcast_to(box, (len(positions), 3, 3))
        writer.extend(positions, boxes, np.arange(float(len(positions))))
    return path


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """3000 frames of a chain of 14 beads of one type."""
    path = tmp_path_factory.mktemp("chain") / "chain.h5md"
    positions = chains(np.random.default_rng(0), 3000, 14)
    return write(path, positions, ["A"] * 14, [(bead, bead + 1) for bead in range(13)])


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (1.0, 1.0), (0.5, 2.0), (3.0, 0.5)])
def test_the_divergence_is_that_of_gaussians(shift, width):
    first, second = norm(0, 1), norm(shift, width)

    def density(x):
        middle = (first.pdf(x) + second.pdf(x)) / 2
        terms = [p * np.log2(p / middle) if p > 0 else 0.0 for p in (first.pdf(x), second.pdf(x))]
        return sum(terms) / 2

    edges = np.linspace(-12, 12, 2401)
    measured = jensen_shannon_divergence(*(np.diff(one.cdf(edges)) for one in (first, second)))
    assert measured == pytest.approx(quad(density, -12, 12, limit=500)[0], abs=1e-4)


def test_the_divergence_of_two_samples_of_one_distribution_is_as_its_docstring_says():
    random, bins, samples = np.random.default_rng(1), 50, 20_000
    values = [
        jensen_shannon_divergence(*random.multinomial(samples, np.full(bins, 1 / bins), size=2)) for _ in range(100)
    ]
    assert np.mean(values) == pytest.approx((bins - 1) / (4 * np.log(2) * samples), rel=0.1)


def test_direct_inversion_recovers_independent_bonds_angles_and_dihedrals(chain):
    known_energies = {"bonds": bond_energy, "angles": angle_energy, "dihedrals": dihedral_energy}
    with Frames(chain) as frames:
        coordinates = find_coordinates([frames], list(known_energies), 60, 0.0)
        counts = count([frames], coordinates).histograms
    assert [coordinate.label for coordinate in coordinates] == ["bond A-A", "angle A-A-A", "dihedral A-A-A-A"]
    for coordinate, histogram in zip(coordinates, counts, strict=True):
        assert histogram.sum() == 3000 * len(coordinate.terms)
        seen = histogram > 200
        difference = invert(coordinate, histogram, KT) - known_energies[coordinate.kind](coordinate.centers)
        difference = difference[seen] - np.average(difference[seen], weights=histogram[seen])
        # Smoothing leaves less than the error of a single bin.
        assert np.abs(difference).max() < 3 * KT / np.sqrt(histogram[seen].min())
        assert np.sqrt(np.average(difference**2, weights=histogram[seen])) < 0.04 * KT


def test_the_covariance_of_bins_is_that_of_counts_frame_by_frame(chain):
    with Frames(chain) as frames:
        some, others = frames.select(range(100)), frames.select(range(100, 250))
        coordinates = find_coordinates([some, others], ["angles", "dihedrals", "pairs"], 20, 0.8)
        chosen = np.arange(40 + 160) % 3 > 0
        mean, covariance = count([some, others], coordinates).covariance(chosen)
        each = [np.concatenate(count([frames.select([frame])], coordinates).histograms)[chosen] for frame in range(250)]
    np.testing.assert_allclose(mean, np.mean(each, 0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(np.transpose(each), ddof=0), atol=1e-12)


def test_of_an_achiral_molecule_mirror_images_count_too(chain, tmp_path):
    with Frames(chain) as frames:
        positions = frames.positions[:200]
    bonds = [(bead, bead + 1) for bead in range(13)]
    mirror = write(tmp_path / "mirror.h5md", positions * [1, 1, -1], ["A"] * 14, bonds)
    with Frames(chain) as frames, Frames(mirror) as images:
        some = frames.select(range(200))
        plain = find_coordinates([some, images], ["angles", "dihedrals"], 20, 0.0)
        achiral = find_coordinates([some], ["angles", "dihedrals"], 20, 0.0, achiral=True)
        angle, dihedral = count([some], achiral).histograms
        assert (count([some, images], plain).histograms[1] == dihedral).all() and (dihedral == dihedral[::-1]).all()
        assert angle.sum() == 200 * 12
        every = np.ones(40, bool)
        both = count([some, images], plain).covariance(every)
        for one, other in zip(count([some], achiral).covariance(every), both, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


def test_coordinates_that_move_together_are_corrected_together(tmp_path):
    """A ring of three bonds and three angles: to first order, what is corrected is what was changed."""
    random = np.random.default_rng(3)
    sides = draw(random, lambda r: 0.5 * 8e3 * (r - 0.3) ** 2, lambda r: r, 0.2, 0.4, (60_000, 3))
    a, b, c = sides.T
    x = (a**2 + b**2 - c**2) / (2 * a)
    positions = np.zeros((len(a), 3, 3))
    positions[:, 1, 0], positions[:, 2, 0], positions[:, 2, 1] = a, x, np.sqrt(b**2 - x**2)
    # Of another potential, softer in one of the bonds alone, whose length also changes all angles.
    change = 0.5 * 3000 * (a - 0.3) ** 2 / KT
    softer = random.random(len(a)) < np.exp(change - 2.0)
    bonds, number = [(0, 1), (1, 2), (0, 2)], 8000
    with (
        Frames(write(tmp_path / "reference.h5md", positions[:number], ["A", "B", "C"], bonds)) as frames,
        Frames(write(tmp_path / "simulated.h5md", positions[softer][:number], ["A", "B", "C"], bonds)) as simulated,
    ):
        reference = ReferenceDistributions([frames], None, None, None, 40)
        reference.measure(False)
        coordinates, known = reference.coordinates, reference.known
        counts = count([simulated], coordinates)
        zero = [np.zeros(40) for _ in coordinates]
        together = reference.correct(zero, counts, 1.0)
        alone = [
            KT * log_ratio(*each, (number, number), sampled)
            for *each, sampled in zip(coordinates, counts.histograms, reference.histograms, known, strict=True)
        ]
        values = [
            {"bonds": distances, "angles": angles}[coordinate.kind](frames.positions, coordinate.terms)[:, 0]
            for coordinate in coordinates
        ]
    inside = np.ones(number, bool)
    for coordinate, value, sampled in zip(coordinates, values, known, strict=True):
        inside &= sampled[np.clip(np.searchsorted(coordinate.edges, value) - 1, 0, 39)]

    def error(energies):
        tables = zip(values, coordinates, energies, strict=True)
        total = sum(np.interp(value, coordinate.centers, table) for value, coordinate, table in tables)
        return np.std((total / KT - change[:number])[inside])

    assert inside.mean() > 0.98
    assert error(together) < 0.5 * error(alone)
    assert error(together) < 0.4 * np.std(change[:number][inside])


def test_the_prior_has_the_force_constants_of_the_chain(chain):
    with Frames(chain) as frames:
        coordinates = find_coordinates([frames], ["bonds", "angles"], 60, 0.0)
        counts = count([frames], coordinates).histograms
    energies = [invert(coordinate, histogram, KT) for coordinate, histogram in zip(coordinates, counts, strict=True)]
    bonds, angles = make_priors(coordinates, energies, KT)
    for prior, (center, constant), width in ((bonds, BOND, 0.02), (angles, ANGLE, 0.4)):
        (table,) = prior.terms.values()
        curve = CubicSpline(np.linspace(table.start, table.stop, len(table.energies)), table.energies)
        places = np.linspace(center - width, center + width, 50)
        quadratic = np.polyfit(places, curve(places), 2)
        assert 2 * quadratic[0] == pytest.approx(constant, rel=0.03)
        assert -quadratic[1] / (2 * quadratic[0]) == pytest.approx(center, abs=0.03 * width)


def test_where_nothing_was_sampled_energies_rise_on_both_sides():
    edges = np.linspace(0.2, 0.4, 61)
    bond = Coordinate("bonds", (0, 0), "bond", ((0, 1),), edges)
    counts = np.round(5000 * np.exp(-bond_energy(bond.centers) / KT)).astype(int)
    known = sampled_bins(bond, counts)
    assert not known[:10].any() and not known[-10:].any()
    energies = invert(bond, counts, KT)
    outside = np.flatnonzero(~known)
    assert (np.diff(energies)[outside[outside < 30]] < 0).all()
    assert (np.diff(energies)[outside[outside > 30] - 1] > 0).all()


def test_a_dihedral_rises_from_both_ends_of_what_it_never_visits_to_a_common_top():
    edges = np.linspace(-np.pi, np.pi, 121)
    dihedral = Coordinate("dihedrals", (0, 0, 0, 0), "dihedral", ((0, 1, 2, 3),), edges)
    away = np.pi - np.abs(dihedral.centers)  # from 180 degrees, so that the well lies across the end of the circle
    counts = np.round(5000 * np.exp(-0.5 * 60 * away**2 / KT)).astype(int)
    energies = invert(dihedral, counts, KT)
    top = int(np.argmax(energies))
    assert abs(dihedral.centers[top]) < 0.1
    rising = np.diff(energies[60 + 10 : 110])
    assert (rising < 0).all() and (np.diff(energies[10:50]) > 0).all()
    assert energies[0] == pytest.approx(energies[-1], abs=0.02)


def test_the_correction_is_the_logarithm_of_the_ratio_and_finite_where_one_has_no_samples():
    edges = np.linspace(0.2, 0.4, 61)
    bond = Coordinate("bonds", (0, 0), "bond", ((0, 1),), edges)
    reference = np.round(50_000 * np.exp(-bond_energy(bond.centers) / KT)).astype(int)
    stiffer = np.round(100_000 * np.exp(-2 * bond_energy(bond.centers) / KT)).astype(int)
    known = sampled_bins(bond, reference)
    ratio = log_ratio(bond, stiffer, reference, (2000, 1000), known)
    assert np.isfinite(ratio).all()
    many = stiffer > 2000
    assert ratio[many] == pytest.approx(-bond_energy(bond.centers[many]) / KT, abs=0.03)
    assert log_ratio(bond, reference, reference, (100, 100), known) == pytest.approx(np.zeros(60), abs=1e-12)


def test_a_straight_angle_is_no_end_to_come_back_from():
    edges = np.linspace(2.5, np.pi, 61)
    angle = Coordinate("angles", (0, 0, 0), "angle", ((0, 1, 2),), edges)
    counts = np.round(20_000 * angle.jacobian / angle.jacobian.max()).astype(int)
    assert invert(angle, counts, KT) == pytest.approx(np.zeros(60), abs=0.05)
    known = np.ones(60, bool)
    known[-3:] = False
    assert extend(angle, np.zeros(60), known, KT)[-1] == pytest.approx(0)


def test_stiff_dihedrals_get_narrow_bins_and_free_ones_wide_ones(tmp_path):
    random = np.random.default_rng(2)
    positions = np.zeros((500, 4, 3)) + [[0.3, 0, 0], [0, 0, 0], [0, 0, 0.3], [0.3, 0, 0.3]]
    for spread, bins in ((0.02, 360), (2.0, 40)):
        angles = spread * random.uniform(-np.pi, np.pi, 500) / 2
        positions[:, 3, :2] = 0.3 * np.stack([np.cos(angles), np.sin(angles)], 1)
        path = write(tmp_path / f"{bins}.h5md", positions, list("ABCD"), [(0, 1), (1, 2), (2, 3)])
        with Frames(path) as frames:
            (found,) = find_coordinates([frames], ["dihedrals"], 40, 0.0)
            values = dihedrals(frames.positions, [[0, 1, 2, 3]])
            assert len(found.edges) - 1 == bins
            assert (count([frames], [found]).histograms[0] == np.histogram(values, found.edges)[0]).all()


def test_pairs_are_counted_as_a_direct_loop_counts_them(tmp_path):
    random, box = np.random.default_rng(3), np.eye(3) * 2.0
    positions = random.random((3, 20, 3)) * 2
    names = ["AB"[bead % 2] for bead in range(20)]
    bonds = [(0, 1), (1, 2), (5, 6)]
    with Frames(write(tmp_path / "p.h5md", positions, names, bonds, box=box)) as frames:
        coordinates = find_coordinates([frames], ["pairs"], 60, 0.8)
        counts = count([frames], coordinates).histograms
    assert [coordinate.label for coordinate in coordinates] == ["pair A-A", "pair A-B", "pair B-B"]
    expected = [np.zeros(len(coordinate.edges) - 1) for coordinate in coordinates]
    for frame in positions.astype(np.float32).astype(float):
        for i in range(20):
            for j in range(i + 1, 20):
                if (i, j) not in [(0, 1), (1, 2), (5, 6), (0, 2)]:
                    apart = frame[j] - frame[i]
                    r = np.linalg.norm(apart - 2 * np.round(apart / 2))
                    which = {"AA": 0, "AB": 1, "BA": 1, "BB": 2}[names[i] + names[j]]
                    expected[which] += np.histogram([r], coordinates[which].edges)[0]
    for histogram, direct in zip(counts, expected, strict=True):
        assert np.abs(np.cumsum(histogram) - np.cumsum(direct)).max() <= 1  # a distance at an edge
        assert histogram.sum() == direct.sum()


def test_coordinates_that_are_not_there_or_do_not_vary_are_refused(tmp_path):
    positions = np.zeros((30, 3, 3)) + [[0.3, 0, 0], [0, 0, 0], [0, 0.3, 0]]
    cases = {"there are no bonds in .*Mapping.with_bonds": [], "the bond A-B does not vary": [(0, 1), (1, 2)]}
    for number, (problem, bonds) in enumerate(cases.items()):
        path = write(tmp_path / f"{number}.h5md", positions, list("ABC"), bonds)
        with Frames(path) as frames, pytest.raises(ValueError, match=problem):
            find_coordinates([frames], ["bonds"], 60, 0.0)
