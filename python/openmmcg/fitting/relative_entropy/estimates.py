"""Averages over simulations with other parameters, and the gradient of the relative entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmmcg.analysis.statistics import block_slices

FloatArray = NDArray[np.float64]

# Of the frames of each run, from which the noise of an average is known.
_BLOCKS = 10


class Sample(NamedTuple):
    """What was sampled in a simulation.

    Attributes
    ----------
    parameters : array [parameters]
        With which it was sampled.
    runs : list of arrays [frames, parameters]
        φ of the frames of each run, one after the other in time.
    """

    parameters: FloatArray
    runs: list[FloatArray]


class Average(NamedTuple):
    """What frames say of φ.

    Attributes
    ----------
    mean : array [parameters]
    covariance : array [parameters, parameters]
        Over frames.
    noise : array [parameters, parameters]
        Covariance of the mean.
    effective : float
        Effective sample size, as a part of the frames of the best simulation.
    frames : int
    """

    mean: FloatArray
    covariance: FloatArray
    noise: FloatArray
    effective: float
    frames: int


class Gradient(NamedTuple):
    """Of the relative entropy, in units of k_B and of the parameters.

    Attributes
    ----------
    slope : array [parameters]
        β(⟨φ⟩ of the reference − ⟨φ⟩ of the beads).
    curvature : array [parameters, parameters]
        β² times the covariance of φ.
    noise : array [parameters, parameters]
        Covariance of the slope, from the finite number of frames of both.
    effective : float
        The least effective sample size of all systems, as a part of their frames.
    frames : int
        The least number of frames of an ensemble.
    """

    slope: FloatArray
    curvature: FloatArray
    noise: FloatArray
    effective: float
    frames: int


def average(samples: Sequence[Sample], parameters: FloatArray, beta: float, least: float) -> Average:
    """Averages with these parameters, from samples with others by weights (Zwanzig).

    Each sample counts by its effective size, (Σw)²/Σw²; those with less than a part `least` of their frames do not.
    Where none has as much, the best one is taken, and the effective size says so.
    """
    found = []
    for sample in samples:
        phi = np.concatenate(sample.runs)
        logarithms = -beta * (phi - phi.mean(0)) @ (parameters - sample.parameters)
        weights = np.exp(logarithms - logarithms.max())
        weights /= weights.sum()
        found.append((1 / np.sum(weights**2), phi, weights, sample))
    parts = [size / len(phi) for size, phi, _, _ in found]
    chosen = [each for each, part in zip(found, parts, strict=True) if part >= least] or [found[int(np.argmax(parts))]]
    shares = np.array([size for size, *_ in chosen])
    shares /= shares.sum()
    mean = sum(share * weights @ phi for share, (_, phi, weights, _) in zip(shares, chosen, strict=True))
    number = phi.shape[1]
    covariance, noise = np.zeros((number, number)), np.zeros((number, number))
    for share, (_, phi, weights, sample) in zip(shares, chosen, strict=True):
        away = phi - mean
        covariance += share * (away * weights[:, None]).T @ away
        own = phi - weights @ phi
        noise += share**2 * _noise(own * weights[:, None], [len(run) for run in sample.runs])
    return Average(np.asarray(mean), covariance, noise, max(parts), sum(len(phi) for _, phi, _, _ in chosen))


def plain_average(runs: Sequence[FloatArray]) -> Average:
    """Averages over frames as they are."""
    phi = np.concatenate(list(runs))
    away = phi - phi.mean(0)
    noise = _noise(away / len(phi), [len(run) for run in runs])
    return Average(phi.mean(0), away.T @ away / len(phi), noise, 1.0, len(phi))


def _noise(shares: FloatArray, lengths: Sequence[int]) -> FloatArray:
    """Covariance of a sum over frames, ``[frames, parameters]``, whose neighbors in time are correlated."""
    start, blocks = 0, []
    for length in lengths:
        number = max(1, min(_BLOCKS, length // 2))
        blocks += [shares[start : start + length][part].sum(0) for part in block_slices(length, number)]
        start += length
    rows = np.array(blocks)
    # Sums of shares that add up to zero, so that one block less is independent.
    return rows.T @ rows * len(rows) / max(1, len(rows) - 1)


def gradient(
    references: Sequence[Average],
    samples: Sequence[Sequence[Sample]],
    parameters: FloatArray,
    betas: Sequence[float],
    least: float,
) -> Gradient:
    """Of the sum of the relative entropies of several systems; arguments are one of each, as of `average`."""
    number = len(parameters)
    slope, curvature, noise = np.zeros(number), np.zeros((number, number)), np.zeros((number, number))
    effective, frames = np.inf, min(each.frames for each in references)
    for reference, ours, beta in zip(references, samples, betas, strict=True):
        beads = average(ours, parameters, beta, least)
        slope += beta * (reference.mean - beads.mean)
        curvature += beta**2 * beads.covariance
        noise += beta**2 * (reference.noise + beads.noise)
        effective, frames = min(effective, beads.effective), min(frames, beads.frames)
    return Gradient(slope, curvature, noise, float(effective), frames)


class Step(NamedTuple):
    """A Newton step.

    Attributes
    ----------
    change : array [parameters]
        Limited to the scales of those parameters that frames say something of.
    gain : float
        What the whole step lowers the relative entropy by, to second order, in k_B.
    noise : float
        What that would be, on average, with perfect parameters, from noise alone.
    covariance : array [parameters, parameters]
        Of the parameters at the minimum, from noise.
    """

    change: FloatArray
    gain: float
    noise: float
    covariance: FloatArray


def newton_step(found: Gradient, scales: FloatArray, stiffness: FloatArray) -> Step:
    """Towards the minimum.

    Parameters
    ----------
    found
        The gradient.
    scales
        Of each parameter, to which its change is limited.
    stiffness
        Inverse covariance of the change, in units of the scales, before there are frames: it counts as much as one
        frame, so that it decides about parameters of which frames say nothing, and about no others.
    """
    information = scales[:, None] * found.curvature * scales
    inverse = np.linalg.inv(information + stiffness / found.frames)
    slope, noise = scales * found.slope, scales[:, None] * found.noise * scales
    change = -inverse @ slope
    covariance = scales[:, None] * (inverse @ noise @ inverse) * scales
    known = np.diag(information) > 1 / found.frames
    limited = change * min(1.0, 1.0 / max(np.abs(change[known]).max(initial=0.0), 1e-300))
    return Step(scales * limited, float(-slope @ change / 2), float(np.trace(inverse @ noise) / 2), covariance)
