"""Coarse-grained maps: from atoms to beads, for positions and forces."""

from openmmcg.mapping.map import Mapping
from openmmcg.mapping.topology import cg_topology
from openmmcg.mapping.trajectory import map_frames

__all__ = ["Mapping", "cg_topology", "map_frames"]
