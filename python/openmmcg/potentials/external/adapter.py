"""What modules of other packages are wrapped in to follow the neighbor-list contract, of scriptable parts."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openmmcg.geometry.cells import near_pairs
from openmmcg.geometry.scriptable import image_shifts, near_origin
from openmmcg.model_file import BeadType, finite_or_null, to_bytes
from openmmcg.potentials.contract import script, wandering_chain
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior, to_xml
from openmmcg.state import reading


def both_directions(positions: Tensor, box: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and cell shifts of each pair from both of its beads; the shifts are zero where there is no box."""
    shifts = image_shifts(positions.index_select(0, columns) - positions.index_select(0, rows), box)
    return torch.cat((rows, columns)), torch.cat((columns, rows)), torch.cat((shifts, -shifts))


class Adapter(nn.Module):
    """Units, bead types, and the factor by which a potential was scaled, of a module of another package.

    Subclasses have a ``forward`` of the neighbor-list contract.

    Parameters
    ----------
    model
        The other package's module.
    types
        What it calls each bead type, ``[types]``.
    length, energy
        Its units, nm and kJ/mol.
    dtype
        In which it takes positions.
    """

    scale: Tensor
    types: Tensor
    precision: Tensor

    def __init__(
        self, model: nn.Module, types: Sequence[int], length: float, energy: float, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("types", torch.tensor(list(types), dtype=torch.int64))
        self.register_buffer("precision", torch.empty(0, dtype=dtype))
        self.length, self.energy = length, energy

    def take(self, positions: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and box in the module's units and precision; digits go only where no bead is far away."""
        positions = near_origin(positions, box) / self.length
        return positions.to(self.precision.dtype), (box / self.length).to(self.precision.dtype)

    def give_energy(self, energy: Tensor) -> Tensor:
        """Energies of whatever shape as one in kJ/mol, in float64."""
        return self.scale * self.energy * energy.sum(dtype=torch.float64)

    def give_forces(self, forces: Tensor) -> Tensor:
        """Forces in kJ/mol/nm, in float64."""
        return self.scale * (self.energy / self.length) * forces.to(torch.float64)


def make_potential(
    adapter: Adapter,
    bead_types: Sequence[BeadType | tuple[str, float]],
    cutoff: float,
    *,
    outputs_forces: bool,
    what: str,
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """The potential of an adapter, after it was tried on some beads, with a box and without.

    Parameters
    ----------
    adapter
        Is scripted.
    bead_types
        Names, and masses in amu.
    cutoff
        nm
    outputs_forces
        Whether it returns ``(energy, forces)``.
    what
        What error messages call the model.
    priors, temperature, provenance
        As of `CGPotential`.
    """
    kinds = [BeadType(*kind) if isinstance(kind, tuple) else kind for kind in bead_types]
    scripted = script(adapter.eval(), what)
    _try_out(scripted, len(kinds), cutoff, outputs_forces, what)
    description = {
        "contract": "neighbor-list",
        "cutoff": cutoff,
        "bead_types": [{"name": kind.name, "mass": float(kind.mass)} for kind in kinds],
        "dtype": "keep",
        "outputs_forces": outputs_forces,
        "global_parameters": [],
        "temperature": temperature,
        "provenance": finite_or_null({"runs by": type(adapter).__name__, **(provenance or {})}),
    }
    return CGPotential.load(
        to_bytes(scripted, description, {"priors.json": json.dumps([to_xml(prior) for prior in priors])})
    )


def check_names(names: Sequence[str], masses: Mapping[str, float] | float, what: str) -> list[BeadType]:
    """The bead types of a model that knows their names and not their masses.

    Parameters
    ----------
    names
        In the order of the model's types.
    masses
        amu, by name; or that of the only one.
    what
        What error messages call the model.
    """
    if not isinstance(masses, Mapping):
        masses = dict.fromkeys(names, masses) if len(names) == 1 else {}
    if masses.keys() != set(names):
        raise ValueError(
            f"{what} has the types {', '.join(names)}; masses must give the mass of each in amu: "
            f"masses={{{', '.join(f'{name!r}: …' for name in names)}}}"
        )
    return [BeadType(name, float(masses[name])) for name in names]


def check_types(types: Sequence[int], bead_types: Sequence[Any], known: Sequence[int], what: str) -> None:
    """Refuse names of types, one for each bead type, that a model does not know.

    Raises
    ------
    ValueError
        There are too few or too many, or others than the known ones.
    """
    if len(types) != len(bead_types) or not set(types) <= set(known):
        listed = ", ".join(map(str, known))
        raise ValueError(f"types must name a type of {what}, {listed}, for each bead type; got {list(types)}")


def existing(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` expanded.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    """
    expanded = Path(path).expanduser()
    if not expanded.is_file():
        raise FileNotFoundError(f"there is no file {expanded}")
    return expanded


def load_scripted(
    path: str | os.PathLike[str], kind: str, extras: dict[str, Any] | None = None
) -> torch.jit.ScriptModule:
    """The TorchScript module in a file, whose entries by the names in ``extras`` are put there as bytes.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is damaged, or of another kind.
    """
    with reading(file := existing(path), kind):
        return torch.jit.load(file, _extra_files=extras, map_location="cpu")


def _try_out(module: torch.jit.ScriptModule, types: int, cutoff: float, outputs_forces: bool, what: str) -> None:
    """Refuse a module that cannot be run, whose energies are not finite, or that has no forces."""
    count = 2 * types + 3
    places = wandering_chain(count, 0.45 * cutoff)
    width = 3 * cutoff + float(places.max() - places.min())
    for box in (torch.empty(0, dtype=torch.float64), torch.eye(3, dtype=torch.float64) * width):
        rows, columns = near_pairs(places, box, cutoff)
        positions = places.clone().requires_grad_()
        given = f"{count} beads with {len(rows)} pairs {'in a box' if box.numel() else 'without a box'}"
        try:
            with torch.jit.optimized_execution(False):  # no time for what is run once
                output = module(positions, box, torch.arange(count) % types, rows, columns)
        except Exception as error:
            raise ValueError(f"{what} cannot be evaluated for {given}: {error}") from error
        energy, forces = output if outputs_forces else (output, None)
        if forces is None and energy.requires_grad:
            (forces,) = torch.autograd.grad(energy, positions, allow_unused=True)
        if forces is None:
            raise ValueError(f"the energy of {what} does not depend on positions: there are no forces")
        for name, values in (("energy", energy), ("forces", forces)):
            if not bool(torch.isfinite(values).all()):
                raise ValueError(f"the {name} of {what} are not finite for {given} at ordinary distances")
