"""The file of a potential: a TorchScript archive whose extra entries describe it (docs/design.md)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT", "FORMAT_VERSION", "describe_module", "to_bytes"]

FORMAT = "openmm-cg potential"
FORMAT_VERSION = 1


def to_bytes(
    module: torch.jit.ScriptModule,
    description: Mapping[str, Any],
    extras: Mapping[str, str | bytes] | None = None,
) -> bytes:
    """The bytes of a model file.

    Parameters
    ----------
    module
        What the TorchScript engine runs.
    description
        The content of ``model.json`` without ``format`` and ``format_version``.
    extras
        Further entries by name.
    """
    import torch

    entries: dict[str, str | bytes] = dict(extras or {})
    entries["model.json"] = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **description}, indent=1)
    buffer = io.BytesIO()
    torch.jit.save(module, buffer, _extra_files=entries)
    return buffer.getvalue()


def describe_module(
    module: torch.jit.ScriptModule,
    *,
    cutoff: float | None = None,
    contract: str = "neighbor-list",
    bead_types: Sequence[str] = ("bead",),
    outputs_forces: bool = False,
    global_parameters: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The content of ``model.json`` for a TorchScript module of one's own.

    Parameters
    ----------
    module
        Follows ``contract``, see docs/model-contract.md. Its dtype is that of its first floating-point parameter or
        buffer, float32 where there is none.
    cutoff
        In nm; for the contract ``"neighbor-list"``.

    Raises
    ------
    ValueError
        Where the arguments do not go together.
    """
    import torch

    if contract not in ("neighbor-list", "plain"):
        raise ValueError(f"there is no contract '{contract}'; choose 'neighbor-list' or 'plain'")
    if contract == "neighbor-list" and not (cutoff is not None and cutoff > 0):
        raise ValueError("the contract 'neighbor-list' needs a positive cutoff in nm: cutoff=0.6, for example")
    if contract == "plain" and cutoff is not None:
        raise ValueError("the contract 'plain' has no cutoff: the module finds its pairs itself")
    tensors = [*module.parameters(), *module.buffers()]
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the module's parameters are {dtype}; the engine runs float32 and float64")
    return {
        "contract": contract,
        **({"cutoff": float(cutoff)} if cutoff is not None else {}),
        "bead_types": [{"name": name, "mass": 0.0} for name in bead_types],
        "dtype": str(dtype).removeprefix("torch."),
        "outputs_forces": outputs_forces,
        "global_parameters": [
            {"name": name, "default": float(value)} for name, value in (global_parameters or {}).items()
        ],
    }
