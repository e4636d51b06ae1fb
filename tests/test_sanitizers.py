"""The C++ tests of the engine, built with the address and undefined-behaviour sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import random_potential

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def test_program():
    build = ROOT / "build" / "sanitize"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["-DOPENMMCG_SANITIZE=ON", "-DOPENMMCG_ENGINE_TESTS=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    for command in (
        [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-G",
            "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}",
            *options,
        ],
        ["cmake", "--build", str(build), "--target", "test_engine"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return build / "test_engine"


def test_the_engine_is_free_of_memory_errors_and_undefined_behaviour(test_program, two_type_potential, tmp_path):
    equivariant = tmp_path / "equivariant.pt"
    random_potential(network="painn of degree 2", channels=20).save(equivariant)
    command = [test_program, two_type_potential, equivariant]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert "all engine tests passed" in done.stdout
