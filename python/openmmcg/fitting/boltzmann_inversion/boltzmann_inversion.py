"""Iterative Boltzmann inversion: tabulated potentials that give mapped beads the distributions of their reference."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from openmmcg.fitting.boltzmann_inversion.convergence import MEASURES, make_criteria
from openmmcg.fitting.boltzmann_inversion.distributions import (
    KINDS,
    count,
)
from openmmcg.fitting.boltzmann_inversion.iterations import Iterations
from openmmcg.fitting.boltzmann_inversion.reference_distributions import ReferenceDistributions
from openmmcg.fitting.boltzmann_inversion.result import BoltzmannInversionResult, Record
from openmmcg.fitting.reference_frames import check_times, content, default_replicas, select
from openmmcg.frames import Frames
from openmmcg.potentials import CGPotential
from openmmcg.progress import tqdm
from openmmcg.state import claim, replacing, write_json


class BoltzmannInversion:
    r"""Tabulated bonds, angles, dihedrals and pairs that reproduce the distributions of mapped frames.

    It starts from :math:`U(x) = -k_B T \ln(P_{ref}(x)/J(x))`, where the Jacobian J is r² of lengths, sin θ of angles
    and 1 of dihedrals. The beads are simulated, and all tables are corrected together, by what
    :math:`k_B T \ln(P/P_{ref})` says (iterative Boltzmann inversion; Reith, Pütz and Müller-Plathe, J. Comput. Chem.
    24, 1624 (2003)) and by the covariance of what is in their bins (inverse Monte Carlo; Lyubartsev and Laaksonen,
    Phys. Rev. E 52, 3730 (1995)), the more by the latter the more frames it is known from. So pairs of several types,
    and the bonds and angles of rings, which move each other, converge in a few iterations. It ends when every
    distribution is within its tolerance, or nothing improves any more. Coordinates between beads of the same types
    share a distribution: give beads types of their own where they differ.

    With a potential to start from, for example a network from force matching, the tables are a correction of it that
    begins at zero. For a liquid it costs next to nothing in force error, and restores the structure that forces alone
    do not determine where the network cannot express the mean force exactly.

    Parameters
    ----------
    potential : CGPotential, optional
        To be corrected.
    coordinates : sequence of str, optional
        Some of "bonds", "angles", "dihedrals" and "pairs". By default the bonded ones that there are, and pairs where
        the frames are periodic. Pairs are those more than two bonds apart.
    cutoff : float, optional
        Of pairs, nm; by default that of the potential, and without one the shortest distance beyond which every g(r) of
        the reference stays within 0.05 of 1, at most half the box.
    achiral : bool
        Whether the molecules are their own mirror images: then every dihedral counts with both signs, in the reference
        and in the simulations, and its table is even. Which side a group is on often changes slowly, and this needs no
        sampling.
    iterations : int
        How often to correct at most.
    damping : float
        Part of a correction that is made at the start, above 0 and up to 1. An iteration that makes the largest
        deviation, in multiples of its tolerance, larger is taken back and made again with half of it.
    tolerance : float
        Of bonded coordinates: Jensen-Shannon divergence, in bits, see `jensen_shannon_divergence`. Sampling alone makes
        some (bins − 1)/(2.8 n) of n independent frames.
    largest_difference, mean_difference : float
        Of pairs: largest and mean difference of g(r), in bins of 0.005 nm, the mean from the shortest distance in the
        reference to the cutoff. What sampling alone makes of each is measured, see `BoltzmannInversionResult.noise`.
    patience : int
        Iterations without improvement after which to stop.
    bins : int
        Of the distribution of a bonded coordinate, over the range that was sampled.
    replicas : int, optional
        Simulated together, from frames of the reference spread over all of it; by default 10, and fewer where fewer
        have 500 beads together, but at least 2.
    duration : float
        Of each replica in an iteration, ps; a fifth more goes before.
    interval : float
        ps per frame.
    time_step : float
        ps
    friction : float
        1/ps, of the Langevin thermostat.
    seed : int
        Of the simulations.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    ::

        inversion = BoltzmannInversion(replicas=10, duration=200.0)
        result = inversion.fit("beads.h5md", "inversion")
        result.potential.save("molecule.pt")
    """

    def __init__(
        self,
        potential: CGPotential | None = None,
        *,
        coordinates: Sequence[str] | None = None,
        cutoff: float | None = None,
        achiral: bool = False,
        iterations: int = 20,
        damping: float = 1.0,
        tolerance: float = 0.005,
        largest_difference: float = 0.1,
        mean_difference: float = 0.02,
        patience: int = 4,
        bins: int = 60,
        replicas: int | None = None,
        duration: float = 200.0,
        interval: float = 0.2,
        time_step: float = 0.002,
        friction: float = 1.0,
        seed: int = 0,
    ) -> None:
        unknown = set(coordinates or ()) - set(KINDS)
        if unknown or coordinates is not None and len(coordinates) == 0:
            raise ValueError(f"coordinates are some of {', '.join(KINDS)}; got {list(coordinates or ())}")
        if iterations < 0 or patience < 1 or (replicas is not None and replicas < 1) or bins < 10:
            raise ValueError(
                "Boltzmann inversion needs iterations from 0 on, a patience and replicas from 1 on, and at least 10 "
                f"bins; got {iterations}, {patience}, {replicas} and {bins}"
            )
        if not 0 < damping <= 1 or not 0 < tolerance < 1:
            raise ValueError(
                "Boltzmann inversion needs a damping above 0 and up to 1, and a tolerance between 0 and 1; got "
                f"{damping} and {tolerance}"
            )
        if not 0 < largest_difference < np.inf or not 0 < mean_difference < np.inf:
            raise ValueError(
                "the largest and the mean difference of g(r) that are tolerated must be positive; got "
                f"{largest_difference} and {mean_difference}"
            )
        check_times(duration, interval, time_step, fewest=2)
        self.potential = potential
        self.coordinates = None if coordinates is None else [kind for kind in KINDS if kind in coordinates]
        # That of a potential of priors alone is 0.
        self.cutoff = cutoff if cutoff is not None or potential is None else potential.cutoff or None
        self.iterations, self.patience, self.replicas = iterations, patience, replicas
        self.tolerances = dict(zip(MEASURES, (tolerance, largest_difference, mean_difference), strict=True))
        self.settings: dict[str, Any] = {
            "achiral": achiral,
            "damping": damping,
            "bins": bins,
            "duration": duration,
            "interval": interval,
            "time_step": time_step,
            "friction": friction,
            "seed": seed,
        }

    def fit(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        directory: str | os.PathLike[str],
        *,
        frames: slice = slice(None),
        platform: str = "CPU",
        threads: int | None = None,
        progress: bool = True,
    ) -> BoltzmannInversionResult:
        """Invert, or go on where an interrupted inversion was, or return what a finished one found.

        More `iterations`, more `patience` and smaller tolerances go on with what is there. All else must be as it was,
        by content: the frames (wherever they lie), the potential, and every setting but the platform and its threads.

        Parameters
        ----------
        paths
            Mapped frames of the reference, with bonds, molecules whole; one file, or several runs of the same beads.
        directory
            Where the simulations are kept, and in the end the files ``potential.pt`` and ``divergences.json``; one
            inversion's alone.
        frames : slice
            Which frames of each file to use.
        platform : str
            Of OpenMM.
        threads : int, optional
            Of the CPU platform; all cores by default.
        progress : bool
            Whether to show progress bars.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            The frames lack bonds or a temperature, are too few, are not of the same beads, or of other beads than the
            potential; their box changes, or is too small for the cutoff; a bond is too stiff for the time step; or the
            directory holds an inversion with other inputs: the error says which, old and new.
        BlockingIOError
            Another process works in the directory.
        UnstableSimulationError
            A simulation left all bounds; a smaller time step or damping helps.
        """
        files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not files:
            raise ValueError("there are no files of mapped frames; give at least one")
        with ExitStack() as stack:
            sources = [select(stack.enter_context(Frames(file)), frames) for file in files]
            reference = ReferenceDistributions(
                sources, self.potential, self.coordinates, self.cutoff, self.settings["bins"], self.settings["achiral"]
            )
            replicas = self.replicas or default_replicas(len(reference.types))
            if reference.frames < max(replicas, 2):
                raise ValueError(
                    f"{replicas} replicas need as many frames to start from, and noise 2 to be known from; there are "
                    f"{reference.frames}"
                )
            reference.measure(progress)
            reference.check_time_step(self.settings["time_step"])
            inputs = {
                "reference": reference.content(),
                "potential": None if self.potential is None else content(self.potential),
                "coordinates": reference.kinds,
                "cutoff": reference.cutoff,
                "replicas": replicas,
                **self.settings,
            }
            _check_folder(Path(directory).expanduser())
            folder = stack.enter_context(claim(directory, "an inversion", inputs)).folder
            return self._iterate(reference, folder, replicas, platform, threads, progress)

    def _iterate(
        self,
        reference: ReferenceDistributions,
        folder: Path,
        replicas: int,
        platform: str,
        threads: int | None,
        progress: bool,
    ) -> BoltzmannInversionResult:
        record = Record(reference, make_criteria(reference.coordinates, self.tolerances))
        kept = Iterations(folder, reference.coordinates)
        settings = {
            **self.settings,
            "replicas": replicas,
            "iterations": self.iterations,
            "patience": self.patience,
            "tolerances": self.tolerances,
            "coordinates": reference.kinds,
            "cutoff": reference.cutoff,
        }
        damping = self.settings["damping"]
        bar = tqdm(range(self.iterations + 1), "Boltzmann inversion", unit="iteration", disable=not progress)
        for number in bar:
            energies, counts = kept.read(number)
            if energies is None:
                energies = record.next_energies(damping)
                kept.write(number, energies)
            if counts is None:
                potential = reference.make_potential(energies, settings)
                path = kept.trajectory(number)
                options: dict[str, Any] = {"platform": platform, "threads": threads, "progress": progress}
                outcome = reference.simulate(potential, path, replicas, self.settings, **options)
                with ExitStack() as stack:
                    sources = [stack.enter_context(Frames(replica.path)) for replica in outcome.replicas]
                    counts = count(sources, reference.coordinates, progress=progress)
                kept.write(number, energies, counts)
            record.add(energies, counts)
            if progress:
                tqdm.write(record.line())
            if record.scores[-1] <= 1 or number - record.best >= self.patience:
                break
            if record.best < number:
                damping /= 2
        result = record.result(settings)
        _keep(result, folder)
        if progress:
            tqdm.write(result.verdict)
        return result


def _check_folder(folder: Path) -> None:
    if not (folder / "inputs.json").exists() and any(folder.glob("iteration_*")):
        raise ValueError(
            f"{folder} holds iterations, but not what they were begun with (inputs.json): they may be those of an "
            "inversion with other inputs, or of an older version; choose another directory, or remove them"
        )


def _keep(result: BoltzmannInversionResult, folder: Path) -> None:
    """Write the potential and the summary, where they are not there already."""
    table, file = folder / "divergences.json", folder / "potential.pt"
    content = result.potential.to_bytes()
    if not file.exists() or file.read_bytes() != content:
        with replacing(file) as unfinished:
            unfinished.write_bytes(content)
    if not table.exists() or table.read_text(encoding="utf-8") != json.dumps(result.summary(), indent=1):
        write_json(table, result.summary())
