"""The plugin's forces in processes where nobody imported openmmcg: OpenMM finds them by itself."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import numpy as np
import openmm
import pytest
from conftest import PLATFORMS, Case, energy_and_forces, scatter, system_of

from openmmcg import CGForce, PairForce, TabulatedBondedForce

BOX = np.diag([1.6, 1.6, 1.6])
BEADS = 30

#: Reads a System and gives its energies on all platforms; says what has been loaded on the way.
READ = """
import json, pickle, sys
import openmm

def loaded(name):
    return name in open("/proc/self/maps").read()

assert not loaded("libOpenMMCG.so") and not loaded("scipy_openblas32"), "a plain import of OpenMM loads the engine"
path, platforms = sys.argv[1], sys.argv[2:]
content = open(path, "rb").read()
system = pickle.loads(content) if path.endswith(".pickle") else openmm.XmlSerializer.deserialize(content.decode())
assert "openmmcg" not in sys.modules and "torch" not in sys.modules
positions = [openmm.Vec3(*r) for r in json.load(open(path + ".positions"))]
energies = []
for name in platforms:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(name))
    context.setPositions(positions)
    energies.append(context.getState(energy=True).getPotentialEnergy()._value)
assert "openmmcg" not in sys.modules
print(json.dumps({"energies": energies, "libtorch": loaded("libtorch_cpu")}))
"""


def bonds():
    force = TabulatedBondedForce("bonds")
    lengths = np.linspace(0.1, 1.0, 50)
    table = force.addTable(0.1, 1.0, 500 * (lengths - 0.4) ** 2)
    for bead in range(BEADS - 1):
        force.addTerm([bead, bead + 1], table)
    force.setUsesPeriodicBoundaryConditions(True)
    return force


def repulsion():
    force = openmm.CustomNonbondedForce("(0.2/r)^6")
    force.setNonbondedMethod(force.CutoffPeriodic)
    force.setCutoffDistance(0.7)
    for _ in range(BEADS):
        force.addParticle([])
    return PairForce(force)


FORCES = {
    "native": lambda potential: CGForce(potential.to_bytes(), types=[0, 1] * (BEADS // 2), periodic=True),
    "torchscript": lambda potential: CGForce(
        potential.to_bytes(), types=[0, 1] * (BEADS // 2), periodic=True, engine="torchscript"
    ),
    "tabulated": lambda potential: bonds(),
    "pairs": lambda potential: repulsion(),
}


def environment():
    return {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "PYTHON"))}


@pytest.mark.parametrize("form", ["pickle", "xml"])
@pytest.mark.parametrize("force", FORCES.values(), ids=FORCES)
def test_a_system_is_read_where_only_openmm_was_imported(potential, force, form, tmp_path):
    positions = scatter(BEADS, BOX)
    system = system_of(force(potential), beads=BEADS, box=BOX)
    path = tmp_path / f"system.{form}"
    path.write_bytes(pickle.dumps(system) if form == "pickle" else openmm.XmlSerializer.serialize(system).encode())
    (tmp_path / f"system.{form}.positions").write_text(json.dumps(positions.tolist()))
    command = [sys.executable, "-c", READ, str(path), *PLATFORMS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout.splitlines()[-1])
    expected = energy_and_forces(Case("Reference").context(system, positions))[0]
    assert result["energies"] == pytest.approx([expected] * len(PLATFORMS), rel=1e-4)
    assert result["libtorch"] == (force is FORCES["torchscript"])


def energy_of(pickled, positions):
    system = pickle.loads(pickled)
    return energy_and_forces(Case("Reference").context(system, positions))[0]


def test_workers_that_are_spawned_get_systems(potential):
    positions = scatter(BEADS, BOX)
    system = system_of(FORCES["native"](potential), bonds(), beads=BEADS, box=BOX)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(energy_of, (pickle.dumps(system), positions)) == energy_of(pickle.dumps(system), positions)


def test_a_plugin_without_its_package_is_named(tmp_path, potential):
    """What a deleted or half-installed package leaves behind does not keep OpenMM from being imported."""
    folder = tmp_path / "OpenMM.libs" / "lib" / "plugins"
    folder.mkdir(parents=True)
    plugins = os.path.join(openmm.version.openmm_library_path, "plugins")
    name = "libOpenMMCGPlugin.so"
    with open(os.path.join(plugins, name), "rb") as file:
        (folder / name).write_bytes(file.read())
    (tmp_path / "force.xml").write_text(openmm.XmlSerializer.serialize(FORCES["native"](potential)))
    script = "import openmm; openmm.XmlSerializer.deserialize(open('force.xml').read())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment(), "OPENMM_PLUGIN_DIR": str(folder)},
    )
    assert "CGForce: openmm-cg, which computes this force, cannot be loaded" in done.stderr
    assert "pip install" in done.stderr
