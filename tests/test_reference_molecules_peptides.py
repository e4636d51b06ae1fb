"""Capped alanine and chignolin: the molecules are those of the literature, and their forces are sound."""

import random

import mdtraj
import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmmcg.frames import Frames
from openmmcg.reference import capped_alanine, chignolin, sample
from openmmcg.simulation.resumable import read_log
from openmmcg.state import describe_system

GAS_CONSTANT = 0.00831446261815324
REFERENCE = openmm.Platform.getPlatform("Reference")


@pytest.fixture(scope="module")
def alanine():
    return capped_alanine()


@pytest.fixture(scope="module")
def hairpin():
    return chignolin()


@pytest.fixture(scope="module")
def strand():
    return chignolin(conformation="extended")


def trajectory(peptide):
    return mdtraj.Trajectory(peptide.positions[None], mdtraj.Topology.from_openmm(peptide.topology))


def charge(system):
    (force,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    return sum(
        force.getParticleParameters(particle)[0].value_in_unit(unit.elementary_charge)
        for particle in range(force.getNumParticles())
    )


def mass(system):
    return sum(
        system.getParticleMass(particle).value_in_unit(unit.dalton) for particle in range(system.getNumParticles())
    )


def energy(peptide):
    context = openmm.Context(peptide.system, openmm.VerletIntegrator(0.001), REFERENCE)
    context.setPositions(peptide.positions)
    return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def chirality(peptide, residue):
    """N, C and CB about CA: positive for an L amino acid."""
    place = {atom.name: peptide.positions[atom.index] for atom in residue.atoms()}
    return np.linalg.det([place["N"] - place["CA"], place["C"] - place["CA"], place["CB"] - place["CA"]])


def test_capped_alanine_is_the_molecule(alanine):
    assert [residue.name for residue in alanine.topology.residues()] == ["ACE", "ALA", "NME"]
    assert alanine.topology.getNumAtoms() == 22 and alanine.topology.getNumBonds() == 21
    assert mass(alanine.system) == pytest.approx(144.17, abs=0.02)  # C6H12N2O2
    assert charge(alanine.system) == pytest.approx(0, abs=1e-6)
    assert not alanine.system.usesPeriodicBoundaryConditions()
    # The paper's six beads: C-[N-CA-C]-N and CB.
    names = [(atom.residue.name, atom.name) for atom in alanine.topology.atoms()]
    beads = [("ACE", "C"), ("ALA", "N"), ("ALA", "CA"), ("ALA", "CB"), ("ALA", "C"), ("NME", "N")]
    assert [names.index(bead) for bead in beads] == [4, 6, 8, 10, 14, 16]


def test_capped_alanine_starts_as_a_left_handed_molecule_with_trans_peptide_bonds(alanine):
    _, alanine_residue, _ = alanine.topology.residues()
    assert chirality(alanine, alanine_residue) > 0
    phi, psi = (compute(trajectory(alanine))[1].item() for compute in (mdtraj.compute_phi, mdtraj.compute_psi))
    assert -np.pi < phi < -np.pi / 4 and (psi > np.pi / 6)
    omegas = mdtraj.compute_dihedrals(trajectory(alanine), [[1, 4, 6, 8], [8, 14, 16, 18]])
    assert np.all(np.abs(omegas) > np.pi / 2)


def test_chignolin_is_cln025_with_charged_termini(hairpin):
    sequence = [residue.name for residue in hairpin.topology.residues()]
    assert sequence == ["TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR"]
    residues = {"Y": 163.176, "D": 115.089, "P": 97.117, "E": 129.116, "T": 101.105, "G": 57.052, "W": 186.213}
    neutral = sum(residues[residue] for residue in "YYDPETGTWY") + 18.015
    assert mass(hairpin.system) == pytest.approx(neutral - 2 * 1.008, abs=0.05)
    assert hairpin.topology.getNumAtoms() == 166
    assert charge(hairpin.system) == pytest.approx(-2, abs=1e-6)
    first, *_, last = hairpin.topology.residues()
    nitrogen = next(atom for atom in first.atoms() if atom.name == "N")
    assert sum(nitrogen in bond for bond in hairpin.topology.bonds()) == 4
    assert {"O", "OXT"} <= {atom.name for atom in last.atoms()}


@pytest.mark.parametrize("conformation", ["hairpin", "extended"])
def test_chignolin_is_sound_wherever_it_starts(conformation, hairpin, strand):
    peptide = hairpin if conformation == "hairpin" else strand
    frame = trajectory(peptide)
    for residue in peptide.topology.residues():
        if residue.name != "GLY":
            assert chirality(peptide, residue) > 0
    _, omega = mdtraj.compute_omega(frame)
    assert np.all(np.abs(omega) > np.pi / 2)
    # A bond through a ring would cost thousands of kJ/mol.
    assert energy(peptide) < -1400
    bonded = np.array([[first.index, second.index] for first, second in peptide.topology.bonds()])
    assert mdtraj.compute_distances(frame, bonded).max() < 0.2


def test_the_hairpin_has_the_hydrogen_bonds_of_the_folded_state_and_the_strand_has_none(hairpin, strand):
    def distance(peptide, *atoms):
        place = {(int(atom.residue.id), atom.name): peptide.positions[atom.index] for atom in peptide.topology.atoms()}
        return np.linalg.norm(place[atoms[0]] - place[atoms[1]])

    # From the amide of 3 to the carbonyl of 8 (the order parameter of Satoh et al., FEBS Lett. 580, 3422 (2006)), at
    # the ends, and in the turn.
    for bond in (((3, "N"), (8, "O")), ((10, "N"), (1, "O")), ((7, "N"), (3, "O"))):
        assert distance(hairpin, *bond) < 0.35
        assert distance(strand, *bond) > 0.7
    ends = ((1, "CA"), (10, "CA"))
    assert distance(hairpin, *ends) < 0.8 and distance(strand, *ends) > 2.0


def test_explicit_solvent_is_water_in_a_neutral_box_that_holds_the_cutoff():
    topology, system, positions = capped_alanine("explicit", padding=1.0)
    names = [residue.name for residue in topology.residues()]
    waters = names.count("HOH")
    assert names[:3] == ["ACE", "ALA", "NME"] and waters == len(names) - 3
    width = topology.getUnitCellDimensions().value_in_unit(unit.nanometer)
    np.testing.assert_allclose(width, width[0])
    (force,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    assert force.getNonbondedMethod() == openmm.NonbondedForce.PME
    assert width[0] >= 2 * force.getCutoffDistance().value_in_unit(unit.nanometer)
    assert charge(system) == pytest.approx(0, abs=1e-6)
    assert mass(system) / np.prod(width) / 602.214 == pytest.approx(1.0, abs=0.15)  # g/cm³
    assert len(positions) == 22 + 3 * waters
    bonds = np.array([[first.index, second.index] for first, second in topology.bonds()])
    assert np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1).max() < 0.2


def test_chignolin_in_water_has_its_counterions():
    topology, system, _ = chignolin("explicit", padding=1.0)
    assert [residue.name for residue in topology.residues()].count("NA") == 2
    assert charge(system) == pytest.approx(0, abs=1e-6)


def test_heavy_hydrogen_changes_masses_alone_and_keeps_energy_at_four_femtoseconds(alanine):
    heavy = capped_alanine(hydrogen_mass=3.0)
    assert mass(heavy.system) == pytest.approx(mass(alanine.system))
    hydrogens = [atom.index for atom in heavy.topology.atoms() if atom.element is app.element.hydrogen]
    assert {heavy.system.getParticleMass(atom).value_in_unit(unit.dalton) for atom in hydrogens} == {3.0}
    assert energy(heavy._replace(positions=alanine.positions)) == energy(alanine)
    integrator = openmm.VerletIntegrator(0.004)
    context = openmm.Context(heavy.system, integrator, REFERENCE)
    context.setPositions(heavy.positions)
    context.setVelocitiesToTemperature(300, 1)
    integrator.step(500)
    energies = []
    for _ in range(100):
        integrator.step(50)
        state = context.getState(energy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    # 20 ps: noise of the leapfrog's half steps, and no drift.
    assert np.std(energies) < 2.0 * GAS_CONSTANT * 300
    first, second = np.array_split(energies, 2)
    assert abs(np.mean(second) - np.mean(first)) < GAS_CONSTANT * 300


def test_sampled_peptides_have_the_temperature_and_forces_that_are_derivatives(alanine, tmp_path):
    path = tmp_path / "alanine.h5md"
    sample(
        alanine.system, alanine.topology, alanine.positions, path, frames=300, interval=0.1, equilibration=5.0,
        friction=10.0, platform="Reference", progress=False,
    )  # fmt: skip
    # 22 atoms, 12 rigid bonds, centre of mass at rest: 51 degrees of freedom, √(2/51) of 300 K in a frame.
    temperatures = read_log(path)["temperature_K"]
    assert np.mean(temperatures) == pytest.approx(300, abs=15)
    with Frames(path) as frames:
        assert set(frames.type_names) == {"C", "H", "N", "O"}
        assert len(frames.bonds) == 21
        positions, forces = frames.positions[299].astype(float), frames.forces[299].astype(float)
    context = openmm.Context(alanine.system, openmm.VerletIntegrator(0.001), REFERENCE)
    for atom in (4, 6, 8, 10, 14, 16):
        energies = []
        for step in (1e-5, -1e-5):
            moved = positions.copy()
            moved[atom, 1] += step
            context.setPositions(moved)
            energies.append(context.getState(energy=True).getPotentialEnergy()._value)
        # The bonds to hydrogen are rigid: their springs are not in the energy, and not in the forces.
        assert (energies[1] - energies[0]) / 2e-5 == pytest.approx(forces[atom, 1], abs=1.0)


def test_the_same_seed_gives_the_same_peptide_and_leaves_other_random_numbers_alone(alanine):
    random.seed(3)
    expected = random.random()
    random.seed(3)
    again, other = capped_alanine(), capped_alanine(seed=1)
    assert random.random() == expected
    np.testing.assert_array_equal(again.positions, alanine.positions)
    assert np.abs(other.positions - alanine.positions).max() > 1e-3
    assert describe_system(other.system) == describe_system(alanine.system)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solvent": "vacuum"}, "unknown solvent 'vacuum'; known are implicit, explicit"),
        ({"hydrogen_mass": 0.0}, "from 1 to 4 amu, got 0.0; 3 amu"),
        ({"hydrogen_mass": float("nan")}, "from 1 to 4 amu, got nan"),
        ({"hydrogen_mass": 6.0}, "from 1 to 4 amu, got 6.0"),
        ({"padding": 0.5}, "padding must be at least 1.0 nm, .* got 0.5 nm"),
    ],
)
def test_impossible_peptides_are_refused(arguments, message):
    for build in (capped_alanine, chignolin):
        with pytest.raises(ValueError, match=message):
            build(**arguments)


def test_an_unknown_conformation_is_refused():
    with pytest.raises(ValueError, match="unknown conformation 'helix'; known are hairpin, extended"):
        chignolin(conformation="helix")
