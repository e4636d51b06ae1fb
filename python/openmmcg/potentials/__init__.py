"""Potentials for coarse-grained beads: networks, priors, and the file that holds them.

`CGPotential` and the priors come without torch; names that need it import it when they are first used.
"""

from typing import TYPE_CHECKING

from openmmcg.model_file import BeadType, describe_module
from openmmcg.optional import lazy_names
from openmmcg.potentials.ensemble import Ensemble, find_spread_limit, spread_of
from openmmcg.potentials.ensemble_reporter import EnsembleReporter
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import (
    CosineAngles,
    HarmonicAngles,
    HarmonicBonds,
    HighFrequency,
    LennardJones,
    MoleculePrior,
    PeriodicDihedrals,
    PriorForces,
    Repulsion,
    Table,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
    TabulatedPairs,
    VolumePotential,
)

if TYPE_CHECKING:
    from openmmcg.potentials.compiled import compile_network
    from openmmcg.potentials.contract import NeighborListModule, PeriodicPlainModule, PlainModule
    from openmmcg.potentials.networks import GNN, CGnet, PaiNN, SchNet
    from openmmcg.potentials.networks.radial import CosineCutoff, ExponentialNormalBasis, GaussianBasis

__all__ = [
    "GNN",
    "BeadType",
    "CGPotential",
    "CGnet",
    "CosineAngles",
    "CosineCutoff",
    "Ensemble",
    "EnsembleReporter",
    "ExponentialNormalBasis",
    "GaussianBasis",
    "HarmonicAngles",
    "HarmonicBonds",
    "HighFrequency",
    "LennardJones",
    "MoleculePrior",
    "NeighborListModule",
    "PaiNN",
    "PeriodicDihedrals",
    "PeriodicPlainModule",
    "PlainModule",
    "PriorForces",
    "Repulsion",
    "SchNet",
    "Table",
    "TabulatedAngles",
    "TabulatedBonds",
    "TabulatedDihedrals",
    "TabulatedPairs",
    "VolumePotential",
    "compile_network",
    "describe_module",
    "find_spread_limit",
    "spread_of",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CGnet": "networks",
        "CosineCutoff": "networks.radial",
        "ExponentialNormalBasis": "networks.radial",
        "GNN": "networks",
        "GaussianBasis": "networks.radial",
        "NeighborListModule": "contract",
        "PaiNN": "networks",
        "PeriodicPlainModule": "contract",
        "PlainModule": "contract",
        "SchNet": "networks",
        "compile_network": "compiled",
    },
)
