"""The TorchScript engine: modules whose energies and forces are known in closed form."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openmm
import pytest
import torch
from conftest import PLATFORMS, Case, difference, energy_and_forces, scatter, system_of

from openmmcg import CGForce
from openmmcg.model_file import describe_module, to_bytes

BOX = np.array([[2.0, 0, 0], [0.4, 2.1, 0], [-0.6, 0.5, 2.2]])


class Wells(torch.nn.Module):
    """E = scale · Σ_pairs (r² - c²)², smooth at the cutoff c."""

    def forward(self, positions, box, types, rows, columns, scale):
        d = positions[columns] - positions[rows]
        if box.numel() > 0:
            d = d - torch.round(d[:, 2:3] / box[2, 2]) * box[2]
            d = d - torch.round(d[:, 1:2] / box[1, 1]) * box[1]
            d = d - torch.round(d[:, 0:1] / box[0, 0]) * box[0]
        return scale * ((0.36 - (d * d).sum(1)) ** 2).sum()


class WellsOfTheHost(torch.nn.Module):
    """Cannot be tried out on a device, where the first bead is at x = 0 then."""

    def __init__(self):
        super().__init__()
        self.wells = Wells()

    def forward(self, positions, box, types, rows, columns, scale):
        if bool((positions[0, 0] == 0).item()):
            raise ValueError("not here")
        return self.wells(positions, box, types, rows, columns, scale)


class Springs(torch.nn.Module):
    """E = Σ r²: each bead tied to the origin."""

    def forward(self, positions):
        return (positions * positions).sum()


class SpringsWithForces(torch.nn.Module):
    """The same, with forces that are recognisably the module's own."""

    def forward(self, positions):
        return (positions * positions).sum(), -3 * positions


def wells(positions, box, scale):
    """The same energy and forces in numpy, over all images."""
    d = positions[None] - positions[:, None]
    for k in (2, 1, 0):
        d = d - np.round(d[..., k : k + 1] / box[k, k]) * box[k]
    square = (d**2).sum(-1)
    inside = (square < 0.36) & ~np.eye(len(positions), dtype=bool)
    energy = 0.5 * scale * (np.where(inside, (0.36 - square) ** 2, 0)).sum()
    forces = (-4 * scale * np.where(inside, 0.36 - square, 0)[..., None] * d).sum(1)
    return energy, forces


def positions(count=60):
    return np.random.default_rng(1).random((count, 3)) @ BOX


def context(force, places, platform="Reference", box=BOX):
    threads = 2 if platform == "CPU" else None
    return Case(platform, threads).context(system_of(force, beads=len(places), box=box), places)


def wells_force(module=None, **options):
    module = torch.jit.script(module or Wells())
    return CGForce(module, cutoff=0.6, global_parameters={"scale": 1e4}, **options)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_energy_and_forces_are_those_of_the_formula(platform):
    places = positions()
    energy, forces = energy_and_forces(context(wells_force(periodic=True), places, platform))
    expected_energy, expected_forces = wells(places, BOX, 1e4)
    assert energy == pytest.approx(expected_energy, rel=1e-5)
    assert difference(forces, expected_forces) < 1e-5


