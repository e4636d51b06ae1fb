"""Lennard-Jones energies between pairs of beads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray

from openmmcg.potentials.priors.switching import check_range, switch_off


@dataclass(frozen=True)
class LennardJones:
    r"""Lennard-Jones energies, :math:`U(r) = S(r)\,(C_{12}/r^{12} - C_6/r^6)`, of beads more than two bonds apart.

    Without :math:`C_6` it is a repulsion alone. The switching function S is
    OpenMM's, 1 up to `switch` and 0 from `cutoff` on with two continuous derivatives, so energy is conserved, and
    energies are linear in :math:`C_{12}` and :math:`C_6`.

    Parameters
    ----------
    c12 : sequence of sequences of float
        For each pair of bead types, kJ/mol nm¹²; symmetric, ``[types, types]``.
    c6 : sequence of sequences of float, optional
        kJ/mol nm⁶; by default there is no attraction.
    cutoff : float
        nm
    switch : float, optional
        Where the energy begins to be switched off, nm; 0.9 of the cutoff by default.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    Argon (ε = 0.996 kJ/mol, σ = 0.3405 nm):

    >>> argon = LennardJones.from_sigma_epsilon([0.3405], [0.996], cutoff=1.0)
    >>> argon.sigmas[0, 0].round(4), argon.epsilons[0, 0].round(3)
    (np.float64(0.3405), np.float64(0.996))
    """

    c12: Sequence[Sequence[float]]
    c6: Sequence[Sequence[float]] | None = None
    cutoff: float = 1.0
    switch: float | None = None

    def __post_init__(self) -> None:
        matrices = {"C12": self.c12} | ({} if self.c6 is None else {"C6": self.c6})
        for name, matrix in matrices.items():
            values = np.asarray(matrix, float)
            if values.ndim != 2 or values.shape != np.shape(self.c12) or not np.array_equal(values, values.T):
                raise ValueError(f"{name} of a Lennard-Jones prior must be a symmetric matrix, [types, types]")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} of a Lennard-Jones prior must be finite")
        if (np.asarray(self.c12, float) < 0).any():
            raise ValueError("C12 of a Lennard-Jones prior must not be negative: beads would fall into each other")
        check_range(self.switching_distance, self.cutoff, "a Lennard-Jones prior")

    @classmethod
    def from_sigma_epsilon(
        cls,
        sigmas: ArrayLike,
        epsilons: ArrayLike,
        *,
        cutoff: float = 1.0,
        switch: float | None = None,
        mixing: Literal["Lorentz-Berthelot", "geometric"] = "Lorentz-Berthelot",
    ) -> LennardJones:
        r"""From diameters and well depths, :math:`4\varepsilon((\sigma/r)^{12} - (\sigma/r)^6)`.

        Parameters
        ----------
        sigmas, epsilons : array [types] or [types, types]
            nm and kJ/mol: of each type, then pairs of different types follow from the mixing rule, or of each pair.
        cutoff, switch
            See the class.
        mixing
            σ of unlike types is the arithmetic mean, or the geometric one; ε is the geometric mean.

        Raises
        ------
        ValueError
            Shapes differ, the rule is unknown, or numbers are negative.
        """
        sigma, epsilon = np.asarray(sigmas, float), np.asarray(epsilons, float)
        if mixing not in ("Lorentz-Berthelot", "geometric"):
            raise ValueError(f"mixing must be 'Lorentz-Berthelot' or 'geometric', not {mixing!r}")
        if sigma.shape != epsilon.shape or sigma.ndim not in (1, 2):
            raise ValueError(
                "sigmas and epsilons must be of each type, or of each pair of types; got the shapes "
                f"{list(sigma.shape)} and {list(epsilon.shape)}"
            )
        if not (np.isfinite([sigma, epsilon]).all() and (sigma >= 0).all() and (epsilon >= 0).all()):
            raise ValueError("sigmas and epsilons must be finite and not negative")
        if sigma.ndim == 1:
            arithmetic = mixing == "Lorentz-Berthelot"
            sigma = (sigma[:, None] + sigma) / 2 if arithmetic else np.sqrt(sigma[:, None] * sigma)
            epsilon = np.sqrt(epsilon[:, None] * epsilon)
        c12, c6 = 4 * epsilon * sigma**12, 4 * epsilon * sigma**6
        return cls(c12.tolist(), c6.tolist(), cutoff, switch)

    @property
    def switching_distance(self) -> float:
        """Where the energy begins to be switched off, nm."""
        return 0.9 * self.cutoff if self.switch is None else float(self.switch)

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """(C12/C6)^(1/6) of each pair of types, nm; NaN where there is no attraction."""
        c12, c6 = self._matrices()
        return np.where(c6 > 0, np.divide(c12, c6, out=np.full_like(c12, np.nan), where=c6 > 0), np.nan) ** (1 / 6)

    @property
    def epsilons(self) -> NDArray[np.float64]:
        """C6²/(4 C12) of each pair of types, kJ/mol; NaN where there is no attraction."""
        c12, c6 = self._matrices()
        return np.divide(c6**2, 4 * c12, out=np.full_like(c12, np.nan), where=(c6 > 0) & (c12 > 0))

    def _matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        c12 = np.asarray(self.c12, float)
        return c12, np.zeros_like(c12) if self.c6 is None else np.asarray(self.c6, float)

    @property
    def types(self) -> int:
        """How many bead types it knows."""
        return len(self.c12)

    def template(self) -> openmm.CustomNonbondedForce:
        """The prior as an OpenMM force without particles."""
        types = self.types
        tables = {"c12": self.c12} | ({} if self.c6 is None else {"c6": self.c6})
        energy = "c12/r^12" if self.c6 is None else "c12/r^12 - c6/r^6"
        # A number is much faster than a table in OpenMM's inner loop.
        values = {
            name: repr(float(table[0][0])) if types == 1 else f"{name}s(type1, type2)" for name, table in tables.items()
        }
        force = openmm.CustomNonbondedForce(
            "; ".join([energy, *(f"{name} = {value}" for name, value in values.items())])
        )
        force.setName("LennardJones")
        force.addPerParticleParameter("type")
        if types > 1:
            for name, table in tables.items():
                flat = np.asarray(table, float).ravel().tolist()
                force.addTabulatedFunction(f"{name}s", openmm.Discrete2DFunction(types, types, flat))
        switch_off(force, self.switching_distance, self.cutoff)
        return force
