"""Distances: what they are, what leaves them as they are, and which input is refused."""

import numpy as np
import pytest

from openmmcg.electronic import DistanceFeatures

RANDOM = np.random.default_rng(0)
POSITIONS = RANDOM.normal(size=(7, 5, 3))


def test_features_are_the_upper_triangle_of_the_distance_matrix():
    matrix = np.linalg.norm(POSITIONS[:, :, None] - POSITIONS[:, None], axis=3)
    expected = np.stack([frame[np.triu_indices(5, 1)] for frame in matrix])
    np.testing.assert_allclose(DistanceFeatures(5)(POSITIONS), expected, rtol=1e-12)
    np.testing.assert_allclose(DistanceFeatures(5, "squared distances")(POSITIONS), expected**2, rtol=1e-12)


def test_moving_turning_and_mirroring_a_molecule_changes_nothing():
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(3, 3)))
    for transformation in (rotation, -rotation):
        moved = POSITIONS @ transformation + RANDOM.normal(size=3)
        np.testing.assert_allclose(DistanceFeatures(5)(moved), DistanceFeatures(5)(POSITIONS), rtol=1e-12)


def test_a_reduced_set_holds_the_pairs_asked_for_in_either_order():
    features = DistanceFeatures(5, pairs=[(3, 1), (0, 4)])
    everything = DistanceFeatures(5)(POSITIONS)
    pairs = [tuple(pair) for pair in DistanceFeatures(5).pairs]
    np.testing.assert_array_equal(features(POSITIONS), everything[:, [pairs.index((1, 3)), pairs.index((0, 4))]])
    again = DistanceFeatures(**features.describe())
    np.testing.assert_array_equal(again(POSITIONS), features(POSITIONS))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((5, "angles"), "no features 'angles'"),
        ((1,), "at least two beads"),
        ((5, "distances", [(0, 5)]), "pairs run from 0 to 5; the particles are 0 to 4"),
        ((5, "distances", [(0, 1.5)]), "whole numbers"),
        ((5, "distances", [(2, 2)]), r"pair \[2, 2\]"),
        ((5, "distances", [(0, 1), (1, 0)]), "comes twice"),
        ((5, "distances", []), "list of pairs"),
    ],
)
def test_features_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistanceFeatures(*arguments)


def test_positions_that_do_not_fit_are_refused():
    features = DistanceFeatures(5)
    with pytest.raises(ValueError, match="have 4 beads, these features need 5"):
        features(POSITIONS[:, :4])
    with pytest.raises(ValueError, match=r"shape \[frames, beads, 3\], got \[5, 3\]"):
        features(POSITIONS[0])
    broken = POSITIONS.copy()
    broken[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="the first is frame 3"):
        features(broken)
