"""Electronic coarse graining: distributions of electronic properties from bead positions alone (DKL-ECG).

A trained `DKLPredictor` needs numpy and scipy only; what trains one imports torch and GPyTorch when it is first used,
and estimates of the noise scikit-learn. Figures are in `openmmcg.electronic.figures`, which needs matplotlib.
"""

from typing import TYPE_CHECKING

from openmmcg.electronic.calibration import Recalibration, Scores, recalibrate, scores
from openmmcg.electronic.features import DistanceFeatures
from openmmcg.electronic.predictor import DKLPredictor, Prediction, VarianceParts
from openmmcg.optional import lazy_names

if TYPE_CHECKING:
    from openmmcg.electronic.density_of_states import DensityOfStates, Estimate, common_edges
    from openmmcg.electronic.exact import ExactProcessTraining
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
    from openmmcg.electronic.training import DKLResult, DKLTraining, Fold

__all__ = [
    "ConditionalNoise",
    "DKLPredictor",
    "DKLResult",
    "DKLTraining",
    "DensityOfStates",
    "DistanceFeatures",
    "ElectronicReporter",
    "Estimate",
    "ExactProcessTraining",
    "Fold",
    "LocalNoise",
    "NoiseCurve",
    "PredictedTrajectory",
    "Prediction",
    "RankedMap",
    "Recalibration",
    "RejectionFraction",
    "Scores",
    "VarianceParts",
    "average_noise",
    "common_edges",
    "conditional_noise",
    "local_noise",
    "noise_curves",
    "predict_trajectory",
    "rank_maps",
    "read_predictions",
    "recalibrate",
    "scores",
    "shapiro_wilk",
    "total_noise",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ConditionalNoise": "noise",
        "DKLResult": "training",
        "DKLTraining": "training",
        "DensityOfStates": "density_of_states",
        "ElectronicReporter": "reporter",
        "Estimate": "density_of_states",
        "ExactProcessTraining": "exact",
        "Fold": "training",
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
    },
)
