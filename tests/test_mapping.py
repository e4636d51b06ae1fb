"""Coarse-grained maps: positions and forces of beads, checked against mechanics and statistical mechanics."""

import shutil
import time

import h5py
import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmcg.mapping.trajectory
from openmmcg.frames import Frames, FrameWriter
from openmmcg.mapping import Mapping, cg_topology, map_frames
from openmmcg.mapping.topology import with_bonds

O_MASS, H_MASS = 15.99943, 1.007947
BOX = np.diag([3.0, 3.0, 3.0])


def water(molecules, box=BOX):
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(molecules):
        residue = topology.addResidue("HOH", chain)
        oxygen = topology.addAtom("O", app.element.oxygen, residue)
        for name in ("H1", "H2"):
            topology.addBond(oxygen, topology.addAtom(name, app.element.hydrogen, residue))
    topology.setPeriodicBoxVectors(box * unit.nanometer)
    return topology


def carbon_chain(carbons=6):
    """A chain of carbon atoms, in residues of two."""
    topology = app.Topology()
    chain = topology.addChain("A")
    atoms = []
    for index in range(carbons):
        if index % 2 == 0:
            residue = topology.addResidue("ETH", chain, str(10 + index))
        atoms.append(topology.addAtom(f"C{index}", app.element.carbon, residue))
    for first, second in zip(atoms, atoms[1:], strict=False):
        topology.addBond(first, second)
    return topology


def water_positions(molecules, seed=0):
    random = np.random.default_rng(seed)
    shape = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.033, 0.094, 0.0]])
    return (random.uniform(0, 3, (molecules, 1, 3)) + shape).reshape(-1, 3)


def test_a_water_bead_sits_at_the_centre_of_mass_and_weighs_18():
    mapping = Mapping.center_of_mass(water(5))
    positions = water_positions(5)
    mass = O_MASS + 2 * H_MASS
    np.testing.assert_allclose(mapping.masses, mass)
    assert mass == pytest.approx(18.015, abs=1e-3)
    molecules = positions.reshape(5, 3, 3)
    center = (O_MASS * molecules[:, 0] + H_MASS * (molecules[:, 1] + molecules[:, 2])) / mass
    np.testing.assert_allclose(mapping.map_positions(positions, BOX), center, atol=1e-12)


def test_beads_move_along_when_all_atoms_are_shifted():
    positions = water_positions(4)
    shift = np.array([0.3, -1.0, 2.0])
    matrix = np.array([[0.5, 0.5, 0, 0], [0, 2.0, 0, -1.0]])
    for topology, mapping in (
        (water(4), Mapping.center_of_mass(water(4))),
        (water(4), Mapping.slice(water(4), [0, 4, 11])),
        (carbon_chain(4), Mapping.linear(carbon_chain(4), matrix, names=["A", "B"])),
    ):
        atoms = positions[: topology.getNumAtoms()]
        np.testing.assert_allclose(
            mapping.map_positions(atoms + shift), mapping.map_positions(atoms) + shift, atol=1e-12
        )


def test_the_force_on_a_centre_of_mass_is_the_sum_and_on_a_slice_that_of_the_atom():
    forces = np.random.default_rng(1).normal(size=(12, 3))
    topology = water(4)
    com = Mapping.center_of_mass(topology)
    np.testing.assert_allclose(com.map_forces(forces), forces.reshape(4, 3, 3).sum(axis=1))
    np.testing.assert_array_equal(Mapping.slice(topology, [3, 1]).map_forces(forces), forces[[3, 1]])


def test_all_frames_at_once_equal_one_frame_after_the_other():
    topology = water(4)
    mapping = Mapping.center_of_mass(topology)
    frames = np.stack([water_positions(4, seed) for seed in range(3)])
    np.testing.assert_allclose(mapping.map_positions(frames, BOX), [mapping.map_positions(frame) for frame in frames])
    np.testing.assert_allclose(mapping.map_forces(frames), [mapping.map_forces(frame) for frame in frames])


