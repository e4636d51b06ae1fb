"""NequIP and Allegro (https://github.com/mir-group/nequip)."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openmmcg.potentials.external.adapter import (
    Adapter,
    both_directions,
    check_names,
    existing,
    load_scripted,
    make_potential,
)
from openmmcg.potentials.external.units import energy_in_kilojoule_per_mole, length_in_nm
from openmmcg.potentials.potential import CGPotential
from openmmcg.potentials.priors import Prior


class NequIPAdapter(Adapter):
    """A ``GraphModel``: from a dictionary of tensors to another one."""

    def forward(
        self, positions: Tensor, box: Tensor, types: Tensor, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        positions, box = self.take(positions, box)
        rows, columns, shifts = both_directions(positions, box, rows, columns)
        data = {
            "pos": positions,
            "edge_index": torch.stack((rows, columns)),
            "atom_types": self.types.index_select(0, types),
        }
        if box.numel() > 0:
            data["cell"] = box
            data["edge_cell_shift"] = shifts
        results = self.model(data)
        return self.give_energy(results["total_energy"]), self.give_forces(results["forces"])


def from_nequip(
    model: str | os.PathLike[str] | nn.Module,
    *,
    masses: Mapping[str, float] | float,
    length: str | float = "angstrom",
    energy: str | float = "eV",
    priors: Sequence[Prior] = (),
    temperature: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> CGPotential:
    """A potential of NequIP's framework, such as NequIP and Allegro.

    Parameters
    ----------
    model
        A checkpoint (``.ckpt``), a package (``.nequip.zip``), a TorchScript file (``.nequip.pth``), or a
        ``GraphModel``. Checkpoints and packages are read by nequip itself, and run code that they contain: take them
        from people you trust only.
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
    ModuleNotFoundError
        The package nequip is not installed, and the file is not of TorchScript.
    ValueError
        Masses are missing, or the model uses kernels that TorchScript does not know.

    Notes
    -----
    Cutoff and names of types are read from the model. It is run in TorchScript by the torch that is installed, also
    where nequip itself offers AOTInductor only.
    """
    what = f"the NequIP model {type(model).__name__}" if not isinstance(model, (str, os.PathLike)) else f"{model}"
    module, metadata = _load(model)
    names = metadata["type_names"].split(" ")
    unit = length_in_nm(length)
    adapter = NequIPAdapter(module, range(len(names)), unit, energy_in_kilojoule_per_mole(energy), torch.float64)
    return make_potential(
        adapter,
        check_names(names, masses, what),
        float(metadata["r_max"]) * unit,
        outputs_forces=True,
        what=what,
        priors=priors,
        temperature=temperature,
        provenance=provenance,
    )


def _load(model: str | os.PathLike[str] | nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """The scripted model, and what it says of itself."""
    module: Any = model
    if isinstance(model, (str, os.PathLike)):
        path = existing(model)
        if path.name.endswith(".pt2"):
            raise ValueError(f"{path} is an AOTInductor package; give the checkpoint or the .nequip.zip it was made of")
        if path.suffix == ".pth":
            extra: dict[str, Any] = {"r_max": "", "type_names": ""}
            module = load_scripted(path, "a NequIP model in TorchScript", extra)
            return module, {key: bytes(value).decode() for key, value in extra.items()}
        try:
            from nequip.model.saved_models.load_utils import load_saved_model
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{path} is read by the package nequip: pip install nequip (and nequip-allegro for Allegro)",
                name=error.name,
            ) from error
        with _nequip_at_work():
            module = load_saved_model(path)
    from e3nn.util.jit import script

    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return script(module.cpu().eval()), dict(module.metadata)


@contextmanager
def _nequip_at_work() -> Iterator[None]:
    """The state in which nequip makes models; default dtype and seeds are afterwards what they were."""
    from nequip.utils.global_state import set_global_state

    dtype, seeds = torch.get_default_dtype(), (random.getstate(), np.random.get_state())
    with torch.random.fork_rng(devices=[]):
        try:
            set_global_state()
            torch.set_default_dtype(torch.float64)  # as nequip does the first time
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(seeds[0])
            np.random.set_state(seeds[1])
