"""Networks as torch modules: exact derivatives and the symmetries of beads in space."""

import numpy as np
import pytest
import torch
from conftest import BOXES, difference, images, random_network, scatter

from openmmcg.geometry.scriptable import minimum_image
from openmmcg.potentials import GNN, CGnet, CosineCutoff, ExponentialNormalBasis, GaussianBasis, PaiNN, SchNet
from openmmcg.potentials.networks import quadrupole_adjoint, quadrupoles

CUTOFF = 0.6
NETWORKS = {
    "gaussian tanh": {},
    "exponential softplus": {"basis": "exponential_normal", "basis_start": 0.15, "activation": "shifted_softplus"},
    "three blocks": {"blocks": 3, "filter_channels": 7, "output_channels": [5, 4]},
    "gnn": {"network": "gnn"},
    "painn": {"network": "painn"},
    "painn, three blocks": {"network": "painn", "blocks": 3, "activation": "tanh", "output_channels": [5, 4]},
    "painn of degree 2": {"network": "painn of degree 2", "activation": "tanh"},
}
KINDS = ["schnet", "gnn", "painn"]


def make_network(**options):
    torch.manual_seed(2)
    return random_network(2, **{"channels": 12, "neighbors": 3, **options}).double()


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


def forces_of(network, positions, box=None):
    displacements, rows, columns = pairs(positions, box)
    displacements.requires_grad_()
    total = network(displacements, torch.tensor(TYPES), rows, columns).sum()
    (gradients,) = torch.autograd.grad(total, displacements)
    forces = torch.zeros(20, 3, dtype=torch.float64)
    return forces.index_add(0, rows, gradients).index_add(0, columns, -gradients).numpy()


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_forces_are_minus_the_gradient_of_the_energy(options, box):
    network, positions = make_network(**options), scatter(20, box)
    forces = forces_of(network, positions, box)
    random, step = np.random.default_rng(3), 1e-5
    for _ in range(3):
        direction = random.normal(size=forces.shape)
        direction /= np.linalg.norm(direction)
        ends = [energy(network, positions + shift * step * direction, TYPES, box) for shift in (2, 1, -1, -2)]
        # The fourth-order formula: its error is negligible at this step.
        numerical = -(8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / (12 * step)
        assert numerical == pytest.approx((forces * direction).sum(), abs=1e-7 * np.linalg.norm(forces))


@pytest.fixture(params=KINDS)
def network(request):
    return make_network(network=request.param)


def test_energy_does_not_change_under_rotation_translation_and_reflection(network):
    positions = scatter(20)
    reference = energy(network, positions, TYPES)
    assert energy(network, positions @ random_rotation(), TYPES) == pytest.approx(reference, rel=1e-12)
    assert energy(network, positions + [0.3, -2.0, 5.0], TYPES) == pytest.approx(reference, rel=1e-12)
    assert energy(network, -positions, TYPES) == pytest.approx(reference, rel=1e-12)


@pytest.mark.parametrize("parity", [1, -1], ids=["rotation", "reflection"])
def test_forces_turn_with_the_beads(network, parity):
    positions, rotation = scatter(20), parity * random_rotation()
    assert difference(forces_of(network, positions @ rotation), forces_of(network, positions) @ rotation) < 1e-10


def test_energy_does_not_change_when_beads_are_listed_in_another_order(network):
    positions = scatter(20)
    order = np.random.default_rng(1).permutation(20)
    assert energy(network, positions[order], TYPES[order]) == pytest.approx(
        energy(network, positions, TYPES), rel=1e-12
    )


def test_energy_depends_on_bead_types(network):
    positions = scatter(20)
    assert energy(network, positions, TYPES) != pytest.approx(energy(network, positions, 1 - TYPES), rel=1e-6)


def test_energy_does_not_depend_on_which_bead_of_a_pair_comes_first(network):
    positions = scatter(20)
    displacements, rows, columns = pairs(positions, None)
    one = network(displacements, torch.tensor(TYPES), rows, columns).sum()
    other = network(-displacements, torch.tensor(TYPES), columns, rows).sum()
    assert other.item() == pytest.approx(one.item(), rel=1e-12)


def test_energy_and_forces_are_continuous_at_the_cutoff(network):
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


def test_a_scripted_network_gives_the_same_energies(network):
    positions = scatter(20)
    displacements, rows, columns = pairs(positions, None)
    arguments = (displacements, torch.tensor(TYPES), rows, columns)
    assert torch.equal(torch.jit.script(network)(*arguments), network(*arguments))


def three_beads(network, angle):
    """Energy of a bead with two neighbours in directions that enclose an angle, and do not see each other."""
    displacements = 0.4 * torch.tensor([[1.0, 0, 0], [np.cos(angle), np.sin(angle), 0]], dtype=torch.float64)
    return network(displacements, torch.tensor([0, 1, 1]), torch.tensor([0, 0]), torch.tensor([1, 2])).sum().item()


def test_an_equivariant_network_sees_angles_that_distances_do_not_tell():
    for kind in KINDS:
        network = make_network(network=kind, blocks=1)
        bent, straight = (three_beads(network, angle) for angle in (1.8, np.pi))
        assert (bent == pytest.approx(straight, rel=1e-12)) == (kind != "painn")


def test_quadrupoles_are_spherical_harmonics():
    """Inner products are Legendre polynomials, and the adjoint is the derivative, at right angles to the direction."""
    directions = torch.nn.functional.normalize(torch.randn(40, 3, dtype=torch.float64), dim=1).requires_grad_()
    values = quadrupoles(directions)
    cosines = directions @ directions.T
    torch.testing.assert_close(values @ values.T, (3 * cosines**2 - 1) / 2)
    weights = torch.randn(40, 5, dtype=torch.float64)
    (automatic,) = torch.autograd.grad((weights * values).sum(), directions)
    ours = quadrupole_adjoint(directions, weights).detach()
    torch.testing.assert_close(torch.linalg.cross(ours, directions), torch.linalg.cross(automatic, directions))
    assert quadrupoles(torch.zeros(3)).tolist() == [0.0] * 5


def test_a_degree_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="is 1 or 2, not 3"):
        PaiNN(1, degree=3)