def test_springs_of_equal_strength_pull_the_centre_of_mass_like_one_spring():
    """Every atom is tied to a point by k/2 (r - p)², so the force on equal masses is -n k (R - P)."""
    stiffness = 700.0
    topology = carbon_chain(4)
    system, anchors = openmm.System(), np.random.default_rng(2).normal(size=(4, 3))
    springs = openmm.CustomExternalForce(f"{stiffness / 2}*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for name in ("x0", "y0", "z0"):
        springs.addPerParticleParameter(name)
    for index in range(4):
        system.addParticle(12.011)
        springs.addParticle(index, anchors[index])
    system.addForce(springs)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    positions = anchors + 0.1 * np.random.default_rng(3).normal(size=(4, 3))
    context.setPositions(positions)
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    mapping = Mapping.center_of_mass(topology, [[0, 1], [2, 3]])
    expected = -2 * stiffness * (mapping.map_positions(positions) - mapping.map_positions(anchors))
    np.testing.assert_allclose(mapping.map_forces(forces), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "mapping",
    [
        Mapping.center_of_mass(carbon_chain(), [[0, 1, 2], [3, 4, 5]]),
        Mapping.slice(carbon_chain(), [1, 4]),
        Mapping.linear(carbon_chain(), [[0.2, 0.3, 0.5, 0, 0, 0], [0, 0, 0, 0, 1.5, -0.5]], names="AB"),
        Mapping.linear(carbon_chain(), [[0.2, 0.3, 0.5, 0, 0, 0], [0, 0, 0.3, 0.7, 0, 0]], names="AB"),
        Mapping.linear(
            carbon_chain(),
            [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0]],
            force_matrix=[[0.4, 1.6, 0, 0, 0, 3.0], [0, 0, 2.0, 0, -1.0, 0]],
            names="AB",
        ),
    ],
    ids=["centre of mass", "slice", "disjoint", "overlapping", "given"],
)
def test_mapped_forces_average_to_the_potential_of_mean_force(mapping):
    """Atoms coupled by springs are jointly normal, with covariance A; so are beads, with C = M A Mᵀ. Their
    potential of mean force is kT/2 Rᵀ C⁻¹ R, and the regression of mapped forces on R must be -kT C⁻¹."""
    kT = 2.494
    random = np.random.default_rng(4)
    couplings = random.normal(size=(6, 6))
    hessian = 50 * (couplings @ couplings.T + np.eye(6))
    positions = random.multivariate_normal(np.zeros(6), kT * np.linalg.inv(hessian), size=40_000)
    vectors = np.zeros((len(positions), 6, 3))
    vectors[..., 0] = positions
    beads = mapping.map_positions(vectors)[..., 0]
    vectors[..., 0] = -positions @ hessian
    forces = mapping.map_forces(vectors)[..., 0]
    regression = np.linalg.lstsq(beads, forces, rcond=None)[0]
    matrix = mapping.position_matrix.toarray()
    exact = -kT * np.linalg.inv(matrix @ (kT * np.linalg.inv(hessian)) @ matrix.T)
    np.testing.assert_allclose(regression, exact, atol=0.03 * np.abs(exact).max())


