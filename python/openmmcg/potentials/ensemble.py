"""Ensembles: the mean of several potentials drives a simulation, and their spread tells how sure they are."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import app

from openmmcg._openmmcg import is_cgforce
from openmmcg.potentials.potential import CGPotential
from openmmcg.progress import tqdm
from openmmcg.simulation.context import empty_context
from openmmcg.state import read_json, reading, write_json

_MOST = 31  # OpenMM has 32 force groups, and the first is that of what the potentials share


class Ensemble:
    r"""Several potentials of the same beads, such as those of the folds of a cross-validation.

    The mean of their forces is that of their mean energy. Each is scaled by one over their number, and all are in one
    System, so that their sum, which OpenMM integrates, is the mean: the network of potential m (from 0) is in the
    force group m + 1, with its priors where the potentials have different ones; equal priors are there once, in group
    0. The forces of a group times the number of potentials are therefore those of one potential, and their spread
    costs nothing in the steps where nobody asks for it, see `EnsembleReporter`.

    The spread of a bead is :math:`\sqrt{\frac{1}{M} \sum_m |F_m - \bar F|^2}` in kJ/mol/nm. It is large where the
    training frames do not say what the force is.

    Parameters
    ----------
    potentials : sequence of CGPotential
        With the same bead types, and for the same temperature.
    spread_limit : float, optional
        Spread of a bead above which a frame is outside the training domain, kJ/mol/nm, see `find_spread_limit`.

    Raises
    ------
    ValueError
        There are fewer than two potentials or more than 31, they differ in bead types or temperature, or the limit is
        not positive.

    Notes
    -----
    Making a System needs torch.

    Examples
    --------
    >>> import torch
    >>> from openmm import app
    >>> from openmmcg.potentials import CGPotential, Ensemble, SchNet
    >>> network = SchNet(types=1, channels=4, blocks=1, cutoff=0.6)
    >>> ensemble = Ensemble([CGPotential(network, [("W", 18.015)])] * 2)
    >>> topology = app.Topology()
    >>> chain = topology.addChain()
    >>> for _ in range(2):
    ...     _ = topology.addAtom("W", None, topology.addResidue("W", chain))
    >>> system = ensemble.create_system(topology, remove_center_of_mass_motion=False)
    >>> [force.getForceGroup() for force in system.getForces()]
    [1, 2]
    """

    def __init__(self, potentials: Sequence[CGPotential], spread_limit: float | None = None) -> None:
        self.potentials = list(potentials)
        self.spread_limit = spread_limit
        if not 2 <= len(self.potentials) <= _MOST:
            raise ValueError(f"an ensemble is of 2 to {_MOST} potentials, one force group each; got {len(potentials)}")
        if spread_limit is not None and not spread_limit > 0:
            raise ValueError(f"the limit of the spread must be positive, got {spread_limit} kJ/mol/nm")
        first = self.potentials[0]
        for number, potential in enumerate(self.potentials):
            for what in ("bead_types", "temperature"):
                if getattr(potential, what) != getattr(first, what):
                    raise ValueError(
                        f"potential {number} of the ensemble has the {what.replace('_', ' ')} "
                        f"{getattr(potential, what)}, potential 0 {getattr(first, what)}; they must be the same"
                    )

    def __len__(self) -> int:
        return len(self.potentials)

    @property
    def groups(self) -> list[int]:
        """Force group of each potential in the Systems of `create_system`."""
        return list(range(1, len(self) + 1))

    def create_system(
        self, topology: app.Topology, *, remove_center_of_mass_motion: bool | None = None, **options: Any
    ) -> openmm.System:
        """Build a System whose forces are the mean of the potentials' forces.

        Parameters
        ----------
        topology, remove_center_of_mass_motion, **options
            As of `CGPotential.create_system`: types, replicas, periodic, engine.

        Raises
        ------
        ValueError
            As of `CGPotential.create_system`.
        """
        share = 1.0 / len(self)
        priors = [potential.prior_templates for potential in self.potentials]
        shared = all(templates == priors[0] for templates in priors)
        system: openmm.System | None = None
        for group, potential in zip(self.groups, self.potentials, strict=True):
            part = potential.scaled(share, priors=not shared).create_system(
                topology, remove_center_of_mass_motion=False, **options
            )
            for force in part.getForces():
                if is_cgforce(int(force.this)) or not shared:
                    force.setForceGroup(group)
            if system is None:
                system = part
                continue
            for force in part.getForces():
                if force.getForceGroup() == group:
                    system.addForce(copy.deepcopy(force))
        assert system is not None
        if remove_center_of_mass_motion or (remove_center_of_mass_motion is None and options.get("replicas", 1) == 1):
            system.addForce(openmm.CMMotionRemover())
        return system

    def forces(self, context: openmm.Context) -> NDArray[np.float64]:
        """Forces of each potential, ``[potentials, N, 3]``, kJ/mol/nm, less priors that all share.

        Parameters
        ----------
        context
            Of a System of this ensemble, with positions.
        """
        states = (context.getState(forces=True, groups={group}) for group in self.groups)
        return len(self) * np.array([state.getForces(asNumpy=True)._value for state in states])

    def force_spread(
        self,
        positions: ArrayLike,
        topology: app.Topology,
        *,
        types: Sequence[str] | None = None,
        boxes: ArrayLike | None = None,
        platform: str = "CPU",
        progress: bool = True,
    ) -> NDArray[np.float64]:
        """Spread of the force on each bead in frames, ``[frames, N]``, kJ/mol/nm.

        Parameters
        ----------
        positions : array-like [frames, N, 3]
            nm
        topology, types
            As of `CGPotential.create_system`.
        boxes : array-like [frames, 3, 3], optional
            Box vectors as rows, nm, where the topology has a box.
        platform
            Where forces are computed.
        progress
            Whether to show a progress bar.
        """
        frames = np.asarray(positions, float)
        vectors = None if boxes is None else np.asarray(boxes, float)
        system = self.create_system(topology, types=types)
        if frames.ndim != 3 or frames.shape[1:] != (system.getNumParticles(), 3):
            raise ValueError(
                f"positions must be [frames, {system.getNumParticles()}, 3] for this topology, got {list(frames.shape)}"
            )
        integrator = openmm.VerletIntegrator(0.001)
        context = empty_context(system, integrator, None if vectors is None else vectors[0], platform)
        spreads = np.empty(frames.shape[:2])
        for index, frame in enumerate(tqdm(frames, "spread", unit="frame", disable=not progress, leave=False)):
            if vectors is not None:
                context.setPeriodicBoxVectors(*vectors[index])
            context.setPositions(frame)
            spreads[index] = spread_of(self.forces(context))
        return spreads

    def with_spread_limit(self, limit: float) -> Ensemble:
        """The same potentials, with a limit of the spread, kJ/mol/nm."""
        return Ensemble(self.potentials, limit)

    def is_outside(self, spreads: ArrayLike) -> NDArray[np.bool_]:
        """Whether frames are outside the training domain: the spread of a bead exceeds the limit.

        Parameters
        ----------
        spreads : array-like [..., N]
            Of each bead, kJ/mol/nm.

        Raises
        ------
        ValueError
            The ensemble has no limit.
        """
        if self.spread_limit is None:
            raise ValueError(
                "the ensemble has no limit of the spread; find it with find_spread_limit on training frames, and "
                "set it with with_spread_limit"
            )
        return np.asarray(spreads).max(-1) > self.spread_limit

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the potentials into a folder, ``potential_0.pt`` and so on, and ``ensemble.json``."""
        folder = Path(directory).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        files = [f"potential_{number}.pt" for number in range(len(self))]
        for file, potential in zip(files, self.potentials, strict=True):
            potential.save(folder / file)
        write_json(folder / "ensemble.json", {"potentials": files, "spread_limit": self.spread_limit})

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Ensemble:
        """Read what `save` has written.

        Raises
        ------
        FileNotFoundError
            There is no ensemble.
        ValueError
            A file is damaged.
        """
        folder = Path(directory).expanduser()
        content = read_json(folder / "ensemble.json", "an ensemble")
        with reading(folder / "ensemble.json", "an ensemble"):
            files, limit = content["potentials"], content["spread_limit"]
        return cls([CGPotential.load(folder / file) for file in files], limit)


def spread_of(forces: ArrayLike) -> NDArray[np.float64]:
    """Standard deviation over potentials of the force on each bead, ``[N]`` from ``[potentials, N, 3]``."""
    return np.sqrt(np.asarray(forces, float).var(axis=0).sum(-1))


def find_spread_limit(spreads: ArrayLike, percentile: float = 99.9) -> float:
    """The largest spread of a bead that all but few of the training frames stay below, kJ/mol/nm.

    Parameters
    ----------
    spreads : array-like [frames, N]
        `Ensemble.force_spread` of frames that the potentials were trained on, or validated on.
    percentile
        How many of the frames stay below.

    Raises
    ------
    ValueError
        There are no frames, or numbers that are not finite.

    Examples
    --------
    >>> find_spread_limit([[1.0, 2.0], [3.0, 1.0], [0.0, 4.0]], percentile=50)
    3.0
    """
    values = np.asarray(spreads, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"the limit needs finite spreads [frames, N] of at least one frame, got {list(values.shape)}")
    return float(np.percentile(values.max(1), percentile))
