"""How true error bars are, and a correction of them learned on frames that were held out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import erfinv


@dataclass(frozen=True)
class Scores:
    """What predicted normal distributions are worth on frames they were not trained on.

    Attributes
    ----------
    rmse : float
        Root mean square difference of mean and energy, eV.
    r_squared : float
        1 − rmse² / variance of the energies.
    negative_log_density : float
        Mean of −log p(E), with E in eV. Less is better; it rewards error bars that are small where they may be.
    standardised_deviation : float
        Standard deviation of (E − mean)/σ: one for true error bars, less where they are too wide.
    coverage_68, coverage_95 : float
        Fraction of the energies within the central intervals that should hold 68 % and 95 %.
    mean_standard_deviation : float
        Mean σ, eV.
    frames : int
    """

    rmse: float
    r_squared: float
    negative_log_density: float
    standardised_deviation: float
    coverage_68: float
    coverage_95: float
    mean_standard_deviation: float
    frames: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def scores(mean: ArrayLike, standard_deviation: ArrayLike, energies: ArrayLike) -> Scores:
    """Compare predicted normal distributions with the energies that came.

    Parameters
    ----------
    mean, standard_deviation, energies : array [frames], eV

    Raises
    ------
    ValueError
        The lengths differ, numbers are not finite, or a deviation is not positive.

    Examples
    --------
    >>> energies = np.random.default_rng(0).normal(-9.0, 0.1, 20000)
    >>> found = scores(np.full(20000, -9.0), np.full(20000, 0.2), energies)
    >>> print(f"{found.standardised_deviation:.2f}, {found.coverage_68:.2f}")  # error bars twice too wide
    0.50, 0.95
    """
    centre, width, truth = (np.asarray(array, np.float64) for array in (mean, standard_deviation, energies))
    if not centre.shape == width.shape == truth.shape:
        raise ValueError(f"{centre.shape} means, {width.shape} deviations and {truth.shape} energies do not fit")
    _check_distributions(centre, width, truth)
    residuals = (truth - centre) / width
    rmse = np.sqrt(np.mean((truth - centre) ** 2))
    return Scores(
        rmse=float(rmse),
        r_squared=float(1 - rmse**2 / truth.var()),
        negative_log_density=float(np.mean(0.5 * residuals**2 + np.log(width)) + 0.5 * np.log(2 * np.pi)),
        standardised_deviation=float(residuals.std()),
        coverage_68=float(np.mean(np.abs(residuals) < _half_width(0.68))),
        coverage_95=float(np.mean(np.abs(residuals) < _half_width(0.95))),
        mean_standard_deviation=float(width.mean()),
        frames=len(truth),
    )


def _check_distributions(mean: NDArray[np.float64], width: NDArray[np.float64], energies: NDArray[np.float64]) -> None:
    fine = np.isfinite(mean) & np.isfinite(energies) & np.isfinite(width) & (width > 0)
    if not (fine.all() and fine.size):
        raise ValueError(
            f"{np.count_nonzero(~fine)} of {fine.size} frames have a mean or an energy that is not finite, or a width "
            "that is not positive and finite; leave them out"
        )


def _half_width(probability: float) -> float:
    return float(np.sqrt(2) * erfinv(probability))


@dataclass(frozen=True)
class Recalibration:
    r"""Corrected variance :math:`s^2 (\sigma^2/\bar\sigma^2)^b`, with :math:`\log\bar\sigma^2` the mean logarithm.

    A network that was chosen among many, and trained until it began to repeat its frames, is a little too sure of
    itself on others, and batches leave its means a few hundredths of a standard deviation off. Three numbers, learned
    on frames held out of the training, mend the width (s), how much it varies (b), and the level of the means.

    Attributes
    ----------
    variance : float
        s².
    reference : float
        σ̄².
    exponent : float
        b.
    shift : float
        What the means have to rise by.
    """

    variance: float = 1.0
    reference: float = 1.0
    exponent: float = 1.0
    shift: float = 0.0

    def to_array(self) -> NDArray[np.float64]:
        """The four numbers in their order."""
        return np.array([self.variance, self.reference, self.exponent, self.shift])

    def factor(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a variance, and each part of it, is multiplied by."""
        return self.variance / self.reference**self.exponent * variance ** (self.exponent - 1)


def recalibrate(mean: ArrayLike, variance: ArrayLike, energies: ArrayLike) -> Recalibration:
    """The recalibration under which held-out energies are most likely.

    The shift is found first, with the variances as they are; then the other two numbers.

    Parameters
    ----------
    mean, variance, energies : array [frames]
        In any one unit and its square.

    Raises
    ------
    ValueError
        Numbers are not finite, or a variance is not positive.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> true = np.exp(random.normal(size=20000))
    >>> energies = np.sqrt(true) * random.normal(size=20000)
    >>> found = recalibrate(np.zeros(20000), 4 * true**2, energies)
    >>> print(f"{found.exponent:.2f}")
    0.50
    """
    centre, width, truth = (np.asarray(array, np.float64) for array in (mean, variance, energies))
    _check_distributions(centre, width, truth)
    residuals = truth - centre
    shift = np.average(residuals, weights=1 / width)
    logarithms = np.log(width)
    reference = logarithms.mean()
    squares = (residuals - shift) ** 2
    first = np.log(squares.mean())

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope = logarithms - reference
        predicted = first + parameters[0] + parameters[1] * slope
        excess = 1 - squares * np.exp(-predicted)
        return float(np.mean(predicted + 1 - excess)), np.array([excess.mean(), np.mean(excess * slope)])

    level, exponent = minimize(loss, [0.0, 1.0], jac=True, method="BFGS").x
    return Recalibration(float(np.exp(first + level)), float(np.exp(reference)), float(exponent), float(shift))
