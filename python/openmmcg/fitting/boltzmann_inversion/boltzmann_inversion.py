"""Iterative Boltzmann inversion: tabulated potentials that give mapped beads the distributions of their reference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmmcg.fitting.boltzmann_inversion.distributions import KINDS, Coordinate, count, jensen_shannon_divergence
from openmmcg.fitting.boltzmann_inversion.reference_distributions import ReferenceDistributions
from openmmcg.fitting.directory import claim_directory, write_json
from openmmcg.frames import Frames
from openmmcg.potentials import CGPotential
from openmmcg.progress import tqdm
from openmmcg.simulation import UnstableSimulationError, run
from openmmcg.simulation.result import trajectory_paths

FloatArray = NDArray[np.float64]
# Of the temperature that was asked for; beads that are heated by the integrator have other distributions.
_HOTTEST = 1.2


@dataclass(frozen=True)
class BoltzmannInversionResult:
    """What Boltzmann inversion found.

    Attributes
    ----------
    potential : CGPotential
        Of the best iteration.
    converged : bool
        Whether its divergences are within the tolerance, all of them.
    tolerance : float
        bits
    best : int
        The iteration with the least largest divergence; 0 is the direct inversion, or the potential to be corrected.
    divergences : array [iterations, coordinates]
        Jensen-Shannon divergence of each distribution from the reference's, in bits, after each iteration.
    coordinates : tuple of Coordinate
        What has these distributions.
    reference, simulated : tuple of arrays [bins]
        Probability densities of the reference and of the best iteration, per nm or radian.
    """

    potential: CGPotential
    converged: bool
    tolerance: float
    best: int
    divergences: FloatArray
    coordinates: tuple[Coordinate, ...]
    reference: tuple[FloatArray, ...]
    simulated: tuple[FloatArray, ...]

    def summary(self) -> dict[str, Any]:
        """Divergences of the first and of the best iteration by the names of the coordinates, as JSON can hold them."""
        return {
            "converged": self.converged,
            "iterations": len(self.divergences),
            "best": self.best,
            "divergences": {
                coordinate.label: {"first": float(first), "best": float(best)}
                for coordinate, first, best in zip(
                    self.coordinates, self.divergences[0], self.divergences[self.best], strict=True
                )
            },
        }


class BoltzmannInversion:
    r"""Tabulated bonds, angles, dihedrals and pairs that reproduce the distributions of mapped frames.

    Iterative Boltzmann inversion, Reith, Pütz and Müller-Plathe, J. Comput. Chem. 24, 1624 (2003). It starts from
    :math:`U(x) = -k_B T \ln(P_{ref}(x)/J(x))`, where the Jacobian J is r² of lengths, sin θ of angles and 1 of
    dihedrals; the beads are simulated, and :math:`U \leftarrow U + \alpha\, k_B T \ln(P/P_{ref})` until every
    distribution is within the tolerance of the reference's, or nothing improves any more. Bonded coordinates that move
    each other, as in rings, are corrected together, by the covariance of their bins (Lyubartsev and Laaksonen, Phys.
    Rev. E 52, 3730 (1995)), and begin with a part of the direct inversion. Coordinates between beads
    of the same types share a distribution: give beads types of their own where they differ.

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
        Of pairs, nm; by default that of the potential.
    achiral : bool
        Whether the molecules are their own mirror images: then every dihedral counts with both signs, in the reference
        and in the simulations, and its table is even. Which side a group is on often changes slowly, and this needs no
        sampling.
    iterations : int
        How often to correct at most.
    damping : float
        :math:`\alpha` at the start, above 0 and up to 1. An iteration that makes the largest divergence larger is taken
        back and made again with half of it.
    tolerance : float
        Jensen-Shannon divergence, in bits, see `jensen_shannon_divergence`. Sampling alone makes some
        (bins − 1)/(2.8 n) of n independent frames.
    patience : int
        Iterations without improvement after which to stop.
    bins : int
        Of a distribution, over the range that was sampled.
    replicas : int
        Simulated together, from frames of the reference spread over all of it.
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
        patience: int = 4,
        bins: int = 60,
        replicas: int = 10,
        duration: float = 200.0,
        interval: float = 0.2,
        time_step: float = 0.002,
        friction: float = 1.0,
        seed: int = 0,
    ) -> None:
        unknown = set(coordinates or ()) - set(KINDS)
        if unknown or coordinates is not None and len(coordinates) == 0:
            raise ValueError(f"coordinates are some of {', '.join(KINDS)}; got {list(coordinates or ())}")
        if iterations < 0 or patience < 1 or replicas < 1 or bins < 10:
            raise ValueError(
                "Boltzmann inversion needs iterations from 0 on, a patience and replicas from 1 on, and at least 10 "
                f"bins; got {iterations}, {patience}, {replicas} and {bins}"
            )
        if not 0 < damping <= 1 or not 0 < tolerance < 1:
            raise ValueError(
                "Boltzmann inversion needs a damping above 0 and up to 1, and a tolerance between 0 and 1; got "
                f"{damping} and {tolerance}"
            )
        if not duration > 0 or not interval > 0 or not time_step > 0:
            raise ValueError(
                f"duration, interval and time step must be positive; got {duration}, {interval} and {time_step} ps"
            )
        self.potential = potential
        self.coordinates = None if coordinates is None else [kind for kind in KINDS if kind in coordinates]
        self.cutoff = cutoff if cutoff is not None or potential is None else potential.cutoff
        self.settings: dict[str, Any] = {
            "achiral": achiral,
            "iterations": iterations,
            "damping": damping,
            "tolerance": tolerance,
            "patience": patience,
            "bins": bins,
            "replicas": replicas,
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

        Parameters
        ----------
        paths
            Mapped frames of the reference, with bonds, molecules whole; one file, or several runs of the same beads.
        directory
            Where the simulations are kept, and in the end the files ``potential.pt`` and ``divergences.json``.
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
            potential; or the directory holds an inversion with other settings.
        UnstableSimulationError
            A simulation left all bounds; a smaller time step or damping helps.
        """
        files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        folder = Path(directory).expanduser()
        with ExitStack() as stack:
            sources = [_select(stack.enter_context(Frames(file)), frames) for file in files]
            reference = ReferenceDistributions(
                sources, self.potential, self.coordinates, self.cutoff, self.settings["bins"], self.settings["achiral"]
            )
            if self.settings["replicas"] > reference.frames:
                raise ValueError(
                    f"{self.settings['replicas']} replicas need as many frames to start from; there are "
                    f"{reference.frames}"
                )
            settings = {**self.settings, **reference.settings, "selection": str(frames)}
            claim_directory(folder, settings, "an inversion")
            reference.measure(progress)
            return self._iterate(reference, settings, folder, platform, threads, progress)

    def _iterate(
        self,
        reference: ReferenceDistributions,
        settings: dict[str, Any],
        folder: Path,
        platform: str,
        threads: int | None,
        progress: bool,
    ) -> BoltzmannInversionResult:
        energies = [reference.first_energies()]
        divergences: list[list[float]] = []
        potentials, histograms = [], []
        best, damping = 0, self.settings["damping"]
        limit = range(self.settings["iterations"] + 1)
        bar = tqdm(limit, "Boltzmann inversion", unit="iteration", disable=not progress)
        for iteration in bar:
            potential = reference.make_potential(energies[iteration], settings)
            counts = self._simulate(
                potential, reference, folder / f"iteration_{iteration}.h5md", platform, threads, progress
            )
            divergences.append(
                [jensen_shannon_divergence(*pair) for pair in zip(counts, reference.counts, strict=True)]
            )
            potentials.append(potential)
            histograms.append(counts)
            worst = np.max(divergences, axis=1)
            bar.set_postfix_str(f"largest divergence {worst[-1]:.4f} bits")
            best = int(np.argmin(worst))
            if worst[iteration] <= self.settings["tolerance"] or iteration - best >= self.settings["patience"]:
                break
            if best < iteration:
                damping /= 2
            paths = trajectory_paths(folder / f"iteration_{best}.h5md", self.settings["replicas"])
            with ExitStack() as stack:
                simulated = [stack.enter_context(Frames(path)) for path in paths]
                energies.append(reference.correct(energies[best], histograms[best], simulated, damping))
        result = BoltzmannInversionResult(
            potential=potentials[best],
            converged=bool(worst[best] <= self.settings["tolerance"]),
            tolerance=self.settings["tolerance"],
            best=best,
            divergences=np.array(divergences),
            coordinates=tuple(reference.coordinates),
            reference=reference.densities(reference.counts),
            simulated=reference.densities(histograms[best]),
        )
        if not (folder / "potential.pt").exists():
            write_json(folder / "divergences.json", result.summary())
            result.potential.save(folder / "potential.pt")
        return result

    def _simulate(
        self,
        potential: CGPotential,
        reference: ReferenceDistributions,
        path: Path,
        platform: str,
        threads: int | None,
        progress: bool,
    ) -> list[NDArray[np.int64]]:
        """Histograms of a simulation, kept beside its frames."""
        done = path.with_suffix(".npz")
        if done.exists():
            with np.load(done) as kept:
                return [kept[f"counts_{index}"] for index in range(len(reference.coordinates))]
        keys = ("duration", "interval", "time_step", "friction", "seed")
        options = {key: self.settings[key] for key in keys}
        steps = round(self.settings["duration"] / 5 / self.settings["time_step"])
        outcome = run(
            potential.create_system(
                reference.topology, periodic=reference.box is not None, remove_center_of_mass_motion=False
            ),
            reference.starts(self.settings["replicas"]),
            reference.box,
            path,
            equilibration=steps * self.settings["time_step"],
            temperature=reference.temperature,
            types=reference.types.tolist(),
            type_names=reference.type_names,
            platform=platform,
            threads=threads,
            progress=progress,
            **options,
        )
        if outcome.mean_temperature > _HOTTEST * reference.temperature:
            raise UnstableSimulationError(
                f"the beads of {path.name} have {outcome.mean_temperature:.0f} K on average instead of "
                f"{reference.temperature:.0f} K: a time step of {self.settings['time_step']} ps is too long for the "
                "tables; take a shorter one, or more frames to make the tables of"
            )
        with ExitStack() as stack:
            sources = [stack.enter_context(Frames(replica.path)) for replica in outcome.replicas]
            counts = count(sources, reference.coordinates, progress=progress)
        unfinished = done.with_suffix(".new.npz")
        arrays: dict[str, Any] = {f"counts_{index}": values for index, values in enumerate(counts)}
        np.savez(unfinished, **arrays)
        unfinished.replace(done)
        return counts


def _select(source: Frames, frames: slice) -> Frames:
    selection = range(len(source))[frames]
    if not selection:
        raise ValueError(f"no frames are selected of the {len(source)} in {source.path}")
    return source.select(list(selection))
