"""Fitting potentials to all-atom data."""

from openmmcg.fitting.boltzmann_inversion import BoltzmannInversion, BoltzmannInversionResult
from openmmcg.fitting.distributions import jensen_shannon_divergence
from openmmcg.fitting.force_matching import ForceMatching, ForceMatchingResult, force_rmse

__all__ = [
    "BoltzmannInversion",
    "BoltzmannInversionResult",
    "ForceMatching",
    "ForceMatchingResult",
    "force_rmse",
    "jensen_shannon_divergence",
]
