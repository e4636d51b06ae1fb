"""One table of resumable works: change one input between two calls, and the second is refused in words that name it.

What was there stays as it is; more of the same goes on; the same again does nothing; two cannot work in one place; and
a full disk costs nothing that was complete.
"""

import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openmm
import pytest
from openmm import app

from openmmcg.frames import Frames
from openmmcg.mapping import Mapping
from openmmcg.reference import Labels, label_frames, organic_molecule, sample, sample_conformers, sample_constrained
from openmmcg.reference.quantum.labels import LabelFile
from openmmcg.simulation import read_log, run
from openmmcg.state import lock

distributed = pytest.importorskip("distributed")


class Work(NamedTuple):
    """A work that may be called again.

    ``do(place, **inputs)`` does it or goes on with it. ``changes`` are other inputs, by a name for each, with what the
    refusal has to say. ``more`` is what it goes on with, and ``outcome(place)`` what came of it, as an array that then
    begins with what was there.
    """

    do: Callable[..., Any]
    inputs: dict[str, Any]
    changes: dict[str, tuple[dict[str, Any], str]]
    more: dict[str, Any]
    outcome: Callable[[Path], np.ndarray]
    lock: str


WORKS: dict[str, Work] = {}

# -- run --------------------------------------------------------------------------------------------------------------


def fluid(depth=0.5, mass=18.0, repulsion=1e-6):
    """Eight beads in a periodic box, that repel each other, and the first of which is tied to the second."""
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(2.0 * np.eye(3)))
    pairs, bonds = openmm.CustomNonbondedForce(f"{repulsion}*depth/r^9"), openmm.HarmonicBondForce()
    pairs.addGlobalParameter("depth", depth)
    pairs.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    pairs.setCutoffDistance(0.9)
    for _ in range(8):
        system.addParticle(mass)
        pairs.addParticle([])
    bonds.addBond(0, 1, 0.5, 100.0)
    pairs.addExclusion(0, 1)
    bonds.setUsesPeriodicBoundaryConditions(True)
    system.addForce(pairs)
    system.addForce(bonds)
    return system


GRID = 0.5 + np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
BOX = 2.0 * np.eye(3)


def stiffened(system):
    """The same object, changed."""
    system.getForce(1).setBondParameters(0, 0, 1, 0.5, 200.0)
    return system


def do_run(place, *, system=fluid, **inputs):
    usual = {"seed": 1, "interval": 0.02, "platform": "Reference", "progress": False}
    return run(system=system(), path=place / "cg.h5md", **{**usual, **inputs})


def positions_in(*names):
    def outcome(place):
        with Frames(place / names[0]) as frames:
            return frames.positions[:]

    return outcome


SOFTER, HEAVIER = {"system": lambda: fluid(depth=0.6)}, {"system": lambda: fluid(mass=19.0)}
STIFFENED = {"system": lambda: stiffened(fluid())}
ANOTHER_BOX = r"box float\[3, 3, 3\] .* there, float\[3, 3, 3\] .* here"
RUN_CHANGES = {
    "a parameter of a force": (SOFTER, r"system: force 0 \(CustomNonbondedForce\).* 0?\.5 there, 0?\.6 here"),
    "the same System with another spring": (
        STIFFENED,
        r"force 1 \(HarmonicBondForce\) Bonds/Bond@k 100 there, 200 here",
    ),
    "masses": (HEAVIER, "system: System .*mass .* there, .* here"),
    "positions": ({"positions": GRID + 1e-6}, r"positions float\[8, 3\] of rms .* there, float\[8, 3\] of rms .* here"),
    "box": ({"box": 2.1 * np.eye(3)}, r"box \[\[2.0, .* there, \[\[2.1, .* here"),
    "time step": ({"time_step": 0.001}, "time_step 0.002 there, 0.001 here"),
    "interval": ({"interval": 0.01}, "interval 0.02 there, 0.01 here"),
    "equilibration": ({"equilibration": 0.02}, "equilibration 0.0 there, 0.02 here"),
    "ensemble": ({"ensemble": "overdamped"}, "ensemble NVT there, overdamped here"),
    "temperature": ({"temperature": 310.0}, "temperature 300.0 there, 310.0 here"),
    "friction": ({"friction": 2.0}, "friction 1.0 there, 2.0 here"),
    "seed": ({"seed": 2}, "seed 1 there, 2 here"),
    "types": ({"types": [1] + [0] * 7, "type_names": ["A", "B"]}, "names 'A' 'B' .* there, 'B' 'A' .* here"),
    "names of types": ({"type_names": ["A", "C"]}, r"type_names \['A', 'B'\] there, \['A', 'C'\] here"),
    "minimisation": ({"minimisation": 10.0}, "minimisation None there, 10.0 here"),
    "replicas": ({"positions": GRID[None]}, "replicas None there, 1 here"),
}
WORKS["run"] = Work(
    do_run,
    {"positions": GRID, "box": BOX, "duration": 0.06, "types": [0, 1] + [0] * 6, "type_names": ["A", "B"]},
    RUN_CHANGES,
    {"duration": 0.1},
    positions_in("cg.h5md"),
    "cg.lock",
)