def test_overlapping_beads_get_the_smallest_consistent_force_map():
    matrix = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]])
    mapping = Mapping.linear(carbon_chain(4), matrix, names=["A", "B"])
    np.testing.assert_allclose(mapping.force_matrix.toarray(), np.linalg.pinv(matrix).T, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mapping.center_of_mass(water(2), [[0, 1], [1, 2]]), "atom 1 is in bead 0 and in bead 1"),
        (lambda: Mapping.center_of_mass(water(2), [[0], []]), "bead 1 has no atoms"),
        (lambda: Mapping.center_of_mass(water(2), []), "at least one bead"),
        (lambda: Mapping.slice(water(2), [6]), "bead 0 has atom 6; the topology has atoms 0 to 5"),
        (lambda: Mapping.slice(water(2), [-1]), "bead 0 has atom -1"),
        (lambda: Mapping.center_of_mass(water(2), names=["W"]), "1 bead names"),
        (lambda: Mapping.center_of_mass(water(2), types=["W"]), "2 bead names and 1 bead types"),
        (
            lambda: Mapping.linear(water(1), [[0.5, 0.4, 0]], names="W"),
            r"bead 0 \(W\) sum to 0.9; they must sum to 1",
        ),
        (
            lambda: Mapping.linear(water(1), [[0.5, 0.5]], names="W"),
            r"shape \(1, 2\); 1 bead names and 3 atoms",
        ),
        (
            lambda: Mapping.linear(water(1), [[0.5, 0.5, 0], [0.5, 0.5, 0]], names="AB"),
            "linearly dependent",
        ),
        (
            lambda: Mapping.linear(water(1), [[0.5, 0.5, 0]], force_matrix=[[0.5, 0.5, 0]], names="A"),
            "must be the identity and is 0.5 off",
        ),
    ],
)
def test_maps_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_massless_sites_are_in_no_bead():
    """OpenMM hands the force on a virtual site over to its parent atoms, so it must not be counted again."""
    topology = app.Topology()
    residue = topology.addResidue("HOH", topology.addChain())
    for name, element in (("O", "oxygen"), ("H1", "hydrogen"), ("H2", "hydrogen"), ("M", None)):
        topology.addAtom(name, element and getattr(app.element, element), residue)
    masses = [O_MASS, H_MASS, H_MASS, 0.0]
    system = openmm.System()
    for mass in masses:
        system.addParticle(mass)
    for given in (masses, system):
        mapping = Mapping.center_of_mass(topology, masses=given)
        np.testing.assert_array_equal(mapping.force_matrix.toarray(), [[1, 1, 1, 0]])
        assert mapping.masses[0] == pytest.approx(O_MASS + 2 * H_MASS)
        with pytest.raises(ValueError, match="no mass"):
            Mapping.slice(topology, [3], masses=given)
        with pytest.raises(ValueError, match="atom 3 is part of a bead and has no mass"):
            Mapping.linear(topology, [[0.5, 0, 0, 0.5]], names="W", masses=given)


def test_an_atom_without_element_is_refused_or_has_the_mass_of_its_system():
    """A united atom CH3 has no element either, but a mass, and its force counts."""
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    topology.addAtom("CH3", None, residue)
    topology.addAtom("OH", app.element.oxygen, residue)
    for make in (
        lambda **masses: Mapping.center_of_mass(topology, **masses),
        lambda **masses: Mapping.slice(topology, [0], **masses),
        lambda **masses: Mapping.linear(topology, [[0.5, 0.5]], names="M", **masses),
    ):
        with pytest.raises(ValueError, match=r"atom 0 \(CH3 of residue MOL\) .* no element.*masses="):
            make()
        make(masses=[15.0, 17.0])
    mapping = Mapping.center_of_mass(topology, masses=[15.0, 17.0])
    np.testing.assert_allclose(mapping.position_matrix.toarray(), [[15 / 32, 17 / 32]])
    np.testing.assert_array_equal(mapping.force_matrix.toarray(), [[1, 1]])
    assert mapping.masses.tolist() == [32.0]
    assert Mapping.slice(topology, [1]).masses[0] == pytest.approx(O_MASS, abs=1e-3)
    for masses, message in (([15.0], "do not fit the topology's 2 atoms"), ([15.0, np.nan], "finite and not negative")):
        with pytest.raises(ValueError, match=message):
            Mapping.center_of_mass(topology, masses=masses)


