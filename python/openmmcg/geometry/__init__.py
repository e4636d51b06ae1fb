"""Distances, angles and neighbours, with and without periodic boundary conditions.

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

__all__ = [
    "BackboneDihedrals",
    "FrameSequence",
    "angles",
    "backbone_dihedrals",
    "bonded_terms",
    "dihedrals",
    "distances",
]
