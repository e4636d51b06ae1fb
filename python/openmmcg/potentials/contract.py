"""Networks as TorchScript modules, under the two contracts of ``docs/model-contract.md``."""

import copy
import io
import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from openmmcg.geometry.cells import near_pairs
from openmmcg.geometry.scriptable import chain_pairs, minimum_image
from openmmcg.potentials.compiled import compile_network
from openmmcg.potentials.networks.program import FilterConvolutionNetwork
from openmmcg.state import replacing


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
    """A copy of a network under the neighbor-list contract, and its compiled form where there is one.

    Raises
    ------
    ValueError
        The network lacks what a potential needs, see `docs/model-contract.md`; or weights are not finite.
    """
    check_cutoff(network)
    network = copy.deepcopy(network).to("cpu", torch.float32).eval()
    compiled = compile_network(network) if isinstance(network, FilterConvolutionNetwork) else None
    scripted = script(supply_pairs(network), f"the network {type(network).__name__}")
    for dtype in (torch.float32, torch.float64):
        with torch.no_grad():  # else the copies of parameters would be results of an operation
            copied = copy.deepcopy(scripted.network).to(dtype)
        _evaluate(copied, dtype, type(network).__name__)
    return scripted, compiled


def check_cutoff(network: nn.Module) -> None:
    """Refuse a network that does not say within which distance, or in which molecule, beads see each other.

    Raises
    ------
    ValueError
        It does not.
    """
    cutoff: Any = getattr(network, "cutoff", "missing")
    if cutoff is None and hasattr(network, "molecule"):
        return
    if not isinstance(cutoff, (int, float, Tensor)) or not 0 < float(cutoff) < float("inf"):
        raise ValueError(
            f"the network {type(network).__name__} needs the attribute 'cutoff', a distance in nm beyond which it lets "
            f"no beads interact (self.cutoff = 0.7, for example); got {cutoff!r}. A network of one whole molecule has "
            "the cutoff None and the attribute 'molecule', see CGnet"
        )


def script(module: nn.Module, what: str) -> torch.jit.ScriptModule:
    """A module in TorchScript.

    Raises
    ------
    ValueError
        It cannot be; ``what`` is what the error calls it.
    """
    try:
        return torch.jit.script(module)
    except Exception as error:
        # TorchScript keeps half of what it could not script, and when asked again would only say "Can't redefine
        # method"; with a new store of types it says what is wrong, each time.
        torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
        raise ValueError(
            f"{what} cannot be translated to TorchScript, by which OpenMM runs it; write its forward with what "
            f"TorchScript knows (annotated arguments, torch operators). {error}"
        ) from error


def _evaluate(network: torch.jit.ScriptModule, dtype: torch.dtype, name: str) -> None:
    """Try a network on some beads; the arguments are those of `SchNet.forward`."""
    displacements, types, rows, columns = some_beads(network)
    displacements = displacements.to(dtype).requires_grad_()
    given = f"{len(types)} beads with {len(rows)} pairs in {str(dtype).removeprefix('torch.')}"
    try:
        with torch.jit.optimized_execution(False):  # no time for what is run once
            energies = network(displacements, types, rows, columns)
    except Exception as error:
        raise ValueError(f"the network {name} cannot be evaluated for {given}: {error}") from error
    expected = f"it must return energies of the beads, a tensor of shape [{len(types)}] for {given}"
    if not isinstance(energies, Tensor) or energies.shape != types.shape:
        found = f"the shape {list(energies.shape)}" if isinstance(energies, Tensor) else f"a {type(energies).__name__}"
        of_pairs = isinstance(energies, Tensor) and energies.shape == rows.shape
        hint = "; add energies of pairs to those of their beads by index_add" if of_pairs else ""
        raise ValueError(f"the network {name} returns {found}; {expected}{hint}")
    if energies.dtype != dtype:
        raise ValueError(
            f"the network {name} returns {energies.dtype} for displacements and parameters in {dtype}; register "
            "constant tensors as buffers, which take the network's precision, and name no dtype in forward"
        )
    if not energies.requires_grad:
        raise ValueError(f"the energies of the network {name} do not depend on displacements: there are no forces")
    (gradients,) = torch.autograd.grad(energies.sum(), displacements, allow_unused=True)
    if gradients is None:
        raise ValueError(f"the energies of the network {name} do not depend on displacements: there are no forces")
    for what, values in (("energies", energies), ("forces", gradients)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"the {what} of the network {name} are not finite for {given} at ordinary distances")


def some_beads(network: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Displacements, types, rows and columns of a chain that wanders about, of all the network's bead types."""
    if hasattr(network, "molecule"):
        types, cutoff = cast(Tensor, network.molecule), 0.4
    else:
        number: Any = getattr(network, "types", 1)
        types, cutoff = torch.arange(2 * number + 3) % number, float(network.cutoff)  # type: ignore[arg-type]
    places = wandering_chain(len(types), 0.45 * cutoff)
    if hasattr(network, "molecule"):
        rows, columns = chain_pairs(places, len(types))
    else:
        rows, columns = near_pairs(places, torch.empty(0, dtype=places.dtype), cutoff)
        if len(rows) == len(types):  # the number of pairs is to differ from that of beads
            rows, columns = rows[1:], columns[1:]
    return places[columns] - places[rows], types, rows, columns


def wandering_chain(beads: int, step: float) -> Tensor:
    """Places ``[beads, 3]``, nm, of a chain that wanders about in steps of one length, on which modules are tried."""
    steps = np.random.default_rng(0).normal(size=(beads, 3))
    return torch.from_numpy(np.cumsum(step * steps / np.linalg.norm(steps, axis=1, keepdims=True), 0))


def scale_module(content: bytes, factor: float) -> torch.jit.ScriptModule:
    """A module, given as in a model file, with its energy times a factor; never scripted anew.

    TorchScript names the classes that it scripts by what the process has scripted before. So the same file, scaled,
    is the same file again, by which runs are recognised that go on where they were.
    """
    module = load_module(content)
    module.scale.mul_(factor)  # type: ignore[operator,union-attr]
    return module


def load_module(content: bytes) -> torch.jit.ScriptModule:
    """The TorchScript module of a model file's entry."""
    return torch.jit.load(io.BytesIO(content), map_location="cpu")


def export_plain(
    network: nn.Module, path: str | os.PathLike[str], types: Sequence[int], cutoff: float, periodic: bool
) -> torch.jit.ScriptModule:
    """Write a network as a module of the plain contract, see `CGPotential.export_openmm_torch`."""
    kind = PeriodicPlainModule if periodic else PlainModule
    module = torch.jit.script(kind(network, torch.tensor(list(types), dtype=torch.int64), cutoff).eval())
    with replacing(path) as unfinished:
        module.save(os.fspath(unfinished))
    return module
