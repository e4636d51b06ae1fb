"""Networks fitted to structure and pressure through trajectories of their own."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openmmcg.fitting.reference_frames import ReferenceFrames, check_times, content, default_replicas, select
from openmmcg.fitting.trajectory_matching.result import TrajectoryMatchingResult, convergence
from openmmcg.frames import Frames
from openmmcg.optional import optional_imports
from openmmcg.potentials import CGPotential
from openmmcg.potentials.priors import Prior
from openmmcg.progress import tqdm
from openmmcg.simulation import UnstableSimulationError, read_log
from openmmcg.state import claim, read_json, reading, replacing, write_json

with optional_imports():
    import torch
    from torch import nn

    from openmmcg.fitting.trajectory_matching.observables import (
        Configuration,
        Observable,
        Pressure,
        describe_observable,
        loss_of,
        reference_means,
    )
    from openmmcg.fitting.trajectory_matching.reweighting import SampledFrames
    from openmmcg.potentials.contract import check_cutoff

FloatArray = NDArray[np.float64]
PathLike = str | os.PathLike[str]
Gradient = Literal["reweighting", "adjoint"]

# Frames of the reference of which observables are averaged at most; more would take longer than they help.
_REFERENCE_FRAMES = 500


class TrajectoryMatching:
    """A network with which beads have the structure, or the pressure, of a reference, fitted through its trajectories.

    The loss is the sum over observables of weight times mean squared difference of their means to those that are
    wanted. Force matching needs forces and gives g(r) within some hundredths; this needs none, can go on where
    force matching ended, and takes curves from experiments. There are two gradients:

    * ``"reweighting"`` (DiffTRe; Thaler and Zavadlav, Nat. Commun. 12, 6884 (2021)): a simulation with the native
      engine gives frames, and their weights say how means change with the network. No trajectory is differentiated.
      Where the authors follow the gradient, a step here is one of Gauss and Newton, as long as the frames allow, which
      needs far fewer simulations, see `SampledFrames.step`.
    * ``"adjoint"`` (Wang, Axelrod and Gómez-Bombarelli): a trajectory under a Nosé-Hoover chain, in torch, is
      differentiated by the adjoint method; for small systems and short times. It needs the package torchdiffeq.

    Parameters
    ----------
    network : Module
        Energies of beads, as `SchNet.forward`: `GNN`, `SchNet`, `PaiNN` or your own, with the weights to begin with.
        From a potential they come by ``network.load_state_dict(potential.network.state_dict())``.
    observables : sequence
        `PairDistances`, `TripletAngles`, `Pressure` or `Mean`.
    priors : sequence
        Act as well, and remain as they are.
    gradient : {"reweighting", "adjoint"}
    iterations : int
        Simulations, or stretches of the trajectory, after the first.
    effective : float
        Of reweighting: the effective number of frames after a step, as a part of them. Less makes longer steps.
    learning_rate : float
        Of the adjoint method, for Adam.
    replicas : int, optional
        See `RelativeEntropy`.
    duration, interval, time_step : float
        ps, of a simulation.
    friction : float
        1/ps, of the Langevin thermostat; the inverse of the period of the chain.
    seed : int

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    ::

        fit = TrajectoryMatching(GNN(types=1), [PairDistances(maximum=1.0)], priors=[repulsion])
        result = fit.fit("beads.h5md", "structure")
        result.potential.save("water.pt")
    """

    def __init__(
        self,
        network: nn.Module,
        observables: Sequence[Observable],
        *,
        priors: Sequence[Prior] = (),
        gradient: Gradient = "reweighting",
        iterations: int = 20,
        effective: float = 0.5,
        learning_rate: float = 2e-3,
        replicas: int | None = None,
        duration: float = 20.0,
        interval: float = 0.2,
        time_step: float = 0.002,
        friction: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not observables:
            raise ValueError("there is nothing to fit to; give observables, PairDistances for example")
        if gradient not in ("reweighting", "adjoint"):
            raise ValueError(f"gradient must be 'reweighting' or 'adjoint', not {gradient!r}")
        if iterations < 0 or (replicas is not None and replicas < 1):
            raise ValueError(
                f"there must be iterations from 0 on and replicas from 1 on; got {iterations} and {replicas}"
            )
        if not (learning_rate > 0 and 0 < effective < 1):
            raise ValueError(
                "the learning rate must be positive and the effective number of frames between 0 and 1; got "
                f"{learning_rate} and {effective}"
            )
        check_times(duration, interval, time_step)
        check_cutoff(network)
        if gradient == "adjoint":
            if any(isinstance(each, Pressure) for each in observables):
                raise ValueError("the adjoint method does not know the pressure; take gradient='reweighting'")
            if getattr(network, "cutoff", None) is None:
                raise ValueError("the adjoint method is for networks with a cutoff; take gradient='reweighting'")
            if replicas not in (None, 1):
                raise ValueError(f"the adjoint method runs one replica, not {replicas}")
            with optional_imports():
                import torchdiffeq  # noqa: F401
        labels = [each.label for each in observables]
        if len(set(labels)) < len(labels):
            raise ValueError(f"observables need labels of their own, got {', '.join(labels)}; give a Mean another name")
        self.network, self.observables, self.priors = network, list(observables), list(priors)
        self.iterations, self.replicas = iterations, replicas
        self.settings: dict[str, Any] = {
            "gradient": gradient,
            **({"effective": effective} if gradient == "reweighting" else {"learning_rate": learning_rate}),
            "duration": duration,
            "interval": interval,
            "time_step": time_step,
            "friction": friction,
            "seed": seed,
        }

    def fit(
        self,
        paths: PathLike | Sequence[PathLike],
        directory: PathLike,
        *,
        frames: slice = slice(None),
        platform: str = "CPU",
        threads: int | None = None,
        progress: bool = True,
    ) -> TrajectoryMatchingResult:
        """Fit, or go on where an interrupted fit was, or return what a finished one found; iterations may grow.

        Parameters
        ----------
        paths
            Mapped frames of the reference, of the same beads in the same box: from them simulations start, and their
            means are those that are wanted where an observable has none of its own.
        directory
            Where simulations and networks are kept, and in the end ``potential.pt``, ``trajectory_matching.json`` and,
            if matplotlib is there, ``convergence.png``.
        frames, platform, threads, progress
            See `RelativeEntropy.fit`.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            The files differ in beads or box, the network is of other beads, an observable reaches farther than half the
            box, or the directory holds another work.
        UnstableSimulationError
            The first simulation left all bounds.
        """
        files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not files:
            raise ValueError("there are no files of mapped frames; give at least one")
        with ExitStack() as stack:
            system = ReferenceFrames([select(stack.enter_context(Frames(file)), frames) for file in files])
            self._check(system)
            adjoint = self.settings["gradient"] == "adjoint"
            replicas = 1 if adjoint else self.replicas or default_replicas(len(system.types))
            if not adjoint and system.frames < replicas:
                raise ValueError(f"{replicas} replicas need as many frames to start from; there are {system.frames}")
            potential = CGPotential(self.network, system.kinds_of_beads, priors=self.priors)
            first = configuration(system, system.sources[0].positions[0])
            inputs = {
                "reference": system.content(),
                "potential": content(potential),
                "observables": [describe_observable(each, first) for each in self.observables],
                "replicas": replicas,
                **self.settings,
            }
            folder = stack.enter_context(claim(directory, "a fit through the trajectory", inputs)).folder
            options = {"platform": platform, "threads": threads, "progress": progress}
            stack.enter_context(_torch_threads(threads))
            return _Fit(self, system, replicas, folder, options).go()

    def _check(self, system: ReferenceFrames) -> None:
        name = system.sources[0].path
        kinds = getattr(self.network, "types", len(system.kinds_of_beads))
        if kinds != len(system.kinds_of_beads):
            raise ValueError(f"the network knows {kinds} bead types, {name} has {len(system.kinds_of_beads)}")
        for each in self.observables:
            if isinstance(each, Pressure) and system.box is None:
                raise ValueError(f"the frames of {name} have no box, and without one there is no pressure")
            if system.box is not None and each.reach > system.longest_cutoff():
                raise ValueError(
                    f"{each.label} reaches {each.reach:g} nm, farther than half the smallest width of the box of "
                    f"{name}, {system.longest_cutoff():.4f} nm; take a smaller range, or sample a larger box"
                )


def configuration(system: ReferenceFrames, positions: NDArray[np.floating]) -> Configuration:
    """Beads of a system at some positions, nm, as observables take them."""
    box = None if system.box is None else torch.from_numpy(np.array(system.box))
    types = torch.as_tensor(np.asarray(system.types, np.int64))
    return Configuration(torch.from_numpy(np.asarray(positions, float)), box, types)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads, where that is said."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Fit:
    """One call of `TrajectoryMatching.fit`."""

    def __init__(
        self,
        fit: TrajectoryMatching,
        system: ReferenceFrames,
        replicas: int,
        folder: Path,
        options: dict[str, Any],
    ) -> None:
        self._settings, self._iterations = fit.settings, fit.iterations
        self._observables, self._priors = fit.observables, fit.priors
        self._system, self._replicas, self._folder, self._options = system, replicas, folder, options
        self._network = copy.deepcopy(fit.network)
        self._optimizer: torch.optim.Optimizer | None = None
        if "learning_rate" in fit.settings:
            self._optimizer = torch.optim.Adam(self._network.parameters(), lr=fit.settings["learning_rate"])
        self._types = torch.as_tensor(np.asarray(system.types, np.int64))
        self._box = None if system.box is None else torch.from_numpy(np.array(system.box))
        self._targets = reference_means(fit.observables, self._reference())
        self._walk: Any = None

    def _reference(self) -> list[Configuration]:
        if all(each.target is not None for each in self._observables):
            return []
        step = max(1, self._system.frames // _REFERENCE_FRAMES)
        return [
            configuration(self._system, source.positions[frame])
            for source in self._system.sources
            for frame in range(0, len(source), step)
        ]

    def go(self) -> TrajectoryMatchingResult:
        rows: list[dict[str, Any]] = []
        bar = tqdm(range(self._iterations + 1), "fit", unit="simulation", disable=not self._options["progress"])
        for number in bar:
            outcome, following = self._folder / f"outcome_{number}.json", self._folder / f"network_{number + 1}.pt"
            last = number == self._iterations
            if outcome.exists() and (last or following.exists()):
                rows.append(read_json(outcome, "the outcome of a simulation"))
            else:
                self._load(number)
                rows.append(self._iterate(number, rows, last))
                if not last:
                    self._save(number + 1)
                write_json(outcome, rows[-1])
            loss = rows[-1]["loss"]
            bar.set_postfix_str("unstable" if loss is None else f"loss {loss:.3g}")
        return self._result(rows)

    def _iterate(self, number: int, rows: Sequence[dict[str, Any]], last: bool) -> dict[str, Any]:
        """A simulation with the present network, and the step that follows."""
        if self._optimizer is not None:
            return self._adjoint(number, last, self._optimizer)
        try:
            sampled = self._sample(number)
        except UnstableSimulationError:
            good = [index for index, row in enumerate(rows) if row["loss"] is not None]
            if not good:
                raise
            # Half of the way back to the last network that was stable.
            kept = self._state(good[-1])["network"]
            with torch.no_grad():
                for name, values in self._network.state_dict().items():
                    values.copy_((values + kept[name]) / 2 if values.is_floating_point() else values)
            return {"loss": None, "means": [], "effective": None}
        means = [values.mean(0).numpy() for values in sampled.values]
        loss = loss_of(self._observables, means, self._targets)
        found = 1.0 if last else sampled.step(self._network, self._targets, self._settings["effective"])
        return {"loss": loss, "means": [mean.tolist() for mean in means], "effective": found}

    def _sample(self, number: int) -> SampledFrames:
        path = self._folder / f"simulation_{number}.h5md"
        has_pressure = any(isinstance(each, Pressure) for each in self._observables)
        outcome = self._system.simulate(
            self._potential(self._network, {}),
            path,
            self._replicas,
            self._settings,
            pressures=has_pressure,
            **self._options,
        )
        configurations, pressures = [], []
        for replica in outcome.replicas:
            with Frames(replica.path) as run:
                configurations += [configuration(self._system, frame) for frame in run.positions[:]]
            if has_pressure:
                pressures.append(read_log(replica.path)["pressure_bar"])
        return SampledFrames(
            self._network,
            configurations,
            self._observables,
            self._system.thermal,
            np.concatenate(pressures) if pressures else None,
            next(self._network.parameters()).dtype,
        )

    def _adjoint(self, number: int, last: bool, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """A stretch of the trajectory, and the step that follows."""
        from openmmcg.fitting.trajectory_matching.adjoint import NoseHooverChain, State, adjoint_gradient
        from openmmcg.fitting.trajectory_matching.pair_priors import PairPriors

        dtype = next(self._network.parameters()).dtype
        masses = torch.tensor([self._system.kinds_of_beads[kind].mass for kind in self._system.types], dtype=dtype)
        box = None if self._box is None else self._box.to(dtype)
        motion = NoseHooverChain(
            self._network,
            masses,
            self._types,
            box,
            self._system.thermal,
            period=1 / self._settings["friction"],
            prior=PairPriors(self._priors, self._types, self._box) if self._priors else None,
        )
        if self._walk is None:
            random = torch.Generator().manual_seed(self._settings["seed"])
            velocities = torch.randn(len(masses), 3, generator=random, dtype=dtype)
            velocities *= torch.sqrt(self._system.thermal / masses)[:, None]
            velocities -= (masses[:, None] * velocities).sum(0) / masses.sum()
            start = torch.from_numpy(self._system.starts(1)[0]).to(dtype)
            self._walk = (start, velocities, torch.zeros(3, dtype=dtype))
        interval = self._settings["interval"]
        times = interval * np.arange(1, round(self._settings["duration"] / interval) + 1)
        optimizer.zero_grad()
        # The constructor has refused pressures.
        observables = [each for each in self._observables if not isinstance(each, Pressure)]
        loss, means, end = adjoint_gradient(
            motion, State(*self._walk), times.tolist(), self._settings["time_step"], observables, self._targets
        )
        if not (np.isfinite(loss) and bool(torch.isfinite(end.positions).all())):
            raise UnstableSimulationError(
                f"the trajectory of stretch {number} left all bounds; take a smaller time step or learning rate, and "
                "another directory"
            )
        self._walk = (end.positions, end.velocities, end.chain)
        if not last:
            optimizer.step()
        return {"loss": loss, "means": [mean.tolist() for mean in means], "effective": 1.0}

    def _potential(self, network: nn.Module, provenance: dict[str, Any]) -> CGPotential:
        return CGPotential(
            network,
            self._system.kinds_of_beads,
            priors=self._priors,
            temperature=self._system.temperature,
            provenance={"trajectory_matching": provenance},
        )

    def _state(self, number: int) -> dict[str, Any]:
        file = self._folder / f"network_{number}.pt"
        with reading(str(file), "a network of a fit"):
            state: dict[str, Any] = torch.load(file, weights_only=True)
        return state

    def _load(self, number: int) -> None:
        if not (self._folder / f"network_{number}.pt").exists():
            self._save(number)
            return
        state = self._state(number)
        self._network.load_state_dict(state["network"])
        if self._optimizer is not None:
            self._optimizer.load_state_dict(state["optimizer"])
        self._walk = state["walk"]

    def _save(self, number: int) -> None:
        state = {
            "network": self._network.state_dict(),
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
            "walk": self._walk,
        }
        with replacing(self._folder / f"network_{number}.pt") as unfinished:
            torch.save(state, unfinished)

    def _result(self, rows: Sequence[dict[str, Any]]) -> TrajectoryMatchingResult:
        losses = np.array([np.nan if row["loss"] is None else row["loss"] for row in rows])
        best = int(np.nanargmin(losses))
        network = copy.deepcopy(self._network)
        network.load_state_dict(self._state(best)["network"])
        about = {**self._settings, "simulation": best, "loss": losses[best]}
        result = TrajectoryMatchingResult(
            potential=self._potential(network, about),
            losses=losses,
            effective=np.array([np.nan if row["effective"] is None else row["effective"] for row in rows]),
            best=best,
            labels=[each.label for each in self._observables],
            means=[np.array(mean) for mean in rows[best]["means"]],
            targets=self._targets,
        )
        result.potential.save(self._folder / "potential.pt")
        write_json(self._folder / "trajectory_matching.json", result.summary())
        with suppress(ImportError), replacing(self._folder / "convergence.png") as unfinished:
            convergence(result).savefig(unfinished, format="png", dpi=120)
        if self._options["progress"]:
            tqdm.write(result.verdict)
        return result
