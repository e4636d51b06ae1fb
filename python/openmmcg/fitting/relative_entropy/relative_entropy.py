"""Relative entropy minimisation: parameters of priors with which beads are most likely to be where the atoms are."""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from openmmcg.fitting.reference_frames import ReferenceFrames, check_times, content, default_replicas, select
from openmmcg.fitting.relative_entropy.estimates import (
    Average,
    Gradient,
    Sample,
    Step,
    gradient,
    newton_step,
    plain_average,
)
from openmmcg.fitting.relative_entropy.linear_terms import LinearTerms, linear_terms, sums
from openmmcg.fitting.relative_entropy.result import RelativeEntropyResult, with_errors
from openmmcg.frames import Frames
from openmmcg.potentials import CGPotential
from openmmcg.potentials.priors import Prior, to_xml
from openmmcg.progress import tqdm
from openmmcg.simulation import UnstableSimulationError
from openmmcg.state import claim, replacing, write_json

FloatArray = NDArray[np.float64]

# Newton steps between two simulations, and the part of the noise at which they have nothing left to gain.
_MOST_STEPS, _NOTHING = 50, 0.05
# How often a step is halved that leads where there is no prior, before it is given up.
_HALVINGS = 20


class RelativeEntropy:
    r"""Parameters of priors that minimise the relative entropy of the beads and of mapped frames.

    The relative entropy :math:`S = \beta\langle U\rangle_{ref} + \ln Z` (without what does not depend on U) is
    least where the beads are most likely to take the positions of the mapped frames (Shell, J. Chem. Phys. 129, 144108
    (2008)). No forces are needed. Its gradient is :math:`\beta(\langle\partial U/\partial\lambda\rangle_{ref} -
    \langle\partial U/\partial\lambda\rangle)` (Chaimovich and Shell, J. Chem. Phys. 134, 094112 (2011)).
    Parameters are chosen in which all energies are linear, so S is convex, has one minimum, and the
    covariance of the derivatives is its curvature. Newton's steps are limited to the size of each parameter; one
    that leads too far is taken back as far as the gradients at both ends say. As long as the frames of all simulations
    so far, weighted, are worth enough independent ones, steps need no new simulation.

    It ends when what a step would still gain is no more than noise: `tolerance` times what it would be on average with
    perfect parameters, which follows from the frames there are. Longer simulations and more frames of the reference
    make it stricter.

    Parameters
    ----------
    priors : sequence
        Whose parameters are fitted, with those to begin with: `LennardJones`, `Repulsion`, `TabulatedPairs`,
        `HarmonicBonds`, `HarmonicAngles`, `CosineAngles`, `PeriodicDihedrals`, `TabulatedBonds`, `TabulatedAngles`,
        `TabulatedDihedrals`.
    potential : CGPotential, optional
        Acts as well, and remains as it is: a network, or priors.
    iterations : int
        Simulations at most, after the first.
    tolerance : float
        See above.
    effective : float
        Least effective sample size at which frames are reweighted, as a part of their number, between 0 and 1.
    replicas : int, optional
        Simulated together, from frames of the reference; by default 10, and fewer where fewer have 500 beads together,
        but at least 2.
    duration : float
        Of each replica, ps; a fifth more goes before.
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
        An argument is out of range, or the parameters of a prior cannot be fitted.

    Examples
    --------
    ::

        start = LennardJones.from_sigma_epsilon([0.3], [0.5], cutoff=1.0)
        result = RelativeEntropy([start], duration=100.0).fit("beads.h5md", "relative_entropy")
        print(result.parameters)
    """

    def __init__(
        self,
        priors: Sequence[Prior],
        potential: CGPotential | None = None,
        *,
        iterations: int = 30,
        tolerance: float = 2.0,
        effective: float = 0.3,
        replicas: int | None = None,
        duration: float = 100.0,
        interval: float = 0.2,
        time_step: float = 0.002,
        friction: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not priors:
            raise ValueError("relative entropy needs priors whose parameters are to be fitted")
        if iterations < 0 or (replicas is not None and replicas < 1):
            raise ValueError(
                f"relative entropy needs iterations from 0 on and replicas from 1 on; got {iterations} and {replicas}"
            )
        if not (tolerance > 0 and 0 < effective < 1):
            raise ValueError(
                "the tolerance must be positive and the effective sample size between 0 and 1; got "
                f"{tolerance} and {effective}"
            )
        check_times(duration, interval, time_step)
        for prior in priors:
            linear_terms(prior, 1.0)
        self.priors, self.potential = list(priors), potential
        self.iterations, self.tolerance, self.effective, self.replicas = iterations, tolerance, effective, replicas
        self.settings: dict[str, Any] = {
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
    ) -> RelativeEntropyResult:
        """Minimise, or go on where an interrupted minimisation was, or return what a finished one found.

        More `iterations` and another `tolerance` go on with what is there. All else must be as it was, by content.

        Parameters
        ----------
        paths
            Mapped frames, with bonds where beads are bonded; of one file, or of several. Files of the same beads in the
            same box at the same temperature are runs of one system; others, such as another state point or mixture
            with the same types of beads, are systems of their own, and the sum of all relative entropies is minimised.
        directory
            Where the simulations are kept, and in the end the files ``potential.pt``, ``relative_entropy.json`` and, if
            matplotlib is there, ``convergence.png``; one minimisation's alone.
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
            The files differ in bead types, a box changes or is too small for a cutoff, there is nothing in them that a
            parameter acts on, they have too few frames; or the directory holds a minimisation with other inputs: the
            error says which, old and new.
        BlockingIOError
            Another process works in the directory.
        UnstableSimulationError
            The first simulation left all bounds: begin with other parameters, or a smaller time step.
        """
        files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not files:
            raise ValueError("there are no files of mapped frames; give at least one")
        with ExitStack() as stack:
            sources = [select(stack.enter_context(Frames(file)), frames) for file in files]
            systems = [ReferenceFrames(group) for group in _group(sources)]
            terms = [linear_terms(prior, systems[0].thermal) for prior in self.priors]
            replicas = [self.replicas or default_replicas(len(system.types)) for system in systems]
            self._check(systems, terms, replicas)
            inputs = {
                "reference": {f"of system {index}": system.content() for index, system in enumerate(systems)},
                "priors": [to_xml(prior) for prior in self.priors],
                "potential": None if self.potential is None else content(self.potential),
                "replicas": replicas,
                **self.settings,
            }
            folder = stack.enter_context(claim(directory, "a minimisation of relative entropy", inputs)).folder
            options = {"platform": platform, "threads": threads, "progress": progress}
            return _Minimisation(self, systems, terms, replicas, folder, options).go()

    def _check(self, systems: list[ReferenceFrames], terms: list[LinearTerms], replicas: list[int]) -> None:
        for system, number in zip(systems, replicas, strict=True):
            first = system.sources[0]
            if system.type_names != systems[0].type_names:
                raise ValueError(
                    f"{first.path} has the bead types {system.type_names}, {systems[0].sources[0].path} "
                    f"{systems[0].type_names}; one potential is for the same types"
                )
            if self.potential is not None:
                system.check_potential(self.potential)
            if system.frames < max(number, 4):
                raise ValueError(
                    f"{number} replicas need as many frames to start from, and noise 4 to be known from; there are "
                    f"{system.frames} in {first.path}"
                )
            for each in terms:
                known = 1 + max(kind for kinds in each.columns for kind in kinds)
                if each.kind == "pairs" and known < len(system.type_names):
                    raise ValueError(
                        f"a prior of pairs knows {known} bead types, {first.path} has {len(system.type_names)} "
                        f"({', '.join(system.type_names)}); give it numbers for all pairs of types"
                    )
            cutoff = max((each.cutoff for each in terms), default=0.0)
            if system.box is not None and cutoff > system.longest_cutoff():
                raise ValueError(
                    f"the cutoff, {cutoff} nm, exceeds half the smallest width of the box of {first.path}, "
                    f"{system.longest_cutoff():.4f} nm; take a shorter one, or sample a larger box"
                )


class _Minimisation:
    """One call of `RelativeEntropy.fit`."""

    def __init__(
        self,
        settings: RelativeEntropy,
        systems: list[ReferenceFrames],
        terms: list[LinearTerms],
        replicas: list[int],
        folder: Path,
        options: dict[str, Any],
    ) -> None:
        self._settings, self._systems, self._terms, self._replicas = settings, systems, terms, replicas
        self._folder, self._options = folder, options
        self._betas = [1 / system.thermal for system in systems]
        self._ends = np.cumsum([len(each.start) for each in terms])[:-1]
        self._references: list[Average] = [
            plain_average([sums(source, terms, system.bonds) for source in system.sources]) for system in systems
        ]
        self._stiffness = block_diag(
            *[np.eye(len(each.start)) if each.stiffness is None else each.stiffness for each in terms]
        )
        for each, *means in zip(
            terms, *(np.split(reference.mean, self._ends) for reference in self._references), strict=True
        ):
            # Of a table, places without samples are usual.
            if not np.any(means):
                raise ValueError(
                    f"nothing in the frames of {systems[0].sources[0].path} depends on {', '.join(each.labels[:4])}; "
                    "give priors of types, bonds, angles and distances that are there"
                )

    def go(self) -> RelativeEntropyResult:
        settings = self._settings
        parameters = np.concatenate([each.start for each in self._terms])
        samples: list[list[Sample]] = [[] for _ in self._systems]
        last: tuple[FloatArray, Gradient] | None = None
        rows: list[tuple[Step, float, FloatArray]] = []
        bar = tqdm(
            range(settings.iterations + 1),
            "relative entropy",
            unit="simulation",
            disable=not self._options["progress"],
        )
        for number in bar:
            parameters, drawn = self._sample(number, parameters)
            if drawn is None:
                if last is None:
                    raise UnstableSimulationError(
                        f"the beads of {self._folder / f'iteration_{number}_0.h5md'} leave all bounds with the "
                        "parameters to begin with; begin with others, or with a smaller time step"
                    )
                parameters = (last[0] + parameters) / 2
                continue
            for ours, runs in zip(samples, drawn, strict=True):
                ours.append(Sample(parameters, runs))
            found = self._gradient(samples, parameters)
            step = self._step(found, parameters)
            following, effective = self._follow(samples, parameters, found, step, last)
            rows.append((step, effective, parameters))
            if self._options["progress"]:
                tqdm.write(f"simulation {number}: {step.gain:.3g} k_B to gain, {step.noise:.3g} by noise alone")
            if step.gain <= settings.tolerance * step.noise:
                break
            last, parameters = (parameters, found), following
        # Where frames can be reweighted to the minimum, that is a better estimate than the last simulation's.
        return self._result(following if effective >= settings.effective else rows[-1][2], samples, rows)

    def _gradient(self, samples: list[list[Sample]], parameters: FloatArray) -> Gradient:
        return gradient(self._references, samples, parameters, self._betas, self._settings.effective)

    def _follow(
        self,
        samples: list[list[Sample]],
        parameters: FloatArray,
        found: Gradient,
        step: Step,
        last: tuple[FloatArray, Gradient] | None,
    ) -> tuple[FloatArray, float]:
        """The next parameters, and how well they are known from what was sampled."""
        if last is not None:
            way = parameters - last[0]
            before, after = float(last[1].slope @ way), float(found.slope @ way)
            if after > -before / 2 > 0:
                # The minimum along this way lies between both ends, nearer to the first than to the second.
                following = last[0] + way * before / (before - after)
                return following, self._gradient(samples, following).effective
        change = step.change
        for _ in range(_MOST_STEPS):
            parameters = self._possible(parameters, change)
            found = self._gradient(samples, parameters)
            if found.effective < self._settings.effective:
                break
            step = self._step(found, parameters)
            if step.gain <= _NOTHING * step.noise:
                break
            change = step.change
        return parameters, found.effective

    def _possible(self, parameters: FloatArray, change: FloatArray) -> FloatArray:
        """As far along a change as there are priors."""
        for _ in range(_HALVINGS):
            try:
                self._priors(parameters + change)
            except ValueError:
                change = change / 2
            else:
                return parameters + change
        return parameters

    def _step(self, found: Gradient, parameters: FloatArray) -> Step:
        parts = zip(self._terms, np.split(parameters, self._ends), strict=True)
        return newton_step(found, np.concatenate([each.scales(part) for each, part in parts]), self._stiffness)

    def _priors(self, parameters: FloatArray) -> list[Prior]:
        return [each.make(part) for each, part in zip(self._terms, np.split(parameters, self._ends), strict=True)]

    def _describe(self, parameters: FloatArray) -> dict[str, float]:
        found = [each.describe(part) for each, part in zip(self._terms, np.split(parameters, self._ends), strict=True)]
        often = Counter(name for each in found for name in each)
        return {
            name if often[name] == 1 else f"{name} of prior {index}": value
            for index, each in enumerate(found)
            for name, value in each.items()
        }

    def _potential(self, parameters: FloatArray, provenance: dict[str, Any]) -> CGPotential:
        priors, first = self._priors(parameters), self._systems[0]
        about = {"relative_entropy": provenance}
        if self._settings.potential is not None:
            return self._settings.potential.with_priors(priors, provenance=about)
        return CGPotential(None, first.kinds_of_beads, priors=priors, temperature=first.temperature, provenance=about)

    def _sample(self, number: int, parameters: FloatArray) -> tuple[FloatArray, list[list[FloatArray]] | None]:
        """The parameters of a simulation, and φ of each run of each system; None where it left all bounds.

        Parameters that are on the disk are taken as they are: computed anew, they might differ in the last digit.
        """
        file = self._folder / f"iteration_{number}.npz"
        kept = _read(file)
        if kept is None:
            for leftover in self._folder.glob(f"iteration_{number}_*"):
                leftover.unlink()
            _write(file, {"parameters": parameters})
        else:
            parameters = kept["parameters"]
        if kept is not None and "failed" in kept:
            drawn = [
                [kept[f"system_{index}_run_{run}"] for run in range(replicas)]
                for index, replicas in enumerate(self._replicas)
                if not kept["failed"]
            ]
            return parameters, drawn or None
        potential = self._potential(parameters, {})
        drawn = []
        try:
            for index, (system, replicas) in enumerate(zip(self._systems, self._replicas, strict=True)):
                path = self._folder / f"iteration_{number}_{index}.h5md"
                outcome = system.simulate(potential, path, replicas, self._settings.settings, **self._options)
                with ExitStack() as stack:
                    runs = [stack.enter_context(Frames(replica.path)) for replica in outcome.replicas]
                    drawn.append([sums(run, self._terms, system.bonds) for run in runs])
        except UnstableSimulationError:
            drawn = []
        arrays = {f"system_{index}_run_{run}": phi for index, runs in enumerate(drawn) for run, phi in enumerate(runs)}
        _write(file, {"parameters": parameters, "failed": np.array(not drawn), **arrays})
        return parameters, drawn or None

    def _result(
        self, parameters: FloatArray, samples: list[list[Sample]], rows: list[tuple[Step, float, FloatArray]]
    ) -> RelativeEntropyResult:
        covariance = self._step(self._gradient(samples, parameters), parameters).covariance
        numbers = with_errors(self._describe, parameters, covariance)
        settings = self._settings.settings
        of_one = round(1.2 * settings["duration"] / settings["time_step"])
        provenance = {**settings, "replicas": self._replicas, "simulations": len(rows)}
        result = RelativeEntropyResult(
            potential=self._potential(parameters, provenance),
            parameters=numbers,
            gains=np.array([step.gain for step, _, _ in rows]),
            noise=np.array([step.noise for step, _, _ in rows]),
            effective=np.array([effective for _, effective, _ in rows]),
            values=np.array([list(self._describe(values).values()) for _, _, values in rows]),
            steps=of_one * sum(self._replicas) * len(rows),
            tolerance=self._settings.tolerance,
        )
        result.potential.save(self._folder / "potential.pt")
        write_json(self._folder / "relative_entropy.json", result.summary())
        with suppress(ImportError):
            from openmmcg.fitting.relative_entropy.figures import convergence

            with replacing(self._folder / "convergence.png") as unfinished:
                convergence(result).savefig(unfinished, format="png", dpi=120)
        if self._options["progress"]:
            tqdm.write(result.verdict)
        return result


def _write(file: Path, arrays: dict[str, Any]) -> None:
    with replacing(file) as unfinished, open(unfinished, "wb") as opened:
        np.savez(opened, **arrays)


def _read(file: Path) -> dict[str, NDArray[Any]] | None:
    if not file.exists():
        return None
    try:
        with np.load(file) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"{file} is damaged ({error}); this simulation is done again", stacklevel=2)
        file.unlink()
        return None


def _group(sources: Sequence[Frames]) -> list[list[Frames]]:
    """Runs of the same beads in the same box at the same temperature."""
    groups: dict[tuple, list[Frames]] = {}
    for source in sources:
        box = None if source.boxes is None else np.round(np.asarray(source.boxes[0], float), 4).tobytes()
        key = (tuple(source.names), source.bonds.tobytes(), source.temperature, box)
        groups.setdefault(key, []).append(source)
    return list(groups.values())
