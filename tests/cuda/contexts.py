"""Makes Contexts of every kind on the CUDA platform and lets them run; over `driver.cpp` nothing is computed."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import openmm
from conftest import BOXES, NETWORKS, energy_and_forces, liquid, random_potential, system_of
from test_forces_tabulated_bonded_force import BEADS, KINDS, chain_force
from test_forces_torchscript import wells_force

from openmmcg import CGForce

FEW, MANY = 60, 1200  # without and with cells in the neighbor list
CACHE = tempfile.TemporaryDirectory()  # of compiled kernels: an empty one, so that all are compiled


def run(name, force, beads, box=None, precision="single"):
    print("context", name, flush=True)
    platform = openmm.Platform.getPlatformByName("CUDA")
    system = system_of(force, beads=beads, box=box)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    context = openmm.Context(system, integrator, platform, {"Precision": precision, "TempDirectory": CACHE.name})
    context.setPositions(liquid(beads, box))
    energy_and_forces(context)
    integrator.step(2)
    return context


def force_of(potential, beads, box=None, **options):
    types = [0] * (beads // options.get("replicas", 1))
    return CGForce(potential.to_bytes(), types=types, periodic=box is not None, **options)


def main():
    names = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
    assert names.count("CUDA") == 1, names
    for network in NETWORKS:
        for channels in (8, 40, 128):  # one and two channels to a lane, and channels to fill up
            potential = random_potential(network=network, channels=channels)
            run(f"{network} of {channels} channels", force_of(potential, FEW), FEW)
    potential = random_potential(channels=16)
    for precision in ("mixed", "double"):
        run(f"{precision} precision", force_of(potential, FEW), FEW, precision=precision)
    for name, box in BOXES.items():
        for beads in (FEW, MANY):
            run(f"{beads} beads, {name}", force_of(potential, beads, box), beads, box)
    context = run("replicas", force_of(potential, FEW, replicas=4), FEW)
    print("context another model", flush=True)
    force = CGForce.of(context.getSystem().getForce(0))
    force.setModel(random_potential(channels=64).to_bytes())
    force.updateParametersInContext(context)
    energy_and_forces(context)
    for kind in KINDS:
        run(f"tabulated {kind}", chain_force(kind), BEADS)
    run("TorchScript", wells_force(), FEW)


if __name__ == "__main__":
    main()
