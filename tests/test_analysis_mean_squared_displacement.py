"""Mean squared displacement of motions whose law is known."""

import sys

import numpy as np
import pytest

from openmmcg.analysis import mean_squared_displacement, unwrap


def random_walk(random, frames, beads, diffusion, interval):
    steps = random.normal(scale=np.sqrt(2 * diffusion * interval), size=(frames, beads, 3))
    return np.cumsum(steps, axis=0)


def test_agrees_with_the_sum_over_time_origins():
    random = np.random.default_rng(21)
    positions = random_walk(random, 23, 5, 0.3, 0.1) + 100.0
    result = mean_squared_displacement(positions, 0.1 * np.arange(23), maximum=1.0, blocks=2)
    for block, values in zip((positions[:12], positions[12:]), result.block_values, strict=True):
        for lag in range(11):
            steps = block[lag:] - block[: len(block) - lag]
            assert values[lag] == pytest.approx((steps**2).sum(axis=-1).mean(), rel=1e-9, abs=1e-12)
    assert result.time == pytest.approx(0.1 * np.arange(11))


def test_brownian_motion_diffuses_by_einstein_with_calibrated_errors():
    random = np.random.default_rng(22)
    times, diffusion = 0.2 * np.arange(500), 0.0025
    constants, errors, deviations = [], [], []
    for _ in range(80):
        result = mean_squared_displacement(random_walk(random, 500, 10, diffusion, 0.2), times, maximum=4.0, blocks=10)
        constant, error = result.diffusion(1.0, 4.0)
        constants.append(constant)
        errors.append(error)
        deviations.append((result.value[1:] - 6 * diffusion * result.time[1:]) / result.error[1:])
    assert np.mean(constants) == pytest.approx(diffusion, abs=4 * np.std(constants) / np.sqrt(80))
    # A spread from 80 values is known to 8 %.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(constants), rel=0.25)
    # Student's t with 9 degrees of freedom has variance 9/7.
    assert np.mean(np.square(deviations)) == pytest.approx(9 / 7, rel=0.35)


def test_wrapped_beads_are_unwrapped_in_a_triclinic_box():
    random = np.random.default_rng(23)
    box = np.array([[1.0, 0, 0], [0.4, 0.9, 0], [-0.3, 0.35, 0.8]])
    path = random_walk(random, 200, 8, 0.02, 0.05)
    boxes = np.tile(box, (200, 1, 1))
    fractions = path @ np.linalg.inv(box)
    wrapped = (fractions - np.floor(fractions)) @ box
    assert unwrap(wrapped, boxes) - wrapped[0] == pytest.approx(path - path[0], abs=1e-9)
    times = 0.05 * np.arange(200)
    assert mean_squared_displacement(wrapped, times, boxes=boxes).value == pytest.approx(
        mean_squared_displacement(path, times).value, rel=1e-9, abs=1e-12
    )


def test_beads_are_taken_in_groups_without_changing_the_result(monkeypatch):
    positions = random_walk(np.random.default_rng(24), 40, 9, 0.1, 1.0)
    whole = mean_squared_displacement(positions, np.arange(40))
    # By its name in sys.modules, because the package exports the function under the module's name.
    monkeypatch.setattr(sys.modules["openmmcg.analysis.mean_squared_displacement"], "_GROUP_ELEMENTS", 100)
    assert mean_squared_displacement(positions, np.arange(40)).value == pytest.approx(whole.value)


def test_bad_input_is_refused():
    positions = np.zeros((20, 2, 3))
    with pytest.raises(ValueError, match="equally spaced"):
        mean_squared_displacement(positions, np.arange(20) ** 2)
    with pytest.raises(ValueError, match="block of 4 frames every 1 ps reaches 3 ps"):
        mean_squared_displacement(positions, np.arange(20), maximum=4.0)
    with pytest.raises(ValueError, match="fewer than two times"):
        mean_squared_displacement(positions, np.arange(20)).diffusion(5, 6)
    positions[3, 1] = np.inf
    with pytest.raises(ValueError, match="frames 0 to 3 have positions that are not finite"):
        mean_squared_displacement(positions, np.arange(20))
