"""A small graph neural network with two linear message-passing layers."""

from __future__ import annotations

from torch import Tensor, nn

from openmmcg.potentials.networks.options import check_options, initial_weights, make_filter
from openmmcg.potentials.networks.primitives import (
    Convolution,
    Dense,
    Embedding,
    Filter,
    Readout,
    distances_and_directions,
)
from openmmcg.potentials.networks.program import Program, Value, describe_dense


class MessagePassing(nn.Module):
    """``h_i + b(Σ_j a(h_j) ∘ W(r_ij))`` with linear layers ``a`` and ``b``: the subnets 1 to 3 of `GNN`'s source."""

    def __init__(self, channels: int, filter: Filter) -> None:
        super().__init__()
        self.input = Dense(channels, channels)
        self.convolution = Convolution(filter)
        self.output = Dense(channels, channels)

    def forward(self, features: Tensor, distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        sums = self.convolution(self.input(features), distances, rows, columns)
        return features + self.output(sums)

    def describe(self, program: Program[Value], features: Value) -> Value:
        value = describe_dense(program, features, self.input)
        value = program.convolution(value, self.convolution.filter)
        return program.sum(features, describe_dense(program, value, self.output))


class GNN(nn.Module):
    r"""A small network for the energy of coarse-grained beads, all nonlinear parts of which are in its filters.

    The graph neural network of "Achieving dynamic accuracy in machine-learned CG potentials by modulating potential
    energy landscape", section 2.1, which coarse-grains SPC/E water: an embedding of the bead types and
    message-passing layers :math:`h_i \leftarrow h_i + b(\sum_j a(h_j) \circ W(r_{ij}))`, where :math:`a` and
    :math:`b` are linear and :math:`W` has two layers with a shifted softplus. The energy of a bead is a weighted sum
    of its final attributes; with equal weights, as in the source, the layers before could say the same. As in
    `SchNet`, a filter multiplies the neighbour's features, and ends smoothly at the cutoff.

    Parameters
    ----------
    types, channels, blocks, cutoff, activation, basis, basis_size, basis_start, neighbors, energy_scale, seed
        As of `SchNet`; `activation` is that of the filters.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> import torch
    >>> network = GNN(types=1)
    >>> displacements, types = torch.tensor([[0.3, 0.0, 0.0]]), torch.tensor([0, 0])
    >>> energies = network(displacements, types, torch.tensor([0]), torch.tensor([1]))
    >>> bool(energies[0] == energies[1])
    True
    """

    def __init__(
        self,
        types: int,
        *,
        channels: int = 16,
        blocks: int = 2,
        cutoff: float = 0.6,
        activation: str = "shifted_softplus",
        basis: str = "gaussian",
        basis_size: int = 50,
        basis_start: float = 0.0,
        neighbors: float = 50.0,
        energy_scale: float = 10.0,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        check_options(
            basis,
            activation,
            types=types,
            channels=channels,
            blocks=blocks,
            neighbors=neighbors,
            energy_scale=energy_scale,
        )
        self.types = types
        self.cutoff = float(cutoff)
        with initial_weights(seed):
            self.embedding = Embedding(types, channels)
            self.blocks = nn.ModuleList(
                MessagePassing(
                    channels, make_filter(basis, cutoff, basis_size, basis_start, channels, activation, neighbors)
                )
                for _ in range(blocks)
            )
            self.readout = Readout(channels, energy_scale)

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energies of the beads, ``[N]``, kJ/mol; see `SchNet.forward`."""
        distances, _ = distances_and_directions(displacements)
        features = self.embedding(types)
        for block in self.blocks:
            features = block(features, distances, rows, columns)
        return self.readout(features)

    def describe(self, program: Program[Value]) -> None:
        """Give a program the primitives that make up the energy."""
        features = program.embedding(self.embedding.weight)
        for block in self.blocks:
            features = block.describe(program, features)  # type: ignore[operator]
        program.readout(features, self.readout.weight * self.readout.scale)
