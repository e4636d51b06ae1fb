"""Packages that not everybody needs: what brings them is said where they are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

#: The extra of this package that brings a package, by the name that is imported.
EXTRAS = {
    "torch": "train",
    "torchmetrics": "train",
    "lightning": "train",
    "deeptime": "train",
    "torchdiffeq": "train",
    "matplotlib": "train",
    "rdkit": "train",
    "gpytorch": "electronic",
    "sklearn": "electronic",
    "tblite": "electronic",
    "pyscf": "electronic",
    "dask": "electronic",
    "distributed": "electronic",
}


def missing(package: str) -> ModuleNotFoundError:
    """The error about a package that is not installed."""
    return ModuleNotFoundError(
        f'this needs the package {package}: pip install "openmm-cg[{EXTRAS[package]}]"', name=package
    )


@contextmanager
def optional_imports() -> Iterator[None]:
    """Let the error about an optional package that is missing say how to get it.

    Raises
    ------
    ModuleNotFoundError
        The block imported a package that is not installed.

    Examples
    --------
    ::

        with optional_imports():
            from tblite.interface import Calculator
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise missing(package) from None


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when they are first used.

    So a package is there without what some of its names need, and the error about that is one of `optional_imports`.

    Parameters
    ----------
    package
        Its ``__name__``.
    modules
        The module of each name, below the package.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with optional_imports():
            return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get
