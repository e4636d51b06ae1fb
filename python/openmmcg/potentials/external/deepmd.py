"""DeePMD-kit (https://github.com/deepmodeling/deepmd-kit), its PyTorch backend."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmmcg.potentials.external.adapter import Adapter, both_directions, check_names, load_scripted, make_potential
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior


def padded_neighbors(rows: Tensor, beads: int) -> Tensor:
    """Which directed edges leave each bead, ``[beads, most]`` int64, and -1 where a bead has fewer than most."""
    order = torch.argsort(rows)
    counts = torch.bincount(rows, minlength=beads)
    most = int(counts.max()) if beads > 0 else 0
    of = rows.index_select(0, order)
    place = torch.arange(rows.shape[0], device=rows.device) - (torch.cumsum(counts, 0) - counts).index_select(0, of)
    padded = torch.full((beads * most,), -1, dtype=torch.int64, device=rows.device)
    return padded.index_copy(0, of * most + place, order).view(beads, most)


class DeePMDAdapter(Adapter):
    """A frozen model, by its ``forward_lower``: each neighbour of a bead is a ghost of its own."""

    def forward(
        self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        positions, box = self.take(positions, box)
        rows, columns, shifts = both_directions(positions, box, rows, columns)
        ghosts = positions.index_select(0, columns)
        if box.numel() > 0:
            ghosts = ghosts + torch.matmul(shifts, box)
        beads = positions.shape[0]
        neighbors = padded_neighbors(rows, beads)
        neighbors = torch.where(neighbors < 0, neighbors, neighbors + beads)
        mapping = torch.cat((torch.arange(beads, device=rows.device), columns))
        results = self.model.forward_lower(  # type: ignore[operator]
            torch.cat((positions, ghosts)).unsqueeze(0),
            self.types.index_select(0, types).index_select(0, mapping).unsqueeze(0),
            neighbors.unsqueeze(0),
            mapping.unsqueeze(0),
        )
        forces = torch.zeros_like(positions).index_add(0, mapping, results["extended_force"].squeeze(0))
        return self.give_energy(results["energy"]), self.give_forces(forces)


def from_deepmd(
    model: str | os.PathLike[str] | nn.Module,
    *,
    masses: Mapping[str, float] | float,
    length: str | float = "angstrom",
    energy: str | float = "eV",
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of DeePMD-kit's PyTorch backend.

    Parameters
    ----------
    model
        A frozen model (``dp --pt freeze``, a ``.pth`` file), or the scripted model itself.
    masses
        Of each type of the model, by name, amu; or that of the only one.
    length, energy
        The units of the model's training data, see `from_module`.
    priors, temperature, provenance
        As of `CGPotential`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Masses are missing, or the model needs parameters of frames or atoms, or modifies its data.

    Notes
    -----
    Cutoff and names of types are read from the model. DeePMD-kit itself is needed only where the model uses operators
    of its library: then import ``deepmd.pt`` before loading and running it.
    """
    what = f"the DeePMD model {model if isinstance(model, (str, os.PathLike)) else type(model).__name__}"
    module: Any = model
    if isinstance(model, (str, os.PathLike)):
        extra: dict[str, Any] = {"data_modifier.pth": ""}
        module = load_scripted(model, "a frozen model of DeePMD-kit's PyTorch backend", extra)
        if extra["data_modifier.pth"]:
            raise ValueError(f"{what} modifies its data, which is not known here")
    if not hasattr(module, "forward_lower") or not hasattr(module, "get_type_map"):
        raise ValueError(f"{what} is no frozen energy model of DeePMD-kit's PyTorch backend (dp --pt freeze)")
    for kind, size in (("frames", module.get_dim_fparam()), ("atoms", module.get_dim_aparam())):
        if size > 0:
            raise ValueError(f"{what} needs {size} parameters of {kind}, which beads do not have")
    unit = length_in_nm(length)
    names = list(module.get_type_map())
    return make_potential(
        DeePMDAdapter(module, range(len(names)), unit, energy_in_kilojoule_per_mole(energy), torch.float64),
        check_names(names, masses, what),
        float(module.get_rcut()) * unit,
        outputs_forces=True,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )
