"""Coarse-grained maps: from atoms to beads, for positions and forces."""

from openmmcg.mapping.force_map import (
    aggregate_force_map,
    constraint_aware_force_map,
    mean_square_force,
    optimal_force_map,
)
from openmmcg.mapping.map import Mapping
from openmmcg.mapping.topology import cg_topology
from openmmcg.mapping.trajectory import map_frames

__all__ = [
    "Mapping",
    "aggregate_force_map",
    "cg_topology",
    "constraint_aware_force_map",
    "map_frames",
    "mean_square_force",
    "optimal_force_map",
]