@pytest.mark.parametrize("degree", [1, 2])
def test_one_block_of_an_equivariant_network_is_that_of_its_equations(degree):
    network = make_network(network="painn" if degree == 1 else "painn of degree 2", blocks=1, channels=3)
    displacements, rows, columns = pairs(scatter(20), None)
    types = torch.tensor(TYPES)
    message, update = network.messages[0], network.updates[0]
    with torch.no_grad():
        s = network.embedding.weight[types]
        hidden = torch.nn.functional.silu(s @ message.hidden.weight.T + message.hidden.bias)
        sums, vectors, tensors = (torch.zeros(20, *shape, dtype=torch.float64) for shape in ((3,), (3, 3), (5, 3)))
        for k in range(len(rows)):
            for i, j, d in ((rows[k], columns[k], displacements[k]), (columns[k], rows[k], -displacements[k])):
                r = d.norm()
                phi_s = hidden[j] @ message.to_scalars.weight.T + message.to_scalars.bias
                phi_v = hidden[j] @ message.to_directions.weight.T + message.to_directions.bias
                sums[i] += phi_s * message.scalars.filter(r)
                vectors[i] += torch.outer(d / r, phi_v * message.directions.filter(r))
                if degree == 2:
                    phi_t = hidden[j] @ message.to_quadrupoles.weight.T + message.to_quadrupoles.bias
                    tensors[i] += torch.outer(quadrupoles(d / r), phi_t * message.quadrupoles.filter(r))
        s = s + sums
        u, v = (torch.einsum("oc,idc->ido", layer.weight, vectors) for layer in (update.first, update.second))
        weight = torch.cat([update.from_scalars.weight, update.from_norms.weight], 1)
        a = torch.cat([s, ((v**2).sum(1) + 1e-8) ** 0.5], 1) @ weight.T + update.from_scalars.bias
        if degree == 2:
            parts = update.tensors
            p, q = (torch.einsum("oc,idc->ido", layer.weight, tensors) for layer in (parts.first, parts.second))
            a = a + ((q**2).sum(1) + 1e-8) ** 0.5 @ parts.from_norms.weight.T
        a = torch.nn.functional.silu(a)
        s = s + a @ update.to_scalars.weight.T + update.to_scalars.bias
        s = s + (a @ update.to_products.weight.T + update.to_products.bias) * (u * v).sum(1)
        if degree == 2:
            s = s + (a @ parts.to_products.weight.T + parts.to_products.bias) * (p * q).sum(1)
        expected = network.readout(network.output(s))
        assert difference(network(displacements, types, rows, columns).numpy(), expected.numpy()) < 1e-12


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


@pytest.mark.parametrize("kind", [SchNet, GNN, PaiNN])
@pytest.mark.parametrize("option", ["types", "channels", "blocks", "neighbors", "energy_scale"])
def test_numbers_that_must_be_positive_are_checked(kind, option):
    with pytest.raises(ValueError, match=option):
        kind(**{"types": 1, option: 0})


@pytest.mark.parametrize("widths", [0, [], [4, 0]])
@pytest.mark.parametrize("kind", [SchNet, PaiNN])
def test_there_is_a_layer_before_the_energy(kind, widths):
    with pytest.raises(ValueError, match="output_channels must"):
        kind(types=1, output_channels=widths)


@pytest.mark.parametrize("kind", [SchNet, GNN, PaiNN])
@pytest.mark.parametrize("option", ["basis", "activation"])
def test_unknown_choices_are_refused_by_name(kind, option):
    with pytest.raises(ValueError, match="unknown .*'sine'; known are"):
        kind(types=1, **{option: "sine"})


@pytest.mark.parametrize(
    "make",
    [
        lambda **seed: SchNet(types=2, channels=4, blocks=1, **seed),
        lambda **seed: GNN(types=2, channels=4, blocks=1, **seed),
        lambda **seed: PaiNN(types=2, channels=4, blocks=1, **seed),
        lambda **seed: CGnet([0, 1, 0], channels=4, layers=1, **seed),
    ],
)
def test_initial_weights_are_those_of_the_seed_and_no_other_random_numbers_change(make):
    def weights(**seed):
        return torch.nn.utils.parameters_to_vector(make(**seed).parameters())

    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    first = weights()
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(weights(), first)
    assert torch.equal(weights(seed=0), first)
    assert not torch.equal(weights(seed=1), first)
    assert not torch.equal(weights(seed=None), weights(seed=None))
    torch.manual_seed(0)
    assert torch.equal(weights(seed=None), first)
