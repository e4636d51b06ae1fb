"""The TorchScript engine where a GPU platform keeps its positions; without a GPU, in PoCL's memory.

What every engine must do is in test_forces_cg_force.py, test_forces_torchscript.py and test_simulation_replicas.py,
which run on these platforms too. Here is what is particular to tensors that OpenMM's kernels write and read.
"""

import numpy as np
import openmm
import pytest
import torch
from conftest import GPU_PLATFORMS, difference, energy_and_forces, images, liquid, random_potential, scatter, system_of

from openmmcg import CGForce

pytestmark = pytest.mark.skipif(not GPU_PLATFORMS, reason="OpenMM has no GPU platform here; on Debian, install PoCL")
BOXES = {"no box": None, "triclinic": np.array([[3.4, 0, 0], [-1.6, 3.2, 0], [1.5, -1.4, 2.6]])}
PRECISIONS = {"single": 2e-5, "mixed": 4e-6, "double": 4e-6}
CUTOFF = 0.6


class Wells(torch.nn.Module):
    """E = scale · Σ_pairs (r² - c²)², smooth at the cutoff c."""

    def __init__(self, scale: float = 1e3):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, positions, box, types, rows, columns):
        d = positions[columns] - positions[rows]
        if box.numel() > 0:
            d = d - torch.round(d[:, 2:3] / box[2, 2]) * box[2]
            d = d - torch.round(d[:, 1:2] / box[1, 1]) * box[1]
            d = d - torch.round(d[:, 0:1] / box[0, 0]) * box[0]
        return self.scale * ((0.36 - (d * d).sum(1)) ** 2).sum()


class Pairs(torch.nn.Module):
    """E is the number of pairs, plus 1000 for each that is listed twice or with itself."""

    def forward(self, positions, box, types, rows, columns):
        low, high = torch.minimum(rows, columns), torch.maximum(rows, columns)
        unique = torch.unique(low * positions.shape[0] + high).numel()
        wrong = rows.numel() - unique + (rows == columns).sum()
        return (rows.numel() + 1000 * wrong).to(torch.float64) + 0 * positions.sum()


class Refusing(torch.nn.Module):
    """Refuses to be evaluated where the first bead is at x = 0, as it is when a device is tried out."""

    def forward(self, positions, box, types, rows, columns):
        if bool((positions[0, 0] == 0).item()):
            raise ValueError("not here")
        return (positions * positions).sum()


@pytest.fixture(params=sorted(set(GPU_PLATFORMS)))
def gpu(request):
    return openmm.Platform.getPlatformByName(request.param)


@pytest.fixture(autouse=True)
def on_the_device(request, capfd):
    """A model that runs on the host instead says so."""
    yield
    output = capfd.readouterr().err
    assert ("on the host" in output) == ("falls_back" in request.node.name), output


def gpu_context(system, positions, gpu, precision="mixed", integrator=None):
    context = openmm.Context(system, integrator or openmm.VerletIntegrator(0.001), gpu, {"Precision": precision})
    context.setPositions(positions)
    return context


def reference_context(system, positions):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    return context


def force_of(module, **options):
    return CGForce(torch.jit.script(module), cutoff=CUTOFF, **options)


def mixture(potential, beads, box=None, **options):
    types = [i % 2 for i in range(beads)]
    force = CGForce(potential.to_bytes(), types=types, periodic=box is not None, engine="torchscript", **options)
    return system_of(force, beads=beads, box=box)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_energy_and_forces_are_those_of_the_reference_platform(potential, gpu, box, precision):
    """With more beads than are listed without cells; the file's float32 network gets positions in float64."""
    system, positions = mixture(potential, 700, box), liquid(700, box)
    energy, forces = energy_and_forces(gpu_context(system, positions, gpu, precision))
    exact_energy, exact_forces = energy_and_forces(reference_context(system, positions))
    assert difference(forces, exact_forces) < PRECISIONS[precision]
    assert energy == pytest.approx(exact_energy, rel=PRECISIONS[precision])


def test_a_float64_module_gets_all_digits(gpu):
    box = BOXES["triclinic"]
    system, positions = system_of(force_of(Wells(), periodic=True), beads=300, box=box), liquid(300, box)
    energy, forces = energy_and_forces(gpu_context(system, positions, gpu, "double"))
    exact_energy, exact_forces = energy_and_forces(reference_context(system, positions))
    assert difference(forces, exact_forces) < 1e-12
    assert energy == pytest.approx(exact_energy, rel=1e-12)


@pytest.mark.parametrize("beads", [2, 300, 1000])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_every_pair_within_the_cutoff_comes_once(gpu, box, beads):
    positions = liquid(beads, box)
    system = system_of(force_of(Pairs(), periodic=box is not None), beads=beads, box=box)
    rows, columns = np.triu_indices(beads, 1)
    distances = np.linalg.norm(images(positions[columns] - positions[rows], box), axis=1)
    assert energy_and_forces(gpu_context(system, positions, gpu))[0] == (distances < CUTOFF).sum()


