"""Electronic coarse graining: the distribution of an electronic energy given the beads alone.

Names import what they need (torch, gpytorch, scikit-learn) when they are first used. Figures are in
`openmmcg.electronic.figures`, which needs matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmmcg.electronic.density_of_states import DensityOfStates, Estimate, common_edges
    from openmmcg.electronic.noise import (
        ConditionalNoise,
        LocalNoise,
        RejectionFraction,
        conditional_noise,
        local_noise,
        shapiro_wilk,
        total_noise,
    )
    from openmmcg.electronic.reporter import (
        ElectronicReporter,
        PredictedTrajectory,
        predict_trajectory,
        read_predictions,
    )
    from openmmcg.electronic.resolution import NoiseCurve, RankedMap, average_noise, noise_curves, rank_maps

__all__ = [
    "ConditionalNoise",
    "DensityOfStates",
    "ElectronicReporter",
    "Estimate",
    "LocalNoise",
    "NoiseCurve",
    "PredictedTrajectory",
    "RankedMap",
    "RejectionFraction",
    "average_noise",
    "common_edges",
    "conditional_noise",
    "local_noise",
    "noise_curves",
    "predict_trajectory",
    "rank_maps",
    "read_predictions",
    "shapiro_wilk",
    "total_noise",
]

_MODULE_OF = {
    "ConditionalNoise": "noise",
    "DensityOfStates": "density_of_states",
    "ElectronicReporter": "reporter",
    "Estimate": "density_of_states",
    "LocalNoise": "noise",
    "NoiseCurve": "resolution",
    "PredictedTrajectory": "reporter",
    "RankedMap": "resolution",
    "RejectionFraction": "noise",
    "average_noise": "resolution",
    "common_edges": "density_of_states",
    "conditional_noise": "noise",
    "local_noise": "noise",
    "noise_curves": "resolution",
    "predict_trajectory": "reporter",
    "rank_maps": "resolution",
    "read_predictions": "reporter",
    "shapiro_wilk": "noise",
    "total_noise": "noise",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
