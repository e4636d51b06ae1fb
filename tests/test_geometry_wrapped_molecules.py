"""A molecule that is wrapped into a periodic box gives the numbers of the whole one, whatever is computed from it."""

from itertools import product

import numpy as np
import openmm
import pytest
from conftest import BOXES, Case, difference, energy_and_forces
from openmm import app, unit

from openmmcg.analysis import angles, dihedrals, distances
from openmmcg.electronic import ElectronicReporter, predict_trajectory
from openmmcg.fitting.boltzmann_inversion.distributions import count, find_coordinates
from openmmcg.frames import Frames, write_frames
from openmmcg.geometry import bonded_terms, make_whole
from openmmcg.geometry.minimum_image import check_boxes, minimum_image
from openmmcg.mapping import Mapping, map_frames
from openmmcg.potentials import (
    CGPotential,
    CosineAngles,
    HarmonicAngles,
    HarmonicBonds,
    PeriodicDihedrals,
    Repulsion,
    Table,
    TabulatedAngles,
    TabulatedBonds,
    TabulatedDihedrals,
)
from openmmcg.potentials.networks import CGnet
from openmmcg.potentials.priors import shortest_distances

PERIODIC = {name: box for name, box in BOXES.items() if box is not None}
CHAIN = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
TYPES, NAMES = [0, 1, 0, 1, 0, 1], ["A", "B"] * 3
MASSES = [20.0, 30.0] * 3
TERMS = bonded_terms(CHAIN)


@pytest.fixture(params=PERIODIC)
def box(request):
    return PERIODIC[request.param]


