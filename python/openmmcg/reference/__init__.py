"""All-atom reference simulations: building, sampling positions and forces, timing.

The peptides need RDKit, which is imported when one of them is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from openmmcg.reference.sampling import SamplingResult, sample
from openmmcg.reference.timing import StepTime, time_per_step
from openmmcg.reference.water import AllAtomSystem, water_box

if TYPE_CHECKING:
    from openmmcg.reference.peptides import capped_alanine, chignolin

__all__ = [
    "AllAtomSystem",
    "SamplingResult",
    "StepTime",
    "capped_alanine",
    "chignolin",
    "sample",
    "time_per_step",
    "water_box",
]


def __getattr__(name: str) -> Any:
    if name in ("capped_alanine", "chignolin"):
        return getattr(import_module(f"{__name__}.peptides"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
