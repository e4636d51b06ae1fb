"""Fits of the dynamics: beads that diffuse as the atoms do."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openmmcg.analysis import radial_distribution
from openmmcg.analysis.mean_squared_displacement import Diffusion, MeanSquaredDisplacement, mean_squared_displacement
from openmmcg.fitting.reference_frames import ReferenceFrames, content, default_replicas, select
from openmmcg.frames import Frames
from openmmcg.geometry.pairs import pairs_apart
from openmmcg.model_file import finite_or_null
from openmmcg.optional import optional_imports
from openmmcg.potentials import CGPotential, HighFrequency
from openmmcg.progress import tqdm
from openmmcg.simulation import RunResult, UnstableSimulationError
from openmmcg.simulation.dynamics import whole_number
from openmmcg.simulation.landscape import longest_time_step
from openmmcg.state import claim, read_json, replacing, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
PathLike = str | os.PathLike[str]

# Neighbours that a bead of a dense liquid has, whose terms add up like those of a random walk.
_NEIGHBORS = 12
# Largest change of ln D or 1/D, relative, that one step may be extrapolated by.
_FARTHEST = 3.0
# The distance, nm, up to which structures are compared, where the box is large enough.
_STRUCTURE = 1.0
# Of the temperature; beyond, the integrator heats the beads.
_HEATED = 0.01
# What of |Δg| counts as a change.
_CHANGED = 0.01


class Brake(Protocol):
    """What slows beads down, by one number that is not negative.

    Attributes
    ----------
    name, unit : str
        Of the number.
    """

    name: str
    unit: str

    def potential(self, potential: CGPotential, value: float) -> CGPotential:
        """The potential, slowed down."""
        ...

    def settings(self, value: float) -> dict[str, Any]:
        """Arguments of `openmmcg.simulation.run` that slow down."""
        ...

    def linear(self, diffusion: float) -> float:
        """What of a diffusion constant, nm²/ps, is nearly linear in the number, and rises with it."""
        ...

    def guess(self, system: ReferenceFrames, free: float, wanted: float) -> float:
        """The number with which a diffusion constant, nm²/ps, becomes the one that is wanted, roughly."""
        ...


@dataclass(frozen=True)
class Landscape:
    """The amplitude of a `HighFrequency` term, under a Nosé-Hoover chain.

    Parameters
    ----------
    wavenumber : float
        ω, 1/nm. The larger, the less it changes the structure, and the shorter is the time step that it needs.
    cutoff : float
        nm
    switch : float, optional
        nm, see `HighFrequency`.
    """

    wavenumber: float = 1000.0
    cutoff: float = 0.6
    switch: float | None = None
    name = "amplitude"
    unit = "kJ/mol nm²"

    def potential(self, potential: CGPotential, value: float) -> CGPotential:
        if value == 0:
            return potential
        return potential.with_priors([HighFrequency(value, self.wavenumber, self.cutoff, self.switch)])

    def settings(self, value: float) -> dict[str, Any]:
        return {"thermostat": "Nose-Hoover", "friction": 1.0}

    def linear(self, diffusion: float) -> float:
        return -math.log(diffusion)

    def guess(self, system: ReferenceFrames, free: float, wanted: float) -> float:
        # Energies of random sign, of the root mean square ε, slow down by exp(−(ε/k_BT)²) (Zwanzig, Proc. Natl. Acad.
        # Sci. 85, 2029 (1988)).
        nearest = _nearest_distance(system, self.cutoff)
        return system.thermal * nearest**2 * math.sqrt(math.log(free / wanted) / _NEIGHBORS)


@dataclass(frozen=True)
class Friction:
    """The friction of the Langevin thermostat."""

    name = "friction"
    unit = "1/ps"

    def potential(self, potential: CGPotential, value: float) -> CGPotential:
        return potential

    def settings(self, value: float) -> dict[str, Any]:
        if value == 0:
            return {"thermostat": "Nose-Hoover", "friction": 1.0}
        return {"thermostat": "Langevin", "friction": value}

    def linear(self, diffusion: float) -> float:
        return 1 / diffusion

    def guess(self, system: ReferenceFrames, free: float, wanted: float) -> float:
        # As if the frictions of the bath and of the other beads added up.
        mass = float(np.mean([system.kinds_of_beads[kind].mass for kind in system.types]))
        return system.thermal / mass * (1 / wanted - 1 / free)


@dataclass(frozen=True)
class Attempt:
    """One simulation of a fit of the dynamics.

    Attributes
    ----------
    value : float
        Amplitude or friction.
    diffusion, error : float
        nm²/ps
    temperature, temperature_error : float
        K
    structure, structure_noise : float
        Mean |Δg| to the beads without a brake, from no distance to 1 nm, and what noise makes of it; NaN where no
        distance is that far from its own image.
    time_step : float
        ps
    nanoseconds_per_day : float
        Of all replicas together.
    """

    value: float
    diffusion: float
    error: float
    temperature: float
    temperature_error: float
    structure: float
    structure_noise: float
    time_step: float
    nanoseconds_per_day: float


@dataclass(frozen=True)
class DiffusionMatchingResult:
    """What a fit of the dynamics found.

    Attributes
    ----------
    potential : CGPotential
        With the landscape, where it is one.
    value, error : float
        Amplitude or friction, and its standard error from those of both diffusion constants; 0 where the beads do not
        diffuse faster than the atoms.
    what : str
        "amplitude" or "friction".
    unit : str
    wanted : Diffusion
        nm²/ps
    attempts : list of Attempt
        The first without a brake, the last with the value found.
    mean_squared_displacement : MeanSquaredDisplacement
        Of the last.
    converged : bool
        Whether the diffusion constant is the one that was wanted, within the error bars of both.
    """

    potential: CGPotential
    value: float
    error: float
    what: str
    unit: str
    wanted: Diffusion
    attempts: list[Attempt]
    mean_squared_displacement: MeanSquaredDisplacement
    converged: bool

    @property
    def verdict(self) -> str:
        """What was found, and what to be careful of, in a few sentences."""
        free, last = self.attempts[0], self.attempts[-1]
        numbers = (
            f"D = {_text(last.diffusion, last.error)} with {self.what} {self.value:.3g} ± {self.error:.1g} "
            f"{self.unit}, {_text(*self.wanted)} is wanted, {_text(free.diffusion, free.error)} it is without"
        )
        if len(self.attempts) == 1 and self.converged:
            text = f"the beads do not diffuse faster than the atoms, and need no {self.what}: {numbers}"
        else:
            text = numbers if self.converged else f"not reached: {numbers}; more iterations help"
        if last.structure > free.structure_noise + _CHANGED + last.structure_noise:
            text += f". The structure has changed: mean |Δg| {last.structure:.3f}"
        # Both temperatures are of finite runs; three standard errors.
        heated = last.temperature - self.temperature
        if abs(heated) > _HEATED * self.temperature + 3 * last.temperature_error:
            text += f". The temperature is {last.temperature:.1f} K: take a shorter time step"
        return text

    @property
    def temperature(self) -> float:
        """That was asked for, K."""
        return float(self.potential.provenance["diffusion_matching"]["temperature"])

    def summary(self) -> dict[str, Any]:
        """All but the potential, as JSON can hold it."""
        found: dict[str, Any] = finite_or_null(
            {
                "verdict": self.verdict,
                "converged": self.converged,
                "what": self.what,
                "unit": self.unit,
                "value": self.value,
                "error": self.error,
                "wanted": self.wanted._asdict(),
                "attempts": [asdict(each) for each in self.attempts],
            }
        )
        return found


class DiffusionMatching:
    r"""An amplitude of a landscape, or a friction, with which beads diffuse as the atoms do.

    Each simulation gives D by the Einstein relation. For a landscape ln D, for a friction 1/D is nearly linear in
    the number that is sought, so that a secant, kept within the bracket as soon as there is one, needs three to five
    simulations, where a bisection needs one for each digit. It ends where D is the one that is wanted within the
    standard errors of both, so longer simulations and more replicas make it stricter.

    Parameters
    ----------
    brake : Landscape or Friction
        What slows the beads down: roughness of the energy (under a Nosé-Hoover chain, which hardly slows down), or the
        friction of a Langevin thermostat, the plain alternative, which damps every motion alike.
    window : pair of float
        ps, in which the mean squared displacement is fitted by a straight line.
    iterations : int
        Simulations at most, after the first.
    replicas : int, optional
        See `RelativeEntropy`.
    duration, interval : float
        ps, of each replica, and from frame to frame.
    time_step : float, optional
        ps; by default 2 fs, or what a landscape needs (`openmmcg.simulation.landscape.longest_time_step`).
    seed : int

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    ::

        fit = DiffusionMatching(Landscape(wavenumber=1000.0))
        result = fit.fit(potential, "beads.h5md", "dynamics", diffusion="water_nve.h5md")
        result.potential.save("slow.pt")
    """

    def __init__(
        self,
        brake: Brake | None = None,
        *,
        window: tuple[float, float] = (2.0, 10.0),
        iterations: int = 8,
        replicas: int | None = None,
        duration: float = 100.0,
        interval: float = 0.1,
        time_step: float | None = None,
        seed: int = 0,
    ) -> None:
        self.brake: Brake = Landscape() if brake is None else brake
        if iterations < 0 or (replicas is not None and replicas < 1):
            raise ValueError(
                f"there must be iterations from 0 on and replicas from 1 on; got {iterations} and {replicas}"
            )
        if not 0 <= window[0] < window[1]:
            raise ValueError(f"the window must be two times in ps, the first before the second; got {window}")
        if not interval > 0 or not window[1] - window[0] >= interval:
            raise ValueError(f"the window, {window} ps, must hold two frames, which come every {interval} ps")
        if not duration >= 4 * window[1]:
            raise ValueError(
                f"a duration of {duration} ps is less than four times the window's end, {window[1]} ps, and would not "
                "give error bars; simulate longer, or take an earlier window"
            )
        whole_number(duration, interval, "duration", "interval")
        if time_step is not None:
            whole_number(interval, time_step, "interval", "time_step")
        self.window, self.iterations, self.replicas = window, iterations, replicas
        self.time_step = time_step
        self.settings: dict[str, Any] = {"duration": duration, "interval": interval, "seed": seed}

    def fit(
        self,
        potential: CGPotential,
        path: PathLike,
        directory: PathLike,
        *,
        diffusion: float | Diffusion | PathLike | Sequence[PathLike] | None = None,
        frames: slice = slice(None),
        platform: str = "CPU",
        threads: int | None = None,
        progress: bool = True,
    ) -> DiffusionMatchingResult:
        """Find the number, or go on where that was interrupted.

        Parameters
        ----------
        potential
            Of the beads.
        path
            Mapped frames, from which simulations start.
        directory
            Where the simulations are kept, and in the end ``potential.pt``, ``diffusion_matching.json`` and, if
            matplotlib is there, ``diffusion.png``.
        diffusion
            Of the atoms: a number in nm²/ps (10⁻⁵ cm²/s is 10⁻³ nm²/ps), one with its error, or mapped frames whose
            mean squared displacement is taken in the same window; by default those of `path`. They should be of a run
            at constant energy or under a Nosé-Hoover chain, of about the same box.
        frames, platform, threads, progress
            See `RelativeEntropy.fit`.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            Numbers that make no sense, frames too few or too far apart, a potential of other beads, or a directory
            that holds another work.
        UnstableSimulationError
            A simulation left all bounds.
        """
        wanted = self._wanted(path if diffusion is None else diffusion, progress)
        with ExitStack() as stack:
            system = ReferenceFrames([select(stack.enter_context(Frames(path)), frames)])
            system.check_potential(potential)
            number = self.replicas or default_replicas(len(system.types))
            inputs = {
                "reference": system.content(),
                "potential": content(potential),
                "brake": {"kind": type(self.brake).__name__, **vars(self.brake)},
                "diffusion": [wanted.constant, wanted.error],
                "window": list(self.window),
                "replicas": number,
                "time_step": self.time_step,
                **self.settings,
            }
            folder = stack.enter_context(claim(directory, "a matching of diffusion", inputs)).folder
            options = {"platform": platform, "threads": threads, "progress": progress}
            return _Search(self, system, potential, wanted, number, folder, options).go()

    def _wanted(self, diffusion: float | Diffusion | PathLike | Sequence[PathLike], progress: bool) -> Diffusion:
        if isinstance(diffusion, (int, float, np.number)):
            diffusion = Diffusion(float(diffusion), 0.0)
        if not isinstance(diffusion, Diffusion):
            files = [diffusion] if isinstance(diffusion, (str, os.PathLike)) else list(diffusion)
            diffusion = displacement(files, self.window[1], progress).diffusion(*self.window)
        if not 0 < diffusion.constant < np.inf or not 0 <= diffusion.error < np.inf:
            raise ValueError(
                f"the diffusion constant must be positive, with its error, in nm²/ps; got {diffusion}. Frames give an "
                "error where they last for four times the window's end"
            )
        return diffusion


class _Search:
    """One call of `DiffusionMatching.fit`."""

    def __init__(
        self,
        settings: DiffusionMatching,
        system: ReferenceFrames,
        potential: CGPotential,
        wanted: Diffusion,
        replicas: int,
        folder: Path,
        options: dict[str, Any],
    ) -> None:
        self._settings, self._system, self._potential, self._wanted = settings, system, potential, wanted
        self._replicas, self._folder, self._options = replicas, folder, options
        self._free: list[FloatArray] | None = None

    def go(self) -> DiffusionMatchingResult:
        brake, wanted = self._settings.brake, self._wanted
        attempts: list[Attempt] = []
        value, converged = 0.0, False
        bar = tqdm(
            range(self._settings.iterations + 1), brake.name, unit="simulation", disable=not self._options["progress"]
        )
        for number in bar:
            attempt, displaced = self._attempt(number, value)
            attempts.append(attempt)
            if self._options["progress"]:
                tqdm.write(
                    f"{brake.name} {attempt.value:.4g} {brake.unit}: D = {_text(attempt.diffusion, attempt.error)}, "
                    f"{_text(*wanted)} is wanted"
                )
            away = attempt.diffusion - wanted.constant
            noise = math.hypot(attempt.error, wanted.error)
            converged = abs(away) <= noise or (number == 0 and away <= 0)
            if converged:
                break
            value = self._next(attempts)
        last = attempts[-1]
        about = {
            **self._settings.settings,
            "kind": brake.name,
            "value": last.value,
            "diffusion": list(wanted),
            "temperature": self._system.temperature,
            "time_step": last.time_step,
        }
        slowed = brake.potential(self._potential, last.value).with_priors([], provenance={"diffusion_matching": about})
        result = DiffusionMatchingResult(
            potential=slowed,
            value=last.value,
            error=self._error(attempts),
            what=brake.name,
            unit=brake.unit,
            wanted=wanted,
            attempts=attempts,
            mean_squared_displacement=displaced,
            converged=converged,
        )
        result.potential.save(self._folder / "potential.pt")
        write_json(self._folder / "diffusion_matching.json", result.summary())
        with suppress(ImportError), replacing(self._folder / "diffusion.png") as unfinished:
            diffusion_figure(result).savefig(unfinished, format="png", dpi=120)
        if self._options["progress"]:
            tqdm.write(result.verdict)
        return result

    def _next(self, attempts: Sequence[Attempt]) -> float:
        """The number to be tried next, by a secant within the bracket."""
        brake = self._settings.brake
        goal = brake.linear(self._wanted.constant)
        points = sorted((each.value, brake.linear(each.diffusion) - goal) for each in attempts)
        if len(points) == 1:
            return brake.guess(self._system, attempts[0].diffusion, self._wanted.constant)
        below = [point for point in points if point[1] < 0]
        above = [point for point in points if point[1] >= 0]
        if not above:
            (first, low), (second, high) = points[-2:]
            slope = (high - low) / (second - first)
            # Noise may even have turned it round.
            step = -high / slope if slope > 0 else _FARTHEST * second
            return second + min(step, (_FARTHEST - 1) * second)
        if not below:
            # Without a brake it was too fast, but as a repetition would have it, it is not.
            return above[0][0] / 2
        (first, low), (second, high) = below[-1], above[0]
        if first >= second:  # noise is larger than what lies between them
            return (first + second) / 2
        place = first - low * (second - first) / (high - low)
        # Never so near to an end that nothing is learned.
        margin = 0.1 * (second - first)
        return min(max(place, first + margin), second - margin)

    def _error(self, attempts: Sequence[Attempt]) -> float:
        last, brake = attempts[-1], self._settings.brake
        others = [each for each in attempts[:-1] if each.value != last.value]
        if not others:
            return 0.0
        nearest = min(others, key=lambda each: abs(each.value - last.value))
        slope = abs(brake.linear(last.diffusion) - brake.linear(nearest.diffusion)) / abs(last.value - nearest.value)
        relative = math.hypot(last.error / last.diffusion, self._wanted.error / self._wanted.constant)
        spread = abs(brake.linear(last.diffusion * (1 + relative)) - brake.linear(last.diffusion))
        return spread / slope if slope else math.inf

    def _attempt(self, number: int, value: float) -> tuple[Attempt, MeanSquaredDisplacement]:
        file = self._folder / f"simulation_{number}.json"
        if file.exists():
            # Computed anew, it might differ in the last digit.
            value = float(read_json(file, "a simulation's settings")["value"])
        else:
            write_json(file, {"value": value})
        brake, settings = self._settings.brake, self._settings
        slowed = brake.potential(self._potential, value)
        time_step = settings.time_step or self._time_step(slowed)
        outcome = self._system.simulate(
            slowed,
            self._folder / f"simulation_{number}.h5md",
            self._replicas,
            {**settings.settings, "time_step": time_step, **brake.settings(value)},
            **self._options,
        )
        displaced = displacement(
            [replica.path for replica in outcome.replicas], settings.window[1], self._options["progress"]
        )
        found = displaced.diffusion(*settings.window)
        if not found.constant > 0:
            raise UnstableSimulationError(
                f"the beads of {file.stem} do not diffuse, with a {brake.name} of {value:.3g} {brake.unit}: D is "
                f"{found.constant:.3g} ± {found.error:.1g} nm²/ps; simulate longer, or begin with a liquid"
            )
        structure, noise = self._structure(outcome)
        attempt = Attempt(
            value=value,
            diffusion=found.constant,
            error=found.error,
            temperature=outcome.mean_temperature,
            temperature_error=outcome.temperature_error,
            structure=structure,
            structure_noise=noise,
            time_step=time_step,
            nanoseconds_per_day=outcome.nanoseconds_per_day,
        )
        return attempt, displaced

    def _time_step(self, potential: CGPotential) -> float:
        system = potential.create_system(
            self._system.topology, periodic=self._system.box is not None, remove_center_of_mass_motion=False
        )
        longest = longest_time_step(system, self._system.starts(1)[0], self._system.box)
        interval = float(self._settings.settings["interval"])
        return interval / math.ceil(interval / min(0.002, longest or 0.002) - 1e-9)

    def _structure(self, outcome: RunResult) -> tuple[float, float]:
        """Mean |Δg| to the first simulation, and what noise makes of it."""
        if self._system.box is None:
            return math.nan, math.nan
        reach = min(_STRUCTURE, self._system.longest_cutoff())
        curves = []
        for replica in outcome.replicas:
            with Frames(replica.path) as run:
                chosen = slice(None, None, max(1, len(run) // 200))
                positions = run.positions[chosen]
                boxes = np.broadcast_to(self._system.box, (len(positions), 3, 3))
                found = radial_distribution(positions, boxes, maximum=reach, blocks=1, progress=False)
            curves.append(found.g)
        if self._free is None:
            self._free = curves
        free, mine = np.array(self._free), np.array(curves)
        number = len(mine)
        if number < 2:
            return float(np.abs(mine.mean(0) - free.mean(0)).mean()), math.nan
        noise = np.sqrt(mine.var(0, ddof=1) / number + free.var(0, ddof=1) / number)
        # The mean of |x| of a normal distribution.
        return float(np.abs(mine.mean(0) - free.mean(0)).mean()), float(noise.mean() * math.sqrt(2 / math.pi))


def displacement(paths: Sequence[PathLike], maximum: float, progress: bool = True) -> MeanSquaredDisplacement:
    """The mean squared displacement of several runs of the same beads together, up to a time in ps."""
    parts = []
    for path in paths:
        with Frames(path) as run:
            boxes = run.boxes if run.boxes is not None and len(run.boxes) else None
            # Each twice as long as the longest time.
            lasting = len(run) * (run.times[-1] - run.times[0]) / max(len(run) - 1, 1)
            blocks = max(1, min(5 if len(paths) < 3 else 2, int(lasting / (2 * maximum) + 1e-6)))
            found = mean_squared_displacement(
                run.positions, run.times, boxes=boxes, maximum=maximum, blocks=blocks, progress=progress
            )
        parts.append(found)
    return MeanSquaredDisplacement(parts[0].time, np.concatenate([part.block_values for part in parts]))


def diffusion_figure(result: DiffusionMatchingResult) -> Figure:
    """Diffusion constants against what slows down, and the mean squared displacement that was found."""
    with optional_imports():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = [each.value for each in result.attempts]
    constants = [1e3 * each.diffusion for each in result.attempts]
    left.errorbar(values, constants, [1e3 * each.error for each in result.attempts], fmt="o", capsize=3, label="beads")
    left.axhline(1e3 * result.wanted.constant, color="black", label="wanted")
    left.axvline(result.value, color="0.8", zorder=0)
    left.set(xlabel=f"{result.what} ({result.unit})", ylabel="D ($10^{-5}$ cm²/s)")
    left.legend(frameon=False)
    displaced = result.mean_squared_displacement
    right.loglog(displaced.time[1:], displaced.value[1:], label="beads")
    right.loglog(displaced.time[1:], 6 * result.wanted.constant * displaced.time[1:], "k--", label="6 D t, D wanted")
    right.set(xlabel="time (ps)", ylabel="mean squared displacement (nm²)")
    right.legend(frameon=False)
    return figure


def _nearest_distance(system: ReferenceFrames, cutoff: float) -> float:
    """The median of the distance of a bead to its nearest one, nm."""
    positions = system.starts(1)[0]
    rows, columns, distances = pairs_apart(positions, system.box, cutoff, [])
    nearest = np.full(len(positions), np.inf)
    for beads in (rows, columns):
        np.minimum.at(nearest, beads, distances)
    if not np.isfinite(nearest).any():
        raise ValueError(f"no two beads are within the cutoff of the landscape, {cutoff} nm; take a longer one")
    return float(np.median(nearest[np.isfinite(nearest)]))


def _text(constant: float, error: float) -> str:
    return f"{1e3 * constant:.3g} ± {1e3 * error:.1g} 1e-5 cm²/s"
