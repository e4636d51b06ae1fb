"""Fitting potentials to all-atom data. Names are imported when they are first used; force matching needs torch."""

from typing import TYPE_CHECKING

from openmmcg.optional import lazy_names

if TYPE_CHECKING:
    from openmmcg.fitting.boltzmann_inversion.boltzmann_inversion import BoltzmannInversion, BoltzmannInversionResult
    from openmmcg.fitting.boltzmann_inversion.distributions import jensen_shannon_divergence
    from openmmcg.fitting.dynamics import DiffusionMatching, DiffusionMatchingResult, Friction, Landscape
    from openmmcg.fitting.force_matching.cross_validation import CrossValidationResult, cross_validate
    from openmmcg.fitting.force_matching.force_errors import ForceErrors, force_rmse
    from openmmcg.fitting.force_matching.force_matching import ForceMatching
    from openmmcg.fitting.force_matching.grid_search import GridPoint, GridSearchResult, grid_search
    from openmmcg.fitting.force_matching.result import ForceMatchingResult
    from openmmcg.fitting.pressure_matching import PressureMatching, PressureMatchingResult
    from openmmcg.fitting.relative_entropy.relative_entropy import RelativeEntropy
    from openmmcg.fitting.relative_entropy.result import RelativeEntropyResult
    from openmmcg.fitting.trajectory_matching.observables import Mean, PairDistances, Pressure, TripletAngles
    from openmmcg.fitting.trajectory_matching.result import TrajectoryMatchingResult
    from openmmcg.fitting.trajectory_matching.trajectory_matching import TrajectoryMatching

__all__ = [
    "BoltzmannInversion",
    "BoltzmannInversionResult",
    "CrossValidationResult",
    "DiffusionMatching",
    "DiffusionMatchingResult",
    "ForceErrors",
    "ForceMatching",
    "ForceMatchingResult",
    "Friction",
    "GridPoint",
    "GridSearchResult",
    "Landscape",
    "Mean",
    "PairDistances",
    "Pressure",
    "PressureMatching",
    "PressureMatchingResult",
    "RelativeEntropy",
    "RelativeEntropyResult",
    "TrajectoryMatching",
    "TrajectoryMatchingResult",
    "TripletAngles",
    "cross_validate",
    "force_rmse",
    "grid_search",
    "jensen_shannon_divergence",
]

__getattr__ = lazy_names(
    __name__,
    {
        "BoltzmannInversion": "boltzmann_inversion.boltzmann_inversion",
        "BoltzmannInversionResult": "boltzmann_inversion.boltzmann_inversion",
        "CrossValidationResult": "force_matching.cross_validation",
        "DiffusionMatching": "dynamics",
        "DiffusionMatchingResult": "dynamics",
        "Friction": "dynamics",
        "Landscape": "dynamics",
        "ForceErrors": "force_matching.force_errors",
        "ForceMatching": "force_matching.force_matching",
        "ForceMatchingResult": "force_matching.result",
        "GridPoint": "force_matching.grid_search",
        "GridSearchResult": "force_matching.grid_search",
        "PressureMatching": "pressure_matching",
        "PressureMatchingResult": "pressure_matching",
        "RelativeEntropy": "relative_entropy.relative_entropy",
        "RelativeEntropyResult": "relative_entropy.result",
        "Mean": "trajectory_matching.observables",
        "PairDistances": "trajectory_matching.observables",
        "Pressure": "trajectory_matching.observables",
        "TripletAngles": "trajectory_matching.observables",
        "TrajectoryMatching": "trajectory_matching.trajectory_matching",
        "TrajectoryMatchingResult": "trajectory_matching.result",
        "cross_validate": "force_matching.cross_validation",
        "force_rmse": "force_matching.force_errors",
        "grid_search": "force_matching.grid_search",
        "jensen_shannon_divergence": "boltzmann_inversion.distributions",
    },
)
