"""Operations on a CGForce in any order, and its Contexts: as a fresh force in a fresh Context, or refused."""

import threading

import numpy as np
import openmm
import pytest
from conftest import CASES, GPU_PLATFORMS, Case, difference, energy_and_forces, random_potential, scatter, system_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openmmcg import CGForce

BEADS = 12
SMALL = {"channels": 8, "blocks": 1}
POTENTIALS = {
    "AB": random_potential(0, **SMALL),
    "AB, other weights": random_potential(1, **SMALL),
    "BA": random_potential(2, bead_types=(("B", 30.0), ("A", 20.0)), **SMALL),
    "ABC": random_potential(3, bead_types=(("A", 20.0), ("B", 30.0), ("C", 10.0)), **SMALL),
    "A": random_potential(4, bead_types=(("A", 20.0),), **SMALL),
    "short": random_potential(5, cutoff=0.45, **SMALL),
}
MODELS = {name: potential.to_bytes() for name, potential in POTENTIALS.items()}
NAMES = {name: [kind.name for kind in potential.bead_types] for name, potential in POTENTIALS.items()}


class Forces(RuleBasedStateMachine):
    """A force in a System with two Contexts; beside it, in plain Python, what it and they should be."""

    case: Case

    @initialize()
    def begin(self):
        self.parts = {"model": "AB", "types": ["A", "B"] * 6, "particles": None, "periodic": True, "replicas": 1}
        self.system = system_of(self.fresh_force(self.parts), beads=BEADS, box=np.diag([1.5] * 3))
        self.force = CGForce.of(self.system.getForce(0))
        # What each Context was made with or has taken over since.
        self.contexts = [(self.new_context(), dict(self.parts)) for _ in range(2)]
        self.positions = scatter(BEADS, np.diag([1.5] * 3))
        for context, _ in self.contexts:
            context.setPositions(self.positions)

    def fresh_force(self, parts):
        options = {key: value for key, value in parts.items() if key != "model"}
        return CGForce(MODELS[parts["model"]], **options)

    def new_context(self):
        return self.case.context(self.system, np.zeros((BEADS, 3)))

    @rule(model=st.sampled_from(list(MODELS)))
    def set_model(self, model):
        self.force.setModel(MODELS[model])
        self.parts["model"] = model

    @rule(seed=st.integers(0, 5), beads=st.sampled_from([6, BEADS]))
    def set_types(self, seed, beads):
        names = NAMES[self.parts["model"]]
        self.parts["types"] = [names[k] for k in np.random.default_rng(seed).integers(len(names), size=beads)]
        self.force.setTypes(self.parts["types"])

    @rule(particles=st.sampled_from([None, tuple(range(BEADS)), tuple(range(6)), tuple(range(11, 5, -1))]))
    def set_particles(self, particles):
        self.force.setParticles(particles)
        self.parts["particles"] = particles

    @rule(periodic=st.booleans())
    def set_periodic(self, periodic):
        self.force.setUsesPeriodicBoundaryConditions(periodic)
        self.parts["periodic"] = periodic

    @rule(replicas=st.sampled_from([1, 2]))
    def set_replicas(self, replicas):
        self.force.replicas = replicas
        self.parts["replicas"] = replicas

    @rule(which=st.integers(0, 1))
    def update(self, which):
        context, made = self.contexts[which]
        try:
            self.force.updateParametersInContext(context)
        except openmm.OpenMMException:
            assert not self.can_be_taken_over(made), "what can be taken over is refused"
            return
        assert self.can_be_taken_over(made), "what cannot be taken over is accepted"
        self.contexts[which] = (context, dict(self.parts))

    @rule(which=st.integers(0, 1), model=st.sampled_from(list(MODELS)), seed=st.integers(0, 5))
    def exchange_model_and_types(self, which, model, seed):
        """Everything else as the Context has it."""
        _, made = self.contexts[which]
        self.set_particles(made["particles"])
        self.set_periodic(made["periodic"])
        self.set_replicas(made["replicas"])
        self.set_model(model)
        self.set_types(seed, self.beads())
        self.update(which)

    @rule(which=st.integers(0, 1))
    def make_context(self, which):
        try:
            context = self.new_context()
        except openmm.OpenMMException:
            assert not self.fits(), "a force whose parts fit is refused"
            return
        assert self.fits(), "a force whose parts do not fit is accepted"
        context.setPositions(self.positions)
        self.contexts[which] = (context, dict(self.parts))

    @rule(which=st.integers(0, 1))
    def step(self, which):
        context, _ = self.contexts[which]
        context.getIntegrator().step(1)

    @rule(which=st.integers(0, 1), seed=st.integers(0, 3))
    def set_positions(self, which, seed):
        self.contexts[which][0].setPositions(scatter(BEADS, np.diag([1.5] * 3), seed))

    @rule(which=st.integers(0, 1), width=st.sampled_from([1.3, 1.5, 2.0]))
    def set_box(self, which, width):
        self.contexts[which][0].setPeriodicBoxVectors(*np.diag([width] * 3))

    def beads(self):
        return BEADS if self.parts["particles"] is None else len(self.parts["particles"])

    def fits(self):
        parts = self.parts
        known = set(parts["types"]) <= set(NAMES[parts["model"]])
        return known and len(parts["types"]) * (1 if len(parts["types"]) == self.beads() else parts["replicas"]) == (
            self.beads()
        )

    def can_be_taken_over(self, made):
        def kept(parts):
            particles = tuple(range(BEADS)) if parts["particles"] is None else parts["particles"]
            return particles, parts["periodic"], parts["replicas"], parts["model"] == "short"

        return self.fits() and kept(self.parts) == kept(made)

    @invariant()
    def contexts_are_as_fresh_ones(self):
        for context, made in getattr(self, "contexts", ()):
            state = context.getState(positions=True)
            system = system_of(
                self.fresh_force(made), beads=BEADS, box=state.getPeriodicBoxVectors(asNumpy=True)._value
            )
            fresh = CASES[0].context(system, state.getPositions(asNumpy=True)._value)
            energy, forces = energy_and_forces(context)
            expected_energy, expected_forces = energy_and_forces(fresh)
            assert energy == pytest.approx(expected_energy, rel=1e-4, abs=1e-3)
            assert np.abs(forces - expected_forces).max() < 1e-4 * max(1.0, np.abs(expected_forces).max())


@pytest.mark.parametrize("platform", [CASES[0], Case("CPU", 1), *map(Case, GPU_PLATFORMS)], ids=str)
def test_any_sequence_of_operations_gives_the_force_that_it_says_or_is_refused(platform):
    machine = type("Machine", (Forces,), {"case": platform})
    # A Context on a GPU platform takes long to make.
    examples = 3 if platform.platform in GPU_PLATFORMS else 40
    machine.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase().runTest()


@pytest.mark.parametrize("engine", ["native", "torchscript"])
def test_contexts_in_threads_at_the_same_time_give_what_they_give_one_by_one(case, engine):
    box = np.diag([1.5] * 3)

    def run(seed):
        force = CGForce(MODELS["AB"], types=["A", "B"] * 15, periodic=True, engine=engine)
        positions = scatter(30, box, seed)
        context = case.context(system_of(force, beads=30, box=box), positions)
        context.getIntegrator().step(5)
        return context.getState(positions=True).getPositions(asNumpy=True)._value

    serial = [run(seed) for seed in range(2)]
    results = {}
    threads = [threading.Thread(target=lambda seed=seed: results.update({seed: run(seed)})) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, expected in enumerate(serial):
        assert difference(results[seed], expected) < 1e-6
