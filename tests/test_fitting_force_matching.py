"""Force matching: what it must recover, what it must refuse, and that interruptions leave no trace."""

import gc
import json

import numpy as np
import openmm
import pytest
import torch
from conftest import BOXES, difference, energy_and_forces, images, random_network, random_potential, scatter, system_of
from lightning.pytorch.callbacks import Callback

from openmmcg import CGForce
from openmmcg.fitting import ForceMatching, force_rmse
from openmmcg.fitting.filter_tables import tabulated_forces
from openmmcg.fitting.force_matching.data import ForceDataset, split_frames
from openmmcg.fitting.force_matching.forces import network_forces
from openmmcg.frames import Frames, FrameWriter
from openmmcg.potentials import PriorForces, Repulsion, SchNet

CUTOFF = 0.6
PRIOR = Repulsion([[0.2, 0.18], [0.18, 0.22]], cutoff=CUTOFF)


def pair_forces(positions, types, box):
    """Smooth pair forces, of a strength that depends on the types: known, and outside the network's family."""
    displacements = images(positions[:, None] - positions, box)
    distances = np.linalg.norm(displacements, axis=2) + np.eye(len(positions))
    strength = np.array([[40.0, -60.0], [-60.0, 90.0]])[np.ix_(types, types)]
    slopes = np.where(distances < CUTOFF, strength * np.sin(np.pi * distances / CUTOFF) ** 2, 0.0)
    return (slopes[:, :, None] * displacements / distances[:, :, None]).sum(1)


def write_frames(path, number=24, beads=30, box=BOXES["cubic"], forces=pair_forces, seed=0, spoil=None):
    types = np.arange(beads) % 2
    particles = {
        "names": ["AB"[i] for i in types],
        "types": types,
        "type_names": ["A", "B"],
        "masses": [[20.0, 30.0][i] for i in types],
    }
    options = {"temperature": 300.0, "forces": forces is not None, "periodic": box is not None}
    with FrameWriter(path, **particles, **options) as writer:
        for frame in range(number):
            positions = scatter(beads, box, seed=seed + frame, closest=0.22)
            values = {} if forces is None else {"forces": forces(positions, types, box)}
            writer.append(positions, box, time=float(frame), **values)
    if spoil is not None:
        import h5py

        with h5py.File(path, "r+") as file:
            quantity, frame = spoil
            file[f"particles/trajectory/{quantity}/value"][frame, 0, 0] = np.nan
    return path


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("frames") / "pairs.h5md")


def make_network(**options):
    torch.manual_seed(0)
    options = {"channels": 12, "blocks": 1, "basis_size": 12, "basis_start": 0.2, "neighbors": 3, **options}
    return SchNet(types=2, cutoff=CUTOFF, **options)


def matching(epochs=4, network=None, **options):
    options = {"learning_rate": 1e-2, "validation_fraction": 0.25, **options}
    return ForceMatching(network or make_network(), epochs=epochs, **options)


class StopAfter(Callback):
    """Stands for whatever may end a process."""

    class InterruptionError(Exception):
        pass

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == self.epochs and index == 1:
            raise self.InterruptionError


def weights(potential):
    return {name: tensor.clone() for name, tensor in potential.network.state_dict().items()}


def test_the_forces_of_a_known_pair_potential_are_recovered(trajectory, tmp_path):
    unseen = write_frames(tmp_path / "unseen.h5md", number=8, seed=100)
    result = matching(epochs=80, network=make_network(channels=24)).fit(trajectory, tmp_path, progress=False)
    with Frames(unseen) as frames:
        size = np.sqrt(np.mean(np.square(frames.forces[:])))
    assert force_rmse(result.potential, unseen, progress=False) < 0.1 * size
    assert result.validation_force_rmse < 0.1 * size


