"""The graph network of TorchMD-Net (``TorchMD_GN``) as a network that is compiled."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmmcg.potentials.external.radial import CosineWindow, TrainedExponentialBasis, TrainedGaussianBasis
from openmmcg.potentials.networks import (
    Convolution,
    Dense,
    Embedding,
    Filter,
    InteractionBlock,
    Program,
    Readout,
    distances_and_directions,
)
from openmmcg.potentials.networks.options import dense_layers
from openmmcg.potentials.networks.program import Value, describe_dense, describe_layers

_ACTIVATIONS = {"ShiftedSoftplus": "shifted_softplus", "SiLU": "silu", "Swish": "silu", "Tanh": "tanh"}


class NeighborEmbedding(nn.Module):
    """``a(h_i) + b(Σ_j t_j ∘ W(r_ij))``: what a bead's neighbours are, by an embedding ``t`` of their own.

    Thölke and De Fabritiis, ICLR 2022, arXiv:2202.02541, equation 3; ``a`` and ``b`` are linear.
    """

    def __init__(self, types: int, channels: int, filter: Filter) -> None:
        super().__init__()
        self.embedding = Embedding(types, channels)
        self.convolution = Convolution(filter)
        self.own = Dense(channels, channels)
        self.others = Dense(channels, channels, bias=False)

    def forward(self, features: Tensor, types: Tensor, distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        sums = self.convolution(self.embedding(types), distances, rows, columns)
        return self.own(features) + self.others(sums)

    def describe(self, program: Program[Value], features: Value) -> Value:
        sums = program.convolution(program.embedding(self.embedding.weight), self.convolution.filter)
        return program.sum(describe_dense(program, features, self.own), describe_dense(program, sums, self.others))


class GraphNetwork(nn.Module):
    """A `SchNet` whose beads may begin with what their neighbours are, and whose energies have a constant.

    Parameters
    ----------
    types, channels
        As of `SchNet`.
    cutoff
        nm
    neighbors
        What the network begins with, or None.
    blocks
        Interaction blocks.
    output
        Layers before the energy, see `dense_layers`.
    readout
        Energies of beads, kJ/mol.
    constant : Tensor, shape [1]
        Added to the energy of each bead, before the readout's scale.
    """

    constant: Tensor

    def __init__(
        self,
        types: int,
        channels: int,
        cutoff: float,
        neighbors: NeighborEmbedding | None,
        blocks: Sequence[InteractionBlock],
        output: nn.Module,
        readout: Readout,
        constant: Tensor,
    ) -> None:
        super().__init__()
        self.types, self.cutoff = types, cutoff
        self.embedding = Embedding(types, channels)
        self.neighbors = neighbors
        self.blocks = nn.ModuleList(blocks)
        self.output = output
        self.readout = readout
        self.register_buffer("constant", constant.detach().clone())

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energies of the beads, ``[N]``, kJ/mol; see `SchNet.forward`."""
        distances, _ = distances_and_directions(displacements)
        features = self.embedding(types)
        if self.neighbors is not None:
            features = self.neighbors(features, types, distances, rows, columns)
        for block in self.blocks:
            features = block(features, distances, rows, columns)
        return self.readout(self.output(features)) + self.readout.scale * self.constant

    def describe(self, program: Program[Value]) -> None:
        """Give a program the primitives that make up the energy."""
        features = program.embedding(self.embedding.weight)
        if self.neighbors is not None:
            features = self.neighbors.describe(program, features)
        for block in self.blocks:
            features = block.describe(program, features)  # type: ignore[operator]
        features = describe_layers(program, features, self.output)
        program.readout(features, self.readout.weight * self.readout.scale, self.constant * self.readout.scale)


