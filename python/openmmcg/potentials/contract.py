"""Networks as TorchScript modules, under the two contracts of ``docs/model-contract.md``."""

import copy
import io
import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from openmmcg.geometry.cells import near_pairs
from openmmcg.geometry.scriptable import chain_pairs, minimum_image
from openmmcg.potentials.compiled import compile_network
from openmmcg.potentials.networks.program import FilterConvolutionNetwork


class NeighborListModule(nn.Module):
    """A network under the neighbor-list contract: positions and pairs in, energy out.

    Parameters
    ----------
    network
        ``forward(displacements, types, rows, columns) -> energies [N]``, such as `SchNet`.
    """

    precision: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("precision", torch.empty(0))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def forward(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energy in kJ/mol, a float64 scalar; the arguments are those of ``docs/model-contract.md``."""
        return self.energy(positions, box, types, rows, columns)

    def energy(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        displacements = positions.index_select(0, columns) - positions.index_select(0, rows)
        # Differences of positions are taken in the positions' float64; only then may digits go.
        displacements = minimum_image(displacements, box).to(self.precision.dtype)
        energies = self.network(displacements, types, rows, columns)
        return self.scale * energies.sum(dtype=torch.float64)


class MoleculeModule(NeighborListModule):
    """A network of a whole molecule under the neighbor-list contract; it does not look at the pairs it is given.

    In a periodic box, a bead and the next one of its molecule must be nearer than half of it.

    Parameters
    ----------
    network
        As for `NeighborListModule`, such as `CGnet`: with the bead types of its molecule as ``molecule``. It is given
        the pairs of `chain_pairs`.
    """

    def forward(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Energy in kJ/mol of one molecule, or of several that do not see each other; a float64 scalar."""
        rows, columns = chain_pairs(positions, len(self.network.molecule))  # type: ignore[arg-type]
        return self.energy(positions, box, types, rows, columns)


def supply_pairs(network: nn.Module) -> NeighborListModule:
    """A network under the neighbor-list contract, with the pairs it takes."""
    return MoleculeModule(network) if hasattr(network, "molecule") else NeighborListModule(network)


class _OwnNeighbors(nn.Module):
    """What the two modules below share."""

    types: Tensor

    def __init__(self, network: nn.Module, types: Tensor, cutoff: float) -> None:
        super().__init__()
        self.model = supply_pairs(network)
        self.register_buffer("types", types)
        self.cutoff = cutoff

    def energy(self, positions: Tensor, box: Tensor) -> Tensor:
        rows, columns = near_pairs(positions.detach(), box.detach(), self.cutoff)
        return self.model(positions, box, self.types, rows, columns)


class PlainModule(_OwnNeighbors):
    """A network under the plain contract without a box: it finds its own pairs, with torch operators only.

    Parameters
    ----------
    network
        As for `NeighborListModule`.
    types
        Type of each bead, ``[N]`` int64.
    cutoff
        nm
    """

    def forward(self, positions: Tensor) -> Tensor:
        """Energy in kJ/mol of positions ``[N, 3]`` in nm."""
        return self.energy(positions, torch.empty(0, dtype=positions.dtype, device=positions.device))


class PeriodicPlainModule(_OwnNeighbors):
    """A network under the plain contract with a box; otherwise a `PlainModule`."""

    def forward(self, positions: Tensor, box: Tensor) -> Tensor:
        """Energy in kJ/mol of positions ``[N, 3]`` in a box ``[3, 3]`` of row vectors, nm."""
        return self.energy(positions, box)


def script_and_compile(network: nn.Module) -> tuple[torch.jit.ScriptModule, tuple[str, bytes] | None]:
    """A copy of a network under the neighbor-list contract, and its compiled form where there is one."""
    network = copy.deepcopy(network).to("cpu", torch.float32).eval()
    compiled = compile_network(network) if isinstance(network, FilterConvolutionNetwork) else None
    return torch.jit.script(supply_pairs(network)), compiled


def scale_module(content: bytes, factor: float) -> torch.jit.ScriptModule:
    """The module in the content of a model file with its energy times a factor; never scripted anew.

    TorchScript names the classes that it scripts by what the process has scripted before. So the same file, scaled,
    is the same file again, by which runs are recognised that go on where they were.
    """
    module = load_module(content)
    module.scale.mul_(factor)  # type: ignore[operator,union-attr]
    return module


def load_module(content: bytes) -> torch.jit.ScriptModule:
    """The TorchScript module in the content of a model file."""
    return torch.jit.load(io.BytesIO(content), map_location="cpu")


def export_plain(
    network: nn.Module, path: str | os.PathLike[str], types: Sequence[int], cutoff: float, periodic: bool
) -> torch.jit.ScriptModule:
    """Write a network as a module of the plain contract, see `CGPotential.export_openmm_torch`."""
    kind = PeriodicPlainModule if periodic else PlainModule
    module = torch.jit.script(kind(network, torch.tensor(list(types), dtype=torch.int64), cutoff).eval())
    module.save(os.fspath(path))
    return module
