"""The wheel: built by a plain `pip wheel .`, it runs potentials in an environment without torch."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import openmm
import pytest
from conftest import GPU_PLATFORMS

from openmmcg import CGForce

ROOT = Path(__file__).resolve().parents[1]

RUN = """
import importlib.util, json, sys
import numpy as np, openmm
from openmmcg import CGForce, CGPotential

assert importlib.util.find_spec("torch") is None, "torch is installed"
positions = np.load(sys.argv[2])
topology = openmm.app.Topology()
chain = topology.addChain()
for i in range(len(positions)):
    topology.addAtom("AB"[i % 2], None, topology.addResidue("M", chain))
system = CGPotential.load(sys.argv[1]).create_system(topology)
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(sys.argv[3]))
context.setPositions(positions)
energy = context.getState(energy=True).getPotentialEnergy()._value
context.getIntegrator().step(10)
try:
    CGForce(sys.argv[1], engine="torchscript")
    refused = ""
except openmm.OpenMMException as error:
    refused = str(error)
print(json.dumps({"energy": energy, "refused": refused}))
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def python_without_torch(tmp_path_factory):
    """A fresh environment with the wheel, OpenMM and numpy. The build is isolated, so it sees no torch either."""
    directory = tmp_path_factory.mktemp("wheel")
    constraints = ROOT / "constraints.txt"
    environment = {
        **os.environ,
        "PIP_CONSTRAINT": str(constraints),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    build = ["--config-settings", f"build-dir={directory / 'build'}"]
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        *build,
        "-w",
        directory,
        ROOT,
        env=environment,
    )
    (wheel,) = directory.glob("openmm_cg-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for library in ("OpenMMCG", "OpenMMCGOpenCL", "OpenMMCGCUDA"):
        assert f"openmmcg/lib/lib{library}.so" in names
    assert "OpenMM.libs/lib/plugins/libOpenMMCGPlugin.so" in names
    assert not any("Torch" in name for name in names)
    # Moved after installation would be another prefix; installing elsewhere than it was built is the same test.
    run(sys.executable, "-m", "venv", directory / "environment")
    python = directory / "environment" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", wheel, env=environment)
    return python


@pytest.mark.parametrize("platform", ["CPU", *GPU_PLATFORMS])
def test_a_saved_potential_runs_without_torch(python_without_torch, two_type_potential, tmp_path, platform):
    positions = np.random.default_rng(5).random((30, 3)) * 1.2
    np.save(tmp_path / "positions.npy", positions)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "OPENMM", "PYTHON"))}
    output = run(
        python_without_torch,
        script,
        two_type_potential,
        tmp_path / "positions.npy",
        platform,
        cwd=tmp_path,
        env=environment,
    )
    result = json.loads(output.splitlines()[-1])
    system = openmm.System()
    for _ in positions:
        system.addParticle(1.0)
    system.addForce(CGForce(two_type_potential, types=["A", "B"] * 15))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(positions)
    expected = context.getState(energy=True).getPotentialEnergy()._value
    assert result["energy"] == pytest.approx(expected, rel=1e-5)
    assert "needs torch" in result["refused"]
