"""Fitting potentials to all-atom data."""

from openmmcg.fitting.boltzmann_inversion import BoltzmannInversion
from openmmcg.fitting.force_matching import ForceMatching, ForceMatchingResult, force_rmse

__all__ = ["BoltzmannInversion", "ForceMatching", "ForceMatchingResult", "force_rmse"]
