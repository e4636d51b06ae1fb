"""Reading archives of ``torch.save`` without running anything of them.

A pickle is a program: it names functions and calls them. Here the names are looked up in a list of what is expected,
and what stands there is inert: an object of no other class than `Inert`, which keeps what it is given. A name that is
not in the list ends the reading. So neither the packages that wrote a file nor torch are needed to read it.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STORAGES = {
    "torch.BoolStorage": "?",
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.IntStorage": "<i4",
    "torch.LongStorage": "<i8",
}
_CONTAINERS = {"builtins.set": set, "collections.OrderedDict": OrderedDict}


class Inert:
    """What a pickled object says of itself.

    Attributes
    ----------
    name
        Module and name of its class.
    state : dict
        Its attributes.
    """

    name = ""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        made = object.__new__(cls)
        made.state = {}
        return made

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self).name.rpartition(".")[2]

    def __getitem__(self, name: str) -> Any:
        """A parameter, buffer, part or attribute of what was a module of torch."""
        for where in ("_parameters", "_buffers", "_modules"):
            found = self.state.get(where)
            if isinstance(found, dict) and name in found:
                return found[name]
        if name not in self.state:
            raise ValueError(f"its {self.kind} has no '{name}'")
        return self.state[name]


def read_archive(path: str | os.PathLike[str], names: Collection[str]) -> Any:
    """The object in an archive of ``torch.save``: containers and numbers, `Inert` objects, and arrays for tensors.

    Parameters
    ----------
    path
        The file, a zip.
    names
        Module and name of each class or function that it may mention, besides tensors, ``OrderedDict`` and ``set``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It mentions another name, is truncated or corrupted, or is no such archive.
    """
    content = Path(path).expanduser().read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _Reader(archive, names).load()
    except _UnknownNameError as error:
        raise ValueError(
            f"the file '{path}' mentions {error}, which is not expected in it. Nothing of the file was run. Pickles "
            "can run any program, so a file like this is either of another kind or not to be trusted"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(
            f"the file '{path}' is damaged, or no archive of torch.save ({type(error).__name__}: {error}); bring back "
            "a copy"
        ) from error


class _UnknownNameError(Exception):
    pass


# That of Python, not of C: the one in C makes room for whatever index a file names, be there memory or not.
class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    def __init__(self, archive: zipfile.ZipFile, names: Collection[str]) -> None:
        (program,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        self._archive, self._root = archive, program.removesuffix("data.pkl")
        self._storages: dict[str, NDArray[Any]] = {}
        # Classes of this reader's own, so that nothing a file does to them outlives it.
        special = {"torch._utils._rebuild_tensor_v2": _Tensor, "torch._utils._rebuild_parameter": _Parameter}
        self._known: dict[str, Any] = {name: _stand_in(name, Inert) for name in names}
        self._known |= {name: _stand_in(name, _Storage) for name in _STORAGES}
        self._known |= {name: _stand_in(name, kind) for name, kind in special.items()}
        self._known |= _CONTAINERS
        super().__init__(io.BytesIO(self._read(program)), encoding="utf-8")

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full not in self._known:
            raise _UnknownNameError(f"'{full}'")
        return self._known[full]

    def get_extension(self, code: int) -> None:
        raise _UnknownNameError(f"the extension {code}")

    def persistent_load(self, identifier: Any) -> NDArray[Any]:
        what, kind, key, _, number = identifier
        if what != "storage" or not (isinstance(kind, type) and issubclass(kind, _Storage)) or not key.isdecimal():
            raise ValueError(f"{identifier} is no storage")
        if key not in self._storages:
            self._storages[key] = np.frombuffer(self._read(f"{self._root}data/{key}"), _STORAGES[kind.name])
        storage = self._storages[key]
        if storage.dtype != _STORAGES[kind.name] or len(storage) != number:
            raise ValueError(f"the storage {key} has {len(storage)} {storage.dtype}, not {number} of {kind.name}")
        return storage

    def _read(self, name: str) -> bytes:
        # torch never compresses; a few compressed bytes could be any number of them.
        if self._archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"the entry {name} is compressed")
        return self._archive.read(name)


class _Storage(Inert):
    pass


class _Tensor(Inert):
    """``_rebuild_tensor_v2(storage, offset, size, stride, …)``: a contiguous array."""

    def __new__(cls, storage: Any, offset: int, size: Any, stride: Any, *options: Any) -> Any:
        shape, steps = [int(n) for n in size], [int(n) for n in stride]
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        number = math.prod(shape)
        if min([offset, *shape, *steps]) < 0 or number > len(storage) or (number and last >= len(storage)):
            raise ValueError(f"a tensor of the shape {shape} reaches beyond its storage of {len(storage)}")
        view = np.lib.stride_tricks.as_strided(storage[offset:], shape, [step * storage.itemsize for step in steps])
        return view.copy()


class _Parameter(Inert):
    """``_rebuild_parameter(data, …)``: the data."""

    def __new__(cls, data: Any, *options: Any) -> Any:
        return data


def _stand_in(name: str, kind: type[Inert]) -> type[Inert]:
    return type(name.rpartition(".")[2], (kind,), {"name": name})
