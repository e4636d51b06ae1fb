"""What an energy landscape of high frequency (`openmmcg.potentials.HighFrequency`) asks of the time step."""

from __future__ import annotations

import math
import warnings

import numpy as np
import openmm
from numpy.typing import ArrayLike

from openmmcg._openmmcg import is_pair_force
from openmmcg.forces.pair_force import PairForce
from openmmcg.geometry.pairs import pairs_apart

# Parameters of a Context.
AMPLITUDE = "high_frequency_amplitude"
WAVENUMBER = "high_frequency_wavenumber"

# Radians of its vibration per step. Below, a liquid at constant energy drifts by at most 0.06 K/ps, and by 0.5 and more
# at 1.5 times as much (benchmarks/landscape_drift.py).
_LONGEST = 0.35


def longest_time_step(system: openmm.System, positions: ArrayLike, box: ArrayLike | None) -> float | None:
    r"""The longest time step, ps, at which a landscape of high frequency in a System still conserves energy.

    Two beads at the bottom of one of its wells, at a distance r, vibrate with the angular frequency
    :math:`\Omega = \omega/r \sqrt{|A|/\mu}`, where μ is their reduced mass. The time step must be a small part of its
    period, :math:`\Omega\,\Delta t \le 0.35`.

    Parameters
    ----------
    system
        Of one replica.
    positions : array [N, 3]
        nm; r is the median over the beads of the distance to the nearest that the term is for.
    box : array [3, 3] or None
        Box vectors as rows, nm.

    Returns
    -------
    float or None
        None where there is no such term, or no beads within its reach.
    """
    steps = [
        _longest_step(PairForce.of(force).getDefinition(), system, np.asarray(positions, float), box)
        for force in system.getForces()
        if is_pair_force(int(force.this)) and _has_landscape(PairForce.of(force).getDefinition())
    ]
    return min((step for step in steps if step is not None), default=None)


def warn_of_time_step(system: openmm.System, positions: ArrayLike, box: ArrayLike | None, time_step: float) -> None:
    """Warn where a time step, ps, is too long for a landscape of high frequency."""
    longest = longest_time_step(system, positions, box)
    if longest is not None and time_step > longest:
        warnings.warn(
            f"the time step of {1e3 * time_step:g} fs is too long for the landscape of high frequency in this System, "
            f"which then heats it: take at most {1e3 * longest:.2g} fs, or a smaller wavenumber or amplitude, in "
            "proportion to which (and to whose square root) the vibrations become slower",
            stacklevel=3,
        )


def _has_landscape(force: openmm.CustomNonbondedForce) -> bool:
    names = {force.getGlobalParameterName(index) for index in range(force.getNumGlobalParameters())}
    return {AMPLITUDE, WAVENUMBER} <= names


def _longest_step(
    force: openmm.CustomNonbondedForce, system: openmm.System, positions: np.ndarray, box: ArrayLike | None
) -> float | None:
    parameters = {
        force.getGlobalParameterName(index): force.getGlobalParameterDefaultValue(index)
        for index in range(force.getNumGlobalParameters())
    }
    number = len(positions)
    vectors = None if box is None else np.asarray(box, float)
    if not parameters[AMPLITUDE]:
        return None
    excluded = [force.getExclusionParticles(index) for index in range(force.getNumExclusions())]
    rows, columns, distances = pairs_apart(positions, vectors, force.getCutoffDistance()._value, excluded)
    masses = np.array([system.getParticleMass(index)._value for index in range(number)])
    with np.errstate(divide="ignore"):
        # What has no mass does not vibrate.
        slowness = distances * np.sqrt(1 / (1 / masses[rows] + 1 / masses[columns]))
    nearest = np.full(number, np.inf)
    for beads in (rows, columns):
        np.minimum.at(nearest, beads[slowness > 0], slowness[slowness > 0])
    if not np.isfinite(nearest).any():
        return None
    typical = float(np.median(nearest[np.isfinite(nearest)]))
    return _LONGEST * typical / (parameters[WAVENUMBER] * math.sqrt(abs(parameters[AMPLITUDE])))
