"""Trajectories on disk: what is written comes back, others can read it, no interruption costs a frame."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from openmmcg.frames import Frames, FrameWriter, writer

BOX = np.array([[2.0, 0.0, 0.0], [0.3, 2.1, 0.0], [-0.4, 0.5, 2.2]])
WATER = {
    "names": ["O", "H1", "H2"],
    "types": [0, 1, 1],
    "type_names": ["O", "H"],
    "masses": [15.99943, 1.007947, 1.007947],
    "temperature": 300.0,
}


def positions_of(frame):
    return np.random.default_rng(frame).normal(size=(3, 3))


def forces_of(frame):
    return 500 * np.random.default_rng(1000 + frame).normal(size=(3, 3))


def append(target, frame):
    target.append(positions_of(frame), BOX * (1 + 0.01 * frame), 0.5 * (frame + 1), forces_of(frame))


def write(path, frames, **options):
    with FrameWriter(path, **WATER, **options) as target:
        for frame in range(len(target), frames):
            append(target, frame)


def assert_holds(path, count):
    with Frames(path) as frames:
        assert len(frames) == count
        np.testing.assert_array_equal(frames.times, 0.5 * (np.arange(count) + 1))
        for frame in range(count):
            np.testing.assert_array_equal(frames.positions[frame], positions_of(frame).astype(np.float32))
            np.testing.assert_array_equal(frames.forces[frame], forces_of(frame).astype(np.float32))
            np.testing.assert_array_equal(frames.boxes[frame], BOX * (1 + 0.01 * frame))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "water.h5md"


def test_what_is_written_is_read(path):
    write(path, 5)
    assert_holds(path, 5)
    with Frames(path) as frames:
        assert frames.number_of_particles == 3
        assert frames.names == ["O", "H1", "H2"]
        assert frames.types.dtype == np.int64 and frames.types.tolist() == [0, 1, 1]
        assert frames.type_names == ["O", "H"]
        np.testing.assert_array_equal(frames.masses, WATER["masses"])
        assert frames.temperature == 300.0
        assert frames.positions.dtype == np.float32 and frames.boxes.dtype == np.float64


def test_frames_are_indexed_like_an_array(path):
    write(path, 6)
    with Frames(path) as frames:
        everything = frames.positions[:]
        assert everything.shape == frames.positions.shape == (6, 3, 3)
        for index in (
            -1,
            slice(1, 4),
            slice(None, None, 2),
            slice(None, None, -2),
            [4, 0, 4],
            [],
            slice(9, 2),
        ):
            np.testing.assert_array_equal(
                frames.positions[index], everything[np.array(index, int) if index == [] else index]
            )
        np.testing.assert_array_equal(frames.positions[frames.times > 1.6], everything[3:])
        with pytest.raises(IndexError):
            frames.positions[6]


def test_without_box_and_forces(path):
    with FrameWriter(path, **WATER, forces=False, periodic=False) as target:
        target.append(positions_of(0), None, 0.0)
    with Frames(path) as frames:
        assert len(frames) == 1 and frames.boxes is None and not frames.has_forces
        with pytest.raises(ValueError, match=r"water.h5md holds no forces, which force matching needs"):
            frames.forces  # noqa: B018


def test_files_name_the_versions_that_they_follow(path):
    """H5MD 1.1 and version 1.0 of its module of units, de Buyl et al., Comput. Phys. Commun. 185, 1546 (2014)."""
    write(path, 1)
    with h5py.File(path) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/modules/units"].attrs["version"].tolist() == [1, 0]


def test_mdanalysis_reads_our_files_in_its_units(path):
    universe = pytest.importorskip("MDAnalysis").Universe
    write(path, 3)
    for trajectory in (universe(str(path)), universe.empty(3, trajectory=True).load_new(str(path))):
        assert trajectory.trajectory.n_frames == 3
        for frame, step in enumerate(trajectory.trajectory):
            np.testing.assert_allclose(step.positions, 10 * positions_of(frame), rtol=1e-6)  # Å
            np.testing.assert_allclose(step.forces, forces_of(frame) / 10, rtol=1e-6)  # kJ/mol/Å
            np.testing.assert_allclose(step.triclinic_dimensions, 10 * BOX * (1 + 0.01 * frame), atol=1e-4)
            assert step.time == pytest.approx(0.5 * (frame + 1))


def test_files_of_mdanalysis_are_read_in_our_units(path):
    mda = pytest.importorskip("MDAnalysis")
    universe = mda.Universe.empty(3, trajectory=True, forces=True)
    with mda.Writer(
        str(path),
        n_atoms=3,
        lengthunit="Angstrom",
        forceunit="kJ/(mol*Angstrom)",
        timeunit="ps",
        velocityunit="Angstrom/ps",
    ) as target:
        for frame in range(2):
            universe.trajectory.ts.time = 5.0 * frame
            universe.trajectory.ts.frame = frame
            universe.dimensions = [20.0, 21.0, 22.0, 90.0, 90.0, 90.0]
            universe.atoms.positions = 10 * positions_of(frame)
            universe.atoms.forces = forces_of(frame) / 10
            target.write(universe)
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.positions[1], positions_of(1), rtol=1e-6)
        np.testing.assert_allclose(frames.forces[1], forces_of(1), rtol=1e-6)
        np.testing.assert_allclose(frames.boxes[1], np.diag([2.0, 2.1, 2.2]), atol=1e-6)
        np.testing.assert_allclose(frames.times, [0.0, 5.0])
        for what in ("names", "types", "masses", "temperature"):
            with pytest.raises(ValueError, match="water.h5md"):
                getattr(frames, what)


def test_a_fixed_box_and_equal_spacing_in_time_are_understood(path):
    with h5py.File(path, "w") as file:
        particles = file.create_group("particles/all")
        particles["position/value"] = np.ones((4, 2, 3))
        particles["position/value"].attrs["unit"] = np.bytes_("pm")
        particles["position/time"] = 250.0
        particles["position/time"].attrs.update(unit="fs", offset=1000.0)
        particles["box/edges"] = [1.0, 2.0, 3.0]
        particles["box/edges"].attrs["unit"] = "nm"
        particles["box"].attrs["boundary"] = ["periodic"] * 3
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.times, [1.0, 1.25, 1.5, 1.75])
        np.testing.assert_allclose(frames.positions[2], 1e-3 * np.ones((2, 3)))
        np.testing.assert_allclose(frames.boxes, np.broadcast_to(np.diag([1.0, 2.0, 3.0]), (4, 3, 3)))


def test_an_unknown_unit_is_refused(path):
    write(path, 1)
    with h5py.File(path, "r+") as file:
        file["particles/trajectory/position/value"].attrs["unit"] = "furlong"
    with pytest.raises(ValueError, match="unit 'furlong'; known are nm"):
        Frames(path)


def test_bad_files_are_named(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trajectory .*water.h5md"):
        Frames(path)
    write(path, 4)
    contents = path.read_bytes()
    for bad in (contents[: len(contents) // 2], b"no HDF5 at all", b""):
        path.write_bytes(bad)
        with pytest.raises(OSError, match="water.h5md cannot be opened: it is truncated, no HDF5 file"):
            Frames(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="no H5MD trajectory"):
        Frames(tmp_path / "other.h5")


def test_nothing_is_overwritten(path):
    write(path, 2)
    with pytest.raises(FileExistsError, match="is not overwritten; choose another path, delete it, or resume it"):
        FrameWriter(path, **WATER)
    with pytest.raises(FileNotFoundError, match="no folder"):
        FrameWriter(path.parent / "absent" / "x.h5md", **WATER)
    assert_holds(path, 2)


def test_resuming_appends_to_the_same_particles_only(path):
    write(path, 2)
    write(path, 5, resume=True)
    assert_holds(path, 5)
    for change in ({"names": ["O", "H", "H"]}, {"masses": [16.0, 1.0, 1.0]}, {"temperature": 310.0}):
        with pytest.raises(ValueError, match=f"cannot be continued: it differs in {next(iter(change))}"):
            FrameWriter(path, **{**WATER, **change}, resume=True)
    with pytest.raises(ValueError, match="differs in forces, periodic"):
        FrameWriter(path, **WATER, forces=False, periodic=False, resume=True)
    assert_holds(path, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": [0, 1]}, "3 names, but types have the shape"),
        ({"types": [0, 1, 2]}, "types must be between 0 and 1"),
        ({"type_names": ["O", "O"]}, "type names must differ"),
        ({"masses": [1.0, np.nan, 1.0]}, "masses must be finite"),
        ({"temperature": -1.0}, "temperature must be positive"),
        ({"names": [], "types": [], "masses": []}, "at least one particle"),
    ],
)
def test_inconsistent_particles_are_refused_before_a_file_is_made(path, change, message):
    with pytest.raises(ValueError, match=message):
        FrameWriter(path, **{**WATER, **change})
    assert not path.exists()


def test_a_bad_frame_is_refused_and_leaves_no_trace(path):
    good = {"positions": positions_of(2), "box": BOX, "time": 9.0, "forces": forces_of(2)}
    with FrameWriter(path, **WATER) as target:
        append(target, 0)
        append(target, 1)
        for bad, message in (
            ({"positions": np.full((3, 3), np.nan)}, "position/value has entries that are not finite"),
            ({"forces": np.full((3, 3), np.inf)}, "force/value has entries that are not finite"),
            ({"positions": np.zeros((4, 3))}, r"position/value has the shape \(4, 3\), it must be \(3, 3\)"),
            ({"box": None}, "the file is for box/edges"),
            ({"forces": None}, "the file is for box/edges, force"),
            ({"time": 1.0}, "at 1.0 ps, not later than the one before"),
            ({"time": np.nan}, "not finite"),
        ):
            with pytest.raises(ValueError, match=message):
                target.append(**{**good, **bad})
    assert_holds(path, 2)


class RecordedFile(io.FileIO):
    """A file that remembers every change, in order."""

    def __init__(self, path):
        super().__init__(path, "r+")
        self.changes = []

    def write(self, data):
        self.changes.append((self.tell(), bytes(data)))
        return super().write(data)

    def truncate(self, size=None):
        self.changes.append((self.tell() if size is None else size, None))
        return super().truncate(size)


def test_after_every_single_write_to_the_disk_all_earlier_frames_are_readable(path, tmp_path, monkeypatch):
    """Whatever the instant at which a process is killed, what it has completed can be read."""
    write(path, 0)
    replayed = tmp_path / "replayed.h5md"
    shutil.copy(path, replayed)
    recorded = RecordedFile(path)
    monkeypatch.setattr(writer, "open_file", lambda *_: h5py.File(recorded, "r+", libver=("v110", "v110")))
    complete = []  # frames that had been appended when a change was made
    with FrameWriter(path, **WATER, resume=True) as target:
        for frame in range(67):  # HDF5's tables are rearranged at 4, 20 and 64 frames
            append(target, frame)
            complete += [frame] * (len(recorded.changes) - len(complete))
    assert len(complete) > 300
    with open(replayed, "r+b", buffering=0) as disk:
        for count, (offset, data) in zip(complete, recorded.changes, strict=False):
            if data is None:
                disk.truncate(offset)
            else:
                os.pwrite(disk.fileno(), data, offset)
            with Frames(replayed) as frames:
                assert len(frames) in (count, count + 1)
                np.testing.assert_array_equal(frames.times, 0.5 * (np.arange(len(frames)) + 1))
                for frame in {0, len(frames) // 2, len(frames) - 1} if len(frames) else ():
                    np.testing.assert_array_equal(frames.positions[frame], positions_of(frame).astype(np.float32))
                    np.testing.assert_array_equal(frames.forces[frame], forces_of(frame).astype(np.float32))


WRITE_FOREVER = """
import itertools, sys
sys.path.insert(0, {tests!r})
from test_frames import WATER, FrameWriter, append
{preparation}
with FrameWriter({path!r}, **WATER, resume=True) as target:
    print("begun", flush=True)
    for frame in itertools.count(len(target)):
        append(target, frame)
        print(frame, flush=True)
