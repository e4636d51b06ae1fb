"""CGForce: one set of statements for every platform, engine and precision."""

import copy
import json
import pickle
import zipfile

import numpy as np
import openmm
import pytest
from conftest import (
    CASES,
    GPU_PLATFORMS,
    difference,
    energy_and_forces,
    exact,
    images,
    random_potential,
    scatter,
    system_of,
)

from openmmcg import CGForce, _openmmcg

ENGINES = ["native", "torchscript"]
NETWORKS = {
    "gaussian tanh": {},
    "exponential softplus": {"basis": "exponential_normal", "basis_start": 0.15, "activation": "shifted_softplus"},
    "one block": {"blocks": 1, "channels": 16},
    "four blocks, odd width": {"blocks": 4, "channels": 37, "basis_size": 20},
    "widths of their own": {"output_channels": [9, 5], "filter_channels": 40, "channels": 128},
    "gnn": {"network": "gnn", "channels": 16},
    "painn": {"network": "painn"},
    "painn of one block": {"network": "painn", "blocks": 1, "channels": 64},
    "painn of three blocks, odd width": {"network": "painn", "blocks": 3, "channels": 37, "activation": "tanh"},
    "painn of degree 2": {"network": "painn of degree 2"},
    "painn of degree 2, odd width": {"network": "painn of degree 2", "blocks": 3, "channels": 19, "activation": "tanh"},
}
KINDS = ["schnet", "gnn", "painn"]
BEADS = 90


def types_of(beads):
    return [i * 7 % 3 % 2 for i in range(beads)]


def cg_system(potential, positions, box, engine="auto", **options):
    beads = len(positions)
    force = CGForce(potential.to_bytes(), types=types_of(beads), periodic=box is not None, engine=engine, **options)
    return system_of(force, beads=beads, box=box)


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.mark.pairwise("case", "engine")
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_energy_and_forces_are_those_of_the_network(case, engine, box, options):
    assert_energy_and_forces_are_those_of_the_network(random_potential(3, **options), case, engine, box)


def assert_energy_and_forces_are_those_of_the_network(potential, case, engine, box):
    positions = scatter(BEADS, box)
    energy, forces = energy_and_forces(case.context(cg_system(potential, positions, box, engine), positions))
    expected_energy, expected_forces = exact(potential, positions, types_of(BEADS), box)
    # float64: what is left is the interpolation of the tables.
    assert difference(energy, expected_energy) < (1e-6 if case.is_double else 3e-5)
    assert difference(forces, expected_forces) < (1e-5 if case.is_double else 3e-5)


@pytest.mark.pairwise("case", "engine")
@pytest.mark.parametrize("network", KINDS)
def test_forces_are_minus_the_gradient_of_the_energy(case, engine, box, network):
    assert_forces_are_minus_the_gradient_of_the_energy(random_potential(network=network), case, engine, box)


def assert_forces_are_minus_the_gradient_of_the_energy(potential, case, engine, box):
    positions = scatter(BEADS, box)
    system = cg_system(potential, positions, box, engine)
    forces = energy_and_forces(case.context(system, positions))[1]
    # Energies of float32 have too few digits for differences over steps as small as a vector's norm bends within.
    double = CASES[0].context(system, positions)
    random = np.random.default_rng(2)
    step = 1e-6
    numerical, analytic = [], []
    for _ in range(6):
        direction = random.normal(size=forces.shape) * np.sign(forces)
        direction /= np.linalg.norm(direction)
        energies = []
        for sign in (2, 1, -1, -2):
            double.setPositions(positions + sign * step * direction)
            energies.append(energy_and_forces(double)[0])
        # The fourth-order formula: its error is negligible at these steps.
        numerical.append(-(8 * (energies[1] - energies[2]) - (energies[0] - energies[3])) / (12 * step))
        analytic.append((forces * direction).sum())
    assert difference(numerical, np.array(analytic)) < (1e-7 if case.is_double else 3e-5)


@pytest.mark.pairwise
@pytest.mark.parametrize("parity", [1, -1], ids=["rotation", "reflection"])
@pytest.mark.parametrize("network", KINDS)
def test_forces_turn_with_the_beads(case, engine, network, parity):
    assert_forces_turn_with_the_beads(random_potential(2, network=network), case, engine, parity)


