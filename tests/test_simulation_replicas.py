"""Replicas: copies of one system in one Context are as many systems, each for itself."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from conftest import BOXES, bonded_topology, difference, energy_and_forces, images, scatter, system_of

from openmmcg import CGForce, _openmmcg
from openmmcg.mapping import cg_topology
from openmmcg.simulation.replicas import replicate_system

ENGINES = ["native", "torchscript"]
REPLICAS, BEADS = 4, 50
TYPES = [i * 7 % 3 % 2 for i in range(BEADS)]
# Where the replicas are makes no difference to any of them.
SHIFTS = {"in one place": np.zeros(3), "apart": np.array([0.4, -30.0, 7.0])}


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(params=SHIFTS)
def configurations(request, box):
    """Positions [replicas, beads, 3]; the first two replicas are equal but for the shift."""
    first, *others = (scatter(BEADS, box, seed) for seed in range(1, REPLICAS))
    return np.array([first, first, *others]) + np.arange(REPLICAS)[:, None, None] * SHIFTS[request.param]


def force_of(potential, box, engine="auto", replicas=REPLICAS, types=TYPES, **options):
    options = {"types": types, "replicas": replicas, "periodic": box is not None, "engine": engine, **options}
    return CGForce(potential.to_bytes(), **options)


def energies_of_copies(case, system, configurations):
    """Energies [replicas] and forces [replicas, beads, 3] of one Context of a single copy."""
    context = case.context(system, configurations[0])
    results = []
    for positions in configurations:
        context.setPositions(positions)
        results.append(energy_and_forces(context))
    energies, forces = zip(*results, strict=True)
    return np.array(energies), np.array(forces)


def one_by_one(case, potential, configurations, box, engine):
    system = system_of(force_of(potential, box, engine, replicas=1), beads=BEADS, box=box)
    return energies_of_copies(case, system, configurations)


@pytest.mark.pairwise("case", "engine")
def test_energy_and_forces_are_those_of_the_single_systems(case, engine, box, configurations, potential):
    energies, forces = one_by_one(case, potential, configurations, box, engine)
    force = force_of(potential, box, engine)
    context = case.context(system_of(force, beads=REPLICAS * BEADS, box=box), configurations.reshape(-1, 3))
    energy, all_forces = energy_and_forces(context)
    tolerance = 1e-12 if case.is_double else 1e-5
    assert energy == pytest.approx(energies.sum(), rel=tolerance)
    assert difference(all_forces.reshape(configurations.shape), forces) < tolerance
    assert force.replica_energies(context) == pytest.approx(energies, rel=tolerance)


def test_energies_of_replicas_are_those_of_the_present_positions(case, engine, potential):
    force = force_of(potential, None, engine)
    positions = np.tile(scatter(BEADS), (REPLICAS, 1))
    context = case.context(system_of(force, beads=len(positions)), positions)
    before = force.replica_energies(context)
    assert before == pytest.approx(np.full(REPLICAS, energy_and_forces(context)[0] / REPLICAS), rel=1e-5)
    context.getIntegrator().step(2)
    positions[2 * BEADS : 3 * BEADS] *= 1.1
    context.setPositions(positions)
    after = force.replica_energies(context)
    assert np.delete(after, 2) == pytest.approx(np.delete(before, 2), rel=1e-5)
    assert abs(after[2] - before[2]) > 1e-3 * abs(before[2])
    assert after.sum() == pytest.approx(energy_and_forces(context)[0], rel=1e-5)
    one = CGForce.of(context.getSystem().getForce(0))
    assert np.array_equal(one.replica_energies(context), after)


def test_replicas_integrated_together_move_as_each_alone(case, potential):
    box = np.diag([1.6, 1.6, 1.6])
    starts = np.array([scatter(BEADS, box, seed, closest=0.25) for seed in range(REPLICAS)])
    velocities = np.random.default_rng(1).normal(scale=0.3, size=starts.shape)

    def final(positions, velocities, replicas):
        system = system_of(force_of(potential, box, replicas=replicas), beads=len(positions), box=box)
        context = case.context(system, positions)
        context.setVelocities(velocities)
        context.getIntegrator().step(60)  # neighbor lists are built anew, for all replicas at once
        return context.getState(positions=True).getPositions(asNumpy=True)._value

    together = final(starts.reshape(-1, 3), velocities.reshape(-1, 3), REPLICAS).reshape(starts.shape)
    for replica in range(REPLICAS):
        alone = final(starts[replica], velocities[replica], 1)
        assert np.linalg.norm(alone - starts[replica], axis=1).max() > 0.05
        assert together[replica] == pytest.approx(alone, abs=1e-9 if case.is_double else 2e-5)


def test_pairs_are_those_within_each_replica(box, configurations):
    rows, columns = _openmmcg.neighbor_pairs(configurations.reshape(-1, 3), box, 0.6, REPLICAS)
    found = {tuple(sorted(pair)) for pair in zip(rows.tolist(), columns.tolist(), strict=True)}
    assert len(found) == len(rows)
    expected = set()
    first, second = np.triu_indices(BEADS, 1)
    for replica, positions in enumerate(configurations):
        near = np.linalg.norm(images(positions[second] - positions[first], box), axis=1) < 0.6
        pairs = np.stack([first[near], second[near]], 1) + replica * BEADS
        expected |= set(map(tuple, pairs.tolist()))
    assert found == expected


def test_replicas_of_very_different_size_are_found_pairs_for():
    positions = np.stack([scatter(BEADS), 40 * scatter(BEADS), np.zeros((BEADS, 3))])
    rows, columns = _openmmcg.neighbor_pairs(positions.reshape(-1, 3), None, 0.6, 3)
    count = np.bincount(rows // BEADS, minlength=3)
    first, second = np.triu_indices(BEADS, 1)
    distances = np.linalg.norm(positions[:, second] - positions[:, first], axis=2)
    assert count.tolist() == (distances < 0.6).sum(1).tolist()
    assert count[2] == BEADS * (BEADS - 1) / 2


def test_types_of_one_replica_hold_for_all_and_may_differ_between_them(case, engine, potential):
    positions = np.tile(scatter(BEADS), (2, 1))
    results = [
        energy_and_forces(
            case.context(system_of(force_of(potential, None, engine, 2, types), beads=2 * BEADS), positions)
        )
        for types in (TYPES, TYPES + TYPES, TYPES + TYPES[::-1])
    ]
    assert results[0][0] == results[1][0]
    assert np.array_equal(results[0][1], results[1][1])
    assert difference(results[2][1][:BEADS], results[0][1][:BEADS]) < 1e-6
    assert difference(results[2][1][BEADS:], results[0][1][BEADS:]) > 0.1


def test_replicas_can_be_a_subset_of_the_particles(case, engine, potential):
    configurations = np.array([scatter(BEADS, seed=seed) for seed in (1, 2)])
    particles = np.random.default_rng(1).permutation(2 * BEADS + 20)[: 2 * BEADS]
    positions = np.zeros((2 * BEADS + 20, 3))
    positions[particles] = configurations.reshape(-1, 3)
    force = force_of(potential, None, engine, 2, particles=particles)
    context = case.context(system_of(force, beads=len(positions)), positions)
    energies, forces = one_by_one(case, potential, configurations, None, engine)
    assert difference(energy_and_forces(context)[1][particles], forces.reshape(-1, 3)) < 1e-5
    assert force.replica_energies(context) == pytest.approx(energies, rel=1e-5)


def test_global_parameters_reach_every_replica():
    class Scaled(torch.nn.Module):
        def forward(self, positions, box, types, rows, columns, scale):
            return scale * ((positions[columns] - positions[rows]) ** 2).sum()

    options = {"cutoff": 0.6, "global_parameters": {"scale": 2.0}}
    force = CGForce(torch.jit.script(Scaled()), replicas=2, **options)
    force.addEnergyParameterDerivative("scale")
    positions = [[0, 0, 0], [0.3, 0, 0], [0, 0, 0], [0, 0.5, 0]]
    context = openmm.Context(
        system_of(force, beads=4), openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("CPU")
    )
    context.setPositions(positions)
    for scale in (2.0, 4.0):
        context.setParameter("scale", scale)
        assert force.replica_energies(context) == pytest.approx([scale * 0.09, scale * 0.25], rel=1e-6)
        derivatives = context.getState(parameterDerivatives=True).getEnergyParameterDerivatives()
        assert derivatives["scale"] == pytest.approx(0.34, rel=1e-6)


def test_xml_and_copies_keep_the_replicas(potential):
    force = force_of(potential, None)
    xml = openmm.XmlSerializer.serialize(force)
    assert 'replicas="4"' in xml
    for other in (CGForce.of(openmm.XmlSerializer.deserialize(xml)), copy.deepcopy(force)):
        assert (other.replicas, other.getTypes()) == (REPLICAS, TYPES)
    older = xml.replace(' replicas="4"', "").replace('version="2"', 'version="1"')
    assert CGForce.of(openmm.XmlSerializer.deserialize(older)).replicas == 1


@pytest.mark.parametrize("replicas", [0, -2])
def test_there_is_at_least_one_replica(potential, replicas):
    with pytest.raises(openmm.OpenMMException, match=f"at least 1 replica, not {replicas}"):
        force_of(potential, None, replicas=replicas)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 3}, "20 beads cannot be 3 replicas .* multiple of the number of replicas"),
        ({"replicas": 4, "types": [0] * 4}, "4 bead types are given for 20 beads; .* of one of the 4 replicas"),
        ({"replicas": 2, "particles": list(range(15))}, "15 beads cannot be 2 replicas"),
    ],
)
def test_replicas_that_do_not_fit_the_system_are_refused(case, potential, options, message):
    system = system_of(force_of(potential, None, **{"types": [0] * 5, **options}), beads=20)
    with pytest.raises(openmm.OpenMMException, match=message):
        case.context(system, scatter(20))


def test_a_model_that_finds_its_own_pairs_has_no_replicas():
    class Springs(torch.nn.Module):
        def forward(self, positions):
            return (positions * positions).sum()

    force = CGForce(torch.jit.script(Springs()), contract="plain", replicas=2)
    with pytest.raises(openmm.OpenMMException, match="plain contract.*replicas would see each other"):
        openmm.Context(system_of(force, beads=4), openmm.VerletIntegrator(0.001))


def test_energies_of_replicas_need_a_context_of_the_force(potential):
    forces = [force_of(potential, None, replicas=2) for _ in range(2)]
    context = openmm.Context(system_of(forces[0], beads=2 * BEADS), openmm.VerletIntegrator(0.001))
    context.setPositions(np.tile(scatter(BEADS), (2, 1)))
    with pytest.raises(openmm.OpenMMException, match="not present in the Context|getImplInContext"):
        forces[1].replica_energies(context)


# Whole Systems of replicas.


@pytest.mark.pairwise
def test_a_system_of_replicas_is_the_sum_of_single_systems(case, box, configurations, potential_with_prior):
    topology = bonded_topology(TYPES, box)
    single = potential_with_prior.create_system(topology, remove_center_of_mass_motion=False)
    energies, forces = energies_of_copies(case, single, configurations)
    system = potential_with_prior.create_system(topology, replicas=REPLICAS)
    assert system.getNumParticles() == REPLICAS * BEADS
    assert [force.getName() for force in system.getForces()] == ["Repulsion", "CGForce"]
    context = case.context(system, configurations.reshape(-1, 3))
    energy, all_forces = energy_and_forces(context)
    assert energy == pytest.approx(energies.sum(), rel=1e-5)
    assert difference(all_forces.reshape(configurations.shape), forces) < 1e-5


def everything():
    """A System with one of each force that can be repeated, of four beads."""
    system = system_of(beads=4)
    system.addConstraint(0, 3, 0.25)
    forces = [
        openmm.HarmonicBondForce(),
        openmm.HarmonicAngleForce(),
        openmm.PeriodicTorsionForce(),
        openmm.RBTorsionForce(),
        openmm.CustomBondForce("k*r"),
        openmm.CustomAngleForce("k*cos(theta)"),
        openmm.CustomTorsionForce("k*cos(theta)"),
        openmm.CustomExternalForce("k*x^2+y^2"),
        openmm.CustomNonbondedForce("(k1+k2)/r"),
    ]
    forces[0].addBond(0, 1, 0.3, 100.0)
    forces[0].addBond(3, 1, 0.2, 50.0)
    forces[1].addAngle(0, 1, 2, 2.0, 30.0)
    forces[2].addTorsion(0, 1, 2, 3, 2, 0.5, 7.0)
    forces[3].addTorsion(3, 2, 1, 0, 1, 2, 3, 4, 5, 6)
    for force, particles in zip(forces[4:8], ([2, 3], [1, 2, 3], [0, 1, 2, 3], [2]), strict=True):
        force.addPerBondParameter("k") if len(particles) == 2 else None
        force.addPerAngleParameter("k") if len(particles) == 3 else None
        force.addPerTorsionParameter("k") if len(particles) == 4 else None
        force.addPerParticleParameter("k") if len(particles) == 1 else None
        term = {1: "Particle", 2: "Bond", 3: "Angle", 4: "Torsion"}[len(particles)]
        getattr(force, f"add{term}")(*particles, [3.0])
    forces[8].addPerParticleParameter("k")
    for bead in range(4):
        forces[8].addParticle([1.0 + bead])
    forces[8].addExclusion(0, 2)
    for force in forces:
        system.addForce(force)
    return system


def test_every_kind_of_force_is_repeated_for_each_replica(case):
    random = np.random.default_rng(3)
    configurations = random.normal(scale=0.3, size=(3, 4, 3))
    energies, forces = energies_of_copies(case, everything(), configurations)
    system = replicate_system(everything(), 3)
    energy, all_forces = energy_and_forces(case.context(system, configurations.reshape(-1, 3)))
    assert energy == pytest.approx(energies.sum(), rel=1e-5)
    assert difference(all_forces.reshape(forces.shape), forces) < 1e-5
    constraints = [system.getConstraintParameters(index)[:2] for index in range(3)]
    assert constraints == [[0, 3], [4, 7], [8, 11]]


def test_interaction_groups_are_repeated(case):
    box = BOXES["cubic"]

    def system():
        force = openmm.CustomNonbondedForce("-1/r^6")
        force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(0.8)
        force.addInteractionGroup(range(10), range(10, BEADS))
        for _ in range(BEADS):
            force.addParticle([])
        return system_of(force, beads=BEADS, box=box)

    configurations = np.array([scatter(BEADS, box, seed, closest=0.3) for seed in (1, 2)])
    energies, forces = energies_of_copies(case, system(), configurations)
    context = case.context(replicate_system(system(), 2), configurations.reshape(-1, 3))
    energy, all_forces = energy_and_forces(context)
    assert energy == pytest.approx(energies.sum(), rel=1e-5)
    assert difference(all_forces, forces.reshape(-1, 3)) < 1e-5
    corrected = system()
    corrected.getForce(0).setUseLongRangeCorrection(True)
    with pytest.raises(ValueError, match="long-range correction of the force CustomNonbondedForce"):
        replicate_system(corrected, 2)


def test_a_subset_of_beads_is_one_in_every_replica(potential):
    system = system_of(CGForce(potential.to_bytes(), particles=[3, 1], types=["B", "A"]), beads=4)
    force = CGForce.of((two := replicate_system(system, 2)).getForce(0))
    assert (force.getParticles(), force.getTypes(), force.replicas) == ([3, 1, 7, 5], [1, 0], 2)
    assert two.getNumParticles() == 8
    with pytest.raises(ValueError, match="2 replicas already"):
        replicate_system(two, 2)


@pytest.mark.parametrize(
    "force", [openmm.NonbondedForce(), openmm.CMMotionRemover(), openmm.MonteCarloBarostat(1, 300)], ids=type
)
def test_what_would_couple_replicas_is_refused(force):
    with pytest.raises(ValueError, match=f"{type(force).__name__}.* would couple replicas"):
        replicate_system(system_of(force, beads=2), 2)


def test_virtual_sites_and_no_replicas_are_refused():
    system = system_of(beads=3)
    with pytest.raises(ValueError, match="at least 1 replica, not 0"):
        replicate_system(system, 0)
    system.setParticleMass(2, 0)
    system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    with pytest.raises(ValueError, match="virtual sites"):
        replicate_system(system, 2)


def test_a_common_center_of_mass_is_not_taken_from_replicas(potential):
    with pytest.raises(ValueError, match="CMMotionRemover.*would couple"):
        potential.create_system(cg_topology("AB"), replicas=2, remove_center_of_mass_motion=True)


def test_the_benchmark_prints_and_writes_what_it_measures(tmp_path):
    program = Path(__file__).resolve().parents[1] / "benchmarks" / "md_replicas.py"
    options = "--beads 10 --replicas 1 64 --channels 16 --blocks 1 --cutoff 0.8 --json rows.json"
    done = subprocess.run(
        [sys.executable, program, *options.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["beads"], row["replicas"]) for row in rows] == [(10, 1), (10, 64), (640, 1)]
    for row in rows:
        assert f"{row['ms_per_step']:.3f}" in done.stdout
    ratio = rows[1]["ms_per_step"] / rows[2]["ms_per_step"]
    assert f"ratio {ratio:.2f}" in done.stdout