def test_rigid_bonds_need_equal_weights():
    topology = water(2)
    system = app.ForceField("spce.xml").createSystem(topology, rigidWater=True)
    Mapping.center_of_mass(topology).check_constraints(system)
    with pytest.raises(ValueError, match="atoms 0 and 1 are joined by a rigid bond"):
        Mapping.slice(topology, [0, 3]).check_constraints(system)
    sliced = np.zeros((2, 6))
    sliced[[0, 1], [0, 3]] = 1
    whole = np.kron(np.eye(2), [1, 1, 1])
    Mapping.linear(topology, sliced, force_matrix=whole, names="OO").check_constraints(system)
    flexible = app.ForceField("spce.xml").createSystem(topology, rigidWater=False, constraints=None)
    Mapping.slice(topology, [0, 3]).check_constraints(flexible)


TRICLINIC = np.array([[3.0, 0, 0], [1.0, 3.0, 0], [-1.0, 1.0, 3.0]])


@pytest.mark.parametrize("box", [BOX, TRICLINIC], ids=["cubic", "triclinic"])
def test_molecules_cut_by_the_box_are_made_whole_or_refused(box):
    mapping = Mapping.center_of_mass(water(3))
    positions = water_positions(3)
    positions[3:6] += [2.95, 0, 0] - positions[3]  # its hydrogen is beyond the face, which is fine
    whole = mapping.map_positions(positions, make_whole=False)
    np.testing.assert_array_equal(mapping.map_positions(positions, box), whole)
    np.testing.assert_array_equal(mapping.map_positions(positions, box, make_whole=False), whole)
    cut = positions.copy()
    cut[4] -= box[0] + box[2]
    np.testing.assert_allclose(mapping.map_positions(cut, box), whole, atol=1e-12)
    without_bonds = Mapping.center_of_mass(with_bonds(water(3), []))
    for refuse in (
        lambda: mapping.map_positions(cut, box, make_whole=False),
        lambda: without_bonds.map_positions(cut, box),
    ):
        with pytest.raises(ValueError, match=r"bead 1 \(HOH\) .* molecules are cut at the faces"):
            refuse()
    np.testing.assert_array_equal(without_bonds.map_positions(positions, box), whole)
    with pytest.raises(ValueError, match="the map is for 9 atoms"):
        mapping.map_positions(positions[:6])
    with pytest.raises(ValueError, match="reduced form"):
        mapping.map_positions(positions, np.zeros((3, 3)))


def test_a_bead_of_several_molecules_is_refused_where_faces_may_cut_it():
    mapping = Mapping.center_of_mass(water(2), [range(6)], names=["W2"])
    positions = np.concatenate([water_positions(1), water_positions(1) + [0.3, 0, 0]])
    mapping.map_positions(positions, BOX)
    positions[3:] += [2.0, 0, 0]
    with pytest.raises(ValueError, match=r"bead 0 \(W2\) are 0.8. box widths apart and are not joined by bonds"):
        mapping.map_positions(positions, BOX)


def test_the_topology_of_the_beads_keeps_residues_bonds_and_box():
    topology = carbon_chain(6)
    topology.setPeriodicBoxVectors(BOX * unit.nanometer)
    mapping = Mapping.center_of_mass(
        topology, [[4, 5], [0], [1], [2, 3]], names=["D", "A", "B", "C"], types=list("XYYX")
    )
    beads = mapping.topology()
    assert [atom.name for atom in beads.atoms()] == ["D", "A", "B", "C"]
    assert [residue.id for residue in beads.residues()] == ["14", "10", "12"]
    assert {(a.name, b.name) for a, b in beads.bonds()} == {("A", "B"), ("B", "C"), ("D", "C")}
    np.testing.assert_allclose(beads.getPeriodicBoxVectors().value_in_unit(unit.nanometer), BOX)
    assert mapping.type_names == ["X", "Y"] and mapping.types.tolist() == [0, 1, 1, 0]


