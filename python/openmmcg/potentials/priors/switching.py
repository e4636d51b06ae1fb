"""Pair energies that fade before their cutoff, so that energy is conserved."""

from __future__ import annotations

import numpy as np
import openmm


def check_range(switch: float, cutoff: float, what: str) -> None:
    """Raise ValueError unless an energy can fade between these distances, nm."""
    if not (0 < switch < cutoff < np.inf):
        raise ValueError(
            f"{what} needs a positive cutoff and a switching distance below it, got {cutoff} and {switch} nm"
        )


def switch_off(force: openmm.CustomNonbondedForce, switch: float, cutoff: float) -> None:
    """Let an energy fade between two distances, nm."""
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    force.setCutoffDistance(float(cutoff))
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(float(switch))