def chains(frames, seed=0, step=0.3):
    """A chain of six beads in many shapes, in all of which its ends are farther apart than half the boxes."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(frames, 5, 3)) * 0.4 + [1.0, 0.6, 0.8]
    steps *= step * random.normal(1.0, 0.03, (frames, 5, 1)) / np.linalg.norm(steps, axis=2, keepdims=True)
    start = random.uniform(0, 3, (frames, 1, 3))
    return np.concatenate([start, start + np.cumsum(steps, axis=1)], axis=1)


def wrap(positions, box):
    """Every bead for itself into the box, as some programs do."""
    fractions = positions @ np.linalg.inv(box)
    wrapped = (fractions - np.floor(fractions)) @ box
    cut = np.linalg.norm(np.diff(wrapped, axis=1), axis=2) > 0.6
    assert cut.any(axis=1).mean() > 0.3
    return wrapped


@pytest.fixture
def both(tmp_path, box):
    """Files of the whole and of the wrapped chain."""
    whole = chains(300)
    common = {"names": NAMES, "types": TYPES, "type_names": ["A", "B"], "masses": MASSES, "temperature": 300.0}
    for name, positions in (("whole", whole), ("wrapped", wrap(whole, box))):
        write_frames(tmp_path / f"{name}.h5md", positions, **common, boxes=box, bonds=CHAIN)
    with Frames(tmp_path / "whole.h5md") as first, Frames(tmp_path / "wrapped.h5md") as second:
        yield first, second


def brute_force(displacements, box):
    """The shortest of 27 images."""
    shifts = np.array(list(product((-1, 0, 1), repeat=3))) @ box
    every = displacements[..., None, :] + shifts
    shortest = np.argmin(np.linalg.norm(every, axis=-1), axis=-1)
    return np.take_along_axis(every, shortest[..., None, None], -2)[..., 0, :]


def test_a_minimum_image_is_the_shortest_of_27(box):
    fractions = np.random.default_rng(1).uniform(-0.5, 0.5, (5000, 3))
    displacements = fractions @ box
    exact = brute_force(displacements, box)
    near = np.linalg.norm(exact, axis=1) < np.diag(box).min() / 2
    assert 0.2 < near.mean() < 1
    lattice = np.random.default_rng(2).integers(-3, 4, (5000, 3)) @ box
    found = minimum_image(displacements + lattice, box)
    np.testing.assert_allclose(found[near], exact[near], atol=1e-12)
    # Where another image may be the nearest, the one found says so by its length.
    assert (np.linalg.norm(found[~near], axis=1) > np.diag(box).min() / 2 - 1e-12).all()
    # A box for each displacement.
    boxes = box * np.linspace(0.9, 1.1, 5000)[:, None, None]
    each = [minimum_image(*one) for one in zip(displacements, boxes, strict=True)]
    np.testing.assert_array_equal(minimum_image(displacements, boxes), each)


def test_internal_coordinates_are_those_of_the_whole_molecule(box):
    whole = chains(200)
    wrapped = wrap(whole, box)
    boxes = np.tile(box, (200, 1, 1))
    for measure, terms in ((distances, TERMS.bonds), (angles, TERMS.angles), (dihedrals, TERMS.dihedrals)):
        expected = measure(whole, terms)
        np.testing.assert_allclose(measure(wrapped, terms, boxes), expected, atol=1e-10)
        np.testing.assert_allclose(measure(wrapped, terms, box), expected, atol=1e-10)
        assert abs(measure(wrapped, terms) - expected).max() > 0.3
    # Of brute force, without a chain.
    random = np.random.default_rng(3).uniform(-2, 4, (50, 2, 3))
    exact = np.linalg.norm(brute_force(wrap_anyhow(random[:, 1] - random[:, 0], box), box), axis=1)
    near = exact < np.diag(box).min() / 2
    np.testing.assert_allclose(distances(random[near], [[0, 1]], box)[:, 0], exact[near], atol=1e-12)


def wrap_anyhow(displacements, box):
    fractions = displacements @ np.linalg.inv(box)
    return (fractions - np.round(fractions)) @ box


def test_molecules_are_made_whole_along_their_bonds(box):
    whole = chains(100)
    ring = [*CHAIN, (5, 3)]
    boxes = box * np.linspace(0.95, 1.05, 100)[:, None, None]
    wrapped = np.concatenate([wrap_one(frame, vectors) for frame, vectors in zip(whole, boxes, strict=True)])
    for bonds in (CHAIN, [(5, 4), (3, 2), (2, 1), (4, 3), (0, 1)], ring):
        mended = make_whole(wrapped, boxes, bonds)
        np.testing.assert_array_equal(mended[:, 0], wrapped[:, 0])
        np.testing.assert_allclose(mended - mended[:, :1], whole - whole[:, :1], atol=1e-12)
        # Whole molecules stay as they are, wherever they are.
        np.testing.assert_array_equal(make_whole(whole, boxes, bonds), whole)
    # Two molecules; one of them of a single bead.
    parts = make_whole(wrapped, boxes, CHAIN[:2] + CHAIN[3:4])
    np.testing.assert_allclose(np.diff(parts, axis=1)[:, [0, 1, 3]], np.diff(whole, axis=1)[:, [0, 1, 3]], atol=1e-12)
    np.testing.assert_array_equal(parts[:, 5], wrapped[:, 5])
    np.testing.assert_array_equal(make_whole(wrapped[7], boxes[7], CHAIN), make_whole(wrapped, boxes, CHAIN)[7])
    np.testing.assert_array_equal(make_whole(wrapped, None, CHAIN), wrapped)


def wrap_one(frame, box):
    fractions = frame @ np.linalg.inv(box)
    return ((fractions - np.floor(fractions)) @ box)[None]


def test_priors_of_wrapped_frames_are_those_of_whole_ones(both):
    for prior in (HarmonicBonds, HarmonicAngles, CosineAngles):
        whole, wrapped = (prior.from_frames(frames).terms for frames in both)
        assert whole.keys() == wrapped.keys()
        for kinds in whole:
            np.testing.assert_allclose(wrapped[kinds], whole[kinds], rtol=1e-4)
    series = [PeriodicDihedrals.from_frames(frames, order=1, bins=12).terms for frames in both]
    for kinds in series[0]:
        np.testing.assert_allclose(series[1][kinds], series[0][kinds], rtol=1e-2)
    whole, wrapped = (shortest_distances(frames, 0.9) for frames in both)
    assert whole.min() < 0.9
    np.testing.assert_allclose(wrapped, whole, atol=1e-5)


def test_distributions_of_wrapped_frames_are_those_of_whole_ones(both):
    whole, wrapped = both
    coordinates = find_coordinates([whole], ("bonds", "angles", "dihedrals", "pairs"), 20, 0.9)
    again = find_coordinates([wrapped], ("bonds", "angles", "dihedrals", "pairs"), 20, 0.9)
    for first, second in zip(coordinates, again, strict=True):
        np.testing.assert_allclose(first.edges, second.edges, atol=1e-5)
    for first, second in zip(*(count([frames], coordinates).histograms for frames in both), strict=True):
        assert abs(first - second).sum() <= 6  # values on the edge of a bin, rounded
    bonded = coordinates[:-3]
    chosen = np.ones(sum(len(coordinate.centers) for coordinate in bonded), bool)
    for first, second in zip(*(count([frames], bonded).covariance(chosen) for frames in both), strict=True):
        np.testing.assert_allclose(first, second, atol=0.02)


def test_a_cgnet_has_the_statistics_of_the_whole_molecule(both):
    first, second = (CGnet.from_frames(frames, channels=4, layers=1) for frames in both)
    np.testing.assert_allclose(second.mean, first.mean, atol=1e-4)
    np.testing.assert_allclose(second.deviation, first.deviation, atol=1e-4)


class Lengths:
    """Stands in for a predictor: the sum of all distances of a molecule's beads."""

    def check_beads(self, names):
        assert list(names) == NAMES

    def predict(self, positions):
        lengths = distances(positions)
        return Prediction(lengths.sum(axis=1), lengths[:, 0], lengths[:, 1:3])


