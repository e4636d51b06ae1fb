"""Organic molecules: MMFF94 in OpenMM is RDKit's, and independent runs sample one ensemble."""

import subprocess
import sys

import numpy as np
import openmm
import pytest
from openmm import unit
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from openmmcg.analysis import dihedrals
from openmmcg.frames import Frames
from openmmcg.reference import (
    BITHIOPHENE,
    BITHIOPHENE_BEADS,
    SEXITHIOPHENE,
    TEMPO,
    TEMPO_BEADS,
    find_atoms,
    heavy_atom_map,
    join_runs,
    organic_molecule,
    sample,
    sample_conformers,
    turn_dihedral,
)
from openmmcg.reference.molecules.mmff94 import checked_properties, mmff94_forces
from openmmcg.simulation.resumable import degrees_of_freedom, read_log

KILOCALORIE = 4.184
MAPS = {BITHIOPHENE: BITHIOPHENE_BEADS, TEMPO: TEMPO_BEADS}
# OpenMM's force, and the terms of RDKit it stands for.
TERMS = {
    ("bond stretch",): ("Bond",),
    ("angle bend", "linear angle bend"): ("Angle",),
    ("stretch-bend",): ("StretchBend",),
    ("out-of-plane bend",): ("Oop",),
    ("torsion",): ("Torsion",),
    ("non-bonded",): ("VdW", "Ele"),
}
MOLECULES = [
    BITHIOPHENE,
    "CCC",
    "CC(=O)NC",
    "CC#N",  # a linear angle
    "CN=[N+]=[N-]",
    "C1CC1C=O",  # a ring of three, to which some terms do not apply
    "C1CCC1",
    "CS(=O)(=O)c1ccccc1",
    "C[n+]1ccn(C)c1",  # with charge
    "CC(=O)[O-]",
    "FC(F)(F)C#CC1CC1",
    "OP(=O)(O)OC",
]


def embedded(smiles):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(molecule, randomSeed=7) == 0
    return molecule


def rdkit_energy_and_forces(molecule, positions, terms):
    """kcal/mol and kcal/mol/Å, of the chosen terms."""
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
    for term in ("Bond", "Angle", "StretchBend", "Oop", "Torsion", "VdW", "Ele"):
        getattr(properties, f"SetMMFF{term}Term")(term in terms)
    molecule.GetConformer().SetPositions(positions)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(molecule, properties)
    return field.CalcEnergy(), -np.reshape(field.CalcGrad(), (-1, 3))


