"""Iterative Boltzmann inversion: a pair correction that makes a liquid's structure that of its reference."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from openmmcg.analysis import RadialDistribution, radial_distribution
from openmmcg.fitting.directory import claim_directory
from openmmcg.frames import Frames
from openmmcg.mapping import cg_topology
from openmmcg.potentials import CGPotential
from openmmcg.simulation import run

_GAS_CONSTANT = 8.314462618e-3  # kJ/mol/K
_BIN = 0.005  # nm
# Where g is smaller, its logarithm is noise.
_SMALLEST = 0.05


class BoltzmannInversion:
    r"""A pair potential added to a potential, so that its radial distribution function is the reference's.

    Iterative Boltzmann inversion, Reith, Pütz and Müller-Plathe, J. Comput. Chem. 24, 1624 (2003): the liquid
    is simulated, and :math:`U(r) \leftarrow U(r) + \alpha\, k_B T \ln(g(r)/g_{ref}(r))`.

    Forces alone do not determine the structure of a liquid where the network cannot express the mean force
    exactly: force matching finds the potential of least force error, not that of the right structure. A small
    pair correction restores the structure and costs next to nothing in force error.

    Parameters
    ----------
    potential : CGPotential
        Of one bead type.
    iterations : int
        How often to simulate and correct.
    fraction : float
        :math:`\alpha`, between 0 and 1. The smaller, the more of the forces' accuracy is kept.
    duration : float
        Of each simulation, ps; a fifth more goes before.
    time_step : float
        ps
    seed : int
        Of the simulations.

    Raises
    ------
    ValueError
        An argument is out of range, or the potential has several bead types.
    """

    def __init__(
        self,
        potential: CGPotential,
        *,
        iterations: int = 1,
        fraction: float = 0.5,
        duration: float = 20.0,
        time_step: float = 0.002,
        seed: int = 0,
    ) -> None:
        if len(potential.bead_types) != 1:
            raise ValueError(
                f"Boltzmann inversion is for liquids of one bead type, the potential has {len(potential.bead_types)}"
            )
        if potential.cutoff is None:
            raise ValueError("Boltzmann inversion is for liquids, the potential is of one molecule and has no cutoff")
        if iterations < 1 or not 0 < fraction <= 1 or not duration > 0:
            raise ValueError(
                "Boltzmann inversion needs at least one iteration, a fraction above 0 and up to 1, and a positive "
                f"duration; got {iterations}, {fraction} and {duration} ps"
            )
        self.potential = potential
        self.cutoff = potential.cutoff
        self.settings: dict[str, Any] = {
            "iterations": iterations,
            "fraction": fraction,
            "duration": duration,
            "time_step": time_step,
            "seed": seed,
        }

    def fit(
        self,
        path: str | os.PathLike[str],
        directory: str | os.PathLike[str],
        *,
        frames: slice = slice(None),
        threads: int | None = None,
        progress: bool = True,
    ) -> CGPotential:
        """Correct the potential, or go on where an interrupted correction was, or return what a finished one found.

        Parameters
        ----------
        path
            Mapped frames of the reference. The simulations start from the last one that is used.
        directory
            Where the simulations are kept, and in the end the file ``corrected.pt``.
        frames : slice
            Which frames to use.
        threads : int, optional
            Of the simulations; all cores by default.
        progress : bool
            Whether to show progress bars.

        Returns
        -------
        CGPotential
            The potential, with the correction as one more prior.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            The frames are not periodic, hold other beads, or the directory holds a correction with other settings.
        """
        folder = Path(directory).expanduser()
        with Frames(path) as source:
            if source.boxes is None:
                raise ValueError(f"{source.path} is not periodic, and has no radial distribution function")
            known = [kind.name for kind in self.potential.bead_types]
            if source.type_names != known:
                raise ValueError(f"{source.path} has the bead types {source.type_names}, the potential {known}")
            selection = range(len(source))[frames]
            if not selection:
                raise ValueError(f"no frames are selected of the {len(source)} in {source.path}")
            settings = {
                **self.settings,
                "potential": hashlib.sha256(self.potential.to_bytes()).hexdigest()[:16],
                "frames": source.path.name,
                "selection": [selection.start, selection.stop, selection.step],
            }
            claim_directory(folder, settings, "a correction")
            if (folder / "corrected.pt").exists():
                return CGPotential.load(folder / "corrected.pt")
            reference = self._distribution(source, frames)
            start, box = np.asarray(source.positions[selection[-1]], float), np.asarray(source.boxes[selection[-1]])
            temperature = source.temperature
        correction, potential = np.zeros_like(reference.g), self.potential
        for iteration in range(self.settings["iterations"]):
            liquid = run(
                potential.create_system(cg_topology(known * len(start), box)),
                start,
                box,
                folder / f"iteration_{iteration}.h5md",
                duration=self.settings["duration"],
                interval=0.2,
                equilibration=self.settings["duration"] / 5,
                time_step=self.settings["time_step"],
                temperature=temperature,
                seed=self.settings["seed"],
                threads=threads,
                progress=progress,
            )
            with Frames(liquid.path) as simulated:
                g = self._distribution(simulated, slice(None)).g
            energy = self.settings["fraction"] * _GAS_CONSTANT * temperature
            correction = correction + energy * _logarithm(g, reference.g)
            prior = pair_potential(reference.distance, correction, self.cutoff)
            potential = self.potential.with_priors([prior], provenance={"boltzmann_inversion": settings})
        potential.save(folder / "corrected.pt")
        return potential

    def _distribution(self, source: Frames, frames: slice) -> RadialDistribution:
        boxes = source.boxes
        assert boxes is not None
        bins = round(self.cutoff / _BIN)
        return radial_distribution(
            source.positions[frames], boxes[frames], maximum=bins * _BIN, bin_width=_BIN, blocks=1
        )


def pair_potential(
    distances: NDArray[np.floating], energies: NDArray[np.floating], cutoff: float
) -> openmm.CustomNonbondedForce:
    """A tabulated pair potential as a prior, which goes smoothly to zero over the last third before the cutoff.

    Parameters
    ----------
    distances : array [K]
        nm, ascending; below the first one the energy is constant.
    energies : array [K]
        kJ/mol
    cutoff : float
        nm
    """
    knots = np.linspace(0.0, cutoff, round(cutoff / _BIN) + 1)
    fading = np.clip((knots / cutoff - 2 / 3) * 3, 0, 1)
    values = np.interp(knots, distances, energies) * 0.5 * (1 + np.cos(np.pi * fading))
    force = openmm.CustomNonbondedForce("u(r)")
    force.setName("PairCorrection")
    force.addPerParticleParameter("type")
    force.addTabulatedFunction("u", openmm.Continuous1DFunction(values.tolist(), 0.0, cutoff))
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    force.setCutoffDistance(cutoff)
    return force


def _logarithm(g: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """ln(g/g_ref), smoothed, and constant below the distances at which there are enough pairs."""
    known = (g > _SMALLEST) & (reference > _SMALLEST)
    if not known.any():
        raise ValueError("there are no pairs of beads within the cutoff; the frames are not of a liquid")
    first = int(np.argmax(known))
    values = np.where(known, np.log(np.where(known, g, 1.0) / np.where(known, reference, 1.0)), 0.0)
    values[:first] = values[first]
    return gaussian_filter1d(values, 1.0, mode="nearest")
