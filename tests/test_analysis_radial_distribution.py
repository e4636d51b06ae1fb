"""Radial distribution functions of systems whose g(r) is known, and against other programs."""

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from MDAnalysis.analysis.rdf import InterRDF

from openmmcg.analysis import (
    RadialDistribution,
    angle_distribution,
    mean_squared_displacement,
    radial_distribution,
)


def boxes_of(box, frames):
    return np.tile(np.asarray(box, dtype=float), (frames, 1, 1))


@pytest.fixture(scope="module")
def liquid():
    """Repelling points: every frame a relaxed random packing, so that g(r) has structure."""
    random = np.random.default_rng(5)
    box, beads = 2.0, 200
    frames = []
    for _ in range(10):
        positions = random.random((beads, 3)) * box
        for _ in range(30):
            displacement = positions[:, None] - positions[None]
            displacement -= box * np.round(displacement / box)
            distance = np.linalg.norm(displacement, axis=-1) + np.eye(beads)
            push = np.clip(0.293 - distance, 0, None)
            positions = positions + 0.3 * (displacement / distance[..., None] * push[..., None]).sum(axis=1)
        frames.append(positions)
    return np.array(frames), boxes_of(box * np.eye(3), len(frames))


def test_ideal_gas_is_one_within_its_errors():
    random = np.random.default_rng(2)
    positions = 2.5 * random.random((200, 100, 3))
    # Outside the box too: positions need not be wrapped.
    positions += 2.5 * random.integers(-2, 3, size=(200, 100, 1))
    distribution = radial_distribution(
        positions, boxes_of(2.5 * np.eye(3), 200), maximum=1.25, bin_width=0.05, blocks=20
    )
    deviation = (distribution.g - 1)[2:] / distribution.error[2:]
    assert (deviation**2).mean() == pytest.approx(1, abs=0.7)
    assert np.abs(deviation).max() < 4.5


def test_error_bars_are_the_spread_over_independent_trajectories():
    random = np.random.default_rng(3)
    boxes = boxes_of(2 * np.eye(3), 40)
    runs = [
        radial_distribution(2 * random.random((40, 60, 3)), boxes, maximum=1.0, bin_width=0.1, blocks=10)
        for _ in range(60)
    ]
    spread = np.std([run.g for run in runs], axis=0)
    stated = np.sqrt(np.mean([run.error**2 for run in runs], axis=0))
    # Spread of 60 values is known to 9 %.
    assert stated[2:] == pytest.approx(spread[2:], rel=0.35)
    assert np.mean(stated[2:] / spread[2:]) == pytest.approx(1, abs=0.1)


def test_lattice_has_its_peaks_and_coordination_numbers():
    edge, cells = 0.4037, 6
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    face_centred = ((grid + basis).reshape(1, -1, 3)) * edge
    distribution = radial_distribution(
        face_centred, boxes_of(cells * edge * np.eye(3), 1), maximum=0.7, bin_width=0.01, blocks=1
    )
    beads = face_centred.shape[1]
    shells = 4 / 3 * np.pi * ((distribution.distance + 0.005) ** 3 - (distribution.distance - 0.005) ** 3)
    neighbors = distribution.g * shells * (beads - 1) / (cells * edge) ** 3
    occupied = neighbors > 1e-9
    expected = edge * np.sqrt([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert distribution.distance[occupied] == pytest.approx(expected, abs=0.0051)
    assert neighbors[occupied] == pytest.approx([12, 6, 24, 12, 24, 8])
    assert np.isnan(distribution.error).all()


def test_a_cubic_liquid_is_the_same_when_its_box_is_described_as_triclinic(liquid):
    positions, boxes = liquid
    cubic = radial_distribution(positions, boxes, maximum=0.7, blocks=2)
    # Adding one box vector to another describes the same lattice of images.
    skewed = boxes.copy()
    skewed[:, 2, 0] += boxes[:, 0, 0]
    triclinic = radial_distribution(positions, skewed, maximum=0.7, blocks=2)
    assert triclinic.g == pytest.approx(cubic.g, rel=1e-9, abs=1e-9)


def test_triclinic_box_agrees_with_brute_force_over_images():
    random = np.random.default_rng(4)
    box = np.array([[2.0, 0, 0], [0.6, 1.8, 0], [-0.7, 0.5, 1.9]])
    positions = random.random((3, 40, 3)) @ box
    distribution = radial_distribution(positions, boxes_of(box, 3), maximum=0.8, bin_width=0.05, blocks=1)
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ box
    counts = np.zeros(16)
    for frame in positions:
        for bead in range(len(frame)):
            others = np.delete(frame, bead, axis=0)
            distances = np.linalg.norm(others[:, None] + shifts - frame[bead], axis=-1)
            counts += np.histogram(distances, bins=np.linspace(0, 0.8, 17))[0]
    shells = 4 / 3 * np.pi * np.diff(np.linspace(0, 0.8, 17) ** 3)
    expected = counts * np.linalg.det(box) / (3 * 40 * 39 * shells)
    assert distribution.g == pytest.approx(expected)


def test_agrees_with_mdtraj(liquid):
    positions, boxes = liquid
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(positions.shape[1]):
        topology.add_atom("W", mdtraj.element.virtual, topology.add_residue("WAT", chain))
    trajectory = mdtraj.Trajectory(positions, topology)
    trajectory.unitcell_vectors = boxes
    pairs = topology.select_pairs("all", "all")
    distance, g = mdtraj.compute_rdf(trajectory, pairs, r_range=(0, 1), bin_width=0.02)
    ours = radial_distribution(positions, boxes, maximum=1.0, bin_width=0.02)
    assert ours.distance == pytest.approx(distance, rel=1e-5)
    # mdtraj computes in float32: a pair at a bin edge may fall into the neighbouring bin.
    assert ours.g == pytest.approx(g, abs=2e-3)


def test_agrees_with_mdanalysis(liquid):
    positions, boxes = liquid
    universe = MDAnalysis.Universe.empty(positions.shape[1], trajectory=True)
    universe.load_new(positions * 10, order="fac", dimensions=[20, 20, 20, 90, 90, 90])
    result = InterRDF(universe.atoms, universe.atoms, nbins=50, range=(0, 10), exclusion_block=(1, 1)).run().results
    ours = radial_distribution(positions, boxes, maximum=1.0, bin_width=0.02)
    assert 10 * ours.distance == pytest.approx(result.bins)
    # MDAnalysis computes distances in float32: a pair at a bin edge may fall into the neighbouring bin.
    assert ours.g == pytest.approx(result.rdf, abs=2e-3)


def analytic_peak(distance):
    """A lopsided first peak, highest at 0.276 nm with g = 3, like that of water, and a broad second one."""
    rise, fall = 0.012, 0.020
    width = np.where(distance < 0.276, rise, fall)
    step = 1 / (1 + np.exp(-(distance - 0.30) / 0.02))
    first = 3 - 1 / (1 + np.exp(-(0.276 - 0.30) / 0.02))
    return (
        step
        + first * np.exp(-0.5 * ((distance - 0.276) / width) ** 2)
        + 0.1 * np.exp(-((distance - 0.45) ** 2) / 0.002)
    )


@pytest.mark.parametrize("bin_width", [0.001, 0.002, 0.005])
def test_first_peak_is_found_between_the_bins(bin_width):
    distance = np.arange(bin_width / 2, 1.0, bin_width)
    fine = np.linspace(0.2, 0.4, 200001)
    exact = fine[np.argmax(analytic_peak(fine))], analytic_peak(fine).max()
    noise = np.random.default_rng(6).normal(scale=0.02, size=(50, len(distance)))
    peaks = [
        RadialDistribution(distance, analytic_peak(distance) + sample, np.zeros_like(distance)).first_peak()
        for sample in noise
    ]
    positions, heights = np.transpose(peaks)
    assert positions.mean() == pytest.approx(exact[0], abs=0.001)
    assert positions.std() < 0.001
    assert heights.mean() == pytest.approx(exact[1], rel=0.02)


class OnDisk:
    """Frames of which at most some may be read at a time."""

    def __init__(self, frames, at_once):
        self._frames, self._at_once = frames, at_once
        self.shape = frames.shape

    def __getitem__(self, index):
        assert np.size(np.arange(len(self._frames))[index]) <= self._at_once
        return self._frames[index]


def test_trajectories_are_never_read_as_a_whole(liquid):
    positions, boxes = liquid
    lazy = OnDisk(positions, 1), OnDisk(boxes, 1)
    for analysis in (radial_distribution, angle_distribution):
        np.testing.assert_equal(vars(analysis(*lazy)), vars(analysis(positions, boxes)))
    times = np.arange(10.0)
    lazy_result = mean_squared_displacement(OnDisk(positions, 2), times, boxes=OnDisk(boxes, 2))
    assert np.array_equal(lazy_result.value, mean_squared_displacement(positions, times, boxes=boxes).value)


def test_difference_is_the_mean_over_the_range(liquid):
    positions, boxes = liquid
    one = radial_distribution(positions, boxes, maximum=0.8)
    shifted = RadialDistribution(one.distance, one.g + np.where(one.distance > 0.5, 0.1, -0.2), one.error)
    assert one.mean_absolute_difference(shifted, 0.5, 0.8) == pytest.approx(0.1)
    assert one.mean_absolute_difference(shifted, 0.2, 0.8) == pytest.approx(0.15)
    with pytest.raises(ValueError, match="0.2 to 1 nm"):
        one.mean_absolute_difference(shifted, 0.2, 1.0)
    with pytest.raises(ValueError, match="different bins"):
        one.mean_absolute_difference(radial_distribution(positions, boxes, maximum=0.6), 0.2, 0.5)


def test_a_box_too_small_is_refused(liquid):
    positions, boxes = liquid
    with pytest.raises(ValueError, match=r"1\.1 nm, exceeds half the smallest width of the box in frame 0, 1\.0000 nm"):
        radial_distribution(positions, boxes, maximum=1.1)
    skewed = boxes.copy()
    skewed[3, 1, 0] = 1.0
    skewed[3, 2, :2] = (1.0, 1.0)
    with pytest.raises(ValueError, match="in frame 3"):
        radial_distribution(positions, skewed, maximum=1.0)


def test_positions_that_are_not_finite_are_refused(liquid):
    positions, boxes = liquid
    broken = positions.copy()
    broken[4, 7, 1] = np.nan
    with pytest.raises(ValueError, match="frame 4 has positions that are not finite"):
        radial_distribution(broken, boxes)


def test_missing_boxes_are_refused(liquid):
    positions, boxes = liquid
    with pytest.raises(ValueError, match="one box per frame"):
        radial_distribution(positions, boxes[0])
    with pytest.raises(ValueError, match="no periodic box"):
        radial_distribution(positions, np.zeros_like(boxes))