class Prediction:
    def __init__(self, mean, standard_deviation, latent):
        self.mean, self.standard_deviation, self.latent = mean, standard_deviation, latent


def test_electronic_predictions_are_those_of_the_whole_molecule(both, tmp_path):
    whole, wrapped = (
        predict_trajectory(frames.path, Lengths(), tmp_path / f"{number}.csv", progress=False)
        for number, frames in enumerate(both)
    )
    np.testing.assert_allclose(wrapped.mean, whole.mean, rtol=1e-5)
    np.testing.assert_allclose(wrapped.latent, whole.latent, rtol=1e-4)
    # The second call finds that all is done.
    predict_trajectory(both[1].path, Lengths(), tmp_path / "1.csv", progress=False)


def bonded_beads(box, bonds=CHAIN):
    topology = app.Topology()
    residue = topology.addResidue("M", topology.addChain())
    atoms = [topology.addAtom(name, None, residue) for name in NAMES]
    for first, second in bonds:
        topology.addBond(atoms[first], atoms[second])
    topology.setPeriodicBoxVectors(box * unit.nanometer)
    return topology


def test_the_reporter_sees_whole_molecules_or_refuses(box, tmp_path):
    whole = chains(1)[0]
    system = openmm.System()
    for mass in MASSES:
        system.addParticle(mass)
    springs = openmm.HarmonicBondForce()
    springs.setUsesPeriodicBoundaryConditions(True)
    system.addForce(springs)
    system.setDefaultPeriodicBoxVectors(*box)
    for name, bonds in (("bonded", CHAIN), ("loose", [])):
        integrator = openmm.VerletIntegrator(1e-9)
        platform = openmm.Platform.getPlatform("Reference")
        simulation = app.Simulation(bonded_beads(box, bonds), system, integrator, platform)
        simulation.context.setPositions(wrap_one(whole, box)[0])
        reporter = ElectronicReporter(tmp_path / f"{name}.csv", 1, Lengths(), delay=0)
        simulation.reporters.append(reporter)
        if bonds:
            simulation.step(1)
            line = (tmp_path / "bonded.csv").read_text().splitlines()[1]
            assert float(line.split(",")[2]) == pytest.approx(distances(whole[None]).sum(), rel=1e-6)
        else:
            with pytest.raises(ValueError, match="the beads of molecule 0 are .* not joined by bonds"):
                simulation.step(1)


