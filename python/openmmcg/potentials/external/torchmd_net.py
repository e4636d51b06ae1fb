"""TorchMD-Net (https://github.com/torchmd/torchmd-net)."""

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import torch
from torch import Tensor, nn

from openmmcg.geometry.scriptable import minimum_image
from openmmcg.model_file import BeadType
from openmmcg.potentials.external.adapter import Adapter, check_types, existing, make_potential
from openmmcg.potentials.external.torchmd_graph_network import convert_graph_network
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm
from openmmcg.potentials.networks.primitives import distances_and_directions
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior
from openmmcg.state import reading


class GivenPairs(nn.Module):
    """Takes the place of ``OptimizedDistance``: its pairs are given, so replicas do not see each other.

    Parameters
    ----------
    nearest
        Below which there are no pairs, in the model's unit of length.
    loop
        Whether each bead is a neighbour of its own.
    """

    rows: Tensor
    columns: Tensor
    box: Tensor
    nearest: Final[float]
    loop: Final[bool]

    def __init__(self, nearest: float, loop: bool) -> None:
        super().__init__()
        self.rows, self.columns, self.box = torch.empty(0), torch.empty(0), torch.empty(0)
        self.nearest, self.loop = float(nearest), bool(loop)

    def forward(
        self, positions: Tensor, batch: Tensor | None = None, box: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pairs in both directions ``[2, E]``, their distances, and vectors from second to first."""
        rows, columns = self.rows, self.columns
        vectors = minimum_image(positions.index_select(0, rows) - positions.index_select(0, columns), self.box)
        distances, _ = distances_and_directions(vectors)
        if self.nearest > 0:
            kept = torch.nonzero(distances >= self.nearest).squeeze(1)
            rows, columns = rows.index_select(0, kept), columns.index_select(0, kept)
            vectors, distances = vectors.index_select(0, kept), distances.index_select(0, kept)
        pairs = torch.cat((torch.stack((rows, columns)), torch.stack((columns, rows))), 1)
        distances, vectors = torch.cat((distances, distances)), torch.cat((vectors, -vectors))
        if self.loop:
            own = torch.arange(positions.shape[0], device=positions.device)
            pairs = torch.cat((pairs, torch.stack((own, own))), 1)
            distances = torch.cat((distances, torch.zeros_like(positions[:, 0])))
            vectors = torch.cat((vectors, torch.zeros_like(positions)))
        return pairs, distances, vectors


class TorchMDNetAdapter(Adapter):
    """A ``TorchMD_Net`` without derivative."""

    def forward(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        positions, box = self.take(positions, box)
        self.model.representation_model.distance.rows = rows  # type: ignore[union-attr]
        self.model.representation_model.distance.columns = columns  # type: ignore[union-attr]
        self.model.representation_model.distance.box = box  # type: ignore[union-attr]
        energy, _ = self.model(self.types.index_select(0, types), positions)
        return self.give_energy(energy)


def from_torchmd_net(
    model: str | os.PathLike[str] | nn.Module,
    *,
    bead_types: Sequence[BeadType | tuple[str, float]],
    types: Sequence[int] | None = None,
    length: str | float = "angstrom",
    energy: str | float = "eV",
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of TorchMD-Net: its graph network, equivariant transformer, TensorNet and the like.

    Parameters
    ----------
    model
        A checkpoint (``.ckpt``) or a ``TorchMD_Net``. Checkpoints are read by torchmd-net itself, and run code that
        they contain: take them from people you trust only.
    bead_types
        Names, and masses in amu.
    types
        What the model calls each bead type (its ``z``); by default 0, 1, ….
    length, energy
        The units of the model's training data, see `from_module`.
    priors, temperature, provenance
        As of `CGPotential`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModuleNotFoundError
        The package torchmd-net is not installed.
    ValueError
        The model does not know a type, has a part that finds its own neighbours, or cannot be translated.

    Notes
    -----
    The graph network is converted, and runs natively, where it is in single precision, has no prior model and no
    ``mean``, sums over neighbours and beads, and has an activation of ours. Of other models their own code runs: in
    place of its search for neighbours, which stops at ``max_num_neighbors``, it gets the pairs of `CGForce`. The cutoff
    is read from the model; a box that it was made with is not looked at. A constant energy (the ``mean`` of the
    training data) counts once, however many replicas there are.
    """
    what = f"the TorchMD-Net model {model if isinstance(model, (str, os.PathLike)) else type(model).__name__}"
    module = copy.deepcopy(_load(model)).cpu().eval()
    numbers = list(range(len(bead_types))) if types is None else list(types)
    representation: Any = getattr(module, "representation_model", None)
    search = getattr(representation, "distance", None)
    if search is None:
        raise ValueError(f"{what} has no representation model with a search for neighbours; give it a TorchMD_Net")
    known = min(part.num_embeddings for part in representation.modules() if isinstance(part, nn.Embedding))
    check_types(numbers, bead_types, range(known), what)
    others = [
        name
        for name, part in module.named_modules()
        if type(part) is type(search) and name != "representation_model.distance"
    ]
    if others:
        raise ValueError(f"{what} finds neighbours of its own in {', '.join(others)}, so replicas would see each other")
    unit, energy_unit = length_in_nm(length), energy_in_kilojoule_per_mole(energy)
    record = {"converted from": "TorchMD-Net", **(provenance or {})}
    dtype = next(module.parameters()).dtype
    if dtype == torch.float32:  # networks of ours lose what double precision has more
        with suppress(ValueError):  # it is not made of the primitives: its own code runs
            network = convert_graph_network(module, numbers, unit, energy_unit)
            return CGPotential(network, bead_types, priors=priors, temperature=temperature, provenance=record)
    representation.distance = GivenPairs(search.cutoff_lower, search.loop)
    module.derivative = False  # type: ignore[assignment]
    return make_potential(
        TorchMDNetAdapter(module, numbers, unit, energy_unit, dtype),
        bead_types,
        float(search.cutoff_upper) * unit,
        outputs_forces=False,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )


def _load(model: str | os.PathLike[str] | nn.Module) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    path = existing(model)
    try:
        from torchmdnet.models.model import load_model
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} is read by the package torchmd-net: pip install torchmd-net", name=error.name
        ) from error
    with reading(path, "a checkpoint of TorchMD-Net"):
        return load_model(str(path))
