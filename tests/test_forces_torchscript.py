"""The TorchScript engine: modules whose energies and forces are known in closed form."""

import numpy as np
import openmm
import pytest
import torch
from conftest import PLATFORMS, Case, difference, energy_and_forces, scatter, system_of

from openmmcg import CGForce

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


def test_a_float64_module_is_evaluated_in_float64():
    module = Wells()
    module.register_buffer("one", torch.ones(1, dtype=torch.float64))
    places = positions()
    energy, forces = energy_and_forces(context(wells_force(module, periodic=True), places, "CPU"))
    expected_energy, expected_forces = wells(places, BOX, 1e4)
    assert energy == pytest.approx(expected_energy, rel=1e-12)
    assert difference(forces, expected_forces) < 1e-12


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_global_parameters_scale_the_energy_and_have_derivatives(platform):
    force = wells_force(periodic=True)
    force.addEnergyParameterDerivative("scale")
    context_ = context(force, positions(), platform)
    for scale in (1e4, 2e4):
        context_.setParameter("scale", scale)
        state = context_.getState(energy=True, parameterDerivatives=True)
        energy = state.getPotentialEnergy()._value
        assert energy == pytest.approx(wells(positions(), BOX, scale)[0], rel=1e-5)
        # E is proportional to the parameter.
        assert state.getEnergyParameterDerivatives()["scale"] == pytest.approx(energy / scale, rel=1e-5)


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
    # The module takes positions in float32, as TorchForce gives them.
    assert difference(results[0][1], results[1][1]) < 1e-4


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


def test_each_context_has_its_own_frozen_copy():
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


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Wrong(), {"contract": "plain"}, "sum it to one"),
        (Broken(), {"contract": "plain"}, "could not be evaluated"),
        (SpringsWithForces(), {"contract": "plain"}, "outputs_forces=True"),
        (Springs(), {"contract": "plain", "outputs_forces": True}, "returns something else"),
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


def test_parameter_derivatives_on_a_gpu_platform_are_refused():
    if "OpenCL" not in PLATFORMS:
        pytest.skip("there is no OpenCL here")
    force = wells_force(periodic=True)
    force.addEnergyParameterDerivative("scale")
    with pytest.raises(openmm.OpenMMException, match="Reference and CPU"):
        context(force, positions(), "OpenCL")
