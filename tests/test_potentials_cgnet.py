"""CGnet: features that others compute alike, exact forces, molecules that do not see each other."""

import itertools

import mdtraj
import numpy as np
import openmm
import pytest
import torch
from conftest import BOXES, Case, difference, energy_and_forces, system_of
from openmm import app

from openmmcg import CGForce, CGPotential
from openmmcg.fitting import ForceMatching, force_rmse
from openmmcg.frames import Frames, FrameWriter
from openmmcg.geometry.scriptable import chain_pairs
from openmmcg.potentials import CGnet

# The backbone of capped alanine with its CB: a branched molecule of bead types C, N and CA/CB.
MOLECULE = [0, 1, 2, 2, 0, 1]
BONDS = [(0, 1), (1, 2), (2, 3), (2, 4), (4, 5)]
NAMES = ["C", "N", "A"]
KINDS = [("C", 12.0), ("N", 14.0), ("A", 13.0)]
TIGHT = np.diag([0.7, 0.7, 0.7])  # nm: the molecule is longer than half of it, a step along its beads is not


def random_chains(frames, beads=6, seed=0, spread=0.02):
    """Chains with steps of about 0.15 nm in directions that bend and turn at random, but never lie in a line."""
    random = np.random.default_rng(seed)
    result = np.zeros((frames, beads, 3))
    for chain in result:
        for bead in range(1, beads):
            while True:
                step = random.normal(size=3)
                chain[bead] = chain[bead - 1] + random.normal(0.15, spread) * step / np.linalg.norm(step)
                triples = itertools.combinations(chain[: bead + 1], 3)
                sines = [np.linalg.norm(np.cross(b - a, c - b)) for a, b, c in triples]
                if min(sines, default=1) > 5e-3:
                    break
    return result


def make_network(seed=0, **options):
    torch.manual_seed(seed)
    network = CGnet(MOLECULE, BONDS, **{"channels": 24, "layers": 3, "energy_scale": 20.0, **options})
    network.standardize(random_chains(50, seed=99))
    return network


def features(network, chains):
    return network.features(torch.tensor(np.diff(chains, axis=1))).numpy()


