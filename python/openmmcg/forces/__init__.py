"""The plugin's forces for Python."""

from openmmcg.forces.cg_force import CGForce, KernelTime
from openmmcg.forces.pair_force import PairForce
from openmmcg.forces.tabulated_bonded_force import TabulatedBondedForce

__all__ = ["CGForce", "KernelTime", "PairForce", "TabulatedBondedForce"]
