"""A wheel built by a plain `pip wheel .` runs potentials in an environment without torch; what needs more says so."""

import ast
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
from openmmcg.optional import EXTRAS

pytestmark = pytest.mark.slow
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
from openmmcg.frames import Frames
from openmmcg.simulation import run
run(system, positions, None, "run.h5md", duration=0.05, interval=0.01, equilibration=0.0, platform=sys.argv[3])
with Frames("run.h5md") as frames:
    assert len(frames) == 5
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
    assert not any("Torch" in name or "Inductor" in name for name in names)
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


def python(code, *arguments):
    return run(sys.executable, "-c", code, *arguments)


def test_importing_the_package_takes_openmm_and_numpy_only():
    loaded = json.loads(python("import json, sys, openmmcg; print(json.dumps([*sys.modules]))"))
    heavy = {*EXTRAS, "scipy", "h5py", "tqdm", "mdtraj"}
    assert "openmm" in loaded and not heavy & set(loaded)


HIDE = """
import importlib, sys

class Without:
    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, *arguments):
        return None if name.partition(".")[0] in sys.argv[1].split(",") else self._finder.find_spec(name, *arguments)

    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""

USE_EVERY_NAME = (
    HIDE
    + """
for room in ("", *sys.argv[2].split(",")):
    module = importlib.import_module(f"openmmcg.{room}".strip("."))
    for name in getattr(module, "__all__", []):
        try:
            getattr(module, name)
        except ModuleNotFoundError as error:
            print(f"{room}.{name}", error)
for module in ("analysis.figures", "analysis.kinetics", "electronic.figures", "fitting.boltzmann_inversion.figures"):
    try:
        importlib.import_module(f"openmmcg.{module}")
    except ModuleNotFoundError as error:
        print(module, error)
"""
)


def test_names_that_need_an_optional_package_say_how_to_get_it():
    rooms = sorted(path.parent.name for path in (ROOT / "python" / "openmmcg").glob("*/__init__.py"))
    refused = dict(
        line.split(" ", 1) for line in python(USE_EVERY_NAME, ",".join(EXTRAS), ",".join(rooms)).splitlines()
    )
    for name, package in {
        "potentials.SchNet": "torch",
        "fitting.ForceMatching": "lightning",
        "reference.capped_alanine": "rdkit",
        "electronic.DKLTraining": "gpytorch",
        "electronic.local_noise": "sklearn",
        "analysis.kinetics": "deeptime",
        "analysis.figures": "matplotlib",
    }.items():
        assert refused[name] == f'this needs the package {package}: pip install "openmm-cg[{EXTRAS[package]}]"'
    assert all('pip install "openmm-cg[' in message for message in refused.values()), refused
    for name in ("fitting.BoltzmannInversion", "potentials.CGPotential", "reference.sample", "electronic.DKLPredictor"):
        assert name not in refused


def test_works_that_need_an_optional_package_say_how_to_get_it(two_type_potential):
    code = (
        HIDE
        + """
from openmmcg import CGPotential
from openmmcg.reference import label_frames, orbital_energies
for work in (
    lambda: orbital_energies(["H", "H"], [[0, 0, 0], [0, 0, 0.07]]),
    lambda: orbital_energies(["H", "H"], [[0, 0, 0], [0, 0, 0.07]], engine="wb97x-d3/def2-svp"),
    lambda: CGPotential.load(sys.argv[2]).scaled(0.5),
    lambda: CGPotential.load(sys.argv[2]).module,
):
    try:
        work()
    except ModuleNotFoundError as error:
        print(error)
"""
    )
    messages = python(code, ",".join(EXTRAS), two_type_potential).splitlines()
    packages = ["tblite", "pyscf", "torch", "torch"]
    assert messages == [f'this needs the package {name}: pip install "openmm-cg[{EXTRAS[name]}]"' for name in packages]


def imports(tree):
    """What is imported at run time: the package, whether `optional_imports` watches, whether it is in a function."""
    watched, unused = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and ast.unparse(node.items[0]) == "optional_imports()":
            watched |= set(ast.walk(node))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            unused |= {child for statement in node.body for child in ast.walk(statement)}
    for node in set(ast.walk(tree)) - unused:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]:
                yield name.partition(".")[0], node in watched, node not in tree.body


def test_every_package_that_is_imported_is_brought_by_an_extra_or_required():
    lines = {line.split(" =")[0]: line for line in (ROOT / "pyproject.toml").read_text().splitlines()}
    required, dependencies = {"openmm", "numpy", "scipy", "h5py", "tqdm"}, lines["dependencies"]
    assert all(f'"{name}>=' in dependencies for name in required)
    bring = {"sklearn": "scikit-learn", "torchmetrics": "lightning", "dask": "distributed"}
    for package, extra in EXTRAS.items():
        assert f'"{bring.get(package, package)}>=' in lines[extra], package
    known = required | set(EXTRAS) | set(sys.stdlib_module_names) | {"openmmcg"}
    # Whoever has a model of these has the package; where it is missing, the importer says so.
    others = {"e3nn", "mace", "metatensor", "metatomic", "nequip", "torchmdnet"}
    for file in (ROOT / "python" / "openmmcg").rglob("*.py"):
        for package, watched, in_function in imports(ast.parse(file.read_text())):
            if package in others and file.parent.name == "external":
                assert in_function, f"{file} imports {package} at its top"
                continue
            assert package in known, f"{file} imports {package}, which nothing brings"
            assert package != "tqdm" or file.name == "progress.py", f"{file} imports tqdm; openmmcg.progress has it"
            # What stands at the top is watched by the package whose names need it, see above.
            explained = watched or not in_function or package not in EXTRAS or file.name == "cg_force.py"
            assert explained, f"{file} imports {package} without optional_imports"
