"""Distances and dihedrals against MDTraj, and the finding of the backbone's."""

import mdtraj
import numpy as np
import pytest
from openmm import app

from openmmcg.analysis import backbone_dihedrals, dihedrals, distances
from openmmcg.geometry import bonded_terms
from openmmcg.mapping import Mapping


def peptide(residues=3):
    """Backbone and CB of capped alanines."""
    topology = app.Topology()
    chain = topology.addChain()
    for name, atoms in [
        ("ACE", ["CH3", "C", "O"]),
        *[("ALA", ["N", "H", "CA", "CB", "C", "O"])] * residues,
        ("NME", "N"),
    ]:
        residue = topology.addResidue(name, chain)
        for atom in atoms:
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
    return topology


def positions(frames, atoms):
    return np.random.default_rng(0).normal(size=(frames, atoms, 3))


def test_dihedrals_and_distances_agree_with_mdtraj():
    topology = peptide()
    places = positions(20, topology.getNumAtoms())
    trajectory = mdtraj.Trajectory(places, mdtraj.Topology.from_openmm(topology))
    found = backbone_dihedrals(topology)
    for own, (indices, angles) in (
        (found.phi, mdtraj.compute_phi(trajectory)),
        (found.psi, mdtraj.compute_psi(trajectory)),
    ):
        # MDTraj finds ψ also where there is no φ.
        np.testing.assert_array_equal(own, indices[-3:])
        np.testing.assert_allclose(dihedrals(places, own), angles[:, -3:], atol=1e-4)
    pairs = [[0, 3], [2, 5]]
    np.testing.assert_allclose(distances(places, pairs), mdtraj.compute_distances(trajectory, pairs), atol=1e-5)


def test_beads_have_the_dihedrals_of_their_atoms():
    topology = peptide(1)
    chosen = [atom.index for atom in topology.atoms() if atom.name in ("N", "CA", "CB", "C")]
    mapping = Mapping.slice(topology, chosen)
    places = positions(5, topology.getNumAtoms())
    atoms, beads = backbone_dihedrals(topology), backbone_dihedrals(mapping.topology())
    assert atoms.residues == beads.residues == ["ALA2"]
    for of_atoms, of_beads in ((atoms.phi, beads.phi), (atoms.psi, beads.psi)):
        np.testing.assert_allclose(
            dihedrals(places, of_atoms), dihedrals(mapping.map_positions(places), of_beads), atol=1e-12
        )


def test_a_planar_chain_is_trans_or_cis():
    trans = [[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, -1, 0]]
    cis = [[0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]]
    angles = dihedrals(np.array([trans, cis], dtype=float), [[0, 1, 2, 3]])
    assert abs(angles[0, 0]) == pytest.approx(np.pi)
    assert angles[1, 0] == pytest.approx(0)


def test_all_pairs_are_the_default():
    places = positions(3, 10)
    assert distances(places).shape == (3, 45)
    assert distances(places)[1, 0] == pytest.approx(np.linalg.norm(places[1, 1] - places[1, 0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dihedrals(positions(2, 4), [[0, 1, 2, 4]]), "from 0 to 4; the particles are 0 to 3"),
        (lambda: dihedrals(positions(2, 4), [[0, 1, 2]]), r"\[number, 4\], not \[1, 3\]"),
        (lambda: distances(positions(2, 4)[0]), r"\[frames, beads, 3\], not \[4, 3\]"),
        (lambda: dihedrals(positions(2, 4), [[0, 1, 2, 2.5]]), "whole numbers from 0 on"),
        (lambda: distances(positions(2, 4), [[0, -1]]), "counted from 0, got -1"),
        (lambda: distances(positions(2, 4), boxes=np.ones((3, 3, 3))), r"\[2, 3, 3\], one for each frame, not"),
        (lambda: bonded_terms([(0, 1), (2, 2)]), "particle 2 is bonded to itself"),
        (lambda: bonded_terms([(0, 1.5)]), "whole numbers"),
        (lambda: distances(np.full((2, 4, 3), np.nan)), "frame 0 has positions that are not finite"),
        (lambda: backbone_dihedrals(app.Topology()), "no residue has the atoms or beads"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
