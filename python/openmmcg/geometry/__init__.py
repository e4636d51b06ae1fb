"""Distances, angles, neighbours and whole molecules, with and without periodic boundary conditions.

`scriptable` and `cells` are for TorchScript modules and need torch.
"""

from openmmcg.geometry.internal_coordinates import (
    BackboneDihedrals,
    FrameSequence,
    angles,
    backbone_dihedrals,
    bonded_terms,
    dihedrals,
    distances,
)
from openmmcg.geometry.molecules import make_whole

__all__ = [
    "BackboneDihedrals",
    "FrameSequence",
    "angles",
    "backbone_dihedrals",
    "bonded_terms",
    "dihedrals",
    "distances",
    "make_whole",
]