def assert_forces_turn_with_the_beads(potential, case, engine, parity):
    positions = scatter(BEADS)
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    rotation *= parity * np.sign(np.linalg.det(rotation))
    context = case.context(cg_system(potential, positions, None, engine), positions)
    energy, forces = energy_and_forces(context)
    context.setPositions(positions @ rotation)
    turned_energy, turned_forces = energy_and_forces(context)
    tolerance = 1e-10 if case.is_double else 1e-5
    assert difference(turned_energy, energy) < tolerance
    assert difference(turned_forces, forces @ rotation) < tolerance


def test_a_potential_of_many_beads_is_the_sum_of_distant_parts(case, engine, potential):
    part = scatter(40)
    far = np.concatenate([part, part + [50.0, -20.0, 30.0]])
    types = types_of(40)
    systems = [
        system_of(CGForce(potential.to_bytes(), types=t, engine=engine), beads=len(t)) for t in (types, types * 2)
    ]
    (one, one_forces), (two, two_forces) = (
        energy_and_forces(case.context(system, places)) for system, places in zip(systems, (part, far), strict=True)
    )
    assert two == pytest.approx(2 * one, rel=1e-5)
    assert difference(two_forces[40:], one_forces) < 1e-5


def test_beads_can_be_a_subset_of_the_particles(case, engine, potential):
    positions = scatter(60, closest=0.15)
    chosen = list(range(58, 0, -3))
    force = CGForce(potential.to_bytes(), particles=chosen, types=types_of(len(chosen)), engine=engine)
    energy, forces = energy_and_forces(case.context(system_of(force, beads=60), positions))
    alone = CGForce(potential.to_bytes(), types=types_of(len(chosen)), engine=engine)
    system = system_of(alone, beads=len(chosen))
    expected_energy, expected_forces = energy_and_forces(case.context(system, positions[chosen]))
    assert energy == pytest.approx(expected_energy, rel=1e-5)
    assert difference(forces[chosen], expected_forces) < 1e-5
    others = np.setdiff1d(np.arange(60), chosen)
    assert np.all(forces[others] == 0)


def test_it_adds_to_other_forces_and_has_a_force_group(case, engine, potential):
    positions = scatter(30)
    system = cg_system(potential, positions, None, engine)
    bonds = openmm.HarmonicBondForce()
    bonds.addBond(0, 1, 0.3, 1000.0)
    system.addForce(bonds)
    system.getForce(0).setForceGroup(3)
    context = case.context(system, positions)
    total, mine, bond = (energy_and_forces(context, groups) for groups in (-1, {3}, {0}))
    assert total[0] == pytest.approx(mine[0] + bond[0], rel=1e-5)
    assert np.allclose(total[1], mine[1] + bond[1], atol=1e-2)
    assert bond[0] == pytest.approx(500 * (np.linalg.norm(positions[0] - positions[1]) - 0.3) ** 2, rel=1e-4)


def test_new_weights_can_be_swapped_into_a_running_context(case, engine, potential):
    positions = scatter(50)
    system = cg_system(potential, positions, None, engine)
    context = case.context(system, positions)
    before = energy_and_forces(context)
    other = random_potential(9)
    force = CGForce.of(system.getForce(0))
    force.setModel(other.to_bytes())
    assert difference(energy_and_forces(context)[1], before[1]) < 1e-6
    force.updateParametersInContext(context)
    expected = exact(other, positions, types_of(50), None)
    assert difference(energy_and_forces(context)[1], expected[1]) < 2e-5
    assert difference(before[1], expected[1]) > 0.1


def test_beads_keep_the_names_of_their_types(case, engine, potential):
    """A model may list its bead types in another order, and more of them."""
    positions = scatter(20)
    system = cg_system(potential, positions, None, engine)
    context = case.context(system, positions)
    force = CGForce.of(system.getForce(0))
    other = random_potential(5, bead_types=(("B", 30.0), ("C", 10.0), ("A", 20.0)))
    force.setModel(other.to_bytes())
    assert force.getTypes() == [{0: 2, 1: 0}[type_] for type_ in types_of(20)]
    force.updateParametersInContext(context)
    expected = exact(other, positions, force.getTypes(), None)
    assert difference(energy_and_forces(context)[1], expected[1]) < 3e-5
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    assert difference(energy_and_forces(case.context(again, positions))[1], expected[1]) < 3e-5


