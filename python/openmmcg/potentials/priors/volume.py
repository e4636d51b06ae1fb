"""A potential of the volume, which gives coarse-grained beads the pressure of the atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray

from openmmcg.constants import BAR


@dataclass(frozen=True)
class VolumePotential:
    r"""An energy of the box alone, :math:`U(V) = N \sum_{k \ge 1} c_k (v/v_0 - 1)^k`, with the volume v of each bead.

    It puts no force on any bead, so structure and dynamics at constant volume are what they were, and adds
    :math:`-dU/dV` to the pressure. What a potential of the positions averages away with the atoms is a free energy of
    the volume too, see Das and Andersen, J. Chem. Phys. 132, 164106 (2010); of the N of this sum, they have all
    molecules, which is the same for one bead each.

    Parameters
    ----------
    coefficients : sequence of float
        c₁, c₂, …, kJ/mol for each bead.
    volume : float
        v₀, nm³ for each bead.
    limits : pair of float, optional
        Of v/v₀ − 1: beyond them the pressure is that at the limit.

    Raises
    ------
    ValueError
        No coefficients, numbers that are not finite, a volume that is not positive, or limits that are not in order.

    Examples
    --------
    Three kilobar less, at any volume:

    >>> potential = VolumePotential.from_pressures([0.03], [-3000.0])
    >>> potential.pressures([0.03, 0.04]).round(9).tolist()
    [-3000.0, -3000.0]
    """

    coefficients: Sequence[float]
    volume: float
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.coefficients, float)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError(f"a potential of the volume needs finite coefficients, got {list(self.coefficients)}")
        if not 0 < self.volume < np.inf:
            raise ValueError(f"the volume of a bead must be positive, got {self.volume} nm³")
        if self.limits is not None and not -1 <= self.limits[0] < self.limits[1] < np.inf:
            raise ValueError(f"the limits of a potential of the volume must be in order, got {self.limits}")

    @classmethod
    def from_pressures(
        cls, volumes: ArrayLike, pressures: ArrayLike, errors: ArrayLike | None = None
    ) -> VolumePotential:
        """With these pressures, or the nearest straight line through them: one volume makes one coefficient, more two.

        A line that rises with the volume ends at the first and the last of them: beyond, it would tear beads apart that
        hold together by themselves.

        Parameters
        ----------
        volumes : array [n]
            nm³ for each bead.
        pressures : array [n]
            What is to be added there, bar.
        errors : array [n], optional
            Standard errors of the pressures, by which they count.
        """
        places, wanted = np.atleast_1d(np.asarray(volumes, float)), np.atleast_1d(np.asarray(pressures, float))
        if places.shape != wanted.shape or places.ndim != 1 or not len(places):
            raise ValueError(
                f"there must be a pressure for each volume; got {list(places.shape)} volumes and {list(wanted.shape)}"
            )
        weights = np.ones(len(places)) if errors is None else 1 / np.atleast_1d(np.asarray(errors, float))
        middle = float(places.mean())
        strains = places / middle - 1
        slopes = np.stack([np.ones(len(places)), 2 * strains], axis=1)[:, : 1 if np.ptp(places) == 0 else 2]
        solution = np.linalg.lstsq(slopes * weights[:, None], -wanted * BAR * middle * weights, rcond=None)[0]
        rises = len(solution) > 1 and solution[1] < 0
        return cls(solution.tolist(), middle, (float(strains.min()), float(strains.max())) if rises else None)

    def pressures(self, volumes: ArrayLike) -> NDArray[np.float64]:
        """What it adds to the pressure, bar, at volumes in nm³ for each bead."""
        strains = np.asarray(volumes, float) / self.volume - 1
        if self.limits is not None:
            strains = np.clip(strains, *self.limits)
        slope = sum(k * c * strains ** (k - 1) for k, c in enumerate(self.coefficients, 1))
        return np.asarray(-slope / (self.volume * BAR) + 0 * strains)

    def template(self) -> openmm.CustomVolumeForce:
        """The prior as an OpenMM force whose energy has the variable ``beads``, their number, which is not defined."""
        c = [repr(float(each)) for each in self.coefficients]
        energy = " + ".join(f"{each}*near^{k}" for k, each in enumerate(c, 1))
        slope = " + ".join(f"{k}*{each}*near^{k - 1}" for k, each in enumerate(c, 1))
        near = "strain" if self.limits is None else "max({!r}, min({!r}, strain))".format(*self.limits)
        definitions = f"near = {near}; strain = v/(beads*{float(self.volume)!r}) - 1"
        force = openmm.CustomVolumeForce(f"beads*({energy} + (strain - near)*({slope})); {definitions}")
        force.setName("VolumePotential")
        return force
