"""Metatomic's exported models (https://github.com/metatensor/metatomic)."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmmcg.geometry.scriptable import image_shifts
from openmmcg.model_file import BeadType
from openmmcg.potentials.external.adapter import Adapter, both_directions, check_types, existing, make_potential
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior


def _adapter() -> type[Adapter]:
    """A class that is only there where metatomic is: TorchScript looks for its names about the class."""
    try:
        from metatensor.torch import Labels, TensorBlock
        from metatomic.torch import ModelEvaluationOptions, ModelOutput, System, register_autograd_neighbors
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "models of metatomic need its package: pip install metatomic-torch", name=error.name
        ) from None

    class MetatomicAdapter(Adapter):
        """An ``AtomisticModel``, which converts units by itself."""

        def forward(self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            positions, box = self.take(positions, box)
            periodic = box.numel() > 0
            cell = box if periodic else torch.zeros(3, 3, dtype=positions.dtype, device=positions.device)
            system = System(
                self.types.index_select(0, types).to(torch.int32),
                positions,
                cell,
                torch.tensor([periodic, periodic, periodic], device=positions.device),
            )
            for options in self.model.requested_neighbor_lists():  # type: ignore[operator]
                if options.full_list:
                    first, second, shifts = both_directions(positions, box, rows, columns)
                else:
                    first, second = rows, columns
                    shifts = image_shifts(positions.index_select(0, second) - positions.index_select(0, first), box)
                vectors = (
                    positions.index_select(0, second) - positions.index_select(0, first) + torch.matmul(shifts, cell)
                )
                vectors = vectors.detach()
                near = torch.nonzero(vectors.square().sum(1) < options.engine_cutoff("nm") ** 2).squeeze(1)
                samples = torch.cat((torch.stack((first, second), 1), shifts.to(torch.int64)), 1).index_select(0, near)
                neighbors = TensorBlock(
                    vectors.index_select(0, near).unsqueeze(2),
                    Labels(
                        ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"],
                        samples.to(torch.int32),
                    ),
                    [Labels(["xyz"], torch.tensor([[0], [1], [2]], dtype=torch.int32, device=positions.device))],
                    Labels(["distance"], torch.zeros(1, 1, dtype=torch.int32, device=positions.device)),
                )
                register_autograd_neighbors(system, neighbors, False)
                system.add_neighbor_list(options, neighbors)
            wanted = ModelEvaluationOptions("nm", {"energy": ModelOutput("", "kJ/mol")}, None)
            return self.give_energy(self.model([system], wanted, False)["energy"].block(0).values)

    return MetatomicAdapter


def from_metatomic(
    model: str | os.PathLike[str] | nn.Module,
    *,
    bead_types: Sequence[BeadType | tuple[str, float]],
    types: Sequence[int],
    extensions_directory: str | os.PathLike[str] | None = None,
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of a model in metatomic's format, such as those that metatrain exports.

    Parameters
    ----------
    model
        An exported model (``.pt``), or an ``AtomisticModel``.
    bead_types
        Names, and masses in amu.
    types
        What the model calls each bead type (its ``atomic_types``).
    extensions_directory
        Where the libraries are that the model needs, if it came with any.
    priors, temperature, provenance
        As of `CGPotential`.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModuleNotFoundError
        The package metatomic-torch is not installed.
    ValueError
        The model has no energy, does not know a type, asks for other data than positions, or sees no neighbours.

    Notes
    -----
    Units and cutoffs are those that the model declares. Its classes are those of metatomic: ``import metatomic.torch``
    before loading and running such a potential.
    """
    kind = _adapter()
    what = f"the metatomic model {model if isinstance(model, (str, os.PathLike)) else type(model).__name__}"
    module: Any = model
    if isinstance(model, (str, os.PathLike)):
        from metatomic.torch import load_atomistic_model

        module = load_atomistic_model(existing(model), extensions_directory)
    capabilities = module.capabilities()
    known = list(capabilities.atomic_types)
    if "energy" not in capabilities.outputs:
        raise ValueError(f"{what} has no output 'energy', but {', '.join(capabilities.outputs)}")
    check_types(types, bead_types, known, what)
    if inputs := module.requested_inputs(use_new_names=True):
        raise ValueError(f"{what} needs {', '.join(inputs)} besides positions, which beads do not have")
    lists = module.requested_neighbor_lists()
    if not lists:
        raise ValueError(f"{what} asks for no neighbours, so its beads would not see each other")
    return make_potential(
        kind(module, types, 1.0, 1.0, getattr(torch, capabilities.dtype)),
        bead_types,
        max(options.engine_cutoff("nm") for options in lists),
        outputs_forces=False,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )
