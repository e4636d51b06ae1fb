"""Networks as torch modules: exact derivatives and the symmetries of beads in space."""

import numpy as np
import pytest
import torch
from conftest import BOXES, images, scatter

from openmmcg.potentials import CosineCutoff, ExponentialNormalBasis, GaussianBasis, SchNet, minimum_image

CUTOFF = 0.6
NETWORKS = {
    "gaussian tanh": {},
    "exponential softplus": {"basis": "exponential_normal", "basis_start": 0.15, "activation": "shifted_softplus"},
    "three blocks": {"blocks": 3, "output_channels": 5},
}


def make_network(**options):
    torch.manual_seed(2)
    options = {"channels": 12, "blocks": 2, "cutoff": CUTOFF, "neighbors": 3, **options}
    return SchNet(types=2, **options).double()


def pairs(positions, box, cutoff=CUTOFF):
    rows, columns = np.triu_indices(len(positions), 1)
    displacements = images(positions[columns] - positions[rows], box)
    near = np.linalg.norm(displacements, axis=1) < cutoff
    return [torch.tensor(array[near]) for array in (displacements, rows, columns)]


def energy(network, positions, types, box=None):
    displacements, rows, columns = pairs(positions, box)
    return network(displacements, torch.tensor(types), rows, columns).sum().item()


def random_rotation(seed=0):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


TYPES = np.arange(20) % 2


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_forces_are_minus_the_gradient_of_the_energy(options, box):
    network, positions = make_network(**options), scatter(20, box)
    displacements, rows, columns = pairs(positions, box)
    displacements.requires_grad_()
    total = network(displacements, torch.tensor(TYPES), rows, columns).sum()
    (gradients,) = torch.autograd.grad(total, displacements)
    forces = torch.zeros(20, 3, dtype=torch.float64)
    forces = forces.index_add(0, rows, gradients).index_add(0, columns, -gradients).numpy()
    random, step = np.random.default_rng(3), 1e-4
    for _ in range(3):
        direction = random.normal(size=forces.shape)
        direction /= np.linalg.norm(direction)
        ends = [energy(network, positions + shift * step * direction, TYPES, box) for shift in (2, 1, -1, -2)]
        # The fourth-order formula: its error is negligible at this step.
        numerical = -(8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / (12 * step)
        assert numerical == pytest.approx((forces * direction).sum(), abs=1e-7 * np.linalg.norm(forces))


def test_energy_does_not_change_under_rotation_translation_and_reflection():
    network, positions = make_network(), scatter(20)
    reference = energy(network, positions, TYPES)
    assert energy(network, positions @ random_rotation(), TYPES) == pytest.approx(reference, rel=1e-12)
    assert energy(network, positions + [0.3, -2.0, 5.0], TYPES) == pytest.approx(reference, rel=1e-12)
    assert energy(network, -positions, TYPES) == pytest.approx(reference, rel=1e-12)


def test_energy_does_not_change_when_beads_are_listed_in_another_order():
    network, positions = make_network(), scatter(20)
    order = np.random.default_rng(1).permutation(20)
    assert energy(network, positions[order], TYPES[order]) == pytest.approx(
        energy(network, positions, TYPES), rel=1e-12
    )


def test_energy_depends_on_bead_types():
    network, positions = make_network(), scatter(20)
    assert energy(network, positions, TYPES) != pytest.approx(energy(network, positions, 1 - TYPES), rel=1e-3)


def test_energy_does_not_depend_on_which_bead_of_a_pair_comes_first():
    network, positions = make_network(), scatter(20)
    displacements, rows, columns = pairs(positions, None)
    one = network(displacements, torch.tensor(TYPES), rows, columns).sum()
    other = network(-displacements, torch.tensor(TYPES), columns, rows).sum()
    assert other.item() == pytest.approx(one.item(), rel=1e-12)


def test_energy_and_forces_are_continuous_at_the_cutoff():
    network = make_network()

    def pair(distance):
        displacements = torch.tensor([[distance, 0, 0]], dtype=torch.float64, requires_grad=True)
        total = network(displacements, torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1])).sum()
        return total.item(), torch.autograd.grad(total, displacements)[0][0, 0].item()

    nothing = torch.empty(0, dtype=torch.int64)
    apart = network(torch.empty(0, 3, dtype=torch.float64), torch.tensor([0, 1]), nothing, nothing).sum().item()
    edge, force = pair(CUTOFF - 1e-6)
    assert edge == pytest.approx(apart, abs=1e-9)
    assert force == pytest.approx(0, abs=1e-3)
    assert pair(CUTOFF + 0.1) == pytest.approx((apart, 0))