def test_a_loose_molecule_in_a_file_is_refused_before_anything_is_written(tmp_path):
    box = PERIODIC["cubic"]
    common = {"names": NAMES, "types": TYPES, "type_names": ["A", "B"], "masses": MASSES, "temperature": 300.0}
    write_frames(tmp_path / "loose.h5md", wrap(chains(20), box), **common, boxes=box)
    with pytest.raises(ValueError, match=r"loose.h5md: in frame \d+ the beads of molecule 0 are"):
        predict_trajectory(tmp_path / "loose.h5md", Lengths(), tmp_path / "e.csv", progress=False)
    assert not (tmp_path / "e.csv").exists()


def carbons(box, bonds=CHAIN):
    topology = app.Topology()
    residue = topology.addResidue("C6", topology.addChain())
    atoms = [topology.addAtom(f"C{index}", app.element.carbon, residue) for index in range(6)]
    for first, second in bonds:
        topology.addBond(atoms[first], atoms[second])
    topology.setPeriodicBoxVectors(box * unit.nanometer)
    return topology


@pytest.mark.parametrize("kind", ["centre of mass", "slice", "linear"])
def test_beads_of_wrapped_atoms_are_those_of_whole_molecules(both, box, tmp_path, kind):
    whole, wrapped = both
    topology = carbons(box)
    mapping = {
        "centre of mass": lambda: Mapping.center_of_mass(topology, [[0, 1, 2], [3, 4, 5]]),
        "slice": lambda: Mapping.slice(topology, [1, 4]),
        "linear": lambda: Mapping.linear(topology, [[0.5, 0, 0, 0, 0, 0.5], [0, 0, 0, 1, 0, 0]], names="AB"),
    }[kind]()
    beads = []
    for name, frames in (("whole", whole), ("wrapped", wrapped)):
        map_frames(frames, mapping.with_bonds([(0, 1)]), tmp_path / f"{name}_beads.h5md", progress=False)
        with Frames(tmp_path / f"{name}_beads.h5md") as mapped:
            beads.append(mapped.positions[:])
    crossings = np.linalg.solve(box.T, (beads[1] - beads[0]).reshape(-1, 3).T).T
    np.testing.assert_allclose(crossings, np.round(crossings), atol=1e-5)
    np.testing.assert_allclose(np.diff(beads[1], axis=1), np.diff(beads[0], axis=1), atol=1e-5)


PLACES = np.linspace(-np.pi, np.pi, 41)
PRIORS = [
    HarmonicBonds({(0, 1): (0.28, 1000.0)}),
    HarmonicAngles({(0, 1, 0): (2.0, 100.0), (1, 0, 1): (2.2, 80.0)}),
    CosineAngles({(0, 1, 0): (-0.5, 100.0), (1, 0, 1): (-0.4, 80.0)}),
    PeriodicDihedrals({(0, 1, 0, 1): [(1, 0.3, 20.0), (3, -1.0, 5.0)]}),
    TabulatedBonds({(0, 1): Table(0.1, 0.6, 1e3 * (np.linspace(0.1, 0.6, 41) - 0.25) ** 2)}),
    TabulatedAngles(
        {kinds: Table(0.5, np.pi, 50 * (np.linspace(0.5, np.pi, 41) - 1.5) ** 2) for kinds in [(0, 1, 0), (1, 0, 1)]}
    ),
    TabulatedDihedrals({(0, 1, 0, 1): Table(-np.pi, np.pi, 10 * np.cos(PLACES - 0.5))}),
    Repulsion([[0.8, 0.8], [0.8, 0.8]], exponent=6, cutoff=0.9),
]


