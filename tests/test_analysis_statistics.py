"""Error bars by block averaging."""

import numpy as np
import pytest

from openmmcg.analysis import block_slices, mean_and_error, series_average


def test_blocks_cover_every_frame_once():
    for frames in (5, 7, 100, 101):
        for blocks in (1, 2, 5):
            slices = block_slices(frames, blocks)
            assert np.array_equal(np.concatenate([np.arange(frames)[block] for block in slices]), np.arange(frames))
            lengths = [block.stop - block.start for block in slices]
            assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("blocks", [0, 4])
def test_impossible_blocks_are_refused(blocks):
    with pytest.raises(ValueError, match="between 1 and the number of frames"):
        block_slices(3, blocks)


def test_one_block_has_no_error():
    mean, error = mean_and_error(np.ones((1, 3)))
    assert np.array_equal(mean, np.ones(3))
    assert np.isnan(error).all()


def test_error_of_a_correlated_series_is_the_spread_of_its_mean():
    # First-order autoregression with correlation time 1/(1−a) = 20 steps; over √frames alone the error is 6
    # times too small.
    random = np.random.default_rng(1)
    series = np.zeros((400, 10000))
    noise = random.normal(size=series.shape)
    for step in range(1, series.shape[1]):
        series[:, step] = 0.95 * series[:, step - 1] + noise[:, step]
    averages = np.array([series_average(values, blocks=20) for values in series])
    spread = averages[:, 0].std()
    assert np.sqrt((averages[:, 1] ** 2).mean()) == pytest.approx(spread, rel=0.12)
    # The analytic standard error of the mean of this series is 1/(1−a)/√frames.
    assert spread == pytest.approx(20 / np.sqrt(series.shape[1]), rel=0.12)