def convert_graph_network(model: nn.Module, types: Sequence[int], length: float, energy: float) -> GraphNetwork:
    """The network of a ``TorchMD_Net`` as one that runs natively.

    Parameters
    ----------
    model
        With a ``TorchMD_GN`` and the output ``Scalar``.
    types
        What the model calls each bead type (its ``z``).
    length, energy
        The model's units in nm and kJ/mol.

    Raises
    ------
    ValueError
        It is another network, or has a part that is not made of the primitives: another activation, means in place of
        sums, a prior model, or a constant energy of the whole system (``mean``).
    """
    parts: Any = model
    network, head = parts.representation_model, parts.output_model
    if (type(network).__name__, type(head).__name__) != ("TorchMD_GN", "Scalar"):
        raise ValueError(
            f"the model is a {type(network).__name__} with the output {type(head).__name__}; what runs natively is a "
            "TorchMD_GN with the output Scalar"
        )
    if network.aggr != "add" or head.reduce_op not in ("add", "sum"):
        raise ValueError(f"the model takes the '{network.aggr}' of neighbours and of beads the '{head.reduce_op}'")
    if parts.prior_model or (parts.mean is not None and bool((parts.mean != 0).any())):
        raise ValueError("the model has a prior model or a mean energy, which are no part of a network of beads")
    number, channels = len(types), network.embedding.embedding_dim
    neighbors = None
    if network.neighbor_embedding is not None:
        theirs = network.neighbor_embedding
        filter = _filter(network, theirs.cutoff, channels, None, length)
        _assign(filter.output, theirs.distance_proj)
        neighbors = NeighborEmbedding(number, channels, filter)
        _copy(neighbors.embedding.weight, theirs.embedding.weight[list(types)])
        _copy(neighbors.own.weight, theirs.combine.weight[:, :channels])
        _copy(neighbors.own.bias, theirs.combine.bias)
        _copy(neighbors.others.weight, theirs.combine.weight[:, channels:])
    blocks = [_block(network, theirs, channels, length) for theirs in network.interactions]
    *hidden, last = [layer for layer in head.output_network.layers if isinstance(layer, nn.Linear)]
    activation = _activation(head.output_network.act)
    output = dense_layers(channels, [layer.out_features for layer in hidden], activation)
    for layer, theirs in zip([output] if isinstance(output, Dense) else output.children(), hidden, strict=True):
        _assign(layer, theirs)
    readout = Readout(last.in_features, energy * (1.0 if parts.std is None else float(parts.std)))
    _copy(readout.weight, last.weight[0])
    cutoff = network.cutoff_upper * length
    result = GraphNetwork(number, channels, cutoff, neighbors, blocks, output, readout, last.bias)
    _copy(result.embedding.weight, network.embedding.weight[list(types)])
    return result


def _block(network: Any, theirs: Any, channels: int, length: float) -> InteractionBlock:
    convolution, (hidden, act, output) = theirs.conv, theirs.mlp
    filter = _filter(network, convolution.cutoff, output.out_features, _activation(act), length)
    _assign(filter.hidden, hidden)
    _assign(filter.output, output)
    block = InteractionBlock(channels, filter, _activation(theirs.act))
    _assign(block.input, convolution.lin1)
    _assign(block.hidden, convolution.lin2)
    _assign(block.output, theirs.lin)
    return block


def _filter(network: Any, cutoff: Any, channels: int, activation: str | None, length: float) -> Filter:
    """A filter on the network's radial basis, times a cutoff function."""
    theirs: Any = network.distance_expansion
    basis: nn.Module | None = None
    if type(theirs).__name__ == "ExpNormalSmearing":
        window = CosineWindow(theirs.cutoff_fn.cutoff_lower, theirs.cutoff_fn.cutoff_upper, 1 / length)
        basis = TrainedExponentialBasis(window, theirs.cutoff_lower, theirs.alpha, theirs.means, theirs.betas)
    elif type(theirs).__name__ == "GaussianSmearing":
        basis = TrainedGaussianBasis(1 / length, theirs.offset, -theirs.coeff)
    if basis is None:
        raise ValueError(f"the model has the radial basis {type(theirs).__name__}; ours are expnorm and gauss")
    window = CosineWindow(cutoff.cutoff_lower, cutoff.cutoff_upper, 1 / length)
    return Filter(basis, window, channels, activation, neighbors=1.0)


def _activation(layer: nn.Module) -> str:
    name = type(layer).__name__
    if name not in _ACTIVATIONS:
        raise ValueError(f"the model has the activation {name}; ours can be {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _assign(layer: Any, theirs: nn.Linear) -> None:
    _copy(layer.weight, theirs.weight)
    if theirs.bias is not None:
        _copy(layer.bias, theirs.bias)


def _copy(parameter: Any, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)
