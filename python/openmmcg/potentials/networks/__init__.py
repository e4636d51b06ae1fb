"""Networks that give the energy of coarse-grained beads."""

from openmmcg.potentials.networks.cgnet import CGnet
from openmmcg.potentials.networks.gnn import GNN
from openmmcg.potentials.networks.painn import PaiNN
from openmmcg.potentials.networks.primitives import (
    Convolution,
    Dense,
    Embedding,
    Filter,
    Readout,
    TensorConvolution,
    VectorConvolution,
    activate,
    distances_and_directions,
    inner_product,
    quadrupole_adjoint,
    quadrupoles,
)
from openmmcg.potentials.networks.program import FilterConvolutionNetwork, Program
from openmmcg.potentials.networks.schnet import InteractionBlock, SchNet

__all__ = [
    "GNN",
    "CGnet",
    "Convolution",
    "Dense",
    "Embedding",
    "Filter",
    "FilterConvolutionNetwork",
    "InteractionBlock",
    "PaiNN",
    "Program",
    "Readout",
    "SchNet",
    "TensorConvolution",
    "VectorConvolution",
    "activate",
    "distances_and_directions",
    "inner_product",
    "quadrupole_adjoint",
    "quadrupoles",
]