def test_a_context_takes_new_types_over(case, engine, potential):
    positions = scatter(20)
    system = cg_system(potential, positions, None, engine)
    context = case.context(system, positions)
    force = CGForce.of(system.getForce(0))
    types = [1 - type_ for type_ in types_of(20)]
    force.setTypes(types)
    force.updateParametersInContext(context)
    assert difference(energy_and_forces(context)[1], exact(potential, positions, types, None)[1]) < 3e-5


def test_types_that_the_model_does_not_know_are_refused_where_they_are_used(potential):
    positions = scatter(20)
    system = cg_system(potential, positions, None)
    context = CASES[0].context(system, positions)
    before = energy_and_forces(context)
    force = CGForce.of(system.getForce(0))
    force.setModel(random_potential(5, bead_types=(("A", 20.0),)).to_bytes())
    for use in (
        force.getTypes,
        lambda: force.updateParametersInContext(context),
        lambda: CASES[0].context(system, positions),
        lambda: openmm.XmlSerializer.serialize(system),
        lambda: pickle.dumps(force),
    ):
        with pytest.raises(
            openmm.OpenMMException, match="bead 1 is of the bead type 'B', which the model does not know"
        ):
            use()
    assert difference(energy_and_forces(context)[1], before[1]) < 1e-12
    force.setTypes(["A"] * 20)
    force.updateParametersInContext(context)
    assert difference(energy_and_forces(context)[1], before[1]) > 0.01


