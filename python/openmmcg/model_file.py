"""The file of a potential: a TorchScript archive whose extra entries describe it (docs/design.md).

Reading needs no torch: the archive is a zip.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmmcg.optional import optional_imports
from openmmcg.state import reading

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT", "FORMAT_VERSION", "BeadType", "ModelFile", "describe_module", "to_bytes"]

FORMAT = "openmm-cg potential"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class BeadType:
    """Name and mass (amu) of a kind of bead."""

    name: str
    mass: float


class ModelFile:
    """What a model file says of itself.

    Parameters
    ----------
    model
        A path, or the bytes of a file.

    Attributes
    ----------
    content
        The file's bytes.
    description
        ``model.json``.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        Where it is truncated, corrupted, of another format or of a newer version.
    """

    def __init__(self, model: str | os.PathLike[str] | bytes) -> None:
        if isinstance(model, bytes):
            self.source, self.content = "the model", model
        else:
            self.source = f"the model file '{model}'"
            self.content = Path(model).expanduser().read_bytes()
        text = self.extra("model.json")
        with reading(self.source, "a potential"):
            self.description: dict[str, Any] = json.loads(text)
            form = self.description.get("format")
        if form != FORMAT:
            raise ValueError(f"{self.source} is not an openmm-cg potential: its format is {form!r}")
        version = self.description.get("format_version", 0)
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{self.source} has format version {version}; this openmm-cg reads versions up to {FORMAT_VERSION}: "
                "upgrade openmm-cg"
            )

    def extra(self, name: str, default: bytes | None = None) -> bytes:
        """The entry ``extra/<name>``; ``default`` where there is none."""
        with reading(self.source, "a potential"), zipfile.ZipFile(io.BytesIO(self.content)) as archive:
            for entry in archive.namelist():
                if entry.split("/", 1)[1:] == [f"extra/{name}"]:
                    return archive.read(entry)
        if default is None:
            raise ValueError(f"{self.source} has no entry '{name}': write it with CGPotential.save()")
        return default

    @property
    def bead_types(self) -> list[BeadType]:
        """The kinds of beads; a bead's type is the index into this list."""
        with reading(self.source, "a potential"):
            return [BeadType(entry["name"], entry["mass"]) for entry in self.description["bead_types"]]

    @property
    def priors(self) -> list[str]:
        """OpenMM XML of the priors, templates without particles."""
        text = self.extra("priors.json", b"[]")
        with reading(self.source, "a potential"):
            return json.loads(text)


def to_bytes(
    module: torch.jit.ScriptModule | None,
    description: Mapping[str, Any],
    extras: Mapping[str, str | bytes] | None = None,
) -> bytes:
    """The bytes of a model file.

    Parameters
    ----------
    module
        What the TorchScript engine runs; None for a potential of priors alone, which needs no torch.
    description
        The content of ``model.json`` without ``format`` and ``format_version``.
    extras
        Further entries by name.
    """
    entries: dict[str, str | bytes] = dict(extras or {})
    entries["model.json"] = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **description}, indent=1)
    buffer = io.BytesIO()
    if module is None:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in entries.items():
                # The date of a ZipInfo is a constant, so that the same potential has the same bytes.
                archive.writestr(zipfile.ZipInfo(f"potential/extra/{name}"), content)
        return buffer.getvalue()

    with optional_imports():
        import torch

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
    contract
        ``"neighbor-list"`` or ``"plain"``.
    bead_types
        The names of the kinds of beads.
    outputs_forces
        Whether the module returns ``(energy, forces)``.
    global_parameters
        Names and default values of what is passed after the other arguments.

    Raises
    ------
    ValueError
        Where the arguments do not go together.
    """
    with optional_imports():
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