"""


def write_forever(path, preparation=""):
    code = WRITE_FOREVER.format(tests=str(Path(__file__).parent), path=str(path), preparation=preparation)
    return [sys.executable, "-c", code]


def test_a_killed_writer_leaves_a_readable_file_and_is_resumed(path):
    count = 0
    for more in (1, 17, 40):
        process = subprocess.Popen(write_forever(path), stdout=subprocess.PIPE, text=True)
        while (line := process.stdout.readline().strip()) == "begun" or int(line) < count + more:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Frames(path) as frames:
            assert len(frames) > count + more
            count = len(frames)
        assert_holds(path, count)
    write(path, count + 3, resume=True)
    assert_holds(path, count + 3)


def test_a_file_being_written_is_not_opened_by_another_process(path):
    write(path, 1)
    process = subprocess.Popen(write_forever(path), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"
    try:
        with pytest.raises(OSError, match="in use by another process"):
            Frames(path)
    finally:
        process.kill()
        process.communicate()


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


def assert_disk_full(process, path):
    """The writer has reported a full disk, and what it says it kept is there, for other programs too."""
    assert process.returncode == 1  # an ordinary Python error, not a crash
    message = process.stderr.strip().splitlines()[-1]
    assert "frames are kept and readable. Make room and resume" in message
    count = int(message.split("the first ")[1].split()[0])
    assert count > 10
    assert_holds(path, count)
    with h5py.File(path) as file:
        assert file["particles/trajectory/position/value"].shape[0] == count
    return count


def test_a_full_disk_leaves_the_earlier_frames_readable(path):
    process = subprocess.run(
        write_forever(path, LIMITED.format(size=1_200_000)), capture_output=True, text=True, check=False
    )
    count = assert_disk_full(process, path)
    write(path, count + 5, resume=True)
    assert_holds(path, count + 5)


def test_a_disk_full_from_the_start_is_an_ordinary_error(path):
    process = subprocess.run(
        write_forever(path, LIMITED.format(size=1000)), capture_output=True, text=True, check=False
    )
    assert process.returncode == 1 and "File too large" in process.stderr.splitlines()[-1]
    assert list(path.parent.iterdir()) == []


def test_space_reserved_ahead_is_given_back(path):
    write(path, 3)
    assert path.stat().st_size < 100_000


def test_a_full_file_system_leaves_the_earlier_frames_readable(path):
    """As above with a real, small file system, where the machine lets us mount one."""
    mount = f"mount -t tmpfs -o size=1280k none {path.parent}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no private mounts on this machine")
    copy = path.parent.parent / "kept.h5md"
    script = f'{mount} && "$@"; status=$?; cp {path} {copy}; exit $status'
    process = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *write_forever(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No space left" in process.stderr
    assert_disk_full(process, copy)


def test_bonds_are_kept_and_some_frames_look_like_a_file_of_their_own(tmp_path):
    path = tmp_path / "water.h5md"
    number = len(WATER["names"])
    random = np.random.default_rng(0)
    positions = random.normal(size=(6, number, 3)).astype(np.float32)
    with FrameWriter(path, **WATER, bonds=[(1, 0)]) as target:
        for i in range(6):
            target.append(positions[i], np.eye(3) * (2 + i), time=float(i), forces=-positions[i])
    with Frames(path) as frames:
        assert frames.bonds.tolist() == [[0, 1]]
        chosen = frames.select([4, 1, 2])
        assert len(chosen) == 3 and len(frames) == 6
        assert np.array_equal(chosen.positions[:], positions[[4, 1, 2]])
        assert np.array_equal(chosen.forces[1], -positions[1])
        assert chosen.times.tolist() == [4.0, 1.0, 2.0]
        assert chosen.boxes[:, 0, 0].tolist() == [6.0, 3.0, 4.0]
        assert np.array_equal(chosen.select([True, False, True]).positions[:], positions[[4, 2]])
        assert chosen.type_names == frames.type_names
        assert np.array_equal(frames.positions[:], positions)


@pytest.mark.parametrize(
    ("bonds", "problem"), [([(0, 99)], "must join particles between 0"), ([(0, 1, 2)], "must be pairs")]
)
def test_bonds_of_particles_that_are_not_there_are_refused(tmp_path, bonds, problem):
    with pytest.raises(ValueError, match=problem):
        FrameWriter(tmp_path / "x.h5md", **WATER, bonds=bonds)


def test_several_frames_at_once_are_the_same_as_one_by_one(tmp_path):
    number = len(WATER["names"])
    random = np.random.default_rng(1)
    positions, forces = random.normal(size=(2, 7, number, 3)).astype(np.float32)
    boxes, times = np.eye(3) * random.uniform(2, 3, size=(7, 1, 1)), np.arange(7.0)
    one, many = tmp_path / "one.h5md", tmp_path / "many.h5md"
    with FrameWriter(one, **WATER) as target:
        for i in range(7):
            target.append(positions[i], boxes[i], times[i], forces[i])
    with FrameWriter(many, **WATER) as target:
        target.extend(positions[:3], boxes[:3], times[:3], forces[:3])
        target.extend(positions[3:], boxes[3:], times[3:], forces[3:])
        forces[1, 0, 0] = np.nan
        with pytest.raises(ValueError, match="frame 8 for .*force/value has entries that are not finite"):
            target.extend(positions[:3], boxes[:3], times[:3] + 10, forces[:3])
        with pytest.raises(ValueError, match="frame 8 for .* is at 10.0 ps, not later than the one before"):
            target.extend(positions[:2], boxes[:2], [10.0, 10.0], np.zeros((2, number, 3)))
    with Frames(one) as first, Frames(many) as second:
        assert len(second) == 7
        assert np.array_equal(first.positions[:], second.positions[:])
        assert np.array_equal(first.boxes, second.boxes) and np.array_equal(first.times, second.times)
