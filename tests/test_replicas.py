"""Replicas: copies of one system in one Context are as many systems, each for itself."""

import copy

import numpy as np
import openmm
import pytest
import torch
from conftest import difference, energy_and_forces, images, scatter, system_of

from openmmcg import CGForce, _openmmcg

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


def one_by_one(case, potential, configurations, box, engine):
    """Energies [replicas] and forces [replicas, beads, 3] of a Context of a single copy."""
    system = system_of(force_of(potential, box, engine, replicas=1), beads=BEADS, box=box)
    context = case.context(system, configurations[0])
    results = []
    for positions in configurations:
        context.setPositions(positions)
        results.append(energy_and_forces(context))
    energies, forces = zip(*results, strict=True)
    return np.array(energies), np.array(forces)


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