def context_of(molecule):
    """A Context with each force in a group of its own, and the groups by name."""
    system = openmm.System()
    for atom in molecule.GetAtoms():
        system.addParticle(atom.GetMass())
    groups = {}
    for group, force in enumerate(mmff94_forces(molecule)):
        force.setForceGroup(group)
        groups[force.getName()] = group
        system.addForce(force)
    platform = openmm.Platform.getPlatform("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(0.001), platform), groups


@pytest.mark.parametrize("smiles", MOLECULES)
def test_energies_and_forces_are_those_of_rdkit_term_by_term(smiles):
    molecule = embedded(smiles)
    context, groups = context_of(molecule)
    start = molecule.GetConformer().GetPositions()
    random = np.random.default_rng(5)
    for distortion in (0.0, 0.05, 0.1):  # Å, in each coordinate
        positions = start + random.normal(scale=distortion, size=start.shape)
        context.setPositions(0.1 * positions)
        for names, terms in TERMS.items():
            energy, forces = rdkit_energy_and_forces(molecule, positions, terms)
            mask = sum(1 << groups[name] for name in names if name in groups)
            if mask == 0:
                assert energy == 0
                continue
            state = context.getState(energy=True, forces=True, groups=mask)
            ours = state.getPotentialEnergy().value_in_unit(unit.kilocalorie_per_mole)
            our_forces = state.getForces(asNumpy=True).value_in_unit(unit.kilocalorie_per_mole / unit.angstrom)
            assert ours == pytest.approx(energy, abs=1e-6), names
            np.testing.assert_allclose(our_forces, forces, atol=1e-5, err_msg=str(names))


def test_molecules_of_the_paper_have_their_atoms():
    topology, system, positions = organic_molecule(BITHIOPHENE, name="BT")
    symbols = [atom.element.symbol for atom in topology.atoms()]
    assert len(symbols) == system.getNumParticles() == len(positions) == 34
    assert (symbols.count("C"), symbols.count("H"), symbols.count("S")) == (14, 18, 2)
    assert topology.getNumBonds() == 35  # two rings
    assert [atom.name for atom in topology.atoms()][5] == "S1"
    assert not system.usesPeriodicBoundaryConditions() and system.getNumConstraints() == 0
    assert degrees_of_freedom(system) == 3 * 34 - 3
    # 3',4: a propyl in β position to the bond between the rings on one ring only.
    assert len(find_atoms(BITHIOPHENE, "sc(-!@c)c(CCC)")) == 1
    hexamer = Chem.AddHs(Chem.MolFromSmiles(SEXITHIOPHENE))
    assert len(hexamer.GetSubstructMatches(Chem.MolFromSmarts("sc-!@cs"))) == 5
    # Regioregular: methyl groups are never face to face across the bond between two rings.
    assert not hexamer.HasSubstructMatch(Chem.MolFromSmarts("[CH3]cc-!@cc[CH3]"))


def test_minimised_positions_are_a_minimum_of_rdkits_energy():
    topology, _, positions = organic_molecule("CC(=O)NC")
    molecule = embedded("CC(=O)NC")
    _, forces = rdkit_energy_and_forces(molecule, 10 * positions, sum(TERMS.values(), ()))
    assert np.sqrt(np.mean(forces**2)) < 0.05  # kcal/mol/Å
    assert [atom.name for atom in topology.atoms()][:5] == ["C1", "C2", "O1", "N1", "C3"]


def test_tempo_is_a_neutral_nitroxide_with_the_geometry_of_experiment():
    positions = organic_molecule(TEMPO).positions
    assert len(positions) == 29
    ((first, nitrogen, second, oxygen),) = find_atoms(TEMPO, "CN(C)[O]")
    arms = positions[[first, second, oxygen]] - positions[nitrogen]
    lengths = np.linalg.norm(arms, axis=1)
    angles = np.degrees(
        np.arccos((arms[[0, 0, 1]] * arms[[1, 2, 2]]).sum(axis=1) / (lengths[[0, 0, 1]] * lengths[[1, 2, 2]]))
    )
    # X-ray diffraction of nitroxides of piperidine.
    assert lengths[2] == pytest.approx(0.1284, abs=0.001)
    np.testing.assert_allclose(angles, [124.5, 116, 116], atol=2.5)
    properties = checked_properties(embedded(TEMPO))
    assert sum(properties.GetMMFFPartialCharge(i) for i in range(29)) == pytest.approx(0, abs=1e-9)


def test_a_file_gives_the_molecule_of_its_smiles_with_its_own_geometry(tmp_path):
    molecule = embedded("CC(=O)NC")
    Chem.MolToMolFile(molecule, str(tmp_path / "amide.sdf"))
    of_file = organic_molecule(tmp_path / "amide.sdf")
    of_smiles = organic_molecule("CC(=O)NC")
    assert openmm.XmlSerializer.serialize(of_file.system) == openmm.XmlSerializer.serialize(of_smiles.system)
    # A file without depth holds no geometry, and one without hydrogens gets them.
    flat = Chem.MolFromSmiles("CC(=O)NC")
    Chem.MolToMolFile(flat, str(tmp_path / "flat.mol"))
    assert np.ptp(organic_molecule(tmp_path / "flat.mol").positions, axis=0).min() > 0.1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("C[Se]C", r"no atom type for Se \(atom 1\)"),
        ("CB(O)O", r"no atom type for B \(atom 1\)"),
        ("C[CH]C", r"no parameters for radicals, as C \(atom 1\)"),
        ("C.C", "has 2 molecules; give one"),
        ("no molecule", "no molecule that RDKit can read"),
        ("", "no molecule that RDKit can read"),
    ],
)
def test_what_mmff94_cannot_describe_is_refused_by_name(source, message):
    with pytest.raises(ValueError, match=message):
        organic_molecule(source)
    with pytest.raises(FileNotFoundError, match=r"there is no file missing.sdf"):
        organic_molecule("missing.sdf")


def test_a_turned_dihedral_has_its_value_and_nothing_else_changes():
    molecule = organic_molecule(BITHIOPHENE)
    (dihedral,) = find_atoms(BITHIOPHENE, "sc-!@cs")
    bonds = np.array([(bond[0].index, bond[1].index) for bond in molecule.topology.bonds()])
    for angle in np.radians([-170, -60, 0, 100]):
        turned = turn_dihedral(molecule, dihedral, angle)
        assert dihedrals(turned[None], [dihedral])[0, 0] == pytest.approx(angle, abs=1e-9)
        lengths = [np.linalg.norm(x[bonds[:, 0]] - x[bonds[:, 1]], axis=1) for x in (turned, molecule.positions)]
        np.testing.assert_allclose(*lengths, atol=1e-12)
    with pytest.raises(ValueError, match="part of a ring"):
        turn_dihedral(molecule, [3, 4, 5, 6], 0.0)
    with pytest.raises(ValueError, match="are not bonded"):
        turn_dihedral(molecule, [3, 4, 8, 9], 0.0)
    with pytest.raises(ValueError, match="four different atoms"):
        turn_dihedral(molecule, [3, 4, 4, 9], 0.0)


