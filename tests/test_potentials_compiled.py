"""The compiled network, run by a slow interpreter of its specification in docs/design.md."""

import json
import math

import numpy as np
import openmm
import pytest
import torch
from conftest import (
    Case,
    difference,
    energy_and_forces,
    exact,
    images,
    random_network,
    random_potential,
    scatter,
    system_of,
)

from openmmcg import CGForce, CGPotential
from openmmcg.model_file import to_bytes
from openmmcg.potentials import CosineCutoff, GaussianBasis, PaiNN, SchNet, compile_network
from openmmcg.potentials.compiled import tabulate
from openmmcg.potentials.networks import Convolution, Filter, VectorConvolution, activate, inner_product

NETWORKS = {
    "gaussian tanh": {},
    "exponential softplus": {"basis": "exponential_normal", "basis_start": 0.15, "activation": "shifted_softplus"},
    "three blocks of odd widths": {"blocks": 3, "channels": 7, "filter_channels": 9, "output_channels": [5, 3]},
    "gnn": {"network": "gnn"},
    "painn": {"network": "painn"},
    "painn of one block": {"network": "painn", "blocks": 1, "output_channels": [9, 4]},
    "painn of three blocks, softplus": {"network": "painn", "blocks": 3, "activation": "shifted_softplus"},
    "painn of degree 2": {"network": "painn of degree 2"},
    "painn of degree 2, one block": {"network": "painn of degree 2", "blocks": 1, "activation": "tanh"},
}


def spline_sum(table, places):
    """Splines of a table at fractions of the cutoff, from the truncated powers (x - j)³ that define a B-spline."""
    cells = len(table) - 3
    k = (places.detach() * cells).floor().long().clamp(max=cells - 1)
    result = 0.0
    for m in range(4):
        x = places * cells - k + 3 - m
        spline = sum((-1) ** j * math.comb(4, j) * (x - j).clamp(min=0) ** 3 for j in range(5)) / 6
        result = result + spline[:, None] * table[k + m]
    return result


