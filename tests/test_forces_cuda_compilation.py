"""The CUDA engine without a GPU: OpenMM's CUDA platform over a driver that computes nothing (`cuda/driver.cpp`).

NVRTC compiles every kernel as it would for a GPU, and everything up to the launches is that of a GPU. What the kernels
compute is tested on OpenCL, from the same source.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import BOXES, NETWORKS
from openmm import version

HERE = Path(__file__).parent / "cuda"


def nvrtc_folder():
    package = importlib.util.find_spec("nvidia")
    folders = [Path(place) / "cu13" / "lib" for place in package.submodule_search_locations] if package else []
    return next((folder for folder in folders if (folder / "libnvrtc.so.13").exists()), None)


def has_cuda_platform():
    return (Path(version.openmm_library_path) / "plugins" / "libOpenMMCUDA.so").exists()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (nvrtc_folder() and has_cuda_platform()),
        reason="needs OpenMM's CUDA platform and NVRTC: pip install --no-deps OpenMM-CUDA-13 nvidia-cuda-nvrtc",
    ),
]


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    """The kernels that each Context of `cuda/contexts.py` launched, and what went to stderr."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    subprocess.run(["g++", "-std=c++17", "-O1", "-shared", "-fPIC", HERE / "driver.cpp", "-o", library], check=True)
    (folder / "libcufft.so.12").symlink_to(library)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{nvrtc_folder()}"}
    done = subprocess.run(
        [sys.executable, HERE / "contexts.py"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    contexts = {}
    for line in done.stdout.splitlines():
        kind, _, name = line.partition(" ")
        if kind == "context":
            kernels = contexts[name] = []
        elif kind == "launched":
            kernels.append(name)
    return contexts, done.stderr


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("channels", [8, 40, 128])
def test_the_kernels_of_every_network_compile_and_are_launched(launches, network, channels):
    kernels = launches[0][f"{network} of {channels} channels"]
    assert {"gatherPositions", "findEdges", "convolve0", "lastForces", "lastForcesAndEnergy"} <= set(kernels)
    convolutions = [name for name in kernels if name.startswith("convolve") and not name.startswith("convolveAdjoint")]
    adjoints = [name for name in kernels if name.startswith("convolveAdjoint")]
    assert sorted(adjoints) == sorted(name.replace("convolve", "convolveAdjoint") for name in convolutions)


@pytest.mark.parametrize("precision", ["mixed", "double"])
def test_other_precisions_compile(launches, precision):
    assert "lastForcesAndEnergy" in launches[0][f"{precision} precision"]


@pytest.mark.parametrize("box", BOXES)
def test_neighbor_lists_with_and_without_cells_compile(launches, box):
    few, many = (launches[0][f"{beads} beads, {box}"] for beads in (60, 1200))
    assert "sortIntoCells" in many and "sortIntoCells" not in few
    assert "findEdges" in many and "findEdges" in few


def test_energy_is_computed_only_when_it_is_asked_for(launches):
    kernels = launches[0]["1200 beads, cubic"]
    assert (kernels.count("lastForcesAndEnergy"), kernels.count("sumEnergies"), kernels.count("lastForces")) == (
        1,
        1,
        2,
    )


def test_another_model_is_compiled_when_the_context_takes_it(launches):
    assert "lastForcesAndEnergy" in launches[0]["another model"]


@pytest.mark.parametrize("kind", ["bonds", "angles", "dihedrals"])
def test_tabulated_terms_compile(launches, kind):
    assert "computeBondedForces" in launches[0][f"tabulated {kind}"]


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_a_torchscript_model_runs_on_the_host_where_torch_has_no_cuda(launches):
    contexts, messages = launches
    assert "addForces" in contexts["TorchScript"]
    assert "evaluated on the host" in messages and "torch that is installed has no CUDA" in messages
