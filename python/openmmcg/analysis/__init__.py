"""What a trajectory says: structure, motion, free energies, error bars, and a report of them.

Figures that set one trajectory against another are in `openmmcg.analysis.figures`, which needs matplotlib; slow
coordinates and Markov state models in `openmmcg.analysis.kinetics`, which needs deeptime.
"""

from openmmcg.analysis.angle_distribution import AngleDistribution, angle_distribution
from openmmcg.analysis.autocorrelation import autocorrelation, autocorrelation_time, effective_samples, on_circle
from openmmcg.analysis.free_energy import (
    FreeEnergy,
    Histogram,
    Populations,
    assign_regions,
    basin_populations,
    dihedral_edges,
    histogram,
    kl_divergence,
    mean_squared_difference,
    missed_probability,
)
from openmmcg.analysis.mean_squared_displacement import (
    Diffusion,
    MeanSquaredDisplacement,
    mean_squared_displacement,
    unwrap,
)
from openmmcg.analysis.noise_equivalent import NoiseCurve, NoiseEquivalent, noise_curve
from openmmcg.analysis.radial_distribution import Peak, RadialDistribution, radial_distribution
from openmmcg.analysis.report import Report
from openmmcg.analysis.statistics import block_slices, mean_and_error, series_average
from openmmcg.geometry.internal_coordinates import BackboneDihedrals, angles, backbone_dihedrals, dihedrals, distances

__all__ = [
    "AngleDistribution",
    "BackboneDihedrals",
    "Diffusion",
    "FreeEnergy",
    "Histogram",
    "MeanSquaredDisplacement",
    "NoiseCurve",
    "NoiseEquivalent",
    "Peak",
    "Populations",
    "RadialDistribution",
    "Report",
    "angle_distribution",
    "angles",
    "assign_regions",
    "autocorrelation",
    "autocorrelation_time",
    "backbone_dihedrals",
    "basin_populations",
    "block_slices",
    "dihedral_edges",
    "dihedrals",
    "distances",
    "effective_samples",
    "histogram",
    "kl_divergence",
    "mean_and_error",
    "mean_squared_difference",
    "mean_squared_displacement",
    "missed_probability",
    "noise_curve",
    "on_circle",
    "radial_distribution",
    "series_average",
    "unwrap",
]