class Interpreter:
    """Runs a compiled network in float64, one operation after the other, as the specification words them."""

    def __init__(self, description, numbers):
        self.description = json.loads(description)
        self.numbers = np.frombuffer(numbers, "<f4").astype(float)

    def array(self, reference):
        size = int(np.prod(reference["shape"]))
        part = self.numbers[reference["offset"] : reference["offset"] + size]
        return torch.tensor(part.reshape(reference["shape"]))

    def bead_energies(self, positions, types, box=None):
        rows, columns = torch.triu_indices(len(positions), len(positions), 1)
        displacements = positions[columns] - positions[rows]
        if box is not None:
            raw = displacements.detach().numpy()
            displacements = displacements + torch.tensor(images(raw, box) - raw)
        distances = displacements.norm(dim=1)
        inside = distances.detach() < self.description["cutoff"]
        directions = displacements[inside] / distances[inside, None]
        pairs = distances[inside], rows[inside], columns[inside]
        values = {}
        for operation in self.description["operations"]:
            arrays = {key: self.array(value) for key, value in operation.items() if isinstance(value, dict)}
            kind = operation["operation"]
            if kind == "readout":
                return values[operation["input"]] @ arrays["weight"] + arrays["bias"]
            values[operation["output"]] = {
                "embedding": lambda a, o: a["weight"][torch.tensor(types)],
                "dense": lambda a, o: self.dense(values[o["input"]], a, o["activation"]),
                "activation": lambda a, o: self.activate(values[o["input"]], o["activation"]),
                "convolution": lambda a, o: self.convolution(values[o["input"]], a["table"], pairs),
                "vector_convolution": lambda a, o: self.vector_convolution(
                    values[o["input"]], a["table"], pairs, directions
                ),
                "tensor_convolution": lambda a, o: self.tensor_convolution(
                    values[o["input"]], a["table"], pairs, directions
                ),
                "product": lambda a, o: self.product(*(values[i] for i in o["inputs"])),
                "inner_product": lambda a, o: torch.einsum("idc,idc->ic", *(values[i] for i in o["inputs"])),
                "sum": lambda a, o: sum(values[i] for i in o["inputs"]),
            }[kind](arrays, operation)
        raise AssertionError("the program has no readout")

    def dense(self, x, arrays, activation):
        return self.activate(x @ arrays["weight"] + arrays.get("bias", 0.0), activation)

    @staticmethod
    def activate(x, activation):
        return {
            "identity": lambda: x,
            "tanh": lambda: torch.tanh(x),
            "shifted_softplus": lambda: torch.log((1 + torch.exp(x)) / 2),
            "silu": lambda: x / (1 + torch.exp(-x)),
            "square_root": lambda: (x + 1e-8) ** 0.5,
        }[activation]()

    @staticmethod
    def product(scalar, value):
        return torch.einsum("ic,idc->idc" if value.dim() == 3 else "ic,ic->ic", scalar, value)

    def filters(self, table, distances):
        return spline_sum(table, distances / self.description["cutoff"])

    def convolution(self, x, table, pairs):
        distances, rows, columns = pairs
        filters = self.filters(table, distances)
        if x.dim() == 3:
            filters = filters[:, None]
        return torch.zeros_like(x).index_add(
            0, torch.cat([rows, columns]), torch.cat([filters * x[columns], filters * x[rows]])
        )

    def tensor_convolution(self, x, table, pairs, directions):
        x_, y_, z_ = directions.T
        root = math.sqrt(3)
        harmonics = [root * x_ * y_, root * y_ * z_, root * x_ * z_, (3 * z_**2 - 1) / 2, root / 2 * (x_**2 - y_**2)]
        distances, rows, columns = pairs
        filters = self.filters(table, distances)
        messages = torch.cat([filters * x[columns], filters * x[rows]])
        messages = torch.einsum("ec,de->edc", messages, torch.stack(harmonics).tile(2))
        return torch.zeros(len(x), 5, x.shape[1], dtype=x.dtype).index_add(0, torch.cat([rows, columns]), messages)

    def vector_convolution(self, x, table, pairs, directions):
        distances, rows, columns = pairs
        filters = self.filters(table, distances)
        here, there = filters * x[columns], filters * x[rows]
        messages = torch.cat(
            [torch.einsum("ec,ed->edc", here, directions), torch.einsum("ec,ed->edc", there, -directions)]
        )
        return torch.zeros(len(x), 3, x.shape[1], dtype=x.dtype).index_add(0, torch.cat([rows, columns]), messages)


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_the_compiled_network_has_the_energy_and_forces_of_the_network(options, box):
    potential = random_potential(5, **{"channels": 10, **options})
    positions, types = scatter(20, box), [i % 2 for i in range(20)]
    places = torch.tensor(positions, requires_grad=True)
    energies = Interpreter(*potential.compile()).bead_energies(places, types, box)
    (gradient,) = torch.autograd.grad(energies.sum(), places)
    expected_energy, expected_forces = exact(potential, positions, types, box)
    assert abs(energies.sum().item() - expected_energy) < 1e-6 * energies.abs().sum().item()
    assert difference(-gradient.numpy(), expected_forces) < 3e-5


def test_the_compiled_form_lists_primitives_in_the_order_of_their_values():
    description, numbers = compile_network(SchNet(types=3, channels=4, blocks=2, cutoff=0.5))
    program = json.loads(description)
    assert (program["cutoff"], program["types"]) == (0.5, 3)
    block = ["dense", "convolution", "dense", "dense", "sum"]
    operations = [operation["operation"] for operation in program["operations"]]
    assert operations == ["embedding", *block, *block, "dense", "readout"]
    assert [operation["output"] for operation in program["operations"][:-1]] == list(range(12))
    references = [value for entry in program["operations"] for value in entry.values() if isinstance(value, dict)]
    ends = [reference["offset"] + int(np.prod(reference["shape"])) for reference in references]
    assert [reference["offset"] for reference in references] == [0, *ends[:-1]]
    assert len(numbers) == 4 * ends[-1]


def test_an_equivariant_network_leaves_out_what_is_zero_or_unused():
    torch.manual_seed(0)
    operations = json.loads(compile_network(PaiNN(types=1, channels=4, blocks=2, cutoff=0.5))[0])["operations"]
    names = [operation["operation"] for operation in operations]
    # In the first block there are no vectors to carry on, after the last one nobody asks for them.
    assert [names.count(name) for name in ("convolution", "vector_convolution", "inner_product")] == [3, 2, 4]
    assert names.count("product") == 1 + 2 + 1
    used = {i for operation in operations for i in operation.get("inputs", [operation.get("input")])}
    assert {operation["output"] for operation in operations[:-1]} <= used


