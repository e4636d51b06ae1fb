"""The native engine of the GPU platforms; without a GPU, on OpenCL over PoCL.

What every engine must do is in test_forces_cg_force.py, which runs on these platforms too. Here is what the device
code alone has: a neighbor list of its own, kernels of its own for forces and energy, weights exchanged in place.
"""

import os
import subprocess
import sys

import numpy as np
import openmm
import pytest
from conftest import GPU_PLATFORMS, difference, energy_and_forces, liquid, random_potential, scatter, system_of
from openmm import unit

from openmmcg import CGForce

pytestmark = pytest.mark.skipif(not GPU_PLATFORMS, reason="OpenMM has no GPU platform here; on Debian, install PoCL")
LARGE_BOXES = {
    "no box": None,
    "cubic": np.diag([3.0, 3.0, 3.0]),
    "flat": np.diag([1.3, 7.0, 3.0]),
    "triclinic": np.array([[3.4, 0, 0], [-1.6, 3.2, 0], [1.5, -1.4, 2.6]]),
}
PRECISIONS = {"single": 2e-5, "mixed": 4e-6, "double": 1e-10}


@pytest.fixture(params=GPU_PLATFORMS)
def gpu(request):
    return openmm.Platform.getPlatformByName(request.param)


def gpu_context(system, positions, gpu, precision="mixed", integrator=None):
    context = openmm.Context(system, integrator or openmm.VerletIntegrator(0.001), gpu, {"Precision": precision})
    context.setPositions(positions)
    return context


def reference_context(system, positions, platform="Reference"):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions(positions)
    return context


def mixture(potential, beads, box=None):
    force = CGForce(potential.to_bytes(), types=[i % 2 for i in range(beads)], periodic=box is not None)
    return system_of(force, beads=beads, box=box)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("box", LARGE_BOXES.values(), ids=LARGE_BOXES)
def test_cell_list_and_precisions(potential, gpu, box, precision):
    system, positions = mixture(potential, 800, box), liquid(800, box)
    energy, forces = energy_and_forces(gpu_context(system, positions, gpu, precision))
    exact_energy, exact_forces = energy_and_forces(reference_context(system, positions))
    assert difference(forces, exact_forces) < PRECISIONS[precision]
    assert energy == pytest.approx(exact_energy, rel=PRECISIONS[precision])


@pytest.mark.parametrize("channels", [8, 40, 64])
def test_numbers_of_channels(gpu, channels):
    """Rows are filled up to whole groups of lanes, and lanes take one or two channels each."""
    potential = random_potential(channels=channels, blocks=3)
    system, positions = mixture(potential, 30), scatter(30)
    energy, forces = energy_and_forces(gpu_context(system, positions, gpu))
    exact_energy, exact_forces = energy_and_forces(reference_context(system, positions))
    assert difference(forces, exact_forces) < 5e-6
    assert energy == pytest.approx(exact_energy, rel=5e-6)


def test_list_grows_when_the_box_is_compressed(potential, gpu):
    """96 neighbors are expected at first; here there are some 300."""
    box = np.eye(3) * 4.5
    system, positions = mixture(potential, 600, box), liquid(600, box)
    context, exact = gpu_context(system, positions, gpu), reference_context(system, positions)
    for scale in (1.0, 0.45, 0.3):
        for each in (context, exact):
            each.setPeriodicBoxVectors(*(box * scale))
            each.setPositions(positions * scale)
        energy, forces = energy_and_forces(context)
        exact_energy, exact_forces = energy_and_forces(exact)
        assert difference(forces, exact_forces) < 4e-6
        assert energy == pytest.approx(exact_energy, rel=4e-6)


def test_list_is_rebuilt_as_beads_move(potential, gpu):
    box = LARGE_BOXES["triclinic"]
    system, positions = mixture(potential, 600, box), liquid(600, box)
    context = gpu_context(system, positions, gpu, integrator=openmm.VerletIntegrator(0.002))
    exact = reference_context(system, positions)
    context.setVelocitiesToTemperature(900, 1)
    for _ in range(3):
        context.getIntegrator().step(15)
        moved = context.getState(positions=True).getPositions(asNumpy=True)
        exact.setPositions(moved)
        assert difference(energy_and_forces(context)[1], energy_and_forces(exact)[1]) < 4e-6
    assert np.linalg.norm(moved._value - positions, axis=1).max() > 0.1


def test_reordered_particles(potential, gpu):
    """With a cutoff force beside ours, OpenMM sorts the particles in space every 250 steps."""
    box = np.eye(3) * 1.7
    system, positions = mixture(potential, 100, box), liquid(100, box)
    repulsion = openmm.CustomNonbondedForce("0.01*(0.25/r)^6")
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    repulsion.setCutoffDistance(0.6)
    for _ in range(100):
        repulsion.addParticle()
    system.addForce(repulsion)
    integrator = openmm.LangevinMiddleIntegrator(900, 10, 0.002)
    context = gpu_context(system, positions, gpu, integrator=integrator)
    context.setVelocitiesToTemperature(900, 1)
    integrator.step(300)
    state = context.getState(positions=True, forces=True)
    exact = reference_context(system, state.getPositions())
    exact_forces = exact.getState(forces=True).getForces(asNumpy=True)._value
    assert difference(state.getForces(asNumpy=True)._value, exact_forces) < 1e-5


