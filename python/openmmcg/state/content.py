"""Descriptions of what a work depends on, by content, and the differences between two of them in words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openmmcg.optional import optional_imports

_FEW = 9  # numbers that are described by themselves, a box's for example
_LONG = 200  # characters of a text from which on it is described by a digest
_BLOCK = 2**24  # numbers of an array that are read at a time


def describe(value: Any) -> Any:
    """A description of a value that JSON can express, and that differs where values differ.

    Parameters
    ----------
    value
        Numbers, texts, bytes, None; arrays, tensors and anything else with a shape and rows, such as the positions of
        `openmmcg.frames.Frames`, which are read piece by piece; torch modules (their classes, settings, parameters and
        buffers); objects with a method ``content()`` that returns what they are made of; mappings and sequences of all
        these; functions and classes, by their names.

    Raises
    ------
    TypeError
        The value is of another kind.

    Examples
    --------
    >>> describe({"epochs": 10, "box": np.eye(3)})
    {'epochs': 10, 'box': [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}
    >>> describe(np.arange(1000.0))
    {'array': 'float[1000]', 'rms': 576.9, 'sha256': '9157058038a1c22b'}
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (np.bool_, np.number)):
        return describe(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return value if len(value) <= _LONG else {"text": f"{len(value)} characters", "sha256": _digest(value.encode())}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": len(value), "sha256": _digest(value)}
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if hasattr(value, "content"):
        return describe(value.content())
    if hasattr(value, "state_dict") and hasattr(value, "named_modules"):
        return _describe_module(value)
    if hasattr(value, "detach"):  # a tensor
        return describe(value.detach().cpu().numpy())
    if hasattr(value, "shape"):
        return _describe_array(value)
    if isinstance(value, slice):
        return [describe(end) for end in (value.start, value.stop, value.step)]
    if isinstance(value, (Sequence, set, frozenset, range)):
        return [describe(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"there is no description of a {type(value).__name__}")


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What differs between two descriptions, in words: what it is, what was there, what is here.

    Examples
    --------
    >>> differences({"epochs": 10, "seed": 0}, {"epochs": 10, "seed": 1})
    ['seed 0 there, 1 here']
    """
    if isinstance(there, Mapping) and isinstance(here, Mapping) and not _is_digest(there) and not _is_digest(here):
        names = [*there, *(key for key in here if key not in there)]
        parts = [differences(there.get(key, _ABSENT), here.get(key, _ABSENT), f"{name} {key}".strip()) for key in names]
        return [difference for part in parts for difference in part]
    if there == here and isinstance(there, bool) == isinstance(here, bool):
        return []
    return [f"{name} {_in_words(there)} there, {_in_words(here)} here".strip()]


_ABSENT = "nothing"


def _digest(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _describe_array(value: Any) -> Any:
    shape = tuple(int(size) for size in value.shape)
    if math.prod(shape) <= _FEW:
        return np.asarray(value[()] if shape == () else value[:]).tolist()
    digest, squares, kind = hashlib.sha256(), 0.0, ""
    rows = max(1, _BLOCK // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0], rows):
        # The same numbers are the same content, whatever they are stored as.
        block = np.asarray(value[begin : begin + rows])
        kind = {"f": "float", "i": "int", "u": "int", "b": "int"}.get(block.dtype.kind, "text")
        if kind == "text":
            digest.update("\0".join(map(str, block.ravel().tolist())).encode() + b"\0")
            continue
        block = np.ascontiguousarray(block, dtype="<f8" if kind == "float" else "<i8")
        digest.update(block.data)
        squares += float(np.square(block, dtype=np.float64).sum())
    result = {"array": f"{kind}[{', '.join(map(str, shape))}]"}
    if kind != "text":
        # For whoever reads the difference; the digest has the last word.
        result["rms"] = describe(float(f"{math.sqrt(squares / math.prod(shape)):.4g}"))
    return {**result, "sha256": digest.hexdigest()[:16]}


def _describe_module(module: Any) -> dict[str, Any]:
    """Of a torch module: classes and settings of its parts, parameters and buffers."""
    with optional_imports():
        import torch

    books = {*vars(torch.nn.Module()), "training"}  # which torch keeps on every module
    structure = {}
    for name, part in module.named_modules():
        settings = {key: value for key, value in sorted(vars(part).items()) if key not in books and _is_setting(value)}
        if isinstance(part, torch.jit.ScriptModule):
            settings = {"code": getattr(part, "code", "")}
        structure[name or "module"] = {
            "class": f"{type(part).__module__}.{type(part).__qualname__}",
            **describe(settings),
        }
    tensors = {**dict(module.named_buffers()), **module.state_dict()}
    return {"structure": structure, "weights": describe(tensors)}


def _is_setting(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_setting, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_setting, value))
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    return value is None or isinstance(value, (bool, int, float, str)) or is_array or hasattr(value, "__qualname__")


def _is_digest(value: Mapping[str, Any]) -> bool:
    return "sha256" in value


def _in_words(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if not _is_digest(value):
        return "something"
    if "array" in value:
        size = f" of rms {value['rms']}" if "rms" in value else ""
        return f"{value['array']}{size} ({value['sha256'][:8]})"
    what = value.get("text") or (f"{value['bytes']} bytes" if "bytes" in value else f"{value.get('values')} values")
    return f"{what} ({value['sha256'][:8]})"


def spread(frames: int) -> list[int]:
    """Some of so many frames, first and last among them, by which what was made of all of them is recognised.

    Examples
    --------
    >>> spread(3)
    [0, 1, 2]
    >>> len(spread(10_000))
    16
    """
    return np.unique(np.linspace(0, frames - 1, min(frames, 16)).round().astype(int)).tolist()
