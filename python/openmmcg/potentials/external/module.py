"""Any module that takes positions and pairs."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from openmmcg.geometry.scriptable import image_shifts
from openmmcg.model_file import BeadType
from openmmcg.potentials.contract import script
from openmmcg.potentials.external.adapter import Adapter, both_directions, load_scripted, make_potential
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior

_EDGES = ("directed", "undirected")
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class ModuleAdapter(Adapter):
    """A module ``(positions, box, types, rows, columns[, shifts])`` under the neighbor-list contract.

    Parameters
    ----------
    directed
        Whether each pair is given in both directions.
    shifts
        Whether the module is given cell shifts.
    others
        As of `Adapter`.
    """

    directed: Final[bool]
    shifts: Final[bool]

    def __init__(self, *others: Any, directed: bool, shifts: bool) -> None:
        super().__init__(*others)
        self.directed, self.shifts = directed, shifts

    def call(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor):  # type: ignore[no-untyped-def]
        positions, box = self.take(positions, box)
        types = self.types.index_select(0, types)
        shifts = torch.empty(0)
        if self.directed:
            rows, columns, shifts = both_directions(positions, box, rows, columns)
        elif self.shifts:
            shifts = image_shifts(positions.index_select(0, columns) - positions.index_select(0, rows), box)
        if self.shifts:
            return self.model(positions, box, types, rows, columns, shifts)
        else:  # TorchScript compiles what stands after an if, even if it is never reached
            return self.model(positions, box, types, rows, columns)


class EnergyAdapter(ModuleAdapter):
    """Of a module that returns an energy, or energies of beads."""

    def forward(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self.give_energy(self.call(positions, box, types, rows, columns))


class EnergyAndForcesAdapter(ModuleAdapter):
    """Of a module that returns ``(energy, forces)``."""

    def forward(
        self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        energy, forces = self.call(positions, box, types, rows, columns)
        return self.give_energy(energy), self.give_forces(forces)


def from_module(
    module: nn.Module | str | os.PathLike[str],
    *,
    bead_types: Sequence[BeadType | tuple[str, float]],
    cutoff: float,
    length: str | float,
    energy: str | float,
    edges: str,
    shifts: bool = False,
    outputs_forces: bool = False,
    types: Sequence[int] | None = None,
    dtype: str | None = None,
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of any module that takes positions and pairs, in its own units.

    The module is called as ``module(positions, box, types, rows, columns)``, or with ``shifts`` as a sixth argument:

    ========================= ======================================================================================
    ``positions`` ``[N, 3]``  in the box, or about the origin where there is none
    ``box`` ``[3, 3]``        box vectors as rows; ``[0]`` where there is none
    ``types`` ``[N]`` int64   what the module calls the beads' types
    ``rows, columns`` ``[E]`` int64, pairs of beads nearer than the cutoff
    ``shifts`` ``[E, 3]``     whole numbers of box vectors: ``positions[columns] - positions[rows] + shifts @ box`` is
                              the displacement; without them the module takes minimum images by itself
    ========================= ======================================================================================

    It returns the energy, as one number or as numbers whose sum it is, or ``(energy, forces)``. With replicas, the
    beads of all of them come in one call, and no pair is of two of them.

    Parameters
    ----------
    module
        A module, scripted or not, or the path of a TorchScript file.
    bead_types
        Names, and masses in amu.
    cutoff
        Within which pairs are listed, in the module's unit of length.
    length, energy
        The module's units: ``"nm"``, ``"angstrom"``, ``"bohr"`` or a number of nm, and ``"kJ/mol"``, ``"kcal/mol"``,
        ``"eV"``, ``"hartree"`` or a number of kJ/mol.
    edges : {"directed", "undirected"}
        Whether each pair is listed in both directions, or once.
    shifts
        Whether the module is given ``shifts``, as floating-point numbers.
    outputs_forces
        Whether it returns ``(energy, forces)``; otherwise the energy is differentiated.
    types
        What the module calls each bead type, such as atomic numbers; by default 0, 1, ….
    dtype : {"float32", "float64"}, optional
        To which parameters and buffers are converted, and in which positions are given. By default the module is left
        as it is, and positions have the type of its parameters if that is the same for all, else float64.
    priors, temperature, provenance
        As of `CGPotential`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The arguments do not go together, or the module cannot be translated to TorchScript or be evaluated.

    Examples
    --------
    A Lennard-Jones fluid in Å and kcal/mol:

    >>> import torch
    >>> class LennardJones(torch.nn.Module):
    ...     def forward(self, positions, box, types, rows, columns, shifts):
    ...         displacements = positions[columns] - positions[rows]
    ...         if box.numel() > 0:
    ...             displacements = displacements + torch.matmul(shifts, box)
    ...         inverse = (3.4**2 / displacements.square().sum(1)) ** 3
    ...         return 4 * 0.238 * (inverse**2 - inverse)
    >>> potential = from_module(
    ...     LennardJones(), bead_types=[("Ar", 39.948)], cutoff=10.0, length="angstrom", energy="kcal/mol",
    ...     edges="undirected", shifts=True,
    ... )
    >>> potential.cutoff
    1.0
    """
    what = f"the module {type(module).__name__}"
    if isinstance(module, (str, os.PathLike)):
        what = f"the module in {module}"
        module = load_scripted(module, "a TorchScript module")
    if edges not in _EDGES:
        raise ValueError(f"edges is {edges!r}; choose 'directed', each pair in both directions, or 'undirected'")
    if dtype is not None and dtype not in _DTYPES:
        raise ValueError(f"there is no dtype {dtype!r}; choose 'float32' or 'float64'")
    numbers = list(range(len(bead_types))) if types is None else list(types)
    if len(numbers) != len(bead_types):
        raise ValueError(f"types names {len(numbers)} types of the module, for {len(bead_types)} bead types")
    unit = length_in_nm(length)
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"the cutoff must be positive and finite, got {cutoff}")
    module = copy.deepcopy(module).cpu().eval()
    if dtype is not None:
        module = module.to(_DTYPES[dtype])
    scripted = script(module, what)
    _check_returned(scripted, outputs_forces, what)
    kind = EnergyAndForcesAdapter if outputs_forces else EnergyAdapter
    adapter = kind(
        scripted,
        numbers,
        unit,
        energy_in_kilojoule_per_mole(energy),
        _precision(module),
        directed=edges == "directed",
        shifts=shifts,
    )
    return make_potential(
        adapter,
        bead_types,
        cutoff * unit,
        outputs_forces=outputs_forces,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )


def _precision(module: nn.Module) -> torch.dtype:
    found = {t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}
    return found.pop() if len(found) == 1 else torch.float64


def _check_returned(module: torch.jit.ScriptModule, outputs_forces: bool, what: str) -> None:
    """Say what a module returns, where it is not what was said."""
    returned = str(module.forward.schema.returns[0].type)  # type: ignore[attr-defined]
    expected = "Tuple[Tensor, Tensor]" if outputs_forces else "Tensor"
    if returned != expected:
        hint = {
            "Tensor": "say outputs_forces=False if that is the energy",
            "Tuple[Tensor, Tensor]": "say outputs_forces=True if these are energy and forces",
        }.get(returned, "wrap it in a module that takes out the energy, or energy and forces")
        raise ValueError(f"{what} returns {returned}, and not {expected}; {hint}")