@pytest.mark.parametrize("name", ["cubic", "triclinic"])
@pytest.mark.parametrize("platform", [Case("Reference"), Case("CPU", 2)], ids=str)
def test_openmm_forces_of_priors_see_whole_molecules(platform, name):
    """Each prior by itself, against the whole molecule without a box."""
    box = PERIODIC[name]
    potential = CGPotential(None, [("A", 20.0), ("B", 30.0)], priors=PRIORS, temperature=300)
    whole = chains(1, seed=4)[0]
    wrapped = wrap_one(whole, box)[0]
    assert (np.linalg.norm(np.diff(wrapped, axis=0), axis=1) > 0.6).any()
    free, periodic = (potential.create_system(bonded_beads(box), periodic=kind) for kind in (False, True))
    for system in (free, periodic):
        for group, force in enumerate(system.getForces()):
            force.setForceGroup(group)
    exact, context = Case("Reference").context(free, whole), platform.context(periodic, wrapped)
    for group, prior in enumerate(PRIORS):
        expected, found = (energy_and_forces(each, {group}) for each in (exact, context))
        assert abs(expected[0]) > 0.1, prior
        assert found[0] == pytest.approx(expected[0], rel=1e-4), prior
        assert difference(found[1], expected[1]) < 1e-4, prior


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: check_boxes(np.zeros((3, 3)), 2), "box of frame 0, .*reduced form"),
        (lambda: check_boxes([np.eye(3), [[1, 0, 0], [0.7, 1, 0], [0, 0, 1]]], 2), "box of frame 1, .*reduced form"),
        (lambda: check_boxes([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], 2), "reduced form"),
        (lambda: check_boxes(np.full((3, 3), np.nan), 2), "reduced form"),
        (lambda: check_boxes(np.ones((3, 3, 3)), 2), r"\[2, 3, 3\], one for each frame, not \[3, 3, 3\]"),
        (lambda: angles(chains(3), [[0, 1, 2]], np.eye(3) * 0.5), "which of their periodic images .*make_whole"),
        (lambda: distances(chains(3), None, np.eye(3) * 2), "in frame 0 the particles 0 and . are"),
        (lambda: make_whole(chains(3), np.eye(3) * 0.5, CHAIN), "in frame 0 .* correct the bonds, or the box"),
        (lambda: make_whole(chains(3), np.eye(3), [(0, 6)]), "bonds run from 0 to 6; the particles are 0 to 5"),
        (lambda: make_whole(chains(3), np.eye(3), [(0, 1.5)]), "whole numbers"),
        (lambda: make_whole(chains(3), np.eye(3), [(0, 0)]), "particle 0 is bonded to itself"),
        (lambda: make_whole(chains(3), np.eye(3), [(0, 1, 2)]), r"pairs of particles, \[bonds, 2\]"),
        (lambda: make_whole(chains(3) * np.nan, np.eye(3), CHAIN), "frame 0 has positions that are not finite"),
        (lambda: make_whole(np.zeros(3), np.eye(3), []), "must have the shape"),
        (
            lambda: make_whole([[0.1, 0, 0], [0.4, 0, 0], [0.7, 0, 0]], np.eye(3), [(0, 1), (1, 2), (2, 0)]),
            "joins a molecule to its own periodic image",
        ),
    ],
)
def test_bad_boxes_and_bonds_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_boxes_at_the_limit_pass_in_single_precision():
    """The rhombic dodecahedron's c has half of a and half of b."""
    width = np.float32(3.3)
    box = np.float32([[width, 0, 0], [0, width, 0], [width / 2, width / 2, width / np.sqrt(2)]])
    check_boxes(box * np.float32(0.7) / np.float32(0.7), 3)