def test_a_flexible_molecule_samples_the_canonical_ensemble(tmp_path):
    """The kinetic temperature is the thermostat's, by equipartition."""
    molecule = organic_molecule("CCC")
    path = tmp_path / "propane.h5md"
    options = {"interval": 0.1, "equilibration": 5.0, "friction": 10.0, "time_step": 0.001, "platform": "Reference"}
    sample(molecule.system, molecule.topology, molecule.positions, path, frames=300, progress=False, **options)
    temperatures = read_log(path)["temperature_K"]
    # A frame fluctuates by √(2/30) of 300 K, and kinetic energy is forgotten in 0.05 ps.
    assert np.mean(temperatures) == pytest.approx(300, abs=3.5 * 300 * np.sqrt(2 / 30 / 300))
    assert np.std(temperatures) == pytest.approx(300 * np.sqrt(2 / 30), rel=0.15)
    with Frames(path) as frames:
        centre = np.average(frames.positions[:], axis=1, weights=frames.masses)
    assert np.abs(centre - centre[0]).max() < 0.01  # nm: the molecule stays where it is


@pytest.fixture(scope="module")
def butane_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("butane")
    molecule = organic_molecule("CCCC")
    options = {"dihedral": [0, 1, 2, 3], "runs": 1, "interval": 0.1, "equilibration": 0.0, "progress": False}
    paths = sample_conformers(molecule, folder, frames=4, processes=2, **options)
    return molecule, folder, paths, options


def test_runs_of_two_sets_start_apart_and_share_no_noise(butane_runs):
    _, folder, paths, _ = butane_runs
    assert paths == {"train": [folder / "train.0.h5md"], "test": [folder / "test.0.h5md"]}
    with Frames(paths["train"][0]) as train, Frames(paths["test"][0]) as test:
        assert len(train) == len(test) == 4
        started = [dihedrals(run.positions, [[0, 1, 2, 3]])[0, 0] for run in (train, test)]
        assert abs(started[0]) > 2.5 and abs(started[1]) < 1.5  # from trans, and from cis, which has moved on by then
        assert np.abs(train.positions[:] - test.positions[:]).min(axis=(1, 2)).max() < 0.1


def test_runs_become_longer_and_keep_their_frames(butane_runs):
    molecule, folder, paths, options = butane_runs
    with Frames(paths["train"][0]) as run:
        before = run.positions[:]
    sample_conformers(molecule, folder, frames=6, processes=1, **options)
    with Frames(paths["train"][0]) as run:
        np.testing.assert_array_equal(run.positions[:4], before)
        assert len(run) == 6
    with pytest.raises(ValueError, match="with other inputs .*temperature"):
        sample_conformers(molecule, folder, frames=6, processes=1, temperature=310.0, **options)

    joined = join_runs([paths["train"][0], paths["test"][0]], folder / "both.h5md", frames=3)
    with Frames(joined) as both, Frames(paths["test"][0]) as test:
        assert len(both) == 6
        np.testing.assert_array_equal(both.positions[3:6], test.positions[:3])
        np.testing.assert_array_equal(both.forces[3:6], test.forces[:3])
        np.testing.assert_allclose(both.times, 0.1 * np.arange(1, 7))
    with pytest.raises(FileExistsError, match="is not overwritten"):
        join_runs(paths["train"], joined, frames=3)
    with pytest.raises(ValueError, match="has 6 frames, fewer than the 7"):
        join_runs(paths["train"], folder / "more.h5md", frames=7)


def test_the_package_is_imported_without_rdkit():
    program = (
        "import sys, openmmcg.reference; assert not {'rdkit', 'tblite', 'pyscf', 'distributed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("smiles", "groups"),
    [(smiles, groups) for smiles, maps in MAPS.items() for groups in maps.values()],
    ids=[f"{smiles}-{beads}" for smiles, maps in MAPS.items() for beads in maps],
)
def test_the_beads_of_a_map_share_out_all_atoms_and_each_is_of_one_piece(smiles, groups):
    molecule, beads = organic_molecule(smiles), len(groups)
    mapping = heavy_atom_map(molecule.topology, groups)
    assert MAPS[smiles][beads] is groups
    matrix = mapping.position_matrix.toarray()
    assert mapping.number_of_beads == beads and len(set(mapping.names)) == beads
    assert ((matrix > 0).sum(axis=0) == 1).all()
    atoms = range(molecule.system.getNumParticles())
    masses = [molecule.system.getParticleMass(atom)._value for atom in atoms]
    assert mapping.masses.sum() == pytest.approx(sum(masses))
    for row in matrix:
        inside = set(np.flatnonzero(row))
        bonds = sum({first.index, second.index} <= inside for first, second in molecule.topology.bonds())
        assert bonds >= len(inside) - 1