def test_the_potential_with_its_priors_has_the_forces_that_were_learned(trajectory, tmp_path, box):
    potential = random_potential(priors=[PRIOR])
    path = write_frames(tmp_path / "frames.h5md", number=3, box=box)
    squares = []
    with Frames(path) as frames:
        types = frames.types.tolist()
        topology = openmm.app.Topology()
        chain = topology.addChain()
        for name in frames.names:
            topology.addAtom(name, None, topology.addResidue("M", chain))
        if box is not None:
            topology.setPeriodicBoxVectors(box)
        system = potential.create_system(topology)
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        for index in range(3):
            context.setPositions(np.asarray(frames.positions[index], float))
            squares.append(np.square(energy_and_forces(context)[1] - frames.forces[index]).mean())
    assert len(types) == 30
    assert force_rmse(potential, path, progress=False) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)


def test_the_network_learns_what_the_priors_leave(trajectory):
    with Frames(trajectory) as frames:
        data = ForceDataset(frames, range(3), CUTOFF, [PRIOR], progress=False)
        prior_forces = PriorForces([PRIOR], frames.types.tolist(), periodic=True)
        for index in range(3):
            expected = frames.forces[index] - prior_forces(frames.positions[index], frames.boxes[index])
            assert difference(data[index].forces.numpy(), expected) < 1e-6


def test_joined_frames_do_not_see_each_other(trajectory):
    network = make_network(blocks=2)
    with Frames(trajectory) as frames:
        data = ForceDataset(frames, range(3), CUTOFF, progress=False)
    separate = torch.cat([network_forces(network, data[i]) for i in range(3)])
    together = network_forces(network, data.__getitems__([0, 1, 2]))
    assert difference(together.detach().numpy(), separate.detach().numpy()) < 1e-6


@pytest.mark.parametrize("types", [1, 2, 6])
@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("schnet", "tanh"),
        ("schnet", "shifted_softplus"),
        ("gnn", "silu"),
        ("painn", "silu"),
        ("painn", "tanh"),
        ("painn of degree 2", "silu"),
    ],
)
def test_tabulated_forces_and_their_gradient_are_those_of_the_network(tmp_path, types, kind, activation):
    torch.manual_seed(0)
    options = {"channels": 8, "blocks": 3, "basis_size": 15, "activation": activation, "neighbors": 10}
    network = random_network(types, network=kind, **options)
    # A liquid: where a bead has one neighbour, near the cutoff, a norm's second derivative is without bounds.
    with Frames(write_frames(tmp_path / "liquid.h5md", number=1, beads=60, box=np.eye(3) * 1.6)) as frames:
        batch = ForceDataset(frames, [0], CUTOFF, progress=False)[0]
    batch = batch._replace(types=torch.arange(len(batch.types)) % types)
    weight = torch.randn_like(batch.forces)
    results = []
    for forces in (tabulated_forces(network, *batch[:4]), network_forces(network, batch, exact=True)):
        gradients = torch.autograd.grad((weight * forces).sum(), network.parameters(), materialize_grads=True)
        results.append([forces.detach().numpy(), np.concatenate([gradient.flatten() for gradient in gradients])])
    assert difference(results[0][0], results[1][0]) < 2e-3
    assert difference(results[0][1], results[1][1]) < 4e-3


@pytest.mark.parametrize("kind", ["schnet", "gnn", "painn", "painn of degree 2"])
def test_a_batch_leaves_no_tensors_for_the_collector(trajectory, kind):
    """Python's collector counts objects, not bytes: features of many batches would lie in memory until it comes."""
    network = random_network(2, network=kind, channels=8, blocks=2, basis_size=12)
    with Frames(trajectory) as frames:
        batch = ForceDataset(frames, range(2), CUTOFF, progress=False).__getitems__([0, 1])

    def count_tensors():
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    def train():
        (network_forces(network, batch) - batch.forces).square().mean().backward()
        network.zero_grad()

    train()  # what is made only once
    gc.collect()
    gc.disable()
    try:
        before = count_tensors()
        train()
        assert count_tensors() == before
    finally:
        gc.enable()


