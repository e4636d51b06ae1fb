"""The file of a potential: a zip of entries, of which model.json describes it (docs/design.md).

Reading needs no torch.
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

__all__ = ["FORMAT", "FORMAT_VERSION", "BeadType", "ModelFile", "describe_module", "is_inductor_package", "to_bytes"]

FORMAT = "openmm-cg potential"
FORMAT_VERSION = 2
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
    entries
        The other entries by name. What the TorchScript engine runs is ``module.pt``, and ``module.pt2`` what the
        AOTInductor engine does.

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
        with reading(self.source, "a potential"):
            self.entries = _read_entries(self.content)
        text = self.entry("model.json")
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
        del self.entries["model.json"]
        if finite_or_null(self.description) != self.description:
            # Python's JSON has words for NaN, which no other reader knows; earlier versions wrote them.
            self.description = finite_or_null(self.description)
            self.content = to_bytes(None, self.description, self.entries)

    def entry(self, name: str) -> bytes:
        """The content of an entry.

        Raises
        ------
        ValueError
            There is none of this name.
        """
        if name not in self.entries:
            raise ValueError(f"{self.source} has no entry '{name}': write it with CGPotential.save()")
        return self.entries[name]

    @property
    def bead_types(self) -> list[BeadType]:
        """The kinds of beads; a bead's type is the index into this list."""
        with reading(self.source, "a potential"):
            return [BeadType(entry["name"], entry["mass"]) for entry in self.description["bead_types"]]

    @property
    def priors(self) -> list[str]:
        """OpenMM XML of the priors, templates without particles."""
        text = self.entries.get("priors.json", b"[]")
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


def _read_entries(content: bytes) -> dict[str, bytes]:
    """The entries of a file of any version, by the names that they have in the present one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise ValueError("it holds an entry twice")

        def read(name: str) -> bytes:
            entry = archive.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"it holds the entry '{name}' compressed; it must be stored")
            if entry.compress_size != entry.file_size:
                raise ValueError(f"the entry '{name}' is of two sizes")
            return archive.read(name)

        if "model.json" in names:
            return {name: read(name) for name in names}
        # Version 1: a TorchScript archive with everything else in its folder `extra`; without a network, that alone.
        extras = {name.split("/", 2)[2]: read(name) for name in names if name.split("/")[1:2] == ["extra"]}
        return extras if len(extras) == len(names) else {**extras, "module.pt": content}


def is_inductor_package(content: bytes) -> bool:
    """Whether these are the bytes of what ``torch._inductor.aoti_compile_and_package`` writes, a ``.pt2``."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any("/data/aotinductor/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _zip(entries: Mapping[str, str | bytes]) -> bytes:
    """A zip of stored entries, as `ModelArchive` in C++ reads them where they lie."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            # The date of a ZipInfo is a constant, so that the same potential has the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def to_bytes(
    module: torch.jit.ScriptModule | None,
    description: Mapping[str, Any],
    entries: Mapping[str, str | bytes] | None = None,
) -> bytes:
    """The bytes of a model file.

    Parameters
    ----------
    module
        What the TorchScript engine runs; None where it is among the entries, or there is none: then this needs no
        torch.
    description
        The content of ``model.json``; ``format`` and ``format_version`` are those of this version.
    entries
        Further entries by name.
    """
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    described = {**head, **description, **head}
    content = {"model.json": json.dumps(described, indent=1, allow_nan=False), **(entries or {})}
    if module is not None:
        with optional_imports():
            import torch

        buffer = io.BytesIO()
        torch.jit.save(module, buffer)
        content["module.pt"] = buffer.getvalue()
    return _zip(content)


def _check_scripted(module: object) -> None:
    with optional_imports():
        import torch

    if not isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"a model is a file, its bytes or a ScriptModule, not a {type(module).__name__}"
            + ("; translate it: torch.jit.script(module)" if isinstance(module, torch.nn.Module) else "")
        )


def describe_module(
    module: torch.jit.ScriptModule | None,
    *,
    cutoff: float | None = None,
    contract: str = "neighbor-list",
    bead_types: Sequence[str] = ("bead",),
    outputs_forces: bool = False,
    global_parameters: Mapping[str, float] | None = None,
    dtype: str | None = None,
) -> dict[str, Any]:
    """The content of ``model.json`` for a module of one's own.

    Parameters
    ----------
    module
        Follows ``contract``, see docs/model-contract.md; None where it is an AOTInductor package.
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
        differ or there are none, so that no number loses digits that the module has. A package is compiled for
        positions of one type, ``"float32"`` or any other of these for float64.

    Raises
    ------
    TypeError
        Where the module is no ScriptModule.
    ValueError
        Where the arguments do not go together.
    """
    if module is not None:
        _check_scripted(module)
    if contract not in ("neighbor-list", "plain"):
        raise ValueError(f"there is no contract '{contract}'; choose 'neighbor-list' or 'plain'")
    if contract == "neighbor-list" and not (cutoff is not None and cutoff > 0):
        raise ValueError("the contract 'neighbor-list' needs a positive cutoff in nm: cutoff=0.6, for example")
    if contract == "plain" and cutoff is not None:
        raise ValueError("the contract 'plain' has no cutoff: the module finds its pairs itself")
    if dtype is None:
        tensors = [] if module is None else [*module.parameters(), *module.buffers()]
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
