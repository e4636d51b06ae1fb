"""Electronic coarse graining: distributions of electronic properties from bead positions alone (DKL-ECG).

A trained `DKLPredictor` needs numpy and scipy only; what trains one imports torch and GPyTorch when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from openmmcg.electronic.calibration import Recalibration, Scores, recalibrate, scores
from openmmcg.electronic.features import DistanceFeatures
from openmmcg.electronic.predictor import DKLPredictor, Prediction, VarianceParts

if TYPE_CHECKING:
    from openmmcg.electronic.exact import ExactProcessTraining
    from openmmcg.electronic.training import DKLResult, DKLTraining, Fold

__all__ = [
    "DKLPredictor",
    "DKLResult",
    "DKLTraining",
    "DistanceFeatures",
    "ExactProcessTraining",
    "Fold",
    "Prediction",
    "Recalibration",
    "Scores",
    "VarianceParts",
    "recalibrate",
    "scores",
]

_NEED_TORCH = {
    "DKLResult": "training",
    "DKLTraining": "training",
    "ExactProcessTraining": "exact",
    "Fold": "training",
}


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