def test_an_equivariant_network_learns_forces(trajectory, tmp_path):
    torch.manual_seed(0)
    network = random_network(2, network="painn", channels=8, basis_size=12, basis_start=0.2, energy_scale=1.0)
    results = [matching(epochs, network).fit(trajectory, tmp_path / str(epochs), progress=False) for epochs in (1, 8)]
    errors = [result.validation_force_rmse for result in results]
    assert errors[1] < 0.7 * errors[0]
    assert force_rmse(results[1].potential, trajectory, frames=slice(18, 24), progress=False) == pytest.approx(
        errors[1], rel=1e-2
    )


class PairEnergies(torch.nn.Module):
    """A network outside the family of the primitives, trained by automatic differentiation alone."""

    def __init__(self):
        super().__init__()
        self.cutoff = CUTOFF
        self.strength = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, displacements: torch.Tensor, types: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor):
        energies = self.strength * (0.6 - displacements.square().sum(1).sqrt()) ** 2
        return torch.zeros(types.shape[0], dtype=energies.dtype).index_add(0, rows, energies)


def test_networks_of_other_families_are_trained_too(tmp_path):
    def forces(positions, types, box):
        displacements = images(positions[:, None] - positions, box)
        distances = np.linalg.norm(displacements, axis=2) + np.eye(len(positions))
        slopes = np.where(distances < CUTOFF, 2 * 7.5 * (CUTOFF - distances), 0.0)
        return (slopes[:, :, None] * displacements / distances[:, :, None]).sum(1)

    path = write_frames(tmp_path / "frames.h5md", forces=forces)
    result = matching(40, PairEnergies(), learning_rate=0.5).fit(path, tmp_path / "fit", progress=False)
    assert result.potential.network.strength.item() == pytest.approx(7.5, rel=0.01)
    assert result.potential.compile() is None


def test_an_interrupted_training_ends_as_an_uninterrupted_one(trajectory, tmp_path):
    whole = matching().fit(trajectory, tmp_path / "whole", progress=False)
    for epochs in (0, 2):
        interrupted = matching(trainer_options={"callbacks": [StopAfter(epochs)]})
        with pytest.raises(StopAfter.InterruptionError):
            interrupted.fit(trajectory, tmp_path / "parts", progress=False)
    parts = matching().fit(trajectory, tmp_path / "parts", progress=False)
    assert parts.epochs == whole.epochs == 4
    assert parts.validation_force_rmse == whole.validation_force_rmse
    expected = weights(whole.potential)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(parts.potential).items())