CHANGES = {
    "cutoff": (lambda force: force.setModel(random_potential(1, cutoff=0.5).to_bytes()), "then: 0.6; now: 0.5"),
    "engine": (lambda force: force.setEngine("torchscript"), "then: native; now: torchscript"),
    "particles": (lambda force: force.setParticles(range(1, 11)), "choice of particles"),
    "replicas": (lambda force: setattr(force, "replicas", 2), "then: 1; now: 2"),
    "periodicity": (lambda force: force.setUsesPeriodicBoundaryConditions(False), "then: yes; now: no"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_a_context_cannot_take_over_is_refused(case, potential, change, message):
    box = np.diag([1.5, 1.5, 1.5])
    positions = scatter(12, box)
    force = CGForce(potential.to_bytes(), types=types_of(10), particles=range(10), periodic=True)
    system = system_of(force, beads=12, box=box)
    context = case.context(system, positions)
    before = energy_and_forces(context)
    change(force)
    with pytest.raises(openmm.OpenMMException, match=f"{message}.*make a new Context"):
        force.updateParametersInContext(context)
    # Neither the change nor the refusal shows.
    assert difference(energy_and_forces(context)[1], before[1]) < 1e-6


@pytest.mark.pairwise
def test_xml_contains_all_that_is_needed(case, engine, potential, box):
    positions = scatter(70, box)
    particles = list(range(70))[::-1]
    system = cg_system(potential, positions, box, engine, particles=particles)
    system.getForce(0).setForceGroup(5)
    system.getForce(0).setName("the network")
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    force = CGForce.of(again.getForce(0))
    assert force.getModel() == CGForce.of(system.getForce(0)).getModel()
    assert (force.getForceGroup(), force.getName(), force.getEngine()) == (5, "the network", engine)
    assert force.getParticles() == particles
    assert force.getTypes() == types_of(70)
    assert force.usesPeriodicBoundaryConditions() == (box is not None)
    results = [energy_and_forces(case.context(s, positions)) for s in (system, again)]
    assert difference(results[1][1], results[0][1]) < 1e-6


def test_python_copies_of_a_force_are_forces(potential):
    force = CGForce(potential.to_bytes(), types=["A", "B", "A"], periodic=True)
    for other in (copy.copy(force), copy.deepcopy(force), pickle.loads(pickle.dumps(force))):
        assert isinstance(other, CGForce)
        assert other.getTypes() == [0, 1, 0]
        assert other.getModel() == force.getModel()
        assert int(other.this) != int(force.this)


def test_a_force_taken_from_a_system_can_be_turned_back(potential):
    system = system_of(CGForce(potential.to_bytes(), types=[0, 1]), openmm.HarmonicBondForce(), beads=2)
    assert not isinstance(system.getForce(0), CGForce)
    assert CGForce.of(system.getForce(0)).getBeadTypes() == ["A", "B"]
    with pytest.raises(TypeError, match="HarmonicBondForce is not a CGForce"):
        CGForce.of(system.getForce(1))


USES = {
    "getTypes": lambda force: force.getTypes(),
    "setTypes": lambda force: force.setTypes([0, 1]),
    "getModel": lambda force: force.getModel(),
    "updateParametersInContext": lambda force: force.updateParametersInContext(
        openmm.Context(
            system_of(beads=1), openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
        )
    ),
    "getName": lambda force: force.getName(),
    "setName": lambda force: force.setName("network"),
    "getForceGroup": lambda force: force.getForceGroup(),
    "setForceGroup": lambda force: force.setForceGroup(1),
    "usesPeriodicBoundaryConditions": lambda force: force.usesPeriodicBoundaryConditions(),
    "copy": copy.copy,
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_force_whose_system_is_gone_says_so(potential, use):
    system = system_of(CGForce(potential.to_bytes(), types=[0, 1]), beads=2)
    plain = system.getForce(0)
    force = CGForce.of(plain)
    del system
    # Another force may lie where it was.
    others = [CGForce(potential.to_bytes(), types=[1, 0]) for _ in range(3)]
    with pytest.raises(openmm.OpenMMException, match="exists no more, because the System"):
        use(force)
    assert [other.getTypes() for other in others] == [[1, 0]] * 3


def test_a_proxy_of_a_force_whose_system_is_gone_is_no_force(potential):
    plain = system_of(CGForce(potential.to_bytes(), types=[0, 1]), beads=2).getForce(0)
    with pytest.raises(TypeError, match="its System is gone"):
        CGForce.of(plain)


def test_a_file_its_bytes_and_names_of_types_say_the_same(two_type_potential):
    by_file = CGForce(two_type_potential, types=["B", "A", "B"])
    by_bytes = CGForce(two_type_potential.read_bytes(), types=[1, 0, 1])
    assert by_file.getModel() == by_bytes.getModel()
    assert by_file.getTypes() == by_bytes.getTypes()
    assert by_file.getCutoff() == pytest.approx(0.6)
    assert by_file.hasCompiledNetwork()


def test_a_checkpoint_restores_a_run(case, engine, potential):
    positions = scatter(40)
    context = case.context(cg_system(potential, positions, None, engine), positions)
    context.setVelocitiesToTemperature(100, 3)
    integrator = context.getIntegrator()
    integrator.step(10)
    checkpoint = context.createCheckpoint()
    trajectories = []
    for _ in range(2):
        context.loadCheckpoint(checkpoint)
        integrator.step(20)
        trajectories.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    assert np.allclose(trajectories[0], trajectories[1], atol=1e-9 if case.is_double else 1e-4)


def box_of(state):
    return state.getPeriodicBoxVectors(asNumpy=True)._value


def test_a_barostat_moves_by_the_energies_of_the_boxes(case, engine, potential):
    """Every move is a uniform scaling, accepted by exp(−ΔW/k_B T); ΔW of the accepted ones is not arbitrary."""
    box = np.diag([1.5, 1.5, 1.5])
    positions = scatter(40, box)
    system = cg_system(potential, positions, box, engine)
    barostat = openmm.MonteCarloBarostat(50.0, 300.0, 1)
    barostat.setRandomNumberSeed(2)
    system.addForce(barostat)
    # Without a step in time, positions change by the barostat's scaling alone.
    integrator = openmm.VerletIntegrator(1e-12)
    context = case.context(system, positions, integrator)
    thermal, pressure = 0.00831446 * 300, 50.0 * 0.0602214
    moves, before = 0, context.getState(energy=True, positions=True)
    for _ in range(8):
        integrator.step(1)
        state = context.getState(energy=True, forces=True, positions=True)
        now, places = box_of(state), state.getPositions(asNumpy=True)._value
        energy, forces = exact(potential, places, types_of(40), now)
        assert difference(state.getForces(asNumpy=True)._value, forces) < 3e-5
        assert state.getPotentialEnergy()._value == pytest.approx(energy, rel=3e-5)
        scale = now[0, 0] / box_of(before)[0, 0]
        assert np.allclose(now, scale * box_of(before))
        if scale == 1:
            continue
        moves += 1
        work = (
            energy
            - before.getPotentialEnergy()._value
            + pressure * (np.linalg.det(now) - np.linalg.det(box_of(before)))
            - 3 * 40 * thermal * np.log(scale)
        )
        assert work < 20 * thermal
        before = state
    assert moves > 1


@pytest.mark.parametrize("first", ["barostat", "force"])
def test_a_barostats_move_into_too_small_a_box_is_undone_and_named(case, potential, first):
    box = np.diag([1.21, 1.21, 1.21])
    positions = scatter(10, box)
    system = system_of(beads=10, box=box)
    barostat = openmm.MonteCarloBarostat(1e6, 300.0, 1)
    barostat.setRandomNumberSeed(1)
    forces = [barostat, CGForce(potential.to_bytes(), types=types_of(10), periodic=True)]
    for force in forces if first == "barostat" else reversed(forces):
        system.addForce(force)
    integrator = openmm.VerletIntegrator(1e-12)
    context = case.context(system, positions, integrator)
    refused = 0
    for _ in range(30):
        before = context.getState(positions=True, energy=True)
        try:
            integrator.step(1)
        except openmm.OpenMMException as error:
            assert "barostat tried a box with a width below twice the model's cutoff, 1.2" in str(error)
            refused += 1
            state = context.getState(positions=True, energy=True)
            assert np.array_equal(box_of(state), box_of(before))
            assert state.getPotentialEnergy()._value == pytest.approx(before.getPotentialEnergy()._value, rel=1e-6)
            moved = (state.getPositions(asNumpy=True) - before.getPositions(asNumpy=True))._value
            assert np.abs(moved).max() < 1e-6
    assert 0 < refused < 30
    assert box_of(context.getState())[0, 0] >= 1.2


def test_massless_beads_stay_and_virtual_sites_pass_their_force_on(case, engine, potential):
    positions = scatter(20)
    system = cg_system(potential, positions, None, engine)
    system.setParticleMass(4, 0.0)
    system.setParticleMass(7, 0.0)
    system.setVirtualSite(7, openmm.TwoParticleAverageSite(1, 2, 0.3, 0.7))
    context = case.context(system, positions)
    context.computeVirtualSites()
    places = context.getState(positions=True).getPositions(asNumpy=True)._value
    raw = exact(potential, places, types_of(20), None)[1]
    forces = energy_and_forces(context)[1]
    assert np.allclose(forces[1], raw[1] + 0.3 * raw[7], atol=2e-5 * np.abs(raw).max())
    assert np.allclose(forces[2], raw[2] + 0.7 * raw[7], atol=2e-5 * np.abs(raw).max())
    context.getIntegrator().step(5)
    moved = context.getState(positions=True).getPositions(asNumpy=True)._value
    assert np.allclose(moved[4], places[4])
    assert np.allclose(moved[7], 0.3 * moved[1] + 0.7 * moved[2], atol=1e-6)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c.platform in GPU_PLATFORMS), id=str(c)) for c in CASES]
)
@pytest.mark.parametrize("network", KINDS)
def test_energy_is_conserved(case, network):
    potential = random_potential(network=network)
    box = np.diag([1.6, 1.6, 1.6])
    positions = scatter(60, box, closest=0.25)
    system = cg_system(potential, positions, box, "native")
    context = case.context(system, positions, openmm.VerletIntegrator(0.0005))
    context.setVelocitiesToTemperature(300, 1)
    totals, potentials = [], []
    for _ in range(50):
        context.getIntegrator().step(20)
        state = context.getState(energy=True)
        totals.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
        potentials.append(state.getPotentialEnergy()._value)
    # What kinetic and potential energy exchange in half a picosecond is a hundred times what their sum varies by.
    assert np.std(totals) < 0.01 * np.std(potentials)
    drift = np.polyfit(np.linspace(0, 1, len(totals)), totals, 1)[0]
    assert abs(drift) < 2e-3 * 1.5 * 60 * 0.0083145 * 300


