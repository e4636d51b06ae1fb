"""Ensembles: the mean force drives the System, the spread is there on demand."""

import csv

import numpy as np
import openmm
import pytest
from conftest import difference, energy_and_forces, random_potential, scatter
from openmm import app, unit

from openmmcg.potentials import (
    CGnet,
    CGPotential,
    CosineAngles,
    Ensemble,
    EnsembleReporter,
    HarmonicAngles,
    HarmonicBonds,
    PeriodicDihedrals,
    Repulsion,
    find_spread_limit,
)

BEADS = 6
BOND = 0.3


def chain(box=None):
    topology = app.Topology()
    molecule = topology.addChain()
    atoms = [topology.addAtom("AB"[i % 2], None, topology.addResidue("M", molecule)) for i in range(BEADS)]
    for pair in zip(atoms, atoms[1:], strict=False):
        topology.addBond(*pair)
    if box is not None:
        topology.setPeriodicBoxVectors(box * unit.nanometer)
    return topology


def priors(scale):
    return [
        HarmonicBonds({(0, 1): (BOND, 1000.0 * scale)}),
        HarmonicAngles({(0, 1, 0): (2.0, 20.0 * scale), (1, 0, 1): (1.9, 30.0 * scale)}),
        CosineAngles({(0, 1, 0): (-0.2, 10.0 * scale)}),
        PeriodicDihedrals({(0, 1, 0, 1): [(1, 0.3, 2.0 * scale), (2, 0.0, 1.0)]}),
        Repulsion([[0.3, 0.25 * scale], [0.25 * scale, 0.3]], cutoff=0.6),
    ]


def potentials(number=3, vary=True, **options):
    return [random_potential(seed, priors=priors(1 + 0.1 * seed * vary), **options) for seed in range(number)]


def positions(seed=1):
    """A chain at random, as it would be in a simulation."""
    random = np.random.default_rng(seed)
    steps = np.array([[BOND, 0.0, 0.0], [0.1, 0.28, 0.05]])[np.arange(BEADS) % 2]
    return np.cumsum(steps + random.normal(scale=0.02, size=(BEADS, 3)), 0)


def context_of(system, places, platform="Reference"):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions(places)
    return context


def evaluate(system, places, box=None):
    context = context_of(system, places)
    if box is not None:
        context.setPeriodicBoxVectors(*box)
    return energy_and_forces(context)


@pytest.mark.parametrize("vary", [False, True], ids=["the same priors", "priors of their own"])
@pytest.mark.parametrize("engine", ["native", "torchscript"])
def test_energy_and_forces_are_the_means_of_the_potentials(vary, engine):
    box = np.eye(3) * 2.5
    members = potentials(vary=vary)
    single = [evaluate(member.create_system(chain(box), engine=engine), positions(), box) for member in members]
    energy, forces = evaluate(Ensemble(members).create_system(chain(box), engine=engine), positions(), box)
    assert energy == pytest.approx(np.mean([part[0] for part in single]), rel=1e-6)
    assert difference(forces, np.mean([part[1] for part in single], 0)) < 1e-6


@pytest.mark.parametrize("vary", [False, True], ids=["the same priors", "priors of their own"])
def test_the_spread_is_the_standard_deviation_over_potentials(vary):
    members = potentials(vary=vary)
    frames = np.array([positions(seed) for seed in range(3)])
    spread = Ensemble(members).force_spread(frames, chain(), platform="Reference", progress=False)
    systems = [member.create_system(chain()) for member in members]
    forces = np.array([[evaluate(system, frame)[1] for frame in frames] for system in systems])
    expected = np.sqrt(np.square(np.std(forces, axis=0)).sum(-1))
    np.testing.assert_allclose(spread, expected, rtol=1e-5)


def test_potentials_that_agree_have_no_spread():
    ensemble = Ensemble(potentials(1) * 3)
    spread = ensemble.force_spread(positions()[None], chain(), platform="Reference", progress=False)
    assert np.all(spread < 1e-9)


def test_networks_without_primitives_make_ensembles_too():
    members = [
        CGPotential(
            CGnet([0, 1] * 3, channels=5, layers=1, seed=i), [("A", 20.0), ("B", 30.0)], priors=priors(1 + 0.1 * i)
        )
        for i in range(2)
    ]
    single = [evaluate(member.create_system(chain()), positions())[1] for member in members]
    assert difference(evaluate(Ensemble(members).create_system(chain()), positions())[1], np.mean(single, 0)) < 1e-6


def test_a_scaled_potential_has_scaled_forces():
    potential = potentials(1)[0]
    whole, half, network_halved = (
        evaluate(member.create_system(chain()), positions())
        for member in (potential, potential.scaled(0.5), potential.scaled(0.5, priors=False))
    )
    assert half[0] == pytest.approx(0.5 * whole[0], rel=1e-6)
    assert difference(half[1], 0.5 * whole[1]) < 1e-6
    bare = evaluate(random_potential(0).create_system(chain()), positions())
    assert difference(whole[1] - network_halved[1], 0.5 * bare[1]) < 1e-5