class Unusual(torch.nn.Module):
    """Every combination of primitives that no network here has."""

    def __init__(self):
        super().__init__()
        self.types, self.cutoff = 2, 0.6
        self.embedding = torch.nn.Parameter(torch.randn(2, 5))
        self.gate = torch.nn.Parameter(torch.randn(2, 5))
        self.mix = torch.nn.Parameter(torch.randn(5, 5) / 2)
        self.weight = torch.nn.Parameter(torch.randn(5))
        make = [Filter(GaussianBasis(0.6, 12, 0.2), CosineCutoff(0.6), 5, None, 4) for _ in range(3)]
        self.directions, self.vectors, self.scalars = (
            VectorConvolution(make[0]),
            Convolution(make[1]),
            Convolution(make[2]),
        )

    def forward(self, displacements: torch.Tensor, types: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor):
        distances = displacements.square().sum(1).sqrt()
        directions = displacements / distances.unsqueeze(1)
        features, gate = self.embedding[types], self.gate[types]
        product_of_types = features * gate
        vectors = self.directions(features, distances, directions, rows, columns)
        gated = gate.unsqueeze(1) * vectors
        carried = self.vectors(gated, distances, rows, columns)
        lengths = inner_product(vectors, carried)
        square = lengths * lengths
        later = self.scalars(square, distances, rows, columns)
        sums = activate(torch.matmul(gated + carried, self.mix.t()).square().sum(1), "square_root") + later
        return (activate(sums + product_of_types, "tanh") + square) @ self.weight

    def describe(self, program):
        features, gate = program.embedding(self.embedding), program.embedding(self.gate)
        product_of_types = program.product(features, gate)
        vectors = program.vector_convolution(features, self.directions.filter)
        gated = program.product(gate, vectors)
        carried = program.convolution(gated, self.vectors.filter)
        lengths = program.inner_product(vectors, carried)
        square = program.product(lengths, lengths)
        later = program.convolution(square, self.scalars.filter)
        mixed = program.dense(program.sum(gated, carried), self.mix, None, "identity")
        sums = program.sum(program.activation(program.inner_product(mixed, mixed), "square_root"), later)
        sums = program.activation(program.sum(sums, product_of_types), "tanh")
        program.readout(program.sum(sums, square), self.weight)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_primitives_combine_freely(threads):
    torch.manual_seed(3)
    potential = CGPotential(Unusual(), [("A", 1.0), ("B", 1.0)])
    positions, types = scatter(150), [i % 2 for i in range(150)]
    expected_energy, expected_forces = exact(potential, positions, types, None)
    places = torch.tensor(positions, requires_grad=True)
    energies = Interpreter(*potential.compile()).bead_energies(places, types)
    (gradient,) = torch.autograd.grad(energies.sum(), places)
    assert difference(-gradient.numpy(), expected_forces) < 3e-5
    for platform, tolerance in (("Reference", 1e-5), ("CPU", 3e-5)):
        system = system_of(CGForce(potential.to_bytes(), types=types, engine="native"), beads=150)
        properties = {"Threads": threads} if platform == "CPU" else {}
        integrator = openmm.VerletIntegrator(0.001)
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform), properties)
        context.setPositions(positions)
        energy, forces = energy_and_forces(context)
        assert difference(energy, expected_energy) < tolerance
        assert difference(forces, expected_forces) < tolerance


def with_program(potential, program, numbers):
    """The content of a potential's file with another compiled network."""
    extras = {"priors.json": "[]", "compiled_network.json": json.dumps(program), "compiled_network.bin": numbers}
    contract = {
        "contract": "neighbor-list",
        "cutoff": potential.cutoff,
        "bead_types": [{"name": kind.name, "mass": kind.mass} for kind in potential.bead_types],
        "dtype": "any",
        "outputs_forces": False,
        "global_parameters": [],
    }
    return to_bytes(potential.module, contract, extras)