def test_beads_can_be_bonded_where_no_atoms_are():
    topology = carbon_chain(6)
    topology.setPeriodicBoxVectors(BOX * unit.nanometer)
    ends = Mapping.slice(topology, [0, 3, 5], names=["A", "B", "C"])
    assert ends.bonds.shape == (0, 2)
    bonded = ends.with_bonds([(0, 1), (1, 2)])
    assert bonded.bonds.tolist() == [[0, 1], [1, 2]] and ends.bonds.shape == (0, 2)
    assert [residue.id for residue in bonded.topology().residues()] == [
        residue.id for residue in ends.topology().residues()
    ]
    np.testing.assert_allclose(bonded.topology().getPeriodicBoxVectors().value_in_unit(unit.nanometer), BOX)
    with pytest.raises(ValueError, match="from 0 to 3; the particles are 0 to 2"):
        ends.with_bonds([(0, 3)])


def test_water_beads_have_a_residue_each():
    mapped = Mapping.center_of_mass(water(7), names=["W"] * 7).topology()
    made = cg_topology(["W"] * 7, BOX)
    for topology in (mapped, made):
        assert topology.getNumAtoms() == topology.getNumResidues() == 7
        assert topology.getNumBonds() == 0
        assert {atom.name for atom in topology.atoms()} == {"W"}
        np.testing.assert_allclose(topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer), BOX)
    assert cg_topology(["W"]).getPeriodicBoxVectors() is None


def test_mdtraj_topologies_are_understood():
    mdtraj = pytest.importorskip("mdtraj")
    topology = mdtraj.Topology.from_openmm(water(3))
    assert Mapping.center_of_mass(topology).masses[0] == pytest.approx(O_MASS + 2 * H_MASS, abs=1e-2)


def test_twenty_thousand_waters_are_mapped_in_a_moment():
    topology = water(20_000, np.eye(3) * 8.5)
    mapping = Mapping.center_of_mass(topology)
    positions = np.random.default_rng(0).normal(size=(60_000, 3))
    start = time.perf_counter()
    mapping.map_forces(positions)
    assert time.perf_counter() - start < 0.5


@pytest.fixture
def trajectory(tmp_path):
    """Five frames of four waters."""
    path = tmp_path / "atoms.h5md"
    types, masses = np.tile([0, 1, 1], 4), np.tile([O_MASS, H_MASS, H_MASS], 4)
    with FrameWriter(
        path,
        names=["O", "H1", "H2"] * 4,
        types=types,
        type_names=["O", "H"],
        masses=masses,
        temperature=300.0,
    ) as writer:
        for frame in range(5):
            writer.append(water_positions(4, frame), BOX, frame, 100 * water_positions(4, 10 + frame))
    return path


WATER_MAP = Mapping.center_of_mass(water(4), names=["W"] * 4)


def assert_mapped(path, source):
    with Frames(path) as beads, Frames(source) as atoms:
        assert len(beads) == len(atoms) == 5
        assert beads.names == ["W"] * 4 and beads.type_names == ["W"] and beads.temperature == 300.0
        np.testing.assert_allclose(beads.masses, O_MASS + 2 * H_MASS)
        np.testing.assert_array_equal(beads.times, atoms.times)
        np.testing.assert_array_equal(beads.boxes, atoms.boxes)
        np.testing.assert_allclose(beads.positions[:], WATER_MAP.map_positions(atoms.positions[:]), atol=1e-6)
        np.testing.assert_allclose(beads.forces[:], atoms.forces[:].reshape(5, 4, 3, 3).sum(axis=2), rtol=1e-5)


