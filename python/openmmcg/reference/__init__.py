"""All-atom reference simulations: building, sampling positions and forces, timing."""

from openmmcg.reference.sampling import SamplingResult, sample
from openmmcg.reference.timing import StepTime, time_per_step
from openmmcg.reference.water import AllAtomSystem, water_box

__all__ = ["AllAtomSystem", "SamplingResult", "StepTime", "sample", "time_per_step", "water_box"]
