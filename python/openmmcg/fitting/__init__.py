"""Fitting potentials to all-atom data."""

from openmmcg.fitting.boltzmann_inversion.boltzmann_inversion import BoltzmannInversion, BoltzmannInversionResult
from openmmcg.fitting.boltzmann_inversion.distributions import jensen_shannon_divergence
from openmmcg.fitting.force_matching.cross_validation import CrossValidationResult, cross_validate
from openmmcg.fitting.force_matching.force_errors import ForceErrors, force_rmse
from openmmcg.fitting.force_matching.force_matching import ForceMatching
from openmmcg.fitting.force_matching.grid_search import GridPoint, GridSearchResult, grid_search
from openmmcg.fitting.force_matching.result import ForceMatchingResult

__all__ = [
    "BoltzmannInversion",
    "BoltzmannInversionResult",
    "CrossValidationResult",
    "ForceErrors",
    "ForceMatching",
    "ForceMatchingResult",
    "GridPoint",
    "GridSearchResult",
    "cross_validate",
    "force_rmse",
    "grid_search",
    "jensen_shannon_divergence",
]