def test_tables_of_values_and_slopes_still_load():
    """Earlier versions saved them so, [cells + 1, 2, channels]; the spline through them is the same."""
    potential = random_potential()
    interpreter = Interpreter(*potential.compile())
    program, chunks, size = interpreter.description, [], 0
    for operation in program["operations"]:
        for key, reference in operation.items():
            if isinstance(reference, dict):
                array = interpreter.array(reference).numpy()
                if key == "table":
                    values = (array[:-2] + 4 * array[1:-1] + array[2:]) / 6
                    array = np.stack([values, (array[2:] - array[:-2]) / 2], 1)
                operation[key] = {"offset": size, "shape": list(array.shape)}
                chunks.append(array.astype("<f4").tobytes())
                size += array.size
    positions, types = scatter(60), [i % 2 for i in range(60)]
    energies, forces = zip(
        *(
            energy_and_forces(Case("Reference").context(system_of(CGForce(content, types=types), beads=60), positions))
            for content in (potential.to_bytes(), with_program(potential, program, b"".join(chunks)))
        ),
        strict=True,
    )
    assert energies[1] == pytest.approx(energies[0], rel=1e-6)
    assert difference(forces[1], forces[0]) < 1e-5


def change_first(name, **changes):
    """Change the first operation of this name."""

    def change(operations):
        next(entry for entry in operations if entry["operation"] == name).update(changes)

    return change


def give_vectors_a_bias(operations):
    vectors = {entry["output"] for entry in operations if entry["operation"] == "vector_convolution"}
    bias = next(entry["bias"] for entry in operations if "bias" in entry)
    next(entry for entry in operations if entry.get("input") in vectors)["bias"] = bias


def forget_a_value(operations):
    last_sum = [entry for entry in operations if entry["operation"] == "sum"][-1]
    last_sum["inputs"] = last_sum["inputs"][:-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_first("activation", activation="sine"), r"\(activation\): unknown activation 'sine'; upgrade"),
        (change_first("product", operation="cross_product"), r"\(cross_product\): this openmm-cg does not know it"),
        (
            change_first("inner_product", inputs=[0, 0]),
            r"\(inner_product\): its input 0 is a scalar instead of a vector",
        ),
        (change_first("product", inputs=[0]), r"\(product\): it does not have two inputs"),
        (change_first("vector_convolution", operation="convolution"), "is a scalar instead of a vector"),
        (give_vectors_a_bias, "a bias or an activation of a vector would depend on the direction of the axes"),
        (forget_a_value, r"no operation uses its value \d+"),
        (lambda operations: operations.append(operations[-1]), r"\(readout\): it comes after the readout"),
    ],
)
def test_programs_that_cannot_be_run_are_refused_by_their_operation(change, message):
    torch.manual_seed(0)
    potential = CGPotential(random_network(1, network="painn", channels=4), [("A", 1.0)])
    description, numbers = potential.compile()
    program = json.loads(description)
    change(program["operations"])
    force = CGForce(with_program(potential, program, numbers))
    with pytest.raises(openmm.OpenMMException, match=message):
        openmm.Context(system_of(force, beads=2), openmm.VerletIntegrator(0.001))


def random_filter(size, cutoff=0.6):
    torch.manual_seed(0)
    return Filter(GaussianBasis(cutoff, size), lambda r: torch.cos(r * np.pi / 2 / cutoff) ** 2, 6, "tanh", 1).double()


@pytest.mark.parametrize("size", [10, 50, 200])
def test_a_table_reproduces_its_filter_to_a_millionth_between_the_knots(size):
    cutoff = 0.6
    filter = random_filter(size)
    table = tabulate(filter, cutoff)
    assert len(table) - 3 in [64 * m * 2**i for m in (3, 4) for i in range(6)]
    r = np.random.default_rng(0).uniform(0, cutoff, 5000)
    values = spline_sum(torch.tensor(table), torch.tensor(r / cutoff)).numpy()
    with torch.no_grad():
        expected = filter(torch.tensor(r)).numpy()
    assert np.abs(values - expected).max() < 1e-6 * np.abs(expected).max()


def test_finer_filters_get_finer_tables():
    assert len(tabulate(random_filter(200), 0.6)) > len(tabulate(random_filter(20), 0.6))


def test_a_filter_too_fine_for_a_table_is_refused(monkeypatch):
    monkeypatch.setattr("openmmcg.potentials.compiled._CELLS", (256, 512))
    with pytest.raises(ValueError, match="use fewer or wider radial basis functions"):
        tabulate(random_filter(200), 0.6)


def test_weights_that_are_not_finite_are_refused():
    network = SchNet(types=1, channels=4, blocks=1)
    with torch.no_grad():
        network.blocks[0].hidden.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        compile_network(network)
