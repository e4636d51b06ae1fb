"""The Contexts of a run: one for the replicas of each box, stepped together."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from openmmcg.simulation.context import empty_context, place
from openmmcg.simulation.minimise import minimise
from openmmcg.simulation.pressure import PressureGauge
from openmmcg.simulation.replicas import replicate_system
from openmmcg.simulation.resumable.checkpoint import Checkpoint, Group
from openmmcg.simulation.resumable.plan import Plan
from openmmcg.simulation.resumable.record import (
    Record,
    Recorder,
    UnstableSimulationError,
    begins_at_rest,
    degrees_of_freedom,
    instabilities,
)


class Outcome(NamedTuple):
    """What came of some steps: of each replica its record, or the problem it has. One of them for each."""

    records: Mapping[int, Record]
    problems: Mapping[int, str]


class Contexts:
    """Replicas side by side in one Context for each box, since a Context has one box only.

    Parameters
    ----------
    plan : Plan
    groups : sequence of sequence of int
        The replicas of each Context, all in one box.
    platform, threads
        See `openmmcg.simulation.context.create_context`.
    seed : sequence of int
        From which each Context has other noise.
    """

    def __init__(
        self,
        plan: Plan,
        groups: Sequence[Sequence[int]],
        platform: str | openmm.Platform | None,
        threads: int | None,
        seed: Sequence[int],
    ):
        self._plan = plan
        self._groups = [list(group) for group in groups]
        self._options = (platform, threads)
        self._recorder = Recorder(plan.system, plan.dynamics, plan.forces)
        # Its own Context, so that the replicas' are not disturbed.
        self._gauge: PressureGauge | None = None
        if plan.pressures:
            integrator = openmm.VerletIntegrator(plan.dynamics.time_step)
            self._gauge = PressureGauge(empty_context(plan.system, integrator, plan.box_of(0), *self._options))
        self._seeds = [_random_seeds([*seed, number]) for number in range(len(groups))]
        # In which records are taken of replicas that share a Context, so that they are what OpenMM says of each alone.
        self._single: openmm.Context | None = None
        shared = [(group, seeds) for group, seeds in zip(self._groups, self._seeds, strict=True) if len(group) > 1]
        if shared:
            # A Context for a box without right angles takes all others, but not the other way round.
            self._single = self._empty(plan.system, *max(shared, key=lambda each: self._is_oblique(each[0])))
        self._contexts = [
            self._empty(self._replicated(len(group)), group, seeds)
            for group, seeds in zip(self._groups, self._seeds, strict=True)
        ]

    def start(self) -> None:
        """Place all replicas where the plan wants them, with velocities drawn at its temperature.

        Raises
        ------
        ValueError
            As `openmmcg.simulation.context.create_context`.
        """
        for group, context, (_, seed) in zip(self._groups, self._contexts, self._seeds, strict=True):
            starts = []
            for replica in group:
                with self._plan.naming(replica):
                    starts.append(self._placed(replica, context if len(group) == 1 else self._single))
            if len(group) > 1:
                context.setPositions(np.concatenate(starts))
                context.applyConstraints(context.getIntegrator().getConstraintTolerance())
            if self._plan.dynamics.has_velocities:
                context.setVelocitiesToTemperature(self._plan.dynamics.temperature, seed)
            if begins_at_rest(self._plan.system, self._plan.dynamics):
                self._stop_centers(context, len(group))

    def _stop_centers(self, context: openmm.Context, replicas: int) -> None:
        """Take the motion of its centre of mass from each replica."""
        system = self._plan.system
        masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
        velocities = context.getState(velocities=True).getVelocities(asNumpy=True)._value
        velocities = velocities.reshape(replicas, len(masses), 3)
        momenta = np.einsum("n,rnd->rd", masses, velocities)
        moving = masses[:, None] > 0
        context.setVelocities((velocities - moving * (momenta / masses.sum())[:, None]).reshape(-1, 3))

    def load(self, groups: Sequence[Group]) -> None:
        """Take over the states of a checkpoint, or what of them is of replicas that are still here."""
        of_replica = {replica: group for group in groups for replica in group.replicas}
        for replicas, context in zip(self._groups, self._contexts, strict=True):
            group = of_replica[replicas[0]]
            state = openmm.XmlSerializer.deserialize(group.state)
            if group.replicas == replicas:
                context.setState(state)
                continue
            chosen = [group.replicas.index(replica) for replica in replicas]
            context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
            context.setTime(state.getTime())
            context.setStepCount(state.getStepCount())
            for name, value in state.getParameters().items():
                context.setParameter(name, value)
            context.setPositions(_rows(state.getPositions(asNumpy=True), len(group.replicas), chosen))
            context.setVelocities(_rows(state.getVelocities(asNumpy=True), len(group.replicas), chosen))

    def groups(self) -> list[Group]:
        """All that is needed to go on from here."""
        parts = {"positions": True, "velocities": True, "parameters": True, "integratorParameters": True}
        return [
            Group(replicas, openmm.XmlSerializer.serialize(context.getState(**parts)))
            for replicas, context in zip(self._groups, self._contexts, strict=True)
        ]

    def set_time_to_zero(self) -> None:
        for context in self._contexts:
            context.setTime(0.0)
            context.setStepCount(0)

    def advance(self, steps: int) -> Outcome:
        """Integrate, and see what came of it.

        Raises
        ------
        UnstableSimulationError
            A Context could not be integrated, and it does not show which of its replicas is to blame.
        """
        errors: dict[int, str] = {}
        for number, context in enumerate(self._contexts):
            try:
                with instabilities():
                    context.getIntegrator().step(steps)
            except UnstableSimulationError as error:
                errors[number] = str(error)
        outcome = self.look()
        for number, reason in errors.items():
            group = self._groups[number]
            if len(group) == 1:
                outcome = Outcome(
                    {replica: record for replica, record in outcome.records.items() if replica != group[0]},
                    {**outcome.problems, group[0]: reason},
                )
            elif not set(group) & set(outcome.problems):
                raise UnstableSimulationError(reason)
        return outcome

    def look(self) -> Outcome:
        """Records, or problems, of the replicas as they are."""
        records, problems = {}, {}
        for group, context in zip(self._groups, self._contexts, strict=True):
            for replica, alone in zip(group, self._one_by_one(group, context), strict=True):
                try:
                    records[replica] = self._recorder.record(alone, self._gauge)
                except UnstableSimulationError as error:
                    problems[replica] = str(error)
        return Outcome(records, problems)

    def _one_by_one(self, group: Sequence[int], context: openmm.Context) -> Iterator[openmm.Context]:
        """For each replica of a Context one in which it is alone, as it is now."""
        if len(group) == 1:
            yield context
            return
        single = self._single
        assert single is not None
        state = context.getState(positions=True, velocities=True)
        positions, velocities = state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)
        single.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
        single.setTime(state.getTime())
        for number in range(len(group)):
            single.setPositions(_rows(positions, len(group), [number]))
            single.setVelocities(_rows(velocities, len(group), [number]))
            yield single

    def _placed(self, replica: int, context: openmm.Context) -> NDArray[np.float64]:
        """Positions [N, 3], nm, of a replica at its start, after all checks, which are made in a Context for one."""
        plan, (platform, threads) = self._plan, self._options
        start, box = plan.start(replica), plan.box_of(replica)
        if plan.minimisation is not None:
            tolerance = plan.minimisation
            start = minimise(plan.system, start, box, tolerance=tolerance, platform=platform, threads=threads)
        if box is not None:
            context.setPeriodicBoxVectors(*box)
        place(context, start)
        return start

    def _empty(self, system: openmm.System, group: Sequence[int], seeds: tuple[int, int]) -> openmm.Context:
        plan = self._plan
        particles = plan.system.getNumParticles()
        integrator = plan.dynamics.integrator(seeds[0], particles, system.getNumParticles() // particles)
        barostat = plan.dynamics.barostat(seeds[0])
        if barostat is not None:
            system = copy.deepcopy(system)
            system.addForce(barostat)
        context = empty_context(system, integrator, plan.box_of(group[0]), *self._options)
        if isinstance(integrator, openmm.NoseHooverIntegrator):
            degrees = degrees_of_freedom(plan.system, plan.dynamics)
            for chain in range(integrator.getNumThermostats()):
                # OpenMM counts those of the centre of mass where no CMMotionRemover is.
                integrator.getThermostat(chain).setNumDegreesOfFreedom(degrees)
        return context

    def _is_oblique(self, group: Sequence[int]) -> bool:
        box = self._plan.box_of(group[0])
        return box is not None and bool(np.count_nonzero(box) > 3)

    def _replicated(self, number: int) -> openmm.System:
        return self._plan.system if self._plan.replicas is None else replicate_system(self._plan.system, number)


def checkpoint_positions(checkpoint: Checkpoint) -> dict[int, NDArray[np.float64]]:
    """Positions [N, 3], nm, of each replica in a checkpoint."""
    result = {}
    for group in checkpoint.groups:
        state = openmm.XmlSerializer.deserialize(group.state)
        for number, replica in enumerate(group.replicas):
            result[replica] = _rows(state.getPositions(asNumpy=True), len(group.replicas), [number])
    return result


def _rows(values: unit.Quantity, replicas: int, chosen: Sequence[int]) -> NDArray[np.float64]:
    """Of values [replicas * N, 3] those of some replicas, in OpenMM's units."""
    array = np.asarray(values.value_in_unit_system(unit.md_unit_system))
    return array.reshape(replicas, -1, 3)[list(chosen)].reshape(-1, 3)


def _random_seeds(words: Sequence[int]) -> tuple[int, int]:
    """For the thermostat and for velocities."""
    # OpenMM takes positive 32-bit integers; 0 would mean a random one.
    thermostat, velocities = (
        int(word % (2**31 - 1)) + 1 for word in np.random.SeedSequence(list(words)).generate_state(2)
    )
    return thermostat, velocities
