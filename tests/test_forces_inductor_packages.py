"""Packages for the AOTInductor engine that are made by hand: what runs, and what is refused before any of it does."""

import io
import json
import platform as machine
import struct
import subprocess
import sysconfig
import warnings
import zipfile
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from conftest import PLATFORMS, difference, energy_and_forces
from test_forces_torchscript import BOX, context, positions, wells

from openmmcg import CGForce

SOURCE = Path(__file__).parent / "inductor" / "wells.cpp"
MODEL = "wells/data/aotinductor/model/wells.wrapper"
MADE_HERE = {
    "torch_version": torch.__version__,
    "AOTI_PLATFORM": "linux",
    "AOTI_MACHINE": machine.machine(),
    "AOTI_DEVICE_KEY": "cpu",
    "AOTI_CPU_ISA": "INVALID_VEC_ISA",
    "AOTI_COMPUTE_CAPABILITY": "",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What stands in a package of the energy of `Wells` with scale 1."""
    path = tmp_path_factory.mktemp("wells") / "wells.so"
    torch_root = Path(torch.__file__).parent
    compiler = (sysconfig.get_config_var("CXX") or "g++").split()[0]
    command = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", f"-I{torch_root / 'include'}", SOURCE, "-o", path]
    subprocess.run([*command, f"-L{torch_root / 'lib'}", "-ltorch_cpu", "-lc10"], check=True)
    return path.read_bytes()


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """A folder that is empty as long as nothing was unpacked there and no package has been loaded."""
    folder = tmp_path / "traces"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("WELLS_MARK", str(folder / "mark"))
    return folder


def zipped(entries, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def entries_of(library, **metadata):
    return [(f"{MODEL}.so", library), (f"{MODEL}_metadata.json", json.dumps({**MADE_HERE, **metadata}))]


def package(library, **metadata):
    return zipped(entries_of(library, **metadata))


def force_of(content, **options):
    return CGForce(content, cutoff=0.6, engine="inductor", **options)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("box", [BOX, None], ids=["box", "no box"])
def test_energy_and_forces_are_those_of_the_formula(library, platform, box, traces):
    places = positions()
    force = force_of(package(library), periodic=box is not None)
    energy, forces = energy_and_forces(context(force, places, platform, box))
    expected_energy, expected_forces = wells(places, 1e3 * np.eye(3) if box is None else box, 1.0)
    tolerance = 1e-12 if platform in ("Reference", "CPU") else 1e-5
    assert energy == pytest.approx(expected_energy, rel=tolerance)
    assert difference(forces, expected_forces) < tolerance
    assert [path.name for path in traces.iterdir()] == ["mark"]  # what was unpacked is gone


def test_replicas_do_not_see_each_other(library):
    places = np.array([positions(20), positions(40)[20:]])
    force = force_of(package(library), periodic=True, replicas=2)
    context_ = context(force, places.reshape(-1, 3))
    expected = [wells(each, BOX, 1.0) for each in places]
    energy, forces = energy_and_forces(context_)
    assert energy == pytest.approx(sum(each[0] for each in expected), rel=1e-12)
    assert difference(forces, np.concatenate([each[1] for each in expected])) < 1e-12
    assert force.replica_energies(context_) == pytest.approx([each[0] for each in expected], rel=1e-12)


def test_a_build_of_torch_and_instructions_that_are_there_are_no_reason_to_refuse(library):
    here = Path("/proc/cpuinfo").read_text()
    instructions = next(name for name in ("avx512f", "avx2", "asimd", "fpu") if name in here.split())
    version = torch.__version__.partition("+")[0]
    content = package(library, torch_version=f"{version}+cu130", AOTI_CPU_ISA=instructions.upper())
    assert np.isfinite(energy_and_forces(context(force_of(content), positions(5), box=None))[0])


def renamed(library, name):
    return zipped([*entries_of(library), (name, b"evil")])


def of_two_sizes(content):
    place = content.rindex(b"PK\x01\x02", 0, content.rindex(b"wrapper.so"))
    return content[: place + 24] + struct.pack("<I", 0xFFFFFFF0) + content[place + 28 :]


def beyond_its_end(content):
    place = content.rindex(b"PK\x01\x02", 0, content.rindex(b"wrapper.so"))
    return content[: place + 20] + struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0) + content[place + 28 :]


REFUSED = {
    "another torch": (lambda so: package(so, torch_version="1.99.0"), r"for torch 1\.99\.0, here is .*export it again"),
    "another machine": (lambda so: package(so, AOTI_MACHINE="s390x"), "kind s390x, here is .*export it again"),
    "another system": (lambda so: package(so, AOTI_PLATFORM="win32"), "platform win32, here is linux; export it again"),
    "another device": (lambda so: package(so, AOTI_DEVICE_KEY="cuda"), "device cuda, here is cpu; export it again"),
    "instructions": (lambda so: package(so, AOTI_CPU_ISA="FPU AVX9999"), "has no avx9999; export it again"),
    "a name that leaves the folder": (lambda so: renamed(so, "wells/../../evil"), r"named 'wells/\.\./\.\./evil'"),
    "a name that begins at the root": (lambda so: renamed(so, "/tmp/evil"), "named '/tmp/evil'"),
    "a folder": (lambda so: renamed(so, "wells/evil/"), "named 'wells/evil/'"),
    "an entry twice": (lambda so: zipped(entries_of(so) * 2), "twice"),
    "compressed entries": (lambda so: zipped(entries_of(so), compression=zipfile.ZIP_DEFLATED), "compressed"),
    "two sizes": (lambda so: of_two_sizes(package(so)), "two sizes"),
    "a size beyond the end": (lambda so: beyond_its_end(package(so)), "runs past its end"),
    "another checksum": (lambda so: package(so).replace(so[1000:1100], bytes(100), 1), "checksum"),
    "no metadata": (lambda so: zipped(entries_of(so)[:1]), "does not say what it was compiled for.*export it again"),
    "two of them, one of another machine": (
        lambda so: zipped([*entries_of(so), (f"{MODEL}.a.wrapper_metadata.json", '{"AOTI_MACHINE": "s390x"}')]),
        "kind s390x",
    ),
    "a file that is a folder": (lambda so: renamed(so, f"{MODEL}.so/evil"), "cannot be loaded"),
    "unreadable metadata": (
        lambda so: zipped([*entries_of(so)[:1], (f"{MODEL}_metadata.json", "{")]),
        "that cannot be read",
    ),
    "an exported program": (
        lambda so: zipped([("x/models/model.json", "{}"), ("x/data/aotinductor/", "")]),
        "named 'x/data/aotinductor/'",
    ),
    "no library": (
        lambda so: zipped(entries_of(so)[1:]),
        "no compiled model named 'model'.*torch.export.save does not",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_packages_that_do_not_fit_or_are_not_sound_are_refused_before_they_run(library, make, message, traces):
    force = force_of(make(library))
    with pytest.raises(openmm.OpenMMException, match=message):
        context(force, positions(5), box=None)
    assert not list(traces.iterdir())


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_package_is_refused_before_it_runs(library, kept, traces):
    content = package(library)
    with pytest.raises(TypeError, match="only a ScriptModule or a .pt2"):
        force_of(content[: int(kept * len(content))])
    assert not list(traces.iterdir())


def test_what_is_no_library_is_an_error(traces):
    with pytest.raises(openmm.OpenMMException, match="cannot be loaded"):
        context(force_of(package(b"no library")), positions(5), box=None)
    assert not list(traces.iterdir())


def test_packages_have_no_derivatives(library):
    force = force_of(package(library), global_parameters={"scale": 1.0})
    force.addEnergyParameterDerivative("scale")
    with pytest.raises(openmm.OpenMMException, match="inductor engine, which has no derivatives"):
        context(force, positions(5), box=None)
