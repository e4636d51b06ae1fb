"""PairForce against OpenMM's own CustomNonbondedForce, against single copies, and against differences."""

import copy
import itertools
import pickle

import numpy as np
import openmm
import pytest
from conftest import BOXES, CASES, Case, difference, energy_and_forces, liquid, scatter, system_of
from scipy.interpolate import CubicSpline

from openmmcg import PairForce, _openmmcg
from openmmcg.potentials import Repulsion, TabulatedPairs
from openmmcg.potentials.priors.templates import add_priors, to_xml
from openmmcg.simulation import minimise
from openmmcg.simulation.replicas import replicate_system

BEADS, CUTOFF = 60, 0.9
SIGMAS = [[0.30, 0.34, 0.28], [0.34, 0.36, 0.31], [0.28, 0.31, 0.26]]
EXPRESSIONS = {
    "repulsion": "(sigma(type1, type2)/r)^12",
    "Lennard-Jones": "4*depth*((sigma(type1, type2)/r)^12 - (sigma(type1, type2)/r)^6)",
    "high frequency": "depth*sin(300*r)/r^2 + (sigma(type1, type2)/r)^6",
    "a table": "u(type1 + type2, r)",
    "a kink": "depth*abs(r - 0.4)*step(type1 + type2 - 1)",
}


def definition(expression="repulsion", particles=BEADS, periodic=True, switched=False, exclusions=()):
    """Pairs of three types, with a global parameter."""
    force = openmm.CustomNonbondedForce(EXPRESSIONS[expression])
    force.setName(expression)
    force.addPerParticleParameter("type")
    if "sigma" in EXPRESSIONS[expression]:
        force.addTabulatedFunction("sigma", openmm.Discrete2DFunction(3, 3, np.ravel(SIGMAS).tolist()))
    if "depth" in EXPRESSIONS[expression]:
        force.addGlobalParameter("depth", 0.7)
        force.addEnergyParameterDerivative("depth")
    if "u(" in EXPRESSIONS[expression]:
        distances = np.linspace(0, CUTOFF, 31)
        rows = [np.cos(distances * (5 + kind)) * (CUTOFF - distances) for kind in range(5)]
        values = np.array(rows).ravel("F").tolist()
        force.addTabulatedFunction("u", openmm.Continuous2DFunction(5, 31, values, 0.0, 4.0, 0.0, CUTOFF))
    force.setNonbondedMethod(force.CutoffPeriodic if periodic else force.CutoffNonPeriodic)
    force.setCutoffDistance(CUTOFF)
    force.setUseSwitchingFunction(switched)
    force.setSwitchingDistance(0.7 * CUTOFF)
    for particle in range(particles):
        force.addParticle([particle % 3])
    for pair in exclusions:
        force.addExclusion(*pair)
    return force


def evaluate(context):
    """Energy, forces and the derivative with respect to the global parameter."""
    state = context.getState(parameterDerivatives=True)
    return *energy_and_forces(context), dict(state.getEnergyParameterDerivatives())


@pytest.mark.pairwise
@pytest.mark.parametrize("switched", [False, True])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_energies_forces_and_derivatives_are_those_of_openmm(case, box, expression, switched):
    chain = [(bead, bead + 1) for bead in range(20)] + [(7, 5)]
    force = definition(expression, periodic=box is not None, switched=switched, exclusions=chain)
    positions = scatter(BEADS, box)
    reference = Case("Reference").context(system_of(copy.copy(force), beads=BEADS, box=box), positions)
    context = case.context(system_of(PairForce(force), beads=BEADS, box=box), positions)
    for depth in (None, 1.9):  # a table follows its parameter
        if depth is not None and "depth" in EXPRESSIONS[expression]:
            for each in (reference, context):
                each.setParameter("depth", depth)
        energy, forces, derivatives = evaluate(reference)
        found, found_forces, found_derivatives = evaluate(context)
        # OpenMM's kernels on GPUs compute pairs in single precision, and so the sine of 300 r.
        rounding = 2e-4 if expression == "high frequency" else 2e-5
        tolerance = {"Reference": 1e-12, "CPU": 1e-6}.get(case.platform, rounding)
        assert found == pytest.approx(energy, rel=tolerance, abs=100 * tolerance)
        assert difference(found_forces, forces) < 2 * tolerance
        assert found_derivatives == pytest.approx(derivatives, rel=max(5 * tolerance, 1e-6))