STARTS = GRID + 0.02 * np.random.default_rng(0).normal(size=(3, 8, 3))
BOXES = np.array([BOX, 1.01 * BOX, BOX])
WORKS["run of replicas"] = Work(
    do_run,
    {"positions": STARTS, "box": BOXES, "duration": 0.06},
    {
        "positions of one": ({"positions": np.array([*STARTS[:2], STARTS[2] + 1e-3])}, "positions float.* there, .* "),
        "the order of replicas": ({"positions": STARTS[[1, 0, 2]], "box": BOXES[[1, 0, 2]]}, "positions .*; box "),
        "boxes": ({"box": np.array([BOX, BOX, 1.01 * BOX])}, ANOTHER_BOX),
        "one box for all": ({"box": BOX}, r"box float\[3, 3, 3\] .* there, \[\[2.0, .* here"),
        "their number": ({"positions": STARTS[:2], "box": BOXES[:2]}, "replicas 3 there, 2 here"),
    },
    {"duration": 0.1},
    positions_in("cg.1.h5md"),
    "cg.lock",
)

# -- sample -----------------------------------------------------------------------------------------------------------


def chain(elements="COCN", names=None, bonds=3):
    topology, system, springs = app.Topology(), openmm.System(), openmm.HarmonicBondForce()
    residue = topology.addResidue("MOL", topology.addChain())
    for name, symbol in zip(names or elements, elements, strict=True):
        element = app.Element.getBySymbol(symbol)
        topology.addAtom(name, element, residue)
        system.addParticle(12.0)
    for first, second in zip(range(bonds), range(1, bonds + 1), strict=True):
        topology.addBond(*[list(topology.atoms())[atom] for atom in (first, second)])
    for first, second in zip(range(3), range(1, 4), strict=True):
        springs.addBond(first, second, 0.1, 1e4)
    system.addForce(springs)
    return topology, system


LINE = 0.1 * np.arange(4.0)[:, None] * [1.0, 0.0, 0.0]


def do_sample(place, *, molecule=chain, **inputs):
    topology, system = molecule()
    usual = {"interval": 0.01, "time_step": 1e-3, "platform": "Reference", "progress": False}
    return sample(system, topology, path=place / "atoms.h5md", **{**usual, **inputs})


RENAMED, SULFUR, SHORTER = (
    {"molecule": lambda: chain(names=["C1", "O", "C", "N"])},
    {"molecule": lambda: chain("CSCN", names="COCN")},
    {"molecule": lambda: chain(bonds=2)},
)
SAMPLE_CHANGES = {
    "positions": ({"positions": 1.01 * LINE}, r"positions float\[4, 3\] of rms .* there"),
    "names of atoms": (RENAMED, "names 'C' .* there, 'C1' .* here"),
    "elements": (SULFUR, r"type_names \['C', 'O', 'N'\] there, \['C', 'S', 'N'\]"),
    "bonds": (SHORTER, r"bonds \[\[0, 1\], \[1, 2\], \[2, 3\]\] there, \[\[0, 1\], \[1, 2\]\] here"),
    "temperature": ({"temperature": 310.0}, "temperature 300.0 there, 310.0 here"),
    "interval": ({"interval": 0.02}, "interval 0.01 there, 0.02 here"),
}
WORKS["sample"] = Work(
    do_sample, {"positions": LINE, "frames": 3}, SAMPLE_CHANGES, {"frames": 5}, positions_in("atoms.h5md"), "atoms.lock"
)


def do_sample_constrained(place, *, positions=LINE, members=((0, 1), (2, 3)), **inputs):
    topology, system = chain()
    mapping = Mapping.center_of_mass(topology, members, names=["A", "B"])
    usual = {"interval": 0.001, "progress": False}
    return sample_constrained(system, topology, positions, mapping, place / "atoms.h5md", **{**usual, **inputs})


