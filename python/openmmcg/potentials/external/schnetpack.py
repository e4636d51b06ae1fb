"""SchNetPack (https://github.com/atomistic-machine-learning/schnetpack)."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmmcg.model_file import BeadType
from openmmcg.potentials.contract import script
from openmmcg.potentials.external.adapter import Adapter, both_directions, load_scripted, make_potential
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior


class SchNetPackAdapter(Adapter):
    """A ``NeuralNetworkPotential``: from a dictionary of tensors to another one."""

    def __init__(self, *others: Any, energy_key: str, forces_key: str) -> None:
        super().__init__(*others)
        self.energy_key, self.forces_key = energy_key, forces_key

    def forward(
        self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        positions, box = self.take(positions, box)
        rows, columns, shifts = both_directions(positions, box, rows, columns)
        periodic = box.numel() > 0
        cell = box if periodic else torch.zeros(3, 3, dtype=positions.dtype, device=positions.device)
        results = self.model(
            {
                "_positions": positions.detach(),
                "_atomic_numbers": self.types.index_select(0, types),
                "_idx_i": rows,
                "_idx_j": columns,
                "_offsets": torch.matmul(shifts, cell),
                "_idx_m": torch.zeros_like(types),
                "_n_atoms": torch.tensor([types.shape[0]], device=types.device),
                "_cell": cell.unsqueeze(0),
                "_pbc": torch.tensor([periodic, periodic, periodic], device=types.device),
            }
        )
        return self.give_energy(results[self.energy_key]), self.give_forces(results[self.forces_key])


def from_schnetpack(
    model: str | os.PathLike[str] | nn.Module,
    *,
    bead_types: Sequence[BeadType | tuple[str, float]],
    types: Sequence[int],
    length: str | float = "angstrom",
    energy: str | float = "eV",
    energy_key: str = "energy",
    forces_key: str = "forces",
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of SchNetPack, such as SchNet, PaiNN and SO3net.

    Parameters
    ----------
    model
        A model that ``spkdeploy`` wrote, or a ``NeuralNetworkPotential`` (``torch.load("best_model")``).
    bead_types
        Names, and masses in amu.
    types
        The atomic number that stands for each bead type in the model.
    length, energy
        The units of the model's positions and energies, see `from_module`.
    energy_key, forces_key
        The names of the model's outputs.
    priors, temperature, provenance
        As of `CGPotential`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is no deployed model, or the model cannot be translated or evaluated.
    """
    what = f"the SchNetPack model {model if isinstance(model, (str, os.PathLike)) else type(model).__name__}"
    if len(types) != len(bead_types):
        raise ValueError(f"types must give an atomic number for each bead type, got {list(types)}")
    module = _script(model, what)
    unit = length_in_nm(length)
    adapter = SchNetPackAdapter(
        module,
        types,
        unit,
        energy_in_kilojoule_per_mole(energy),
        next(module.parameters()).dtype,
        energy_key=energy_key,
        forces_key=forces_key,
    )
    return make_potential(
        adapter,
        bead_types,
        float(module.representation.cutoff) * unit,  # type: ignore[union-attr,arg-type]
        outputs_forces=True,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )


def _script(model: str | os.PathLike[str] | nn.Module, what: str) -> torch.jit.ScriptModule:
    if not isinstance(model, nn.Module):
        return load_scripted(model, "a model that spkdeploy wrote")
    module: Any = copy.deepcopy(model).cpu().eval()
    # What makes single precision of the positions and double precision of the results cannot be translated, and is not
    # needed.
    module.postprocessors = nn.ModuleList(
        part for part in module.postprocessors if type(part).__name__ not in ("CastTo32", "CastTo64")
    )
    return script(module, what)
