"""Angle distributions against known ones and brute force."""

import numpy as np
import pytest

from openmmcg.analysis import AngleDistribution, angle_distribution


def boxes_of(box, frames):
    return np.tile(np.asarray(box, dtype=float), (frames, 1, 1))


def test_random_neighbors_follow_the_sine_within_errors():
    random = np.random.default_rng(11)
    positions = 2.0 * random.random((60, 200, 3))
    distribution = angle_distribution(positions, boxes_of(2 * np.eye(3), 60), bin_width=4, blocks=20)
    edges = np.radians(np.linspace(30, 150, 31))
    expected = -np.diff(np.cos(edges)) / (4 * (np.cos(edges[0]) - np.cos(edges[-1])))
    deviation = (distribution.probability - expected) / distribution.error
    assert (deviation**2).mean() == pytest.approx(1, abs=0.6)
    assert distribution.probability.sum() * 4 == pytest.approx(1)


def test_agrees_with_brute_force_in_a_triclinic_box():
    random = np.random.default_rng(12)
    box = np.array([[1.6, 0, 0], [0.5, 1.5, 0], [-0.4, 0.6, 1.4]])
    positions = random.random((2, 30, 3)) @ box
    distribution = angle_distribution(positions, boxes_of(box, 2), cutoff=0.6, bin_width=5, blocks=1)
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ box
    angles = []
    for frame in positions:
        for center in frame:
            vectors = (frame[:, None] + shifts - center).reshape(-1, 3)
            lengths = np.linalg.norm(vectors, axis=1)
            vectors = vectors[(lengths < 0.6) & (lengths > 1e-9)]
            for j in range(len(vectors)):
                for k in range(j + 1, len(vectors)):
                    cosine = vectors[j] @ vectors[k] / np.linalg.norm(vectors[j]) / np.linalg.norm(vectors[k])
                    angles.append(np.degrees(np.arccos(cosine)))
    expected = np.histogram(angles, bins=np.arange(30, 151, 5))[0]
    assert distribution.probability == pytest.approx(expected / expected.sum() / 5)
    assert np.array_equal(distribution.angle, np.arange(32.5, 150, 5))


def test_a_diamond_lattice_has_the_tetrahedral_angle():
    cubic = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    basis = np.concatenate([cubic, cubic + 0.25])
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 1, 3)
    edge = 0.5
    positions = ((grid + basis).reshape(1, -1, 3)) * edge
    distribution = angle_distribution(positions, boxes_of(3 * edge * np.eye(3), 1), cutoff=0.25, blocks=1)
    assert distribution.angle[distribution.probability > 0] == pytest.approx([109.5])


def test_difference_is_the_total_variation():
    angle = np.arange(30.5, 150)
    flat = AngleDistribution(angle, np.full(120, 1 / 120), np.zeros(120))
    left = AngleDistribution(angle, np.where(angle < 90, 1 / 60, 0), np.zeros(120))
    right = AngleDistribution(angle, np.where(angle > 90, 1 / 60, 0), np.zeros(120))
    assert left.difference(right) == pytest.approx(1)
    assert left.difference(flat) == pytest.approx(0.5)
    assert flat.difference(flat) == 0
    with pytest.raises(ValueError, match="different bins"):
        flat.difference(AngleDistribution(angle[:60], np.full(60, 1 / 60), np.zeros(60)))


def test_bins_that_do_not_fill_the_range_are_refused():
    with pytest.raises(ValueError, match="not a whole number of bins of 7 degrees"):
        angle_distribution(np.zeros((1, 3, 3)), boxes_of(2 * np.eye(3), 1), bin_width=7)


def test_beads_without_neighbors_are_refused():
    positions = np.array([[[0.0, 0, 0], [1.0, 0, 0]]])
    with pytest.raises(ValueError, match="no bead has two neighbours within 0.45 nm"):
        angle_distribution(positions, boxes_of(2 * np.eye(3), 1), blocks=1)


def test_beads_at_the_same_place_are_refused():
    positions = np.array([[[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    with pytest.raises(ValueError, match="two beads are at the same place"):
        angle_distribution(positions, 2.0 * np.eye(3)[None], blocks=1, progress=False)
