"""OpenMM-CG: machine-learned coarse-grained molecular dynamics in OpenMM at native force-field speed."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from openmmcg.forces import CGForce, PairForce, TabulatedBondedForce

try:
    __version__ = version("openmm-cg")
except PackageNotFoundError:  # run from a source tree
    __version__ = "0+unknown"

__all__ = ["CGForce", "CGPotential", "PairForce", "TabulatedBondedForce", "__version__", "external"]

if TYPE_CHECKING:
    from openmmcg import external
    from openmmcg.potentials import CGPotential
else:

    def __getattr__(name: str) -> Any:
        # Imported on demand: whoever only runs a force should not wait for the rest.
        if name == "CGPotential":
            from openmmcg.potentials import CGPotential

            return CGPotential
        if name == "external":
            return import_module("openmmcg.external")
        raise AttributeError(f"module 'openmmcg' has no attribute '{name}'")
