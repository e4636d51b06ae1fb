"""When an inversion is converged, and what of its deviations is noise."""

import numpy as np
import pytest

from openmmcg.fitting.boltzmann_inversion.boltzmann_inversion import BoltzmannInversionResult
from openmmcg.fitting.boltzmann_inversion.convergence import evaluate, make_criteria, sampling_noise
from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate, Counts

BOND = Coordinate("bonds", (0, 0), "bond A-A", ((0, 1),), np.linspace(0.2, 0.4, 31))
PAIR = Coordinate("pairs", (0, 0), "pair A-A", (), np.linspace(0, 0.8, 81))
CRITERIA = make_criteria([BOND, PAIR], {"divergence": 0.005, "largest |Δg|": 0.1, "mean |Δg|": 0.02})
BELL = np.exp(-0.5 * ((BOND.centers - 0.3) / 0.03) ** 2)
G = np.where(PAIR.centers < 0.25, 0.0, 1 + 1.5 * np.exp(-(((PAIR.centers - 0.3) / 0.03) ** 2)))
PAIRS_PER_FRAME = 20.0
FACTORS = [np.ones(30), 1 / PAIRS_PER_FRAME * np.ones(80)]


def counts(random, frames_per_block, shared=0.0):
    """Ten blocks of independent frames; with a share of noise that all bins have in common."""
    blocks = []
    for _ in range(10):
        expected = frames_per_block * np.concatenate([BELL, PAIRS_PER_FRAME * G])
        blocks.append(random.poisson(expected * np.exp(shared * random.normal())))
    sizes = np.array([30, 80])
    return Counts(sizes, np.ones(2, int), np.full(10, frames_per_block), np.array(blocks), np.zeros((110, 110)))


def distributions(one):
    return [factor * each / one.frames.sum() for factor, each in zip(FACTORS, one.histograms, strict=True)]


@pytest.mark.parametrize(("simulated", "reference", "shared"), [(50, 50, 0.0), (200, 20, 0.0), (50, 50, 0.05)])
def test_what_sampling_makes_of_every_measure_is_known_from_the_blocks(simulated, reference, shared):
    random = np.random.default_rng(0)
    measured, expected = [], []
    for _ in range(30):
        one, other = counts(random, simulated, shared), counts(random, reference, shared)
        measured.append(evaluate(CRITERIA, distributions(one), distributions(other)))
        expected.append(sampling_noise(CRITERIA, one, other, FACTORS))
    assert np.mean(measured, 0) == pytest.approx(np.mean(expected, 0), rel=0.15)


def test_pairs_are_measured_by_their_largest_and_mean_difference():
    shifted = G.copy()
    shifted[40] += 0.3
    found = evaluate(CRITERIA, [BELL, shifted], [BELL, G])
    assert [criterion.label for criterion in CRITERIA] == [
        "bond A-A, divergence",
        "pair A-A, largest |Δg|",
        "pair A-A, mean |Δg|",
    ]
    # The mean is over the 55 bins from 0.25 nm on.
    assert found == pytest.approx([0.0, 0.3, 0.3 / 55])


def result(deviations, noise):
    return BoltzmannInversionResult(
        potential=None,
        best=0,
        criteria=CRITERIA,
        deviations=np.array([deviations]),
        noise=np.array([noise]),
        divergences=np.zeros((1, 2)),
        coordinates=(BOND, PAIR),
        reference=(BELL, G),
        simulated=(BELL, G),
    )


@pytest.mark.parametrize(
    ("deviations", "noise", "words"),
    [
        ((0.001, 0.09, 0.01), (0.0, 0.0, 0.0), "iteration 0 of 0 is the best, and converged"),
        (
            (0.001, 0.39, 0.01),
            (0.0, 0.02, 0.0),
            "pair A-A, largest |Δg|: 0.39, tolerance 0.1, sampling alone 0.02); more iterations",
        ),
        ((0.001, 0.12, 0.01), (0.0, 0.11, 0.0), "sampling alone 0.11); the frames, not the potential, limit this"),
    ],
)
def test_the_verdict_says_what_is_out_of_tolerance_and_what_would_help(deviations, noise, words):
    found = result(deviations, noise)
    assert words in found.verdict
    assert found.converged == ("and converged" in words)
    assert found.limited_by_sampling == ("limit this" in words)