def test_pairs_of_the_neighbor_list_are_those_of_all_distances(box):
    positions = scatter(200, box, closest=0.05)
    rows, columns = _openmmcg.neighbor_pairs(positions, box, 0.6)
    found = {tuple(sorted(pair)) for pair in zip(rows.tolist(), columns.tolist(), strict=True)}
    assert len(found) == len(rows)
    all_rows, all_columns = np.triu_indices(200, 1)
    near = np.linalg.norm(images(positions[all_columns] - positions[all_rows], box), axis=1) < 0.6
    assert found == set(zip(all_rows[near].tolist(), all_columns[near].tolist(), strict=True))


@pytest.mark.parametrize("box", [np.ones((3, 3)), np.diag([2.0, -2.0, 2.0]), [[2, 0.1, 0], [0, 2, 0], [0, 0, 2]]])
def test_pairs_are_refused_in_a_box_that_is_not_reduced(box):
    with pytest.raises(ValueError, match="must be in OpenMM's reduced form"):
        _openmmcg.neighbor_pairs(scatter(5), np.asarray(box, float), 0.6)


# What goes wrong is said before any step is made.


def test_a_missing_file_is_named():
    with pytest.raises(openmm.OpenMMException, match="'no such file.pt': No such file"):
        CGForce("no such file.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(two_type_potential, tmp_path, share):
    content = two_type_potential.read_bytes()
    path = tmp_path / "short.pt"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(openmm.OpenMMException, match="short.pt.*truncated"):
        CGForce(path)


def test_a_corrupted_network_is_refused(two_type_potential):
    content = bytearray(two_type_potential.read_bytes())
    place = content.find(b"compiled_network.bin") + 5000
    content[place] ^= 0xFF
    force = CGForce(bytes(content), types=[0, 1])
    with pytest.raises(openmm.OpenMMException, match="checksum of 'compiled_network.bin'"):
        openmm.Context(system_of(force, beads=2), openmm.VerletIntegrator(0.001))


def test_other_archives_are_refused(tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("text", "nothing")
    with pytest.raises(openmm.OpenMMException, match="has no model.json"):
        CGForce(path)


def rewritten(file, path, **changes):
    """The file with other entries in its model.json, and the checksums that belong to it."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "model.json":
                content = json.dumps({**json.loads(content), **changes})
            new.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 9}, "has format version 9; this openmm-cg reads versions up to 2: upgrade openmm-cg"),
        ({"contract": "none"}, r"holds priors alone.*CGPotential.load\(...\).create_system"),
        ({"contract": "telepathy"}, "unknown contract 'telepathy'"),
        ({"cutoff": -0.5}, "cutoff of -0.5.* must be positive"),
        ({"bead_types": []}, "names no bead types"),
        ({"bead_types": [{"name": "A", "mass": 1.0}] * 2}, "names the bead type 'A' twice"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"bead_types": 3}, "model.json that cannot be read"),
    ],
)
def test_a_description_that_cannot_be_meant_is_refused(two_type_potential, tmp_path, changes, message):
    assert CGForce(rewritten(two_type_potential, tmp_path / "same.pt")).getBeadTypes() == ["A", "B"]
    with pytest.raises(openmm.OpenMMException, match=message):
        CGForce(rewritten(two_type_potential, tmp_path / "other.pt", **changes))


def test_the_cutoff_must_fit_into_half_the_box(case, engine, potential):
    box = np.diag([1.19, 2.0, 2.0])
    positions = scatter(10, box)
    with pytest.raises(openmm.OpenMMException, match="half the smallest width of the periodic box, 1.19"):
        case.context(cg_system(potential, positions, box, engine), positions)


def test_a_box_that_becomes_too_small_stops_the_run(case, potential):
    box = np.diag([1.3, 1.3, 1.3])
    positions = scatter(10, box)
    context = case.context(cg_system(potential, positions, box), positions)
    context.setPeriodicBoxVectors(*np.diag([1.1, 1.1, 1.1]))
    with pytest.raises(openmm.OpenMMException, match="half the smallest width"):
        context.getState(energy=True)


def test_positions_that_are_not_finite_are_named(case, engine, potential):
    positions = scatter(10)
    context = case.context(cg_system(potential, positions, None, engine), positions)
    positions[3, 1] = np.nan
    context.setPositions(positions)
    # OpenMM's CPU platform looks at the positions first.
    message = "Particle coordinate is NaN" if case.platform == "CPU" else "bead 3 is not finite"
    with pytest.raises(openmm.OpenMMException, match=message):
        context.getState(energy=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ["A", "C"]}, "bead 1 has the unknown bead type 'C'; the model knows A, B"),
        ({"types": [0, 2]}, "bead 1 has the bead type 2, but the model knows the types 0 to 1"),
        ({"types": [0, 1], "particles": [0, 0]}, "particle 0 is listed twice"),
        ({"types": [0, 1], "particles": [0, -1]}, "-1 is negative"),
        ({"types": [0, 1], "engine": "quantum"}, "no engine 'quantum'; choose auto, native, torchscript or"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(potential, options, message):
    with pytest.raises(openmm.OpenMMException, match=message):
        CGForce(potential.to_bytes(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "2 bead types; give the type of each bead"),
        ({"types": [0, 1, 0]}, "3 bead types are given for 5 beads"),
        ({"types": [0, 1], "particles": [0, 5]}, "particle 5 is not in the System, which has 5 particles"),
    ],
)
def test_a_force_that_does_not_fit_the_system_is_refused(case, potential, options, message):
    system = system_of(CGForce(potential.to_bytes(), **options), beads=5)
    with pytest.raises(openmm.OpenMMException, match=message):
        case.context(system, scatter(5))


def test_the_native_engine_has_no_global_parameters(potential):
    force = CGForce(potential.to_bytes(), types=[0, 1])
    with pytest.raises(openmm.OpenMMException, match="declares no global parameter 'scale'"):
        force.addEnergyParameterDerivative("scale")


@pytest.mark.parametrize("kind", [0, 1])
def test_one_lone_bead_has_the_energy_of_its_type_alone(case, engine, potential, kind):
    # Two particles: OpenMM's OpenCL platform fails for one over PoCL.
    positions = scatter(2)
    system = system_of(CGForce(potential.to_bytes(), types=[kind], particles=[1], engine=engine), beads=2)
    energy, forces = energy_and_forces(case.context(system, positions))
    assert energy == pytest.approx(exact(potential, positions[1:], [kind], None)[0], rel=3e-5, abs=1e-6)
    assert np.all(forces == 0)


def test_nothing_is_no_selection_of_beads(potential):
    for options in ({"particles": []}, {"types": []}, {"particles": np.array([], int)}):
        with pytest.raises(ValueError, match="is empty.*; None means"):
            CGForce(potential.to_bytes(), **{"types": [0, 1], **options})
    force = CGForce(potential.to_bytes(), types=[0, 1], particles=[2, 4])
    with pytest.raises(ValueError, match="particles is empty"):
        force.setParticles([])
    assert force.getParticles() == [2, 4]
    force.setParticles(None)
    assert force.getParticles() is None


@pytest.mark.parametrize("wrong", [0.9, 1.0, np.float64(1), True, np.True_, None, "0"])
def test_indices_are_integers(potential, wrong):
    with pytest.raises(TypeError, match=r"particles\[1\] is .*; give integers"):
        CGForce(potential.to_bytes(), types=[0, 1], particles=[2, wrong])
    if not isinstance(wrong, str):
        with pytest.raises(TypeError, match=r"types\[1\] is .*; give integers"):
            CGForce(potential.to_bytes(), types=[0, wrong])
    chosen = CGForce(potential.to_bytes(), types=np.array([0, 1], np.int8), particles=np.array([3, 1], np.uint16))
    assert (chosen.getTypes(), chosen.getParticles()) == ([0, 1], [3, 1])