def test_subset_beside_other_particles(potential, gpu):
    beads = list(range(1, 80, 2))
    force = CGForce(potential.to_bytes(), types=[0] * len(beads), particles=beads)
    system, positions = system_of(force, beads=80), scatter(80)
    forces = energy_and_forces(gpu_context(system, positions, gpu))[1]
    assert difference(forces, energy_and_forces(reference_context(system, positions))[1]) < 4e-6
    assert not forces[0::2].any()


def test_barostat(potential, gpu):
    box = np.eye(3) * 2.4
    system, positions = mixture(potential, 300, box), liquid(300, box)
    system.addForce(openmm.MonteCarloBarostat(100, 300, 5))
    context = gpu_context(system, positions, gpu, integrator=openmm.LangevinMiddleIntegrator(300, 1, 0.001))
    context.getIntegrator().step(100)
    state = context.getState(positions=True, energy=True)
    assert state.getPeriodicBoxVolume()._value != pytest.approx(2.4**3, rel=1e-3)
    exact = reference_context(system, state.getPositions())
    exact.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    assert state.getPotentialEnergy()._value == pytest.approx(energy_and_forces(exact)[0], rel=4e-6)


@pytest.mark.parametrize("channels", [24, 40], ids=["same kernels", "new kernels"])
def test_weights_are_exchanged_in_a_running_context(potential, gpu, channels):
    system, positions = mixture(potential, 40), scatter(40)
    context = gpu_context(system, positions, gpu)
    context.getIntegrator().step(3)
    positions = context.getState(positions=True).getPositions()
    other = random_potential(seed=5, channels=channels)
    force = CGForce.of(system.getForce(0))
    force.setModel(other.to_bytes())
    force.updateParametersInContext(context)
    fresh = reference_context(mixture(other, 40), positions)
    assert difference(energy_and_forces(context)[1], energy_and_forces(fresh)[1]) < 4e-6


def test_forces_alone_and_energy_alone(potential, gpu):
    system, positions = mixture(potential, 40), scatter(40)
    context = gpu_context(system, positions, gpu)
    energy, forces = energy_and_forces(context)
    alone = context.getState(forces=True).getForces(asNumpy=True)._value
    np.testing.assert_array_equal(alone, forces)
    assert context.getState(energy=True).getPotentialEnergy()._value == energy


def test_runs_are_reproducible_bit_for_bit(potential, gpu):
    box = np.eye(3) * 3.0
    ends = []
    for _ in range(2):
        context = gpu_context(mixture(potential, 600, box), liquid(600, box), gpu)
        context.setVelocitiesToTemperature(300, 7)
        context.getIntegrator().step(20)
        ends.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    np.testing.assert_array_equal(*ends)


@pytest.mark.slow
def test_energy_is_conserved_over_10000_steps(gpu):
    potential = random_potential(channels=8)
    system, positions = mixture(potential, 20), scatter(20, closest=0.3)
    bonds = openmm.HarmonicBondForce()  # keeps them together
    for i in range(19):
        bonds.addBond(i, i + 1, 0.35, 500)
    system.addForce(bonds)
    openmm.LocalEnergyMinimizer.minimize(context := reference_context(system, positions), 100)
    positions = context.getState(positions=True).getPositions()
    context = gpu_context(system, positions, gpu, integrator=openmm.VerletIntegrator(0.001))
    context.setVelocitiesToTemperature(300, 1)
    energies = []
    for _ in range(100):
        context.getIntegrator().step(100)
        state = context.getState(energy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy()) / unit.kilojoule_per_mole)
    kT = 2.494
    drift = np.polyfit(np.linspace(0, 0.01, 100), energies, 1)[0]  # per ns
    assert abs(drift) / kT / 20 < 1
    assert np.std(energies) < 0.01 * kT * 20


COMPILE = """
import sys, openmm
system = openmm.XmlSerializer.deserialize(open("system.xml").read())
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(sys.argv[1]))
context.setPositions([openmm.Vec3(0.3 * i, 0, 0) for i in range(system.getNumParticles())])
context.getState(energy=True, forces=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("network", ["schnet", "painn"])
def test_compilers_have_nothing_to_say(network, gpu, tmp_path):
    """With optimisation, as users compile the kernels, and from nothing."""
    (tmp_path / "system.xml").write_text(
        openmm.XmlSerializer.serialize(mixture(random_potential(network=network), 600, None))
    )
    variables = {key: value for key, value in os.environ.items() if key != "POCL_EXTRA_BUILD_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, gpu.getName()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**variables, "POCL_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower().replace("warning: using an unsupported opencl implementation", "")