class Mixed(torch.nn.Module):
    """E = Σ (k r)² + Σ w·r, with k in float64 and w in float32."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("stiffness", torch.tensor(1 / 3, dtype=torch.float64))

    def forward(self, positions):
        return (self.stiffness * positions).square().sum() + (positions.to(self.weight.dtype) * self.weight).sum()


class Numbers(torch.nn.Module):
    """A parameter of one dtype and a buffer of another; no dtype is none."""

    def __init__(self, parameter, buffer):
        super().__init__()
        if parameter is not None:
            self.parameter = torch.nn.Parameter(torch.ones(2, dtype=parameter))
        if buffer is not None:
            self.register_buffer("buffer", torch.ones(2, dtype=buffer))

    def forward(self, positions):
        return (positions * positions).sum()


def test_a_module_without_numbers_of_its_own_loses_no_digits():
    places = positions()
    energy, forces = energy_and_forces(context(wells_force(periodic=True), places, "CPU"))
    expected_energy, expected_forces = wells(places, BOX, 1e4)
    assert energy == pytest.approx(expected_energy, rel=1e-12)
    assert difference(forces, expected_forces) < 1e-12


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_module_of_two_precisions_runs_as_it_is(platform):
    places = positions(4)
    weight = np.array([0.1, 0.2, 0.3], np.float32)
    _, forces = energy_and_forces(context(CGForce(torch.jit.script(Mixed()), contract="plain"), places, platform, None))
    assert np.abs(forces - (-2 / 9 * places - weight)).max() < 1e-15


def test_a_precision_can_be_chosen():
    places = positions(4)
    for dtype, least, most in [("float64", 0, 1e-15), ("float32", 1e-10, 1e-6), ("keep", 0, 1e-15)]:
        force = CGForce(torch.jit.script(Springs()), contract="plain", dtype=dtype)
        error = abs(energy_and_forces(context(force, places, box=None))[0] / (places**2).sum() - 1)
        assert least <= error < most


@pytest.mark.parametrize(
    ("parameter", "buffer", "expected"),
    [
        (torch.float32, torch.float32, "float32"),
        (torch.float64, torch.float64, "float64"),
        (torch.float32, torch.int64, "float32"),
        (None, torch.float64, "float64"),
        (torch.float32, torch.float64, "keep"),
        (torch.float64, torch.float32, "keep"),
        (torch.float16, None, "keep"),
        (None, torch.int64, "keep"),
    ],
)
def test_the_precision_is_that_of_all_numbers_of_the_module(parameter, buffer, expected):
    description = describe_module(torch.jit.script(Numbers(parameter, buffer)), contract="plain")
    assert description["dtype"] == expected


def test_a_file_that_names_one_precision_for_a_module_of_two_still_runs():
    """As they were written before "keep"."""
    module = torch.jit.script(Mixed())
    content = to_bytes(module, {**describe_module(module, contract="plain"), "dtype": "float32"})
    places = positions(4)
    _, forces = energy_and_forces(context(CGForce(content), places, box=None))
    assert np.allclose(forces, -2 / 9 * places - [0.1, 0.2, 0.3], rtol=1e-5)


class Detached(torch.nn.Module):
    """E = Σ r², of which only one factor has a derivative."""

    def forward(self, positions):
        return (positions.detach() * positions).sum()


class Differentiating(torch.nn.Module):
    """E = Σ r² with forces that the module finds itself."""

    def forward(self, positions):
        places = positions.requires_grad_(True)
        energy = (places * places).sum()
        gradient = torch.autograd.grad([energy], [places])[0]
        assert gradient is not None
        return energy, -gradient


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_a_module_detaches_has_no_force(platform):
    places = positions(4)
    force = CGForce(torch.jit.script(Detached()), contract="plain")
    context_ = context(force, places, platform, box=None)
    for _ in range(3):  # TorchScript optimises by what it has seen in the first evaluations
        energy, forces = energy_and_forces(context_)
        assert energy == pytest.approx((places**2).sum(), rel=1e-6)
        assert np.allclose(forces, -places, rtol=1e-6)


def test_a_module_may_differentiate_by_itself():
    places = positions(4)
    force = CGForce(torch.jit.script(Differentiating()), contract="plain", outputs_forces=True)
    assert np.allclose(energy_and_forces(context(force, places, box=None))[1], -2 * places, rtol=1e-12)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_global_parameters_scale_the_energy_and_have_derivatives(platform):
    assert_the_derivative_is_the_energy_over_the_scale(Wells(), platform)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_module_that_runs_on_the_host_only_has_derivatives_everywhere(platform):
    assert_the_derivative_is_the_energy_over_the_scale(WellsOfTheHost(), platform)


def assert_the_derivative_is_the_energy_over_the_scale(module, platform):
    force = wells_force(module, periodic=True)
    force.addEnergyParameterDerivative("scale")
    force.setForceGroup(2)
    context_ = context(force, positions(), platform)
    for scale in (1e4, 2e4):
        context_.setParameter("scale", scale)
        for _ in range(2):  # derivatives of one evaluation are not added to those of another
            state = context_.getState(energy=True, forces=True, parameterDerivatives=True)
        energy = state.getPotentialEnergy()._value
        assert energy == pytest.approx(wells(positions(), BOX, scale)[0], rel=1e-5)
        assert state.getEnergyParameterDerivatives()["scale"] == pytest.approx(energy / scale, rel=1e-5)
    assert not context_.getState(parameterDerivatives=True, groups={1}).getEnergyParameterDerivatives()["scale"]


def test_the_plain_contract_of_openmm_torch_runs():
    places = positions(4)
    energy, forces = energy_and_forces(
        context(CGForce(torch.jit.script(Springs()), contract="plain"), places, box=None)
    )
    assert energy == pytest.approx((places**2).sum(), rel=1e-6)
    assert np.allclose(forces, -2 * places, rtol=1e-5)


def test_an_exported_potential_runs_as_a_plain_module(potential, box, tmp_path):
    places = scatter(230, box, closest=0.1)
    types = [0, 1] * 115
    module = potential.export_openmm_torch(tmp_path / "plain.pt", types, periodic=box is not None)
    periodic = box is not None
    results = [
        energy_and_forces(context(force, places, "CPU", box=box))
        for force in (
            CGForce(module, contract="plain", periodic=periodic),
            CGForce(potential.to_bytes(), types=types, periodic=periodic, engine="native"),
        )
    ]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert difference(results[0][1], results[1][1]) < 3e-5


def test_forces_that_the_module_returns_are_taken():
    places = positions(4)
    force = CGForce(torch.jit.script(SpringsWithForces()), contract="plain", outputs_forces=True)
    _, forces = energy_and_forces(context(force, places, box=None))
    assert np.allclose(forces, -3 * places, rtol=1e-5)


def test_a_module_with_an_operator_registered_from_python_runs_without_deadlock():
    @torch.library.custom_op("openmmcg_test::square", mutates_args=())
    def square(x: torch.Tensor) -> torch.Tensor:
        return x * x

    square.register_autograd(
        lambda ctx, gradient: 2 * gradient * ctx.saved_tensors[0],
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
    )

    class Squared(torch.nn.Module):
        def forward(self, positions):
            return torch.ops.openmmcg_test.square(positions).sum()

    force = CGForce(torch.jit.script(Squared()), contract="plain")
    places = positions(4)
    for platform in PLATFORMS:
        context_ = context(CGForce(force.getModel()), places, platform, box=None)
        _, forces = energy_and_forces(context_)
        assert np.allclose(forces, -2 * places, rtol=1e-5)
        context_.getIntegrator().step(3)


def test_each_context_has_its_own_copy():
    module = Wells()
    module.factor = torch.nn.Parameter(torch.ones(()))
    scripted = torch.jit.script(module)
    force = CGForce(scripted, cutoff=0.6, global_parameters={"scale": 1e4}, periodic=True)
    before = energy_and_forces(context(force.__copy__(), positions()))[0]
    with torch.no_grad():
        scripted.factor.fill_(7.0)
    assert energy_and_forces(context(force, positions()))[0] == before


class Wrong(torch.nn.Module):
    def forward(self, positions):
        return positions


class Broken(torch.nn.Module):
    def forward(self, positions):
        return positions.reshape(7, 7).sum()


class Dictionary(torch.nn.Module):
    def forward(self, positions):
        return {"energy": positions.sum()}


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Wrong(), {"contract": "plain"}, "sum it to one"),
        (Dictionary(), {"contract": "plain"}, "returns Dict.str, Tensor.; wrap it"),
        (Broken(), {"contract": "plain"}, "could not be evaluated"),
        (SpringsWithForces(), {"contract": "plain"}, "outputs_forces=True"),
        (Springs(), {"contract": "plain", "outputs_forces": True}, "but returns 1 tensor"),
        (Springs(), {"cutoff": 0.6}, "takes 1 arguments; the contract 'neighbor-list' passes 5"),
        (Wells(), {"cutoff": 0.6}, "takes 6 arguments"),
    ],
)
def test_a_module_that_does_not_meet_the_contract_is_refused(module, options, message):
    with pytest.raises(openmm.OpenMMException, match=message):
        energy_and_forces(context(CGForce(torch.jit.script(module), **options), positions(4), box=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "cutoff"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"contract": "plain", "cutoff": 0.6}, "no cutoff"),
        ({"contract": "other"}, "no contract 'other'"),
    ],
)
def test_options_that_do_not_describe_a_module_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CGForce(torch.jit.script(Wells()), **options)


def test_the_native_engine_refuses_a_module_without_compiled_network():
    with pytest.raises(openmm.OpenMMException, match="no compiled network"):
        context(wells_force(periodic=True, engine="native"), positions())


class Picky(torch.nn.Module):
    """Σ r²; the submodule that computes it refuses a first bead beyond a limit."""

    def __init__(self, limit: float):
        super().__init__()
        self.inner = PickySprings(limit)

    def forward(self, positions, box, types, rows, columns):
        return self.inner(positions)


class PickySprings(torch.nn.Module):
    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, positions):
        if bool((positions[0, 0] > self.limit).item()):
            raise ValueError(f"a bead is beyond {self.limit}")
        return (positions * positions).sum()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_module_that_raises_is_an_error_and_everything_else_goes_on(platform):
    inside, outside = positions(4), positions(4)
    outside[0, 0] = 9
    contexts = {
        limit: context(CGForce(torch.jit.script(Picky(limit)), cutoff=0.6), inside, platform, box=None)
        for limit in (5.0, 6.0)
    }
    for _ in range(2):
        for limit, each in contexts.items():
            each.setPositions(outside)
            with pytest.raises(openmm.OpenMMException, match=f"a bead is beyond {limit:.0f}"):
                energy_and_forces(each)
            each.setPositions(inside)
            assert energy_and_forces(each)[0] == pytest.approx((inside**2).sum(), rel=1e-6)


def test_an_operator_of_python_that_raises_is_an_error():
    @torch.library.custom_op("openmmcg_test::refuse", mutates_args=())
    def refuse(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("this operator refuses")

    class Refused(torch.nn.Module):
        def forward(self, positions):
            return torch.ops.openmmcg_test.refuse(positions).sum()

    context_ = context(CGForce(torch.jit.script(Refused()), contract="plain"), positions(4), box=None)
    for _ in range(2):
        with pytest.raises(openmm.OpenMMException, match="this operator refuses"):
            energy_and_forces(context_)


def test_contexts_in_threads_leave_the_threads_of_torch_alone():
    """Each is told by its platform how many it may use, and evaluates while the others do."""
    seen = {1: set(), 2: set(), 3: set()}

    @torch.library.custom_op("openmmcg_test::observe", mutates_args=())
    def observe(x: torch.Tensor, expected: int) -> torch.Tensor:
        seen[expected].add(torch.get_num_threads())
        return x.clone()

    observe.register_autograd(lambda ctx, gradient: (gradient, None))

    class Observed(torch.nn.Module):
        def __init__(self, threads: int):
            super().__init__()
            self.threads = threads

        def forward(self, positions):
            return (torch.ops.openmmcg_test.observe(positions, self.threads) * positions.detach()).sum()

    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        # Another than this thread's, where an earlier test has set that.
        fresh = pool.submit(torch.get_num_threads).result()
    places = np.random.default_rng(3).random((20, 3))
    # Not in the threads: TorchScript does not compile one class twice at the same time.
    modules = {threads: torch.jit.script(Observed(threads)) for threads in seen}

    def run(threads):
        own = torch.get_num_threads()
        force = CGForce(modules[threads], contract="plain")
        context_ = Case("CPU", threads).context(system_of(force, beads=20), places)
        for _ in range(100):
            assert np.allclose(energy_and_forces(context_)[1], -places)
        assert torch.get_num_threads() == own
        return own

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(run, [1, 2, 3] * 2)) == {fresh}
    assert seen == {1: {1}, 2: {2}, 3: {3}}
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == fresh
