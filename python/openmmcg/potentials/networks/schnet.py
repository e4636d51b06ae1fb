"""SchNet, as it is used for coarse graining."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from openmmcg.potentials.networks.options import (
    check_options,
    dense_layers,
    initial_weights,
    make_filter,
    output_widths,
)
from openmmcg.potentials.networks.primitives import (
    Convolution,
    Dense,
    Embedding,
    Filter,
    Readout,
    distances_and_directions,
)
from openmmcg.potentials.networks.program import Program, Value, describe_dense, describe_layers


class InteractionBlock(nn.Module):
    """``h_i + g(Σ_j b(h_j) ∘ W(r_ij))``: equations 10 and 11 of Husic et al., ``b`` linear, ``g`` two layers."""

    def __init__(self, channels: int, filter: Filter, activation: str) -> None:
        super().__init__()
        filters = filter.output.weight.shape[0]
        self.input = Dense(channels, filters, bias=False)
        self.convolution = Convolution(filter)
        self.hidden = Dense(filters, channels, activation)
        self.output = Dense(channels, channels)

    def forward(self, features: Tensor, distances: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        sums = self.convolution(self.input(features), distances, rows, columns)
        return features + self.output(self.hidden(sums))

    def describe(self, program: Program[Value], features: Value) -> Value:
        value = describe_dense(program, features, self.input)
        value = program.convolution(value, self.convolution.filter)
        value = describe_dense(program, value, self.hidden)
        return program.sum(features, describe_dense(program, value, self.output))


class SchNet(nn.Module):
    """A continuous-filter convolutional network for the energy of coarse-grained beads.

    Husic et al., J. Chem. Phys. 153, 194101 (2020), section III B: an embedding of the bead types,
    interaction blocks with a residual connection, and a bead-wise network that reads an energy off. It is
    invariant under translation, rotation, reflection and exchange of beads of one type.

    Parameters
    ----------
    types : int
        Number of bead types.
    channels : int
        Length of the vector that describes a bead.
    blocks : int
        Number of interaction blocks.
    cutoff : float
        Distance beyond which beads are not neighbours, nm.
    activation : {"tanh", "shifted_softplus", "silu"}
        Activation of all layers that have one.
    basis : {"gaussian", "exponential_normal"}
        Radial basis, see `openmmcg.potentials.networks.radial`.
    basis_size : int
        Number of radial functions.
    basis_start : float
        Where the radial functions begin, nm. If that is the shortest distance of the data, fewer functions
        resolve them better.
    neighbors : float
        About how many neighbours a bead has; it keeps sums over neighbours of order one.
    energy_scale : float
        Size of a bead's energy when training begins, kJ/mol; some k_B T are right for mean forces.
    filter_channels : int, optional
        Width of the filters; by default that of the layers.
    output_channels : int or sequence of int, optional
        Width of the layer before the energy, or of several; by default one as wide as the others.
    seed : int, optional
        Of the initial weights: a script that is run again makes the same network, whatever it did before. None draws
        them from torch's global generator.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    The energies of two beads at a distance of 0.3 nm are equal.

    >>> import torch
    >>> network = SchNet(types=1, channels=8, blocks=2, cutoff=0.6)
    >>> displacements, types = torch.tensor([[0.3, 0.0, 0.0]]), torch.tensor([0, 0])
    >>> energies = network(displacements, types, torch.tensor([0]), torch.tensor([1]))
    >>> bool(energies[0] == energies[1])
    True
    """

    def __init__(
        self,
        types: int,
        *,
        channels: int = 128,
        blocks: int = 2,
        cutoff: float = 0.7,
        activation: str = "tanh",
        basis: str = "gaussian",
        basis_size: int = 50,
        basis_start: float = 0.0,
        neighbors: float = 50.0,
        energy_scale: float = 10.0,
        filter_channels: int | None = None,
        output_channels: int | Sequence[int] | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        filters = filter_channels if filter_channels is not None else channels
        widths = output_widths(output_channels, channels)
        check_options(
            basis,
            activation,
            types=types,
            channels=channels,
            blocks=blocks,
            neighbors=neighbors,
            energy_scale=energy_scale,
            filter_channels=filters,
            output_channels=min(widths),
        )
        self.types = types
        self.cutoff = float(cutoff)
        with initial_weights(seed):
            self.embedding = Embedding(types, channels)
            self.blocks = nn.ModuleList()
            for _ in range(blocks):
                filter = make_filter(basis, cutoff, basis_size, basis_start, filters, activation, neighbors)
                self.blocks.append(InteractionBlock(channels, filter, activation))
            self.output = dense_layers(channels, widths, activation)
            self.readout = Readout(widths[-1], energy_scale)

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energies of the beads.

        Parameters
        ----------
        displacements : Tensor, shape [E, 3]
            From bead ``rows[e]`` to bead ``columns[e]``, nm, minimum image.
        types : Tensor, shape [N], int64
            Bead types.
        rows, columns : Tensor, shape [E], int64
            Every pair of neighbours, once.

        Returns
        -------
        Tensor, shape [N]
            kJ/mol.
        """
        distances, _ = distances_and_directions(displacements)
        features = self.embedding(types)
        for block in self.blocks:
            features = block(features, distances, rows, columns)
        return self.readout(self.output(features))

    def describe(self, program: Program[Value]) -> None:
        """Give a program the primitives that make up the energy."""
        features = program.embedding(self.embedding.weight)
        for block in self.blocks:
            features = block.describe(program, features)  # type: ignore[operator]
        features = describe_layers(program, features, self.output)
        program.readout(features, self.readout.weight * self.readout.scale)
