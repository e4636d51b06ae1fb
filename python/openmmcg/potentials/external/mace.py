"""MACE (https://github.com/ACEsuit/mace)."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmmcg.model_file import BeadType
from openmmcg.potentials.external.adapter import Adapter, both_directions, check_types, existing, make_potential
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior
from openmmcg.state import reading


class MACEAdapter(Adapter):
    """A ``MACE`` or ``ScaleShiftMACE``: from a dictionary of tensors to another one."""

    def __init__(self, *others: Any, elements: int) -> None:
        super().__init__(*others)
        self.elements = elements

    def forward(
        self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        positions, box = self.take(positions, box)
        rows, columns, unit_shifts = both_directions(positions, box, rows, columns)
        periodic = box.numel() > 0
        cell = box if periodic else torch.zeros(3, 3, dtype=positions.dtype, device=positions.device)
        elements = torch.nn.functional.one_hot(self.types.index_select(0, types), self.elements)
        data = {
            "positions": positions.detach(),
            "node_attrs": elements.to(positions.dtype),
            "edge_index": torch.stack((rows, columns)),
            "unit_shifts": unit_shifts,
            "shifts": torch.matmul(unit_shifts, cell),
            "cell": cell,
            "batch": torch.zeros_like(types),
            "ptr": torch.tensor([0, types.shape[0]], device=types.device),
        }
        results = self.model(data)
        energy, forces = results["energy"], results["forces"]
        assert energy is not None and forces is not None
        return self.give_energy(energy), self.give_forces(forces)


def from_mace(
    model: str | os.PathLike[str] | nn.Module,
    *,
    bead_types: Sequence[BeadType | tuple[str, float]],
    types: Sequence[int],
    length: str | float = "angstrom",
    energy: str | float = "eV",
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of MACE.

    Parameters
    ----------
    model
        A model that ``mace_run_train`` wrote (``.model``), or a ``MACE`` or ``ScaleShiftMACE``. Files are read by mace
        itself, and run code that they contain: take them from people you trust only.
    bead_types
        Names, and masses in amu.
    types
        The atomic number that stands for each bead type in the model.
    length, energy
        The units of the model's training data, see `from_module`.
    priors, temperature, provenance
        As of `CGPotential`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModuleNotFoundError
        The packages mace-torch and e3nn are not installed.
    ValueError
        The model does not know an atomic number, has several heads, or cannot be translated.
    """
    what = f"the MACE model {model if isinstance(model, (str, os.PathLike)) else type(model).__name__}"
    try:
        import mace  # noqa: F401  (before e3nn, whose old files it makes torch read)
        from e3nn.util.jit import compile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{what} needs its package: pip install mace-torch", name=error.name) from None
    module: Any = copy.deepcopy(_load(model)).cpu().eval()
    numbers = [int(number) for number in module.atomic_numbers]
    check_types(types, bead_types, numbers, what)
    heads = getattr(module, "heads", None) or ["default"]
    if len(heads) > 1:
        raise ValueError(f"{what} has several heads, {', '.join(heads)}; select one (mace_select_head)")
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    unit = length_in_nm(length)
    adapter = MACEAdapter(
        compile(module),
        [numbers.index(number) for number in types],
        unit,
        energy_in_kilojoule_per_mole(energy),
        module.r_max.dtype,
        elements=len(numbers),
    )
    return make_potential(
        adapter,
        bead_types,
        float(module.r_max) * unit,
        outputs_forces=True,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )


def _load(model: str | os.PathLike[str] | nn.Module) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    with reading(path := existing(model), "a model of MACE"):
        return torch.load(path, map_location="cpu", weights_only=False)