def energy(network, chains):
    """Energies of beads of chains ``[F, beads, 3]``, or of the chains one after the other."""
    positions = torch.as_tensor(chains).reshape(-1, 3)
    rows, columns = chain_pairs(positions, len(MOLECULE))
    types = network.molecule.repeat(len(positions) // len(MOLECULE))
    return network(positions[columns] - positions[rows], types, rows, columns)


def energy_and_gradient(network, chains):
    positions = torch.tensor(chains, requires_grad=True)
    total = energy(network.double(), positions).sum()
    return total.item(), torch.autograd.grad(total, positions)[0].numpy()


def topology(names=tuple(NAMES[kind] for kind in MOLECULE)):
    result = app.Topology()
    residue = result.addResidue("ALA", result.addChain())
    atoms = [result.addAtom(name, None, residue) for name in names]
    for first, second in BONDS:
        if max(first, second) < len(atoms):
            result.addBond(atoms[first], atoms[second])
    return result


@pytest.fixture(scope="module")
def potential():
    return CGPotential(make_network(), KINDS, temperature=300)


def test_the_features_are_those_that_mdtraj_computes():
    chains = random_chains(40)
    network = make_network()
    trajectory = mdtraj.Trajectory(chains, mdtraj.Topology.from_openmm(topology()))
    names = network.feature_names
    values = dict(zip(names, features(network, chains).T, strict=True))
    for name in names:
        beads = np.array([[int(bead) for bead in name.split(" ")[-1].split("-")]])
        if name.startswith("distance"):
            expected = mdtraj.compute_distances(trajectory, beads)
        elif name.startswith("angle"):
            expected = mdtraj.compute_angles(trajectory, beads)
        else:
            part = np.cos if name.startswith("cosine") else np.sin
            expected = part(mdtraj.compute_dihedrals(trajectory, beads))
        assert values[name] == pytest.approx(expected[:, 0], abs=1e-5), name


def test_features_follow_the_bonds():
    names = make_network().feature_names
    counts = {kind: sum(name.startswith(kind) for name in names) for kind in "dacs"}
    # C-N-A, N-A-B, N-A-C, B-A-C and A-C-N; C-N-A-B, C-N-A-C, N-A-C-N and B-A-C-N.
    assert counts == {"d": 15, "a": 5, "c": 4, "s": 4}


def test_statistics_are_those_of_the_frames():
    network, chains = make_network(), random_chains(30, seed=5)
    network.standardize(chains)
    values = features(network, chains)
    assert network.mean.numpy() == pytest.approx(values.mean(0), rel=1e-5, abs=1e-6)
    assert network.deviation.numpy() == pytest.approx(values.std(0, ddof=1), rel=1e-5)


def test_what_never_varies_does_not_blow_up_the_features():
    network, chains = make_network(), random_chains(30, seed=5, spread=0.0)
    network.standardize(chains)
    standardised = (features(network, chains) - network.mean.numpy()) / network.deviation.numpy()
    assert np.abs(standardised[:, features(network, chains).std(0) < 1e-6]).max() < 0.01
    assert np.isfinite(standardised).all()


@pytest.mark.parametrize("molecules", [1, 3])
def test_forces_are_minus_the_gradient_of_the_energy(molecules):
    network, chains = make_network().double(), random_chains(molecules, seed=1)
    _, gradient = energy_and_gradient(network, chains)
    random, step = np.random.default_rng(3), 1e-5
    for _ in range(3):
        direction = random.normal(size=chains.shape)
        direction /= np.linalg.norm(direction)
        ends = [energy(network, chains + shift * step * direction).sum().item() for shift in (2, 1, -1, -2)]
        numerical = (8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / (12 * step)
        assert numerical == pytest.approx((gradient * direction).sum(), abs=1e-6 * np.linalg.norm(gradient))


def test_openmm_forces_are_minus_the_gradient_of_its_energy(potential):
    chain = random_chains(1, seed=2)[0]
    context = Case("Reference").context(potential.create_system(topology()), chain)
    _, forces = energy_and_forces(context)

    def energy_at(positions):
        context.setPositions(positions)
        return energy_and_forces(context)[0]

    random, step = np.random.default_rng(4), 1e-5
    for _ in range(3):
        direction = random.normal(size=chain.shape)
        direction /= np.linalg.norm(direction)
        ends = [energy_at(chain + shift * step * direction) for shift in (2, 1, -1, -2)]
        numerical = -(8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / (12 * step)
        assert numerical == pytest.approx((forces * direction).sum(), abs=1e-6 * np.linalg.norm(forces))


def test_openmm_has_the_energy_and_forces_of_the_network(case, potential):
    chain = random_chains(1, seed=2)[0]
    context = case.context(potential.create_system(topology()), chain)
    expected_energy, gradient = energy_and_gradient(make_network(), chain[None])
    tolerance = 1e-6 if case.is_double else 1e-4
    found_energy, forces = energy_and_forces(context)
    assert found_energy == pytest.approx(expected_energy, rel=tolerance)
    assert difference(forces, -gradient[0]) < tolerance


def test_beads_in_a_line_have_finite_forces():
    line = np.zeros((1, len(MOLECULE), 3))
    line[0, :, 0] = 0.15 * np.arange(len(MOLECULE))
    assert np.isfinite(energy_and_gradient(make_network(), line)[1]).all()


def test_energy_does_not_change_under_rotation_and_translation_but_under_reflection():
    network, chains = make_network().double(), random_chains(1, seed=6)
    reference = energy(network, chains).sum().item()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    assert energy(network, chains @ rotation).sum().item() == pytest.approx(reference, rel=1e-10)
    assert energy(network, chains + [0.3, -2.0, 5.0]).sum().item() == pytest.approx(reference, rel=1e-10)
    assert energy(network, -chains).sum().item() != pytest.approx(reference, rel=1e-3)


def test_replicas_have_the_energies_and_forces_of_single_molecules(potential):
    chains = random_chains(3, seed=7)
    system = potential.create_system(topology(), replicas=3)
    context = Case("Reference").context(system, chains.reshape(-1, 3))
    _, forces = energy_and_forces(context)
    energies = CGForce.of(system.getForce(0)).replica_energies(context)
    single = Case("Reference").context(potential.create_system(topology()), chains[0])
    for chain, replica_energy, replica_forces in zip(chains, energies, forces.reshape(3, -1, 3), strict=True):
        single.setPositions(chain)
        expected_energy, expected_forces = energy_and_forces(single)
        assert replica_energy == pytest.approx(expected_energy, rel=1e-9)
        assert difference(replica_forces, expected_forces) < 1e-9


def test_a_molecule_of_any_extent_is_seen_as_a_whole():
    chains = 40 * random_chains(20, seed=8)
    network = make_network()
    network.standardize(chains)
    context = Case("Reference").context(CGPotential(network, KINDS).create_system(topology()), chains[0])
    expected_energy, gradient = energy_and_gradient(network, chains[:1])
    found_energy, forces = energy_and_forces(context)
    assert found_energy == pytest.approx(expected_energy, rel=1e-6)
    assert difference(forces, -gradient[0]) < 1e-6


def test_a_molecule_wrapped_into_a_small_box_is_whole_again(potential):
    chains = random_chains(20)
    chain = chains[np.argmax(np.linalg.norm(chains[:, 0] - chains[:, -1], axis=1))]
    assert np.linalg.norm(chain[0] - chain[-1]) > 0.35
    wrapped = chain - np.floor(chain / 0.7) * 0.7
    assert difference(wrapped - wrapped[0], chain - chain[0]) > 0.1
    molecule = topology()
    molecule.setPeriodicBoxVectors(TIGHT)
    context = Case("Reference").context(potential.create_system(molecule), wrapped)
    expected_energy, gradient = energy_and_gradient(make_network(), chain[None])
    found_energy, forces = energy_and_forces(context)
    assert found_energy == pytest.approx(expected_energy, rel=1e-6)
    assert difference(forces, -gradient[0]) < 1e-6
    network = make_network()
    network.standardize(chains)
    mean = network.mean.clone()
    network.standardize(chains - np.floor(chains / 0.7) * 0.7, np.tile(TIGHT, (20, 1, 1)))
    assert network.mean.numpy() == pytest.approx(mean.numpy(), abs=1e-6)


def test_a_potential_in_a_file_is_the_same(potential, tmp_path):
    potential.save(tmp_path / "cgnet.pt")
    loaded = CGPotential.load(tmp_path / "cgnet.pt")
    assert loaded.cutoff is None
    assert loaded.molecule == MOLECULE
    assert loaded.compile() is None
    chain = random_chains(1)[0]
    contexts = [Case("Reference").context(each.create_system(topology()), chain) for each in (potential, loaded)]
    assert energy_and_forces(contexts[0])[0] == energy_and_forces(contexts[1])[0]


def test_it_is_exported_for_openmm_torch(potential, tmp_path):
    module = potential.export_openmm_torch(tmp_path / "plain.pt", MOLECULE, periodic=False).double()
    chain = random_chains(1)[0]
    expected = energy(make_network().double(), chain[None]).sum().item()
    assert module(torch.tensor(chain)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_the_lipschitz_bound_holds_for_every_layer(bound):
    network = make_network(lipschitz_bound=bound)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(7)
    network.project()
    weights = [layer.weight for layer in network.layers] + [network.readout.weight[None]]
    norms = [np.linalg.norm(weight.detach().numpy(), 2) for weight in weights]
    assert norms == pytest.approx([bound] * 4, rel=1e-5)


def test_the_lipschitz_bound_leaves_smaller_weights_alone():
    network, free = make_network(lipschitz_bound=100.0), make_network()
    network.project()
    for mine, other in zip(network.parameters(), free.parameters(), strict=True):
        assert torch.equal(mine, other)


def spring_forces(chain):
    """A chain of springs, k = 2000 kJ/mol/nm², whose rest length is not that of `vibrating_chains`."""
    steps = np.diff(chain, axis=0)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    pulls = 2000 * (lengths - 0.16) * steps / lengths
    forces = np.zeros_like(chain)
    forces[:-1] += pulls
    forces[1:] -= pulls
    return forces


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    path = tmp_path_factory.mktemp("chain") / "chain.h5md"
    random = np.random.default_rng(0)
    particles = {"names": [NAMES[kind] for kind in MOLECULE], "types": MOLECULE, "type_names": NAMES}
    masses = [KINDS[kind][1] for kind in MOLECULE]
    with FrameWriter(path, **particles, masses=masses, temperature=300.0) as writer:
        for frame, chain in enumerate(random_chains(1, seed=3).repeat(200, 0)):
            positions = chain + random.normal(scale=0.02, size=chain.shape)
            # In a box, and across its faces.
            writer.append(positions % 2.4, BOXES["cubic"], time=float(frame), forces=spring_forces(positions))
    return path


def test_training_learns_a_chain_of_springs_within_the_lipschitz_bound(trajectory, tmp_path):
    torch.manual_seed(0)
    with Frames(trajectory) as frames:
        network = CGnet.from_frames(frames.select(range(160)), channels=32, layers=1, lipschitz_bound=4.0)
        size = np.sqrt(np.mean(np.square(frames.forces[:])))
    matching = ForceMatching(network, learning_rate=3e-2, batch_size=8, epochs=15, validation_fraction=0.2)
    result = matching.fit(trajectory, tmp_path / "fit", progress=False)
    assert result.validation_force_rmse < 0.5 * size
    unseen = force_rmse(result.potential, trajectory, frames=slice(160, None), progress=False)
    assert unseen == pytest.approx(result.validation_force_rmse, rel=1e-3)
    learned = result.potential.network.state_dict()
    weights = [learned["layers.0.weight"].numpy(), learned["readout.weight"].numpy()[None]]
    assert max(np.linalg.norm(weight, 2) for weight in weights) < 4.0001


def test_other_frames_are_refused_before_anything_is_written(trajectory, tmp_path, potential):
    matching = ForceMatching(CGnet(MOLECULE[:-1]))
    with pytest.raises(ValueError, match="one molecule with the bead types"):
        matching.fit(trajectory, tmp_path / "fit", progress=False)
    assert not (tmp_path / "fit").exists()
    other = CGPotential(CGnet([0, 1, 2]), KINDS)
    with pytest.raises(ValueError, match="one molecule with the bead types"):
        force_rmse(other, trajectory, progress=False)


def test_a_topology_of_another_molecule_is_refused(potential):
    with pytest.raises(ValueError, match="one molecule of the beads C N A A C N; the topology has the beads C N A A C"):
        potential.create_system(topology(["C", "N", "A", "A", "C"]))
    with pytest.raises(ValueError, match="the topology has the beads N C A A C N"):
        potential.create_system(topology(["N", "C", "A", "A", "C", "N"]))


@pytest.mark.parametrize("types", [MOLECULE[:5], MOLECULE[::-1], [*MOLECULE, 0]], ids=["few", "reversed", "more"])
def test_a_force_on_other_beads_fails_before_any_step(potential, types):
    system = system_of(CGForce(potential.to_bytes(), types=types), beads=len(types))
    chain = random_chains(1, beads=len(types))[0]
    with pytest.raises(openmm.OpenMMException, match="beads that are not this molecule"):
        energy_and_forces(Case("Reference").context(system, chain))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([[0, 0]], {}, "at least one angle"),
        ([[0, 0, 0], [(0, 1)]], {}, "at least one angle"),
        ([[0, 0, 0], [(0, 1), (1, 3)]], {}, "bonds run from 0 to 3; the particles are 0 to 2"),
        ([[0, 0, 0], [(0, 1), (1.2, 2)]], {}, "bonds must be whole numbers"),
        ([[0, 0.5, 0]], {}, "bead types must be whole numbers"),
        ([[0, -1, 0]], {}, "counted from 0"),
        ([[0, 0, 0]], {"channels": 0}, "channels must be positive"),
        ([[0, 0, 0]], {"layers": 0}, "layers must be positive"),
        ([[0, 0, 0]], {"energy_scale": -1.0}, "energy_scale must be positive"),
        ([[0, 0, 0]], {"lipschitz_bound": 0.0}, "lipschitz_bound must be positive"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        CGnet(*arguments, **options)


def test_statistics_of_bad_frames_are_refused():
    network, chains = make_network(), random_chains(3)
    with pytest.raises(ValueError, match="at least two frames"):
        network.standardize(chains[:1])
    with pytest.raises(ValueError, match="6 beads"):
        network.standardize(chains[:, :5])
    with pytest.raises(ValueError, match="one for each frame"):
        network.standardize(chains, np.eye(3)[None])
    with pytest.raises(ValueError, match="which of their periodic images is meant"):
        network.standardize(chains, 0.1 * np.eye(3))
    chains[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        network.standardize(chains)