@pytest.mark.parametrize("case", [Case("Reference"), Case("CPU", 2)], ids=str)
def test_a_spline_on_equal_cells_is_exact_and_no_pair_is_missed(case):
    """By scipy's spline over all images. (OpenMM 8.6's Reference platform misses pairs of this box: -5.608.)"""
    box = BOXES["triclinic"]
    positions, distances = liquid(BEADS, box), np.linspace(0, CUTOFF, 31)
    splines = [
        CubicSpline(distances, np.cos(distances * (5 + kind)) * (CUTOFF - distances), bc_type="natural")
        for kind in range(5)
    ]
    expected = 0.0
    for shift in itertools.product(range(-2, 3), repeat=3):
        between = np.linalg.norm(positions[:, None] - positions + np.array(shift) @ box, axis=-1)
        for i, j in zip(*np.nonzero(between < CUTOFF), strict=True):
            expected += splines[i % 3 + j % 3](between[i, j]) if i < j else 0
    context = case.context(system_of(PairForce(definition("a table")), beads=BEADS, box=box), positions)
    assert energy_and_forces(context)[0] == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("kernels", _openmmcg.get_kernel_sets())
@pytest.mark.parametrize("name", BOXES)
def test_every_kernel_set_computes_the_same(kernels, name, monkeypatch):
    monkeypatch.setenv("OPENMMCG_KERNELS", kernels)
    box = BOXES[name]
    system = system_of(PairForce(definition("Lennard-Jones", periodic=box is not None)), beads=BEADS, box=box)
    positions = scatter(BEADS, box)
    expected = evaluate(Case("Reference").context(system, positions))
    for threads in (1, 2):
        energy, forces, derivatives = evaluate(Case("CPU", threads).context(system, positions))
        assert energy == pytest.approx(expected[0], rel=1e-6)
        assert difference(forces, expected[1]) < 2e-6
        assert derivatives == pytest.approx(expected[2], rel=1e-6)


