"""Pressure matching: an energy of the volume with which beads have the pressure of the atoms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from openmmcg.analysis.statistics import series_average
from openmmcg.fitting.reference_frames import ReferenceFrames, check_times, content, default_replicas, select
from openmmcg.frames import Frames
from openmmcg.model_file import finite_or_null
from openmmcg.optional import optional_imports
from openmmcg.potentials import CGPotential, VolumePotential
from openmmcg.progress import tqdm
from openmmcg.simulation import read_log
from openmmcg.state import claim, replacing, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
PathLike: TypeAlias = "str | os.PathLike[str]"
Pressure: TypeAlias = "float | str | os.PathLike[str]"


@dataclass(frozen=True)
class PressureMatchingResult:
    """What pressure matching found.

    Attributes
    ----------
    potential : CGPotential
        With the correction.
    correction : VolumePotential
        What was added.
    volumes : array [n]
        Of a bead, nm³, in the order of the simulations.
    targets, target_errors : array [n]
        Pressures that are wanted, bar.
    beads, bead_errors : array [n]
        Pressures that the beads had without correction, bar.
    """

    potential: CGPotential
    correction: VolumePotential
    volumes: FloatArray
    targets: FloatArray
    target_errors: FloatArray
    beads: FloatArray
    bead_errors: FloatArray

    @property
    def pressures(self) -> FloatArray:
        """Of the beads with the correction, bar."""
        return np.asarray(self.beads + self.correction.pressures(self.volumes))

    @property
    def compressibility(self) -> float:
        """Of the beads with the correction, 1/bar, −∂ln V/∂P; negative where no barostat would hold them together."""
        slope = np.polyfit(self.volumes, self.pressures, 1)[0]
        return float(-1 / (self.volumes.mean() * slope))

    @property
    def verdict(self) -> str:
        """Whether the pressure is met, and whether a barostat can hold it, in a sentence."""
        away = self.pressures - self.targets
        error = np.hypot(self.bead_errors, self.target_errors)
        worst = int(np.argmax(np.abs(away)))
        text = (
            f"the pressure is met within {abs(away[worst]):.0f} bar (noise {error[worst]:.0f} bar), compressibility "
            f"{1e5 * self.compressibility:.2f} 1e-5/bar"
        )
        if self.compressibility <= 0:
            return (
                f"{text}: negative, a barostat would let the beads evaporate or collapse; give the atoms' "
                "compressibility, or frames of several volumes"
            )
        return text

    def summary(self) -> dict[str, Any]:
        """All but the potential, as JSON can hold it."""
        arrays = ("volumes", "targets", "target_errors", "beads", "bead_errors", "pressures")
        found: dict[str, Any] = finite_or_null(
            {
                "verdict": self.verdict,
                "coefficients": list(self.correction.coefficients),
                "volume": self.correction.volume,
                "compressibility": self.compressibility,
                **{name: getattr(self, name).tolist() for name in arrays},
            }
        )
        return found


class PressureMatching:
    r"""An energy of the volume with which beads have the pressure of the atoms (Das and Andersen, J. Chem. Phys. 132,
    164106 (2010)).

    A potential that is matched to forces or to structure at one density knows nothing of the pressure, and one-site
    liquids have kilobars: under a barostat they evaporate. The missing part, :math:`P_{atoms}(V) - P_{beads}(V)`,
    is measured in simulations at constant volume, where an energy of the volume changes nothing, so one round of them
    is all it takes; then it is the derivative of a `VolumePotential`. Any potential of beads can be corrected so, be
    it of force matching, Boltzmann inversion or relative entropy, without a change of structure or dynamics.

    Parameters
    ----------
    compressibility : float, optional
        Of the atoms, 1/bar (water 4.5e-5): the beads get it as well. Without it and with frames of one volume, the
        correction is the same pressure at all volumes, and the compressibility is what the beads have by themselves.
    strain : float
        Where there are frames of one volume: by what part the volume of two more simulations is smaller and larger,
        from which the compressibility of the beads follows.
    replicas, duration, interval, time_step, friction, seed
        Of the simulations, see `RelativeEntropy`.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    ::

        matching = PressureMatching(compressibility=4.5e-5, duration=100.0)
        result = matching.fit(potential, "beads.h5md", "pressure", pressures=1.0)
        result.potential.save("water.pt")
    """

    def __init__(
        self,
        *,
        compressibility: float | None = None,
        strain: float = 0.03,
        replicas: int | None = None,
        duration: float = 100.0,
        interval: float = 0.2,
        time_step: float = 0.002,
        friction: float = 1.0,
        seed: int = 0,
    ) -> None:
        if compressibility is not None and not 0 < compressibility < np.inf:
            raise ValueError(f"the compressibility must be positive, got {compressibility} 1/bar")
        if not 0 < strain < 0.5:
            raise ValueError(f"the strain of the volume must be between 0 and 0.5, got {strain}")
        if replicas is not None and replicas < 1:
            raise ValueError(f"there must be at least 1 replica, got {replicas}")
        check_times(duration, interval, time_step)
        self.compressibility, self.strain, self.replicas = compressibility, strain, replicas
        self.settings: dict[str, Any] = {
            "duration": duration,
            "interval": interval,
            "time_step": time_step,
            "friction": friction,
            "seed": seed,
        }

    def fit(
        self,
        potential: CGPotential,
        paths: PathLike | Sequence[PathLike],
        directory: PathLike,
        *,
        pressures: Pressure | Sequence[Pressure],
        frames: slice = slice(None),
        platform: str = "CPU",
        threads: int | None = None,
        progress: bool = True,
    ) -> PressureMatchingResult:
        """Measure the pressure of the beads and correct it, or go on where that was interrupted.

        Parameters
        ----------
        potential
            Of the beads.
        paths
            Mapped frames, whose boxes and beads the simulations have: one file, or one for each of several volumes.
        directory
            Where the simulations are kept, and in the end ``potential.pt``, ``pressure_matching.json`` and, if
            matplotlib is there, ``pressure.png``.
        pressures
            Of the atoms, for each file: a number in bar, or the path of frames of the atoms, sampled with
            ``pressures=True``.
        frames, platform, threads, progress
            See `RelativeEntropy.fit`.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            There is no box, the files differ in beads, there is not one pressure for each, a log has no pressures, or
            the directory holds another work.
        UnstableSimulationError
            A simulation left all bounds.
        """
        files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        wanted = [pressures] if isinstance(pressures, (int, float, np.number, str, os.PathLike)) else list(pressures)
        if not files or len(wanted) != len(files):
            raise ValueError(f"there must be a pressure for each file of frames; got {len(wanted)} for {len(files)}")
        targets = np.array([_target(each) for each in wanted])
        with ExitStack() as stack:
            systems = [ReferenceFrames([select(stack.enter_context(Frames(file)), frames)]) for file in files]
            self._check(systems, potential)
            replicas = self.replicas or default_replicas(len(systems[0].types))
            inputs = {
                "reference": {f"of system {index}": system.content() for index, system in enumerate(systems)},
                "potential": content(potential),
                "replicas": replicas,
                "strain": self.strain if len(systems) == 1 else None,
                **self.settings,
            }
            folder = stack.enter_context(claim(directory, "a pressure matching", inputs)).folder
            options = {"platform": platform, "threads": threads, "progress": progress}
            return self._match(potential, systems, targets, replicas, folder, options)

    def _check(self, systems: Sequence[ReferenceFrames], potential: CGPotential) -> None:
        first = systems[0]
        for system in systems:
            name = system.sources[0].path
            system.check_potential(potential)
            if system.box is None:
                raise ValueError(f"the frames of {name} have no box, and without one there is no pressure")
            if system.sources[0].names != first.sources[0].names or not np.array_equal(system.bonds, first.bonds):
                raise ValueError(f"{name} and {first.sources[0].path} hold different beads, or different bonds")
            if system.temperature != first.temperature:
                raise ValueError(
                    f"{name} is of {system.temperature} K and {first.sources[0].path} of {first.temperature} K; one "
                    "correction is for one temperature"
                )

    def _match(
        self,
        potential: CGPotential,
        systems: Sequence[ReferenceFrames],
        targets: FloatArray,
        replicas: int,
        folder: Path,
        options: dict[str, Any],
    ) -> PressureMatchingResult:
        strains = (0.0, -self.strain, self.strain) if len(systems) == 1 else (0.0,)
        jobs = [(index, strain) for index in range(len(systems)) for strain in strains]
        volumes, found = [], []
        for number, (index, strain) in enumerate(
            tqdm(jobs, "pressures", unit="volume", disable=not options["progress"])
        ):
            system, stretch = systems[index], (1 + strain) ** (1 / 3)
            outcome = system.simulate(
                potential,
                folder / f"volume_{number}.h5md",
                replicas,
                self.settings,
                stretch=stretch,
                pressures=True,
                **options,
            )
            volumes.append((1 + strain) * float(np.linalg.det(system.box)) / len(system.types))
            found.append((outcome.mean_pressure, outcome.pressure_error))
        beads, errors = np.array(found, float).T
        wanted = np.array([targets[index] for index, _ in jobs])
        places = np.array(volumes)
        if len(systems) == 1 and self.compressibility is not None:
            wanted[:, 0] -= np.array([strain for _, strain in jobs]) / self.compressibility
        elif len(systems) == 1:
            # The beads' own compressibility: what is missing at their volume is missing everywhere.
            wanted[1:] = np.stack([beads[1:] + wanted[0, 0] - beads[0], np.hypot(errors[1:], wanted[0, 1])], axis=1)
        chosen = slice(None) if len(systems) > 1 or self.compressibility is not None else slice(1)
        noise = np.maximum(np.hypot(errors, wanted[:, 1]), 1e-3)
        correction = VolumePotential.from_pressures(places[chosen], (wanted[:, 0] - beads)[chosen], noise[chosen])
        about = {
            **self.settings,
            "replicas": replicas,
            "volumes": places.tolist(),
            "pressures": wanted[:, 0].tolist(),
            "compressibility": self.compressibility,
        }
        result = PressureMatchingResult(
            potential=potential.with_priors([correction], provenance={"pressure_matching": about}),
            correction=correction,
            volumes=places,
            targets=wanted[:, 0],
            target_errors=wanted[:, 1],
            beads=beads,
            bead_errors=errors,
        )
        result.potential.save(folder / "potential.pt")
        write_json(folder / "pressure_matching.json", result.summary())
        with suppress(ImportError), replacing(folder / "pressure.png") as unfinished:
            pressure_figure(result).savefig(unfinished, format="png", dpi=120)
        if options["progress"]:
            tqdm.write(result.verdict)
        return result


def pressure_figure(result: PressureMatchingResult) -> Figure:
    """Pressures of the beads before and after, and those that are wanted, against the volume of a bead."""
    with optional_imports():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(result.volumes)
    volumes = 1e3 * result.volumes[order]
    for values, errors, label, color in (
        (result.beads, result.bead_errors, "beads", "tab:red"),
        (result.pressures, result.bead_errors, "beads with correction", "tab:blue"),
        (result.targets, result.target_errors, "wanted", "black"),
    ):
        axes.errorbar(volumes, values[order], errors[order], marker="o", capsize=3, label=label, color=color)
    axes.set(xlabel="volume of a bead (Å³)", ylabel="pressure (bar)")
    axes.legend(frameon=False)
    return figure


def _target(pressure: Pressure) -> tuple[float, float]:
    """A pressure and its standard error, bar."""
    if isinstance(pressure, (int, float, np.number)):
        if not np.isfinite(pressure):
            raise ValueError(f"the pressure must be finite, got {pressure} bar")
        return float(pressure), 0.0
    log = read_log(Path(pressure))
    if "pressure_bar" not in log or not len(log["pressure_bar"]):
        raise ValueError(f"the log of {pressure} has no pressures; sample with pressures=True, or give a number in bar")
    return series_average(log["pressure_bar"])
