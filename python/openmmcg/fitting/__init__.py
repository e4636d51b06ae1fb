"""Fitting potentials to all-atom data."""

from openmmcg.fitting.force_matching import ForceMatching, ForceMatchingResult, force_rmse

__all__ = ["ForceMatching", "ForceMatchingResult", "force_rmse"]
