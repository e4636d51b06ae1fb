"""Electronic coarse graining: the distribution of an electronic energy given the beads alone.

Names import what they need (torch, gpytorch, scikit-learn) when they are first used. Figures are in
`openmmcg.electronic.figures`, which needs matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmmcg.electronic.density_of_states import DensityOfStates, Estimate, common_edges

__all__ = [
    "DensityOfStates",
    "Estimate",
    "common_edges",
]

_MODULE_OF = {
    "DensityOfStates": "density_of_states",
    "Estimate": "density_of_states",
    "common_edges": "density_of_states",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