def test_a_trajectory_is_mapped_and_an_interrupted_mapping_goes_on(trajectory, tmp_path, monkeypatch):
    path = tmp_path / "beads.h5md"
    extend, count = FrameWriter.extend, 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        extend(*arguments)

    monkeypatch.setattr(FrameWriter, "extend", interrupted)
    monkeypatch.setattr(openmmcg.mapping.trajectory, "_FRAMES_AT_ONCE", 1)
    with Frames(trajectory) as source, pytest.raises(KeyboardInterrupt):
        map_frames(source, WATER_MAP, path, progress=False)
    with Frames(path) as beads:
        assert len(beads) == 2
    with Frames(trajectory) as source:
        map_frames(source, WATER_MAP, path, progress=False)
    assert count == 6  # two, the interrupted one, and only the three that were missing
    assert_mapped(path, trajectory)
    with Frames(trajectory) as source:
        map_frames(source, WATER_MAP, path, progress=False)
    assert count == 6
    assert_mapped(path, trajectory)


def test_another_map_or_source_is_not_mixed_into_a_mapped_file(trajectory, tmp_path):
    path = tmp_path / "beads.h5md"
    with Frames(trajectory) as source:
        map_frames(source, WATER_MAP, path, progress=False)
        other = Mapping.slice(water(4), [0, 3, 6, 9], names=["W"] * 4)
        with pytest.raises(ValueError, match="does not hold .*atoms.h5md in this map"):
            map_frames(source, other, path, progress=False)
        with pytest.raises(ValueError, match="has 12 atoms, the map is for 15"):
            map_frames(source, Mapping.center_of_mass(water(5)), tmp_path / "x.h5md", progress=False)
    assert_mapped(path, trajectory)


def test_a_source_that_differs_in_one_frame_is_not_the_same(trajectory, tmp_path):
    """Times, and first and last frame, are."""
    path, changed = tmp_path / "beads.h5md", tmp_path / "changed.h5md"
    with Frames(trajectory) as source:
        map_frames(source, WATER_MAP, path, progress=False)
        frames = len(source)
    shutil.copy(trajectory, changed)
    with h5py.File(changed, "r+") as file:
        (group,) = file["particles"].values()
        group["position/value"][frames // 2] += 0.1
    with Frames(changed) as source, pytest.raises(ValueError, match=r"does not hold .*changed\.h5md in this map"):
        map_frames(source, WATER_MAP, path, progress=False)


def test_without_forces_only_positions_are_mapped(tmp_path):
    path = tmp_path / "atoms.h5md"
    with FrameWriter(
        path,
        names=["O", "H1", "H2"],
        types=[0, 1, 1],
        type_names=["O", "H"],
        masses=[16, 1, 1],
        temperature=300.0,
        forces=False,
        periodic=False,
    ) as writer:
        writer.append(water_positions(1), None, 0.0)
    with Frames(path) as source:
        map_frames(source, Mapping.center_of_mass(water(1)), tmp_path / "beads.h5md", progress=False)
    with Frames(tmp_path / "beads.h5md") as beads:
        assert len(beads) == 1 and not beads.has_forces and beads.boxes is None


def test_a_cut_molecule_in_a_trajectory_is_mended_or_named_with_its_frame(tmp_path):
    with FrameWriter(
        tmp_path / "cut.h5md",
        names=["O", "H1", "H2"],
        types=[0, 1, 1],
        type_names=["O", "H"],
        masses=[16, 1, 1],
        temperature=300.0,
        forces=False,
    ) as writer:
        writer.append(water_positions(1), BOX, 0.0)
        writer.append(water_positions(1) + [[0, 0, 0], [3, 0, 0], [0, 0, 0]], BOX, 1.0)
    mapping = Mapping.center_of_mass(water(1))
    with Frames(tmp_path / "cut.h5md") as source:
        with pytest.raises(ValueError, match=r"cut.h5md: in frame 1 the atoms of bead 0"):
            map_frames(source, mapping, tmp_path / "refused.h5md", progress=False, make_whole=False)
        for _ in range(2):  # the second call finds that nothing is left to do
            map_frames(source, mapping, tmp_path / "beads.h5md", progress=False)
    with Frames(tmp_path / "beads.h5md") as beads:
        np.testing.assert_allclose(beads.positions[1], beads.positions[0], atol=1e-6)