def test_room_grows_when_the_box_is_compressed(gpu):
    """96 neighbors are expected at first; here there are some 300."""
    box = np.eye(3) * 4.5
    system, positions = system_of(force_of(Wells(), periodic=True), beads=600, box=box), liquid(600, box)
    context, exact = gpu_context(system, positions, gpu), reference_context(system, positions)
    for scale in (1.0, 0.45, 0.3, 1.0):
        for each in (context, exact):
            each.setPeriodicBoxVectors(*(box * scale))
            each.setPositions(positions * scale)
        energy, forces = energy_and_forces(context)
        exact_energy, exact_forces = energy_and_forces(exact)
        assert difference(forces, exact_forces) < 1e-6
        assert energy == pytest.approx(exact_energy, rel=1e-7)


def test_reordered_particles_and_a_barostat(gpu):
    """With a cutoff force beside ours, OpenMM sorts the particles in space every 250 steps."""
    box = np.eye(3) * 1.9
    system, positions = system_of(force_of(Wells(), periodic=True), beads=150, box=box), liquid(150, box)
    repulsion = openmm.CustomNonbondedForce("0.01*(0.25/r)^6")
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    repulsion.setCutoffDistance(0.6)
    for _ in range(150):
        repulsion.addParticle()
    system.addForce(repulsion)
    system.addForce(openmm.MonteCarloBarostat(100, 300, 25))
    integrator = openmm.LangevinMiddleIntegrator(900, 10, 0.002)
    context = gpu_context(system, positions, gpu, integrator=integrator)
    context.setVelocitiesToTemperature(900, 1)
    integrator.step(300)
    state = context.getState(positions=True, forces=True)
    assert state.getPeriodicBoxVolume()._value != pytest.approx(1.9**3, rel=1e-3)
    exact = reference_context(system, state.getPositions())
    exact.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    exact_forces = exact.getState(forces=True).getForces(asNumpy=True)._value
    assert difference(state.getForces(asNumpy=True)._value, exact_forces) < 1e-5


def test_subset_beside_other_particles(potential, gpu):
    beads = list(range(79, 0, -2))
    force = CGForce(potential.to_bytes(), types=[0] * len(beads), particles=beads, engine="torchscript")
    system, positions = system_of(force, beads=80), scatter(80)
    forces = energy_and_forces(gpu_context(system, positions, gpu))[1]
    assert difference(forces, energy_and_forces(reference_context(system, positions))[1]) < 4e-6
    assert not forces[0::2].any()


def test_forces_alone_and_energy_alone(gpu):
    system, positions = system_of(force_of(Wells()), beads=40), scatter(40)
    context = gpu_context(system, positions, gpu)
    energy, forces = energy_and_forces(context)
    alone = context.getState(forces=True).getForces(asNumpy=True)._value
    assert difference(alone, forces) < 1e-7
    assert context.getState(energy=True).getPotentialEnergy()._value == pytest.approx(energy, rel=1e-7)


def test_a_model_is_exchanged_in_a_running_context(potential, gpu):
    system, positions = mixture(potential, 40), scatter(40)
    context = gpu_context(system, positions, gpu)
    context.getIntegrator().step(3)
    positions = context.getState(positions=True).getPositions()
    other = random_potential(seed=5, channels=40)
    force = CGForce.of(system.getForce(0))
    force.setModel(other.to_bytes())
    force.updateParametersInContext(context)
    fresh = reference_context(mixture(other, 40), positions)
    assert difference(energy_and_forces(context)[1], energy_and_forces(fresh)[1]) < 4e-6


def test_energy_is_conserved(gpu):
    system, positions = system_of(force_of(Wells(10.0)), beads=40), scatter(40)
    context = gpu_context(system, positions, gpu)
    context.setVelocitiesToTemperature(100, 1)
    energies = []
    for _ in range(20):
        context.getIntegrator().step(20)
        state = context.getState(energy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    assert np.std(energies) < 1e-3 * state.getKineticEnergy()._value


def test_a_position_that_is_not_finite_is_an_error(gpu):
    places = scatter(10)
    context = gpu_context(system_of(force_of(Wells()), beads=10), places, gpu)
    places[3, 1] = np.nan
    context.setPositions(places)
    with pytest.raises(openmm.OpenMMException, match="bead 3 is not finite"):
        energy_and_forces(context)


def test_a_module_that_cannot_run_there_falls_back_to_the_host(gpu):
    places = scatter(10)
    energy, forces = energy_and_forces(gpu_context(system_of(force_of(Refusing()), beads=10), places, gpu))
    assert energy == pytest.approx((places**2).sum(), rel=1e-5)
    assert difference(forces, -2 * places) < 1e-5


def test_a_force_without_box_in_a_periodic_system_falls_back_to_the_host(gpu):
    """OpenMM moves the particles of a periodic System by box vectors, which such a force must not see."""
    box = np.eye(3) * 2.0
    model = random_potential(channels=8).to_bytes()
    for engine in ("native", "torchscript"):
        system = system_of(CGForce(model, types=[0] * 60, engine=engine), beads=60, box=box)
        repulsion = openmm.CustomNonbondedForce("0.001*(0.25/r)^6")
        repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        repulsion.setCutoffDistance(0.6)
        for _ in range(60):
            repulsion.addParticle()
        system.addForce(repulsion)
        context = gpu_context(system, liquid(60, box * 1.5), gpu, integrator=openmm.VerletIntegrator(0.002))
        context.setVelocitiesToTemperature(300, 1)
        context.getIntegrator().step(50)
        state = context.getState(positions=True, forces=True)
        exact_forces = energy_and_forces(reference_context(system, state.getPositions()))[1]
        assert difference(state.getForces(asNumpy=True)._value, exact_forces) < 1e-5