def test_a_finished_training_is_not_done_again(trajectory, tmp_path):
    first = matching().fit(trajectory, tmp_path, progress=False)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = matching().fit(trajectory, tmp_path, progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    assert again.potential.to_bytes() == first.potential.to_bytes()
    assert again.validation_force_rmse == first.validation_force_rmse


def test_a_directory_with_another_training_is_left_alone(trajectory, tmp_path):
    matching().fit(trajectory, tmp_path, progress=False)
    before = (tmp_path / "potential.pt").read_bytes()
    with pytest.raises(ValueError, match="learning_rate 0.01 there, 0.02 here"):
        matching(learning_rate=0.02).fit(trajectory, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"embedding.weight float\[2, 12\] .* there, float\[2, 6\] .* here"):
        matching(network=make_network(channels=6)).fit(trajectory, tmp_path, progress=False)
    assert (tmp_path / "potential.pt").read_bytes() == before


def test_the_best_epoch_is_kept_and_training_ends_early_without_progress(trajectory, tmp_path):
    # So high a rate that the error jumps about.
    result = matching(60, learning_rate=0.1, patience=3).fit(trajectory, tmp_path, progress=False)
    assert result.epochs < 60
    lines = (tmp_path / "log" / "version_0" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("validation_force_rmse")
    errors = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert len(errors) == result.epochs == result.best_epoch + 3
    assert result.validation_force_rmse == pytest.approx(min(errors))
    assert errors.index(min(errors)) == result.best_epoch - 1
    validation = force_rmse(result.potential, trajectory, frames=slice(18, 24), progress=False)
    assert validation == pytest.approx(result.validation_force_rmse, rel=1e-2)


def test_the_file_says_where_the_potential_comes_from(trajectory, tmp_path):
    result = matching(2, priors=[PRIOR]).fit(trajectory, tmp_path, frames=slice(0, 20), progress=False)
    potential = result.potential
    assert [(kind.name, kind.mass) for kind in potential.bead_types] == [("A", 20.0), ("B", 30.0)]
    assert potential.temperature == 300
    assert len(potential.priors) == 1
    assert potential.provenance["frames"] == "pairs.h5md"
    assert potential.provenance["selection"] == [0, 20, 1]
    assert potential.provenance["validation_force_rmse"] == result.validation_force_rmse
    assert json.loads((tmp_path / "result.json").read_text())["best_epoch"] == result.best_epoch
    assert result.validation_force_rmse_kcal_per_mol_angstrom == pytest.approx(result.validation_force_rmse / 41.84)


def test_frames_without_forces_are_refused_before_anything_is_written(tmp_path):
    path = write_frames(tmp_path / "frames.h5md", forces=None)
    with pytest.raises(ValueError, match="holds no forces"):
        matching().fit(path, tmp_path / "fit", progress=False)
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize("quantity", ["position", "force"])
def test_numbers_that_are_not_finite_are_refused_with_their_frame(quantity, tmp_path):
    path = write_frames(tmp_path / "frames.h5md", spoil=(quantity, 5))
    with pytest.raises(ValueError, match=f"frame 5 of .*frames.h5md has {quantity}s that are not finite"):
        matching().fit(path, tmp_path / "fit", progress=False)


def test_a_box_too_small_for_the_cutoff_is_refused_with_its_frame(tmp_path):
    path = write_frames(tmp_path / "frames.h5md", beads=4, box=np.eye(3) * 1.1)
    with pytest.raises(ValueError, match="frame 0 of .* half the smallest width"):
        matching().fit(path, tmp_path / "fit", progress=False)


def test_bead_types_of_frames_and_potential_must_agree(trajectory):
    potential = random_potential(bead_types=[("W", 18.0)])
    with pytest.raises(ValueError, match=r"bead types \['A', 'B'\], the potential \['W'\]"):
        force_rmse(potential, trajectory, progress=False)


@pytest.mark.parametrize("option", ["learning_rate", "batch_size", "epochs", "patience"])
def test_numbers_that_must_be_positive_are_checked(option):
    with pytest.raises(ValueError, match=option):
        ForceMatching(make_network(), **{option: 0})


def test_the_learning_rate_can_fall_by_a_factor_after_every_epoch(trajectory, tmp_path):
    matching(3, learning_rate_decay=0.3).fit(trajectory, tmp_path, progress=False)
    (optimizer,) = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(1e-2 * 0.3**3)
    for decay in (0.0, 1.5):
        with pytest.raises(ValueError, match="learning_rate_decay"):
            matching(learning_rate_decay=decay)


def test_a_split_has_every_frame_once():
    for split in ("last", "random"):
        training, validation = split_frames(50, 0.1, split, seed=3)
        assert sorted(training + validation) == list(range(50))
        assert len(validation) == 5
    assert split_frames(50, 0.1, "last", seed=3)[1] == [45, 46, 47, 48, 49]
    assert split_frames(50, 0.1, "random", 3) == split_frames(50, 0.1, "random", 3)
    assert split_frames(50, 0.1, "random", 3) != split_frames(50, 0.1, "random", 4)
    with pytest.raises(ValueError, match="at least two frames"):
        split_frames(1, 0.1, "last", 0)


def test_the_result_runs_in_openmm(trajectory, tmp_path):
    potential = matching().fit(trajectory, tmp_path, progress=False).potential
    with Frames(trajectory) as frames:
        positions, box, types = np.asarray(frames.positions[0], float), frames.boxes[0], frames.types.tolist()
        batch = ForceDataset(frames, [0], CUTOFF, progress=False)[0]
    force = CGForce(potential.to_bytes(), types=types, periodic=True)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system_of(force, beads=30, box=box), openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    expected = network_forces(potential.network, batch, exact=True).detach().numpy()
    assert difference(energy_and_forces(context)[1], expected) < 3e-5
