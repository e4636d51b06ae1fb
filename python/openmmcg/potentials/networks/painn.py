"""PaiNN, an equivariant network: beads have scalar features, and vectors that turn with the system."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
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
    TensorConvolution,
    VectorConvolution,
    activate,
    distances_and_directions,
    inner_product,
)
from openmmcg.potentials.networks.program import Program, Value, describe_dense, describe_layers


class Message(nn.Module):
    r"""What a bead learns from its neighbours.

    .. math::
        \Delta s_i = \sum_j \phi_s(s_j) \circ W_s(r_{ij}), \qquad
        \Delta v_i = \sum_j v_j \circ \phi_{vv}(s_j) \circ W_{vv}(r_{ij})
                   + \sum_j \phi_{vs}(s_j) \circ W_{vs}(r_{ij})\, \hat r_{ij}

    The three :math:`\phi` share their first layer. The first block's vectors are zero, so it has no
    :math:`\phi_{vv}` (`first`). With a `degree` of 2 there is

    .. math::
        \Delta t_i = \sum_j \phi_t(s_j) \circ W_t(r_{ij})\, Y_2(\hat r_{ij}).
    """

    def __init__(
        self, channels: int, new_filter: Callable[[], Filter], activation: str, first: bool, degree: int
    ) -> None:
        super().__init__()
        self.hidden = Dense(channels, channels, activation)
        self.to_scalars = Dense(channels, channels)
        self.to_directions = Dense(channels, channels)
        self.to_vectors = None if first else Dense(channels, channels)
        self.scalars = Convolution(new_filter())
        self.directions = VectorConvolution(new_filter())
        self.vectors = None if first else Convolution(new_filter())
        self.to_quadrupoles = Dense(channels, channels) if degree == 2 else None
        self.quadrupoles = TensorConvolution(new_filter()) if degree == 2 else None

    def forward(
        self,
        scalars: Tensor,
        vectors: Tensor,
        tensors: Tensor,
        distances: Tensor,
        directions: Tensor,
        rows: Tensor,
        columns: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.hidden(scalars)
        scalars = scalars + self.scalars(self.to_scalars(hidden), distances, rows, columns)
        sums = self.directions(self.to_directions(hidden), distances, directions, rows, columns)
        if self.to_vectors is not None and self.vectors is not None:
            carried = self.to_vectors(hidden).unsqueeze(1) * vectors
            sums = vectors + sums + self.vectors(carried, distances, rows, columns)
        if self.to_quadrupoles is not None and self.quadrupoles is not None:
            tensors = tensors + self.quadrupoles(self.to_quadrupoles(hidden), distances, directions, rows, columns)
        return scalars, sums, tensors

    def describe(
        self, program: Program[Value], scalars: Value, vectors: Value | None, tensors: Value | None
    ) -> tuple[Value, Value, Value | None]:
        hidden = describe_dense(program, scalars, self.hidden)
        sums = program.convolution(describe_dense(program, hidden, self.to_scalars), self.scalars.filter)
        directed = describe_dense(program, hidden, self.to_directions)
        new_vectors = program.vector_convolution(directed, self.directions.filter)
        if self.to_vectors is not None and self.vectors is not None and vectors is not None:
            carried = program.product(describe_dense(program, hidden, self.to_vectors), vectors)
            new_vectors = program.sum(vectors, new_vectors, program.convolution(carried, self.vectors.filter))
        if self.to_quadrupoles is not None and self.quadrupoles is not None:
            directed = describe_dense(program, hidden, self.to_quadrupoles)
            new_tensors = program.tensor_convolution(directed, self.quadrupoles.filter)
            tensors = new_tensors if tensors is None else program.sum(tensors, new_tensors)
        return program.sum(scalars, sums), new_vectors, tensors


class Update(nn.Module):
    r"""What a bead makes of its own scalars and vectors.

    .. math::
        \Delta s = a_{ss} + a_{sv} \circ \langle U v, V v \rangle, \qquad \Delta v = a_{vv} \circ U v

    The three :math:`a` are functions of :math:`s` and :math:`|V v|` and share their first layer. Nothing uses the
    vectors after the last block, so it has no :math:`a_{vv}` (`last`). With a `degree` of 2 they are functions of
    :math:`|V_t t|` too, and :math:`a_{st} \circ \langle U_t t, V_t t \rangle` is added to the scalars.
    """

    def __init__(self, channels: int, activation: str, last: bool, degree: int) -> None:
        super().__init__()
        self.activation = activation
        self.first = Dense(channels, channels, bias=False)
        self.second = Dense(channels, channels, bias=False)
        self.from_scalars = Dense(channels, channels)
        self.from_norms = Dense(channels, channels, bias=False)
        self.to_scalars = Dense(channels, channels)
        self.to_products = Dense(channels, channels)
        self.to_vectors = None if last else Dense(channels, channels)
        self.tensors = TensorInvariants(channels) if degree == 2 else None

    def forward(self, scalars: Tensor, vectors: Tensor, tensors: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.first(vectors), self.second(vectors)
        norms = activate(inner_product(second, second), "square_root")
        sums = self.from_scalars(scalars) + self.from_norms(norms)
        tensor_products = norms
        if self.tensors is not None:
            tensor_norms, tensor_products = self.tensors(tensors)
            sums = sums + self.tensors.from_norms(tensor_norms)
        hidden = activate(sums, self.activation)
        products = self.to_products(hidden) * inner_product(first, second)
        if self.tensors is not None:
            products = products + self.tensors.to_products(hidden) * tensor_products
        if self.to_vectors is not None:
            vectors = vectors + self.to_vectors(hidden).unsqueeze(1) * first
        return scalars + self.to_scalars(hidden) + products, vectors

    def describe(
        self, program: Program[Value], scalars: Value, vectors: Value, tensors: Value | None
    ) -> tuple[Value, Value]:
        first = describe_dense(program, vectors, self.first)
        second = describe_dense(program, vectors, self.second)
        norms = program.activation(program.inner_product(second, second), "square_root")
        terms = [describe_dense(program, scalars, self.from_scalars), describe_dense(program, norms, self.from_norms)]
        tensor_products: Value | None = None
        if self.tensors is not None and tensors is not None:
            tensor_norms, tensor_products = self.tensors.describe(program, tensors)
            terms.append(describe_dense(program, tensor_norms, self.tensors.from_norms))
        hidden = program.activation(program.sum(*terms), self.activation)
        gates = describe_dense(program, hidden, self.to_products)
        products = program.product(gates, program.inner_product(first, second))
        if self.tensors is not None and tensor_products is not None:
            gates = describe_dense(program, hidden, self.tensors.to_products)
            products = program.sum(products, program.product(gates, tensor_products))
        if self.to_vectors is not None:
            gates = describe_dense(program, hidden, self.to_vectors)
            vectors = program.sum(vectors, program.product(gates, first))
        return program.sum(scalars, describe_dense(program, hidden, self.to_scalars), products), vectors


class TensorInvariants(nn.Module):
    """What an update takes of a bead's tensors: norms and products, as it does of vectors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Dense(channels, channels, bias=False)
        self.second = Dense(channels, channels, bias=False)
        self.from_norms = Dense(channels, channels, bias=False)
        self.to_products = Dense(channels, channels)

    def forward(self, tensors: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.first(tensors), self.second(tensors)
        return activate(inner_product(second, second), "square_root"), inner_product(first, second)

    def describe(self, program: Program[Value], tensors: Value) -> tuple[Value, Value]:
        first = describe_dense(program, tensors, self.first)
        second = describe_dense(program, tensors, self.second)
        norms = program.activation(program.inner_product(second, second), "square_root")
        return norms, program.inner_product(first, second)


class PaiNN(nn.Module):
    """An equivariant message-passing network for the energy of coarse-grained beads.

    The polarizable atom interaction neural network of Schütt, Unke and Gastegger, ICML 2021, arXiv:2102.03150.
    Beads have as many vectors as scalars; vectors are made of directions to neighbours, and turn with the
    system. So a bead knows in which directions its neighbours are after one block, where `SchNet` knows
    distances only. With a `degree` of 2 beads have as many tensors as well, sums over neighbours of spherical harmonics
    of degree 2, which tell angles apart from the first block on (the source has vectors only). Energies are invariant
    under translation, rotation, reflection and exchange of beads of one type. Filters are linear in the radial basis,
    as in the source; the basis is one of those of `SchNet`.

    Parameters
    ----------
    types : int
        Number of bead types.
    channels : int
        Number of scalars, and of vectors, that describe a bead.
    blocks : int
        Number of message and update blocks.
    cutoff : float
        Distance beyond which beads are not neighbours, nm.
    activation : {"silu", "tanh", "shifted_softplus"}
        Activation of all layers that have one.
    degree : {1, 2}
        Of the spherical harmonics of the features: vectors, or vectors and tensors.
    basis, basis_size, basis_start, neighbors, energy_scale, output_channels, seed
        As of `SchNet`.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    The energy of three beads depends on their angle, already with one block and where the two outer beads do not see
    each other.

    >>> import torch
    >>> network = PaiNN(types=1, channels=8, blocks=1, cutoff=0.6)
    >>> types, rows, columns = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 0]), torch.tensor([1, 2])
    >>> straight = network(torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]), types, rows, columns).sum()
    >>> bent = network(torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]), types, rows, columns).sum()
    >>> bool(straight == bent)
    False
    """

    def __init__(
        self,
        types: int,
        *,
        channels: int = 64,
        blocks: int = 2,
        cutoff: float = 0.7,
        activation: str = "silu",
        degree: int = 1,
        basis: str = "gaussian",
        basis_size: int = 50,
        basis_start: float = 0.0,
        neighbors: float = 50.0,
        energy_scale: float = 10.0,
        output_channels: int | Sequence[int] | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        widths = output_widths(output_channels, channels)
        check_options(
            basis,
            activation,
            types=types,
            channels=channels,
            blocks=blocks,
            neighbors=neighbors,
            energy_scale=energy_scale,
            output_channels=min(widths),
        )

        if degree not in (1, 2):
            raise ValueError(f"the degree of a PaiNN's features is 1 or 2, not {degree}")

        def new_filter() -> Filter:
            return make_filter(basis, cutoff, basis_size, basis_start, channels, None, neighbors)

        self.types = types
        self.cutoff = float(cutoff)
        self.channels = channels
        with initial_weights(seed):
            self.embedding = Embedding(types, channels)
            self.messages = nn.ModuleList(
                Message(channels, new_filter, activation, first=block == 0, degree=degree) for block in range(blocks)
            )
            self.updates = nn.ModuleList(
                Update(channels, activation, last=block == blocks - 1, degree=degree) for block in range(blocks)
            )
            self.output = dense_layers(channels, widths, activation)
            self.readout = Readout(widths[-1], energy_scale)

    def forward(self, displacements: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energies of the beads, ``[N]``, kJ/mol; see `SchNet.forward`."""
        distances, directions = distances_and_directions(displacements)
        scalars = self.embedding(types)
        vectors = torch.zeros(types.shape[0], 3, self.channels, dtype=scalars.dtype, device=scalars.device)
        tensors = torch.zeros(types.shape[0], 5, self.channels, dtype=scalars.dtype, device=scalars.device)
        for message, update in zip(self.messages, self.updates):  # noqa: B905 (TorchScript knows no strict)
            scalars, vectors, tensors = message(scalars, vectors, tensors, distances, directions, rows, columns)
            scalars, vectors = update(scalars, vectors, tensors)
        return self.readout(self.output(scalars))

    def describe(self, program: Program[Value]) -> None:
        """Give a program the primitives that make up the energy."""
        scalars: Value = program.embedding(self.embedding.weight)
        vectors: Value | None = None
        tensors: Value | None = None
        for message, update in zip(self.messages, self.updates, strict=True):
            scalars, vectors, tensors = message.describe(program, scalars, vectors, tensors)  # type: ignore[operator]
            scalars, vectors = update.describe(program, scalars, vectors, tensors)  # type: ignore[operator]
        scalars = describe_layers(program, scalars, self.output)
        program.readout(scalars, self.readout.weight * self.readout.scale)