@pytest.mark.parametrize("expression", ["repulsion", "high frequency", "a kink"])
def test_tables_are_as_right_as_they_promise(expression):
    """Two particles at all distances, down to where nobody ever comes."""
    force = definition(expression, particles=2, periodic=False)
    contexts = [
        Case(name, threads).context(system_of(each, beads=2), [[0, 0, 0], [0.3, 0, 0]])
        for name, threads, each in (("Reference", None, copy.copy(force)), ("CPU", 1, PairForce(force)))
    ]
    random = np.random.default_rng(3)
    for distance in [*random.uniform(0.05, CUTOFF, 300), 0.4, 0.4 + 1e-9]:
        (energy, forces), (found, found_forces) = (
            (context.setPositions([[0, 0, 0], [distance, 0, 0]]), energy_and_forces(context))[1] for context in contexts
        )
        assert abs(found - energy) <= 2e-6 * (abs(energy) + 1)
        assert abs(found_forces[1, 0] - forces[1, 0]) <= 2e-5 * (abs(forces[1, 0]) + 10)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_forces_are_the_derivative_of_the_energy(expression):
    """Central differences of the energy, which is summed in double precision, at a twentieth of the cells' width."""
    box, positions = BOXES["triclinic"], scatter(BEADS, BOXES["triclinic"], closest=0.28)
    context = Case("CPU", 2).context(
        system_of(PairForce(definition(expression, switched=True)), beads=BEADS, box=box), positions
    )
    forces = energy_and_forces(context)[1]
    random = np.random.default_rng(0)
    for _ in range(3):
        direction = random.normal(size=(BEADS, 3))
        energies = []
        for step in (-1e-6, 1e-6):
            context.setPositions(positions + step * direction)
            energies.append(energy_and_forces(context)[0])
        slope = (energies[1] - energies[0]) / 2e-6
        assert slope == pytest.approx(-np.sum(forces * direction), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("replicas", [2, 5])
def test_replicas_do_not_see_each_other(case, box, replicas):
    force = definition("Lennard-Jones", periodic=box is not None, exclusions=[(0, 1), (1, 2)])
    positions = np.array([scatter(BEADS, box, seed=seed) for seed in range(replicas)])
    singles = [
        energy_and_forces(case.context(system_of(PairForce(force), beads=BEADS, box=box), each)) for each in positions
    ]
    system = replicate_system(system_of(PairForce(force), beads=BEADS, box=box), replicas)
    context = case.context(system, positions.reshape(-1, 3))
    energy, forces = energy_and_forces(context)
    tolerance = 1e-6 if case.platform in ("Reference", "CPU") else 2e-5
    assert energy == pytest.approx(sum(single[0] for single in singles), rel=tolerance)
    assert difference(forces, np.concatenate([single[1] for single in singles])) < 2 * tolerance
    pairs = PairForce.of(system.getForce(0))
    if case.platform in ("Reference", "CPU"):
        assert pairs.getReplicaEnergies(context) == pytest.approx([single[0] for single in singles], rel=1e-9)
    else:
        with pytest.raises(openmm.OpenMMException, match="Reference and CPU only"):
            pairs.getReplicaEnergies(context)
    with pytest.raises(ValueError, match="replicas already"):
        replicate_system(system, 2)


def test_a_list_is_made_anew_when_beads_move_and_boxes_change():
    """A step at a time, some beads across the box, against a new Context."""
    box, random = BOXES["rectangular"], np.random.default_rng(2)
    positions, case = scatter(BEADS, box), Case("CPU", 2)
    context = case.context(system_of(PairForce(definition("Lennard-Jones")), beads=BEADS, box=box), positions)
    for step in range(12):
        positions = positions + random.normal(scale=0.02, size=positions.shape)
        positions[step] += box[step % 3]
        if step % 4 == 3:
            box = box * 1.02
        context.setPeriodicBoxVectors(*box)
        context.setPositions(positions)
        fresh = case.context(system_of(PairForce(definition("Lennard-Jones")), beads=BEADS, box=box), positions)
        assert energy_and_forces(context)[0] == pytest.approx(energy_and_forces(fresh)[0], rel=1e-9)


def test_energy_is_conserved():
    """5 ps of a Lennard-Jones liquid of two types in which beads cross cells of the table and of the list."""
    box = np.eye(3) * 2.2
    force = definition("Lennard-Jones", particles=216, switched=True)
    system = system_of(PairForce(force), beads=216, box=box, mass=40.0)
    start = minimise(system, liquid(216, box), box)
    integrator = openmm.VerletIntegrator(0.002)
    context = Case("CPU", 1).context(system, start, integrator)
    context.setVelocitiesToTemperature(120, 1)
    integrator.step(500)

    def total():
        state = context.getState(energy=True)
        return (state.getPotentialEnergy() + state.getKineticEnergy())._value

    energies = []
    for _ in range(20):
        energies.append(total())
        integrator.step(100)
    kinetic = context.getState(energy=True).getKineticEnergy()._value
    assert np.std(energies) < 2e-3 * kinetic
    assert abs(np.polyfit(np.arange(20), energies, 1)[0] * 20) < 2e-3 * kinetic


def test_priors_of_pairs_become_pair_forces():
    for prior in (Repulsion(SIGMAS, cutoff=0.6), TabulatedPairs({(0, 0): [4.0, 3.0, 1.0, 0.0]}, cutoff=0.6)):
        system = system_of(beads=4)
        add_priors(system, [to_xml(prior)], [0] * 4, [(0, 1)], False)
        force = PairForce.of(system.getForce(0))
        assert force.getName() == type(prior).__name__
        assert force.getDefinition().getNumExclusions() == 1


def test_copies_and_files_are_the_same_force():
    force = PairForce(definition(), replicas=3)
    force.setForceGroup(5)
    force.setName("ours")
    for same in (copy.copy(force), copy.deepcopy(force), pickle.loads(pickle.dumps(force))):
        assert (same.replicas, same.getForceGroup(), same.getName()) == (3, 5, "ours")
        assert same.usesPeriodicBoundaryConditions()
        assert openmm.XmlSerializer.serialize(same) == openmm.XmlSerializer.serialize(force)
    changed = force.getDefinition()
    changed.setCutoffDistance(0.1)
    assert force.getDefinition().getCutoffDistance()._value == CUTOFF


def test_a_group_is_evaluated_alone(case):
    positions, box = scatter(BEADS, BOXES["cubic"]), BOXES["cubic"]
    one, other = PairForce(definition("repulsion")), PairForce(definition("a table"))
    other.setForceGroup(3)
    context = case.context(system_of(one, other, beads=BEADS, box=box), positions)
    alone = case.context(system_of(PairForce(definition("a table")), beads=BEADS, box=box), positions)
    assert energy_and_forces(context, groups={3})[0] == pytest.approx(energy_and_forces(alone)[0], rel=1e-6)


def refused(change):
    force = definition()
    change(force)
    return force


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda force: force.setNonbondedMethod(force.NoCutoff), "no cutoff"),
        (lambda force: force.addInteractionGroup([0], [1]), "interaction groups"),
        (lambda force: force.addComputedValue("c", "type"), "computed values"),
        (lambda force: force.setUseLongRangeCorrection(True), "long-range correction"),
        (lambda force: force.setParticleParameters(3, [1, 2]), "particle 3 has 2 parameters"),
    ],
)
def test_what_is_no_such_force_is_refused_when_it_is_made(change, message):
    with pytest.raises(openmm.OpenMMException, match=message):
        PairForce(refused(change))


