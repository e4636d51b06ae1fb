"""What a trajectory says: structure, motion, error bars, and a report of them.

Figures that set one trajectory against another are in `openmmcg.analysis.figures`, which needs matplotlib.
"""

from openmmcg.analysis.angle_distribution import AngleDistribution, angle_distribution
from openmmcg.analysis.mean_squared_displacement import (
    Diffusion,
    MeanSquaredDisplacement,
    mean_squared_displacement,
    unwrap,
)
from openmmcg.analysis.radial_distribution import Peak, RadialDistribution, radial_distribution
from openmmcg.analysis.report import Report
from openmmcg.analysis.statistics import block_slices, mean_and_error, series_average

__all__ = [
    "AngleDistribution",
    "Diffusion",
    "MeanSquaredDisplacement",
    "Peak",
    "RadialDistribution",
    "Report",
    "angle_distribution",
    "block_slices",
    "mean_and_error",
    "mean_squared_displacement",
    "radial_distribution",
    "series_average",
    "unwrap",
]