def test_frames_far_from_the_training_data_are_flagged():
    ensemble = Ensemble(potentials())
    frames = np.array([positions(seed) for seed in range(40)])
    inside = ensemble.force_spread(frames, chain(), platform="Reference", progress=False)
    ensemble = ensemble.with_spread_limit(find_spread_limit(inside, 90.0))
    assert ensemble.is_outside(inside).sum() == 4
    pulled = frames.copy()
    pulled[:, 2] += [0.0, 0.0, 1.0]
    assert ensemble.is_outside(ensemble.force_spread(pulled, chain(), platform="Reference", progress=False)).all()


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_reporter_writes_the_spread_of_each_bead_and_flags_frames(replicas, tmp_path):
    limit = 1e-3
    ensemble = Ensemble(potentials(2), limit)
    system = ensemble.create_system(chain(), replicas=replicas)
    topology = app.Topology()
    molecule = topology.addChain()
    for _ in range(BEADS * replicas):
        topology.addAtom("A", None, topology.addResidue("M", molecule))
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, openmm.VerletIntegrator(0.001), platform)
    simulation.context.setPositions(np.concatenate([positions(seed) for seed in range(replicas)]))
    reporter = EnsembleReporter(tmp_path / "spread.csv", 5, ensemble, replicas=replicas)
    simulation.reporters.append(reporter)
    simulation.step(10)
    with open(tmp_path / "spread.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["replica"]) for row in rows] == [
        (str(step), str(replica)) for step in (5, 10) for replica in range(replicas)
    ]
    last = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value.reshape(replicas, BEADS, 3)
    expected = ensemble.force_spread(last, chain(), platform="Reference", progress=False)
    written = [[float(row[f"bead {bead} (kJ/mol/nm)"]) for bead in range(BEADS)] for row in rows[-replicas:]]
    np.testing.assert_allclose(written, expected, rtol=1e-4)
    assert all(row["outside"] == "1" for row in rows)
    assert reporter.outside == 2 * replicas


def test_an_ensemble_is_a_folder_of_files(tmp_path):
    ensemble = Ensemble(potentials(2), 12.5)
    ensemble.save(tmp_path / "ensemble")
    read = Ensemble.load(tmp_path / "ensemble")
    assert read.spread_limit == 12.5
    assert [member.to_bytes() for member in read.potentials] == [member.to_bytes() for member in ensemble.potentials]


def test_what_does_not_make_an_ensemble_is_refused():
    one = random_potential(0)
    with pytest.raises(ValueError, match="2 to 31 potentials, one force group each; got 1"):
        Ensemble([one])
    with pytest.raises(ValueError, match="potential 1 of the ensemble has the bead types"):
        Ensemble([one, random_potential(0, bead_types=(("A", 20.0),))])
    with pytest.raises(ValueError, match="must be positive"):
        Ensemble([one, one], -1.0)
    with pytest.raises(ValueError, match="no limit of the spread"):
        Ensemble([one, one]).is_outside([1.0])
    with pytest.raises(ValueError, match=r"positions must be \[frames, 6, 3\]"):
        Ensemble([one, one]).force_spread(scatter(5)[None], chain(), progress=False)
    with pytest.raises(ValueError, match="at least one frame"):
        find_spread_limit(np.empty((0, 3)))


def test_a_damaged_list_of_an_ensemble_is_named(tmp_path):
    Ensemble(potentials(1) * 2).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ensemble.json", "potential_0.pt", "potential_1.pt"]
    file = tmp_path / "ensemble.json"
    file.write_text(file.read_text()[:-10])
    with pytest.raises(ValueError, match=r"ensemble\.json is damaged, or not an ensemble .* bring back a copy"):
        Ensemble.load(tmp_path)


def test_reports_are_gone_on_with_in_a_file_of_the_same_beads_only(tmp_path):
    ensemble = Ensemble(potentials(2), 1e-9)
    with pytest.raises(FileNotFoundError, match="absent does not exist; create it first"):
        EnsembleReporter(tmp_path / "absent" / "spread.csv", 5, ensemble)

    def report(steps, **options):
        system = ensemble.create_system(chain())
        simulation = app.Simulation(
            chain(), system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference")
        )
        beads = np.arange(BEADS)
        simulation.context.setPositions(BOND * np.stack([0.8 * beads, 0.6 * (beads % 2), 0.2 * (beads % 3)], axis=1))
        simulation.reporters.append(EnsembleReporter(tmp_path / "spread.csv", 5, ensemble, **options))
        simulation.step(steps)
        with open(tmp_path / "spread.csv") as file:
            return list(csv.reader(file))

    rows = report(20)
    # From the beginning: what was reported at and after the first new step is made again.
    assert report(10, append=True) == rows[:3]
    assert report(20) == rows
    (tmp_path / "spread.csv").write_text("step,time (ps),replica,outside,bead 0 (kJ/mol/nm)\n1,0.1,0,0,3.0\n")
    with pytest.raises(ValueError, match=r"spread.csv is of another ensemble or other beads"):
        report(5, append=True)