def test_what_became_no_such_force_is_refused_when_the_context_is_made():
    system = system_of(PairForce(definition()), beads=BEADS, box=BOXES["cubic"])
    system.getForce(0).setUseLongRangeCorrection(True)  # OpenMM's proxy knows it as a CustomNonbondedForce
    with pytest.raises(openmm.OpenMMException, match="long-range correction"):
        Case("CPU", 1).context(system, scatter(BEADS, BOXES["cubic"]))


def test_other_things_are_no_definition():
    with pytest.raises(TypeError, match="not of a NonbondedForce"):
        PairForce(openmm.NonbondedForce())
    with pytest.raises(openmm.OpenMMException, match="at least 1 replica, not 0"):
        PairForce(definition(), replicas=0)
    with pytest.raises(TypeError, match="not a PairForce"):
        PairForce.of(openmm.NonbondedForce())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda force: force.setEnergyFunction("q*r"), "repulsion: .*q"),
        (lambda force: force.setEnergyFunction("r*("), "repulsion: "),
        (lambda force: force.addExclusion(0, BEADS), f"exclusion 0 names particle {BEADS}"),
        (lambda force: force.addParticle([0]), f"{BEADS + 1} particles and 1 replicas, and the System has {BEADS}"),
    ],
)
def test_what_does_not_fit_is_said_when_the_context_is_made(change, message):
    system = system_of(PairForce(refused(change)), beads=BEADS, box=BOXES["cubic"])
    with pytest.raises(openmm.OpenMMException, match=message):
        Case("CPU", 1).context(system, scatter(BEADS, BOXES["cubic"]))


def test_too_many_kinds_are_refused():
    force = openmm.CustomNonbondedForce("q1*q2/r")
    force.addPerParticleParameter("q")
    force.setNonbondedMethod(force.CutoffNonPeriodic)
    for particle in range(65):
        force.addParticle([particle])
    with pytest.raises(openmm.OpenMMException, match="more than 64 different sets of parameters"):
        Case("CPU", 1).context(system_of(PairForce(force), beads=65), scatter(65))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_too_small_a_box_is_named_and_a_barostat_leaves_the_context_as_it_was(case):
    box = np.eye(3) * 1.82
    positions = scatter(BEADS, box, closest=0.15)
    with pytest.raises(openmm.OpenMMException, match=r"the cutoff of repulsion of 0\.9\d* nm is more than half"):
        case.context(system_of(PairForce(definition()), beads=BEADS, box=box * 0.9), positions)
    barostat = openmm.MonteCarloBarostat(1e6, 300.0, 1)
    barostat.setRandomNumberSeed(1)
    integrator = openmm.VerletIntegrator(1e-12)
    context = case.context(system_of(PairForce(definition()), barostat, beads=BEADS, box=box), positions, integrator)
    refused = 0
    for _ in range(30):
        before = context.getState(energy=True).getPeriodicBoxVectors(asNumpy=True)
        try:
            integrator.step(1)
        except openmm.OpenMMException as error:
            refused += 1
            if case.platform not in ("Reference", "CPU"):  # OpenMM's kernels there say so themselves, and too late
                assert "less than twice the nonbonded cutoff" in str(error)
                return
            assert "barostat tried a box with a width below twice the cutoff of repulsion, 1.8" in str(error)
            assert np.array_equal(context.getState().getPeriodicBoxVectors(asNumpy=True), before)
    assert refused > 0


def test_a_position_that_is_no_number_is_named():
    positions = scatter(BEADS)
    positions[7, 1] = np.nan
    context = Case("Reference").context(system_of(PairForce(definition(periodic=False)), beads=BEADS), positions)
    with pytest.raises(openmm.OpenMMException, match="position of bead 7 is not finite"):
        energy_and_forces(context)


@pytest.mark.parametrize(("pair", "named"), [((0, 3), True), ((1, 2), False), ((2, BEADS + 2), False)])
def test_two_in_one_place_are_named_where_they_act_on_each_other(pair, named):
    force = PairForce(definition(periodic=False, exclusions=[(1, 2)]), replicas=2)
    system = system_of(force, beads=2 * BEADS)
    positions = np.tile(scatter(BEADS), (2, 1)) + np.repeat([[0, 0, 0], [0.01, 0, 0]], BEADS, axis=0)
    positions[pair[1]] = positions[pair[0]]
    if named:
        with pytest.raises(ValueError, match=r"particles 0 and 3 coincide.*repulsion"):
            minimise(system, positions, None)
    else:
        minimise(system, positions, None)
