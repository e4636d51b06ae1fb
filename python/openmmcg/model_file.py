"""The file of a potential: a TorchScript archive whose extra entries describe it (docs/design.md).

Reading needs no torch: the archive is a zip.
"""

from __future__ import annotations

import io
import json
import math
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
_DTYPES = ("float32", "float64", "keep")


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
        if finite_or_null(self.description) != self.description:
            # Python's JSON has words for NaN, which no other reader knows; earlier versions wrote them.
            self.description = finite_or_null(self.description)
            self.content = _with_description(self.content, self.description)
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
                if _is_extra(entry, name):
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


def finite_or_null(value: Any) -> Any:
    """A value with None in the place of numbers that are not finite, which JSON cannot express.

    Examples
    --------
    >>> finite_or_null({"errors": [0.5, float("nan")]})
    {'errors': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_extra(entry: str, name: str) -> bool:
    return entry.split("/", 1)[1:] == [f"extra/{name}"]


def _with_description(content: bytes, description: Mapping[str, Any]) -> bytes:
    """The bytes of a model file with another model.json."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            data = _to_json(description).encode() if _is_extra(entry.filename, "model.json") else old.read(entry)
            new.writestr(zipfile.ZipInfo(entry.filename), data)
    return buffer.getvalue()


def _to_json(description: Mapping[str, Any]) -> str:
    return json.dumps(description, indent=1, allow_nan=False)


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
    entries["model.json"] = _to_json({"format": FORMAT, "format_version": FORMAT_VERSION, **description})
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
    dtype: str | None = None,
) -> dict[str, Any]:
    """The content of ``model.json`` for a TorchScript module of one's own.

    Parameters
    ----------
    module
        Follows ``contract``, see docs/model-contract.md.
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
    dtype
        ``"keep"``: parameters and buffers as they are, positions in float64. ``"float32"`` or ``"float64"``: all of
        them in that precision. By default the one that all parameters and buffers have, and ``"keep"`` where they
        differ or there are none, so that no number loses digits that the module has.

    Raises
    ------
    TypeError
        Where the module is no ScriptModule.
    ValueError
        Where the arguments do not go together.
    """
    with optional_imports():
        import torch

    if not isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"a model is a file, its bytes or a ScriptModule, not a {type(module).__name__}"
            + ("; translate it: torch.jit.script(module)" if isinstance(module, torch.nn.Module) else "")
        )
    if contract not in ("neighbor-list", "plain"):
        raise ValueError(f"there is no contract '{contract}'; choose 'neighbor-list' or 'plain'")
    if contract == "neighbor-list" and not (cutoff is not None and cutoff > 0):
        raise ValueError("the contract 'neighbor-list' needs a positive cutoff in nm: cutoff=0.6, for example")
    if contract == "plain" and cutoff is not None:
        raise ValueError("the contract 'plain' has no cutoff: the module finds its pairs itself")
    if dtype is None:
        tensors = [*module.parameters(), *module.buffers()]
        found = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
        dtype = found.pop() if found in ({"float32"}, {"float64"}) else "keep"
    elif dtype not in _DTYPES:
        raise ValueError(f"there is no dtype '{dtype}'; choose one of {', '.join(map(repr, _DTYPES))}")
    return {
        "contract": contract,
        **({"cutoff": float(cutoff)} if cutoff is not None else {}),
        "bead_types": [{"name": name, "mass": 0.0} for name in bead_types],
        "dtype": dtype,
        "outputs_forces": outputs_forces,
        "global_parameters": [
            {"name": name, "default": float(value)} for name, value in (global_parameters or {}).items()
        ],
    }
