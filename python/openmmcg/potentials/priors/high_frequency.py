"""A landscape of high frequency between pairs of beads, which slows them down and leaves their structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openmm

from openmmcg.potentials.priors.switching import check_range, switch_off
from openmmcg.simulation.landscape import AMPLITUDE, WAVENUMBER


@dataclass(frozen=True)
class HighFrequency:
    r"""A rapidly oscillating energy, :math:`U(r) = S(r)\,A \sin(\omega r)/r^2`, of beads more than two bonds apart.

    Coarse-grained beads diffuse faster than the atoms, whose energy landscape is rougher. This term gives some of the
    roughness back: with :math:`\omega` of 50 Å⁻¹ or more it averages out over the width of the peaks of g(r), and
    holds beads back. After "Achieving dynamic accuracy in machine-learned CG potentials by modulating potential energy
    landscape" (its U_HF); the switching function S, OpenMM's, goes from 1 at `switch` to 0 at `cutoff`, so that
    energy is conserved.

    In a running Context amplitude and wavenumber are the parameters ``high_frequency_amplitude`` and
    ``high_frequency_wavenumber``; see `openmmcg.simulation.landscape.longest_time_step` for the step it needs.

    Parameters
    ----------
    amplitude : float
        A, kJ/mol nm²; 1 eV Å² is 0.96485.
    wavenumber : float
        ω, 1/nm; 100 Å⁻¹ is 1000.
    cutoff : float
        nm
    switch : float, optional
        Where it begins to fade, nm; 0.9 of the cutoff by default.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> force = HighFrequency(amplitude=0.05, wavenumber=1000.0, cutoff=0.6).template()
    >>> force.getGlobalParameterName(0), force.getGlobalParameterDefaultValue(0)
    ('high_frequency_amplitude', 0.05)
    """

    amplitude: float
    wavenumber: float = 1000.0
    cutoff: float = 0.6
    switch: float | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.amplitude):
            raise ValueError(f"the amplitude of a landscape must be finite, got {self.amplitude} kJ/mol nm^2")
        if not 0 < self.wavenumber < np.inf:
            raise ValueError(f"the wavenumber of a landscape must be positive, got {self.wavenumber} 1/nm")
        check_range(self.switching_distance, self.cutoff, "a landscape")

    @property
    def switching_distance(self) -> float:
        """Where the energy begins to fade, nm."""
        return 0.9 * self.cutoff if self.switch is None else float(self.switch)

    def template(self) -> openmm.CustomNonbondedForce:
        """The prior as an OpenMM force without particles."""
        force = openmm.CustomNonbondedForce(f"{AMPLITUDE}*sin({WAVENUMBER}*r)/r^2")
        force.setName("HighFrequency")
        force.addPerParticleParameter("type")
        force.addGlobalParameter(AMPLITUDE, float(self.amplitude))
        force.addGlobalParameter(WAVENUMBER, float(self.wavenumber))
        switch_off(force, self.switching_distance, self.cutoff)
        return force
