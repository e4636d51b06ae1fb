"""Fitting potentials to all-atom data."""

from openmmcg.fitting.boltzmann_inversion import BoltzmannInversion
from openmmcg.fitting.cross_validation import CrossValidationResult, cross_validate
from openmmcg.fitting.force_errors import ForceErrors, force_rmse
from openmmcg.fitting.force_matching import ForceMatching, ForceMatchingResult

__all__ = [
    "BoltzmannInversion",
    "CrossValidationResult",
    "ForceErrors",
    "ForceMatching",
    "ForceMatchingResult",
    "cross_validate",
    "force_rmse",
]
