"""Networks that give the energy of coarse-grained beads."""

from openmmcg.potentials.networks.primitives import Convolution, Dense, Embedding, Filter, Readout
from openmmcg.potentials.networks.program import FilterConvolutionNetwork, Program
from openmmcg.potentials.networks.schnet import InteractionBlock, SchNet

__all__ = [
    "Convolution",
    "Dense",
    "Embedding",
    "Filter",
    "FilterConvolutionNetwork",
    "InteractionBlock",
    "Program",
    "Readout",
    "SchNet",
]