BEADS = np.array([[0.05, 0.0, 0.0], [0.26, 0.0, 0.0]])
WORKS["sample_constrained"] = Work(
    do_sample_constrained,
    {"frames": 3, "bead_positions": BEADS},
    {
        "positions of beads": ({"bead_positions": 1.001 * BEADS}, r"system: force 1 \(CustomCentroidBondForce\)"),
        "springs": ({"stiffness": 1e6}, r"system: force 1 \(CustomCentroidBondForce\)"),
        "positions of atoms": ({"positions": LINE + [0.0, 0.01, 0.0] * np.arange(4)[:, None]}, "positions "),
        "the map": ({"members": ((0, 2), (1, 3))}, r"system: force 1 \(CustomCentroidBondForce\)"),
        "where beads are": ({"bead_positions": None}, "minimisation 10.0 there, None here"),
    },
    {"frames": 5},
    positions_in("atoms.h5md"),
    "atoms.lock",
)


BUTANE = organic_molecule("CCCC")


def do_conformers(place, **inputs):
    usual = {"sets": ["train"], "interval": 0.01, "equilibration": 0.01, "processes": 1, "progress": False}
    return sample_conformers(BUTANE, place, **{**usual, **inputs})


WORKS["sample_conformers"] = Work(
    do_conformers,
    {"dihedral": [0, 1, 2, 3], "runs": 1, "frames": 2},
    {
        "runs": ({"runs": 2}, "runs 1 there, 2 here"),
        "sets": ({"sets": ["train", "test"]}, r"sets \['train'\] there, \['train', 'test'\] here"),
        "dihedral": ({"dihedral": [3, 2, 1, 0]}, r"dihedral \[0, 1, 2, 3\] there, \[3, 2, 1, 0\] here"),
        "seed": ({"seed": 3}, "seed 0 there, 3 here"),
        "temperature": ({"temperature": 310.0}, "temperature 300.0 there, 310.0 here"),
    },
    {"frames": 3},
    positions_in("train.0.h5md"),
    "lock",
)

WATER = np.array([[0, 0, 0], [0, 0.0757, 0.0587], [0, -0.0757, 0.0587]])
WATERS = WATER * np.linspace(0.97, 1.03, 4)[:, None, None]


@cache
def cluster():
    return distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")


@pytest.fixture(scope="module", autouse=True)
def closed_cluster():
    yield
    if cluster.cache_info().currsize:
        cluster().close()


def do_labels(place, *, frames=WATERS, **inputs):
    usual = {"elements": ["O", "H", "H"], "client": cluster().scheduler_address, "progress": False}
    return label_frames(frames, place / "labels.h5", **{**usual, **inputs})


WORKS["label_frames"] = Work(
    do_labels,
    {},
    {
        "a frame": ({"frames": np.array([*WATERS[:3], 1.01 * WATERS[3]])}, r"positions float\[4, 3, 3\] of rms"),
        "more frames": ({"frames": np.concatenate([WATERS, WATERS])}, "frames 4 there, 8 here"),
        "engine": ({"engine": "wb97x-d3/def2-svp"}, "engine gfn2-xtb there, wb97x-d3/def2-svp here"),
        "charge": ({"charge": 1}, "charge 0 there, 1 here"),
        "spin": ({"unpaired_electrons": 2}, "unpaired_electrons 0 there, 2 here"),
        "elements": ({"elements": ["S", "H", "H"]}, "atomic_numbers .*8.* there, .*16.* here"),
    },
    {},
    lambda place: Labels.read(place / "labels.h5")["homo"],
    "labels.lock",
)

# -- the table --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Of each work a folder in which it is done, made when it is first asked for."""
    done = {}

    def copy(name, place):
        if name not in done:
            done[name] = tmp_path_factory.mktemp("done")
            WORKS[name].do(done[name], **WORKS[name].inputs)
        shutil.copytree(done[name], place, dirs_exist_ok=True)
        return place

    return copy


def contents(place):
    return {file.name: file.read_bytes() for file in sorted(place.iterdir())}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in WORKS for change in WORKS[name].changes])
def test_another_input_is_refused_by_its_name(finished, tmp_path, name, change):
    work, place = WORKS[name], finished(name, tmp_path)
    before = contents(place)
    inputs, words = work.changes[change]
    with pytest.raises(ValueError, match=rf"with other inputs \(.*{words}"):
        work.do(place, **{**work.inputs, **inputs, **work.more})
    assert contents(place) == before


@pytest.mark.parametrize("name", WORKS)
def test_the_same_again_does_nothing_and_more_goes_on(finished, tmp_path, name):
    work, place = WORKS[name], finished(name, tmp_path)
    before, outcome = contents(place), work.outcome(place)
    work.do(place, **work.inputs)
    assert contents(place) == before
    if work.more:
        work.do(place, **{**work.inputs, **work.more})
        longer = work.outcome(place)
        assert len(longer) > len(outcome)
        assert np.array_equal(longer[: len(outcome)], outcome)


@pytest.mark.parametrize("name", [name for name in WORKS if WORKS[name].more])
def test_two_cannot_do_one_work(finished, tmp_path, name):
    work, place = WORKS[name], finished(name, tmp_path)
    refused = pytest.raises(BlockingIOError, match=r"works on .* wait for it, end it, or choose another place")
    with lock(place / work.lock, "it"), refused:
        work.do(place, **{**work.inputs, **work.more})