def test_a_scripted_network_gives_the_same_energies():
    network, positions = make_network(), scatter(20)
    displacements, rows, columns = pairs(positions, None)
    arguments = (displacements, torch.tensor(TYPES), rows, columns)
    assert torch.equal(torch.jit.script(network)(*arguments), network(*arguments))


@pytest.mark.parametrize("basis", [GaussianBasis, ExponentialNormalBasis])
def test_radial_functions_peak_at_one_between_start_and_cutoff(basis):
    distances = torch.linspace(0.2, CUTOFF, 4001, dtype=torch.float64)
    values = basis(CUTOFF, size=10, start=0.2).double()(distances)
    assert values.shape == (4001, 10)
    assert values.amax(0).numpy() == pytest.approx(np.ones(10), abs=1e-4)
    # Each function has its own place.
    assert len(set(values.argmax(0).tolist())) == 10


def test_the_exponential_normal_basis_is_that_of_its_formula():
    r, start, size = 0.31, 0.2, 7
    alpha, lowest = 5 / (CUTOFF - start), np.exp(-5.0)
    beta = (2 / size * (1 - lowest)) ** -2
    expected = np.exp(-beta * (np.exp(-alpha * (r - start)) - np.linspace(lowest, 1, size)) ** 2)
    basis = ExponentialNormalBasis(CUTOFF, size=size, start=start)
    assert basis(torch.tensor(r)).numpy() == pytest.approx(expected, rel=1e-5)


def test_the_cosine_cutoff_and_its_slope_vanish_at_the_cutoff():
    distances = torch.tensor([0.0, CUTOFF, 0.9], dtype=torch.float64, requires_grad=True)
    values = CosineCutoff(CUTOFF)(distances)
    (slopes,) = torch.autograd.grad(values.sum(), distances)
    assert values.tolist() == pytest.approx([1, 0, 0])
    assert slopes.tolist() == pytest.approx([0, 0, 0])


def test_minimum_images_are_the_shortest_of_all_images(box):
    lattice = BOXES["cubic"] if box is None else box
    random = np.random.default_rng(4)
    displacements = random.uniform(-2, 2, size=(200, 3)) @ lattice
    cells = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), -1).reshape(-1, 3) @ lattice
    shortest = np.linalg.norm(displacements[:, None] + cells, axis=2).min(1)
    result = torch.jit.script(minimum_image)(torch.tensor(displacements), torch.tensor(lattice))
    lengths = result.norm(dim=1).numpy()
    exact = shortest < lattice.diagonal().min() / 2
    assert exact.sum() > 20
    assert lengths[exact] == pytest.approx(shortest[exact], rel=1e-12)


def test_minimum_images_without_a_box_are_the_displacements():
    displacements = torch.randn(5, 3)
    assert torch.equal(minimum_image(displacements, torch.empty(0)), displacements)


@pytest.mark.parametrize("option", ["types", "channels", "blocks", "neighbors", "energy_scale"])
def test_numbers_that_must_be_positive_are_checked(option):
    with pytest.raises(ValueError, match=option):
        SchNet(**{"types": 1, option: 0})


@pytest.mark.parametrize("option", ["basis", "activation"])
def test_unknown_choices_are_refused_by_name(option):
    with pytest.raises(ValueError, match="unknown .*'sine'; known are"):
        SchNet(types=1, **{option: "sine"})