LOCKED = """
import sys
sys.path.insert(0, {tests!r})
import test_state_of_runs as table
from pathlib import Path
work = table.WORKS["run"]
print("begun", flush=True)
work.do(Path({place!r}), **{{**work.inputs, "duration": 2000.0}})
"""


def test_a_process_has_its_run_for_itself_until_it_is_killed(tmp_path):
    work = WORKS["run"]
    program = LOCKED.format(tests=str(Path(__file__).parent), place=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "begun\n"
        while not (tmp_path / "cg.csv").exists():
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(BlockingIOError, match=rf"process {process.pid} on .* works on the run cg.h5md in "):
            work.do(tmp_path, **{**work.inputs, "duration": 2000.0})
    finally:
        process.kill()
        process.wait()
    done = len(read_log(tmp_path / "cg.h5md")["time_ps"])
    assert work.do(tmp_path, **{**work.inputs, "duration": round(0.02 * (done + 2), 9)}).frames >= done + 2


@contextmanager
def full_disk(largest):
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


IN_THIS_PROCESS = [name for name in WORKS if name != "sample_conformers"]


@pytest.mark.parametrize("largest", [0, 30, 3_000, 20_000, 300_000, 1_060_000])
@pytest.mark.parametrize("name", IN_THIS_PROCESS)
def test_a_full_disk_costs_nothing_that_is_complete(finished, tmp_path, name, largest):
    """From whatever byte on the disk is full, the error names the file, and with room the same call goes on."""
    work, place = WORKS[name], tmp_path / "new"
    place.mkdir()
    try:
        with full_disk(largest):
            work.do(place, **work.inputs)
    except OSError as error:
        assert re.search(rf"{re.escape(str(place))}/\w+.* (kept|unharmed|left).*[Mm]ake room", str(error))
    assert not [file for file in place.iterdir() if file.suffix in (".part", ".new", ".lock")]
    work.do(place, **work.inputs)
    expected = work.outcome(finished(name, tmp_path / "done"))
    # With a thermostat the noise after a resumption is another.
    assert work.outcome(place).shape == expected.shape


def test_a_disk_that_fails_under_the_labels_costs_one(tmp_path):
    path = tmp_path / "labels.h5"
    with LabelFile(path, 4, {"frames": 4}, {}) as file:
        file.write(0, homo=-8.0, lumo=1.0)
        refused = pytest.raises(OSError, match=r"label of frame 1 could not be written to .*labels\.h5 .* Make room")
        with full_disk(100), refused:
            file.write(1, homo=-8.0, lumo=1.0)
        file.write(2, failure="no convergence")
    labels = Labels.read(path)
    assert labels.valid.tolist() == [True, False, False, False]
    assert labels.failures == {2: "no convergence"} and labels.waiting == 2


@pytest.mark.parametrize("name", ["run", "run of replicas", "sample", "sample_constrained"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.0])
def test_a_truncated_file_of_frames_is_found_and_named(finished, tmp_path, name, share):
    work, place = WORKS[name], finished(name, tmp_path)
    for file in place.glob("*.h5md"):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        for more in ({}, work.more):
            with pytest.raises(OSError, match=rf"{file.name} cannot be opened: it is truncated"):
                work.do(place, **{**work.inputs, **more})
        file.write_bytes(whole)
    work.do(place, **work.inputs)


@pytest.mark.parametrize("name", ["run", "sample"])
def test_frames_of_another_run_of_the_same_length_are_found(finished, tmp_path, name):
    work, place, other = WORKS[name], finished(name, tmp_path / "a"), tmp_path / "b"
    other.mkdir()
    work.do(other, **{**work.inputs, "seed": 7})
    (file,) = other.glob("*.h5md")
    shutil.copy(file, place / file.name)
    with pytest.raises(ValueError, match=rf"the last frame of .*{file.name} is not that of its checkpoint"):
        work.do(place, **work.inputs)


def test_a_truncated_file_of_labels_is_named(finished, tmp_path):
    place = finished("label_frames", tmp_path)
    file = place / "labels.h5"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"labels\.h5 cannot be opened as a file of labels: it is truncated"):
        do_labels(place)


@pytest.mark.parametrize("name", ["run", "sample"])
def test_a_damaged_log_is_named(finished, tmp_path, name):
    place = finished(name, tmp_path)
    (log,) = place.glob("*.csv")
    log.write_text(log.read_text().replace(".", "?"))
    with pytest.raises(ValueError, match=rf"{log.name} is damaged .* bring back a copy"):
        read_log(log)
