"""Arrays in the units of the field become trajectories in the package's units, whole or not at all."""

import numpy as np
import pytest

from openmmcg.frames import Frames, FrameWriter, write_frames

BEADS = {
    "names": ["C", "N", "CA"],
    "types": [0, 1, 0],
    "type_names": ["C", "N"],
    "masses": [12.011, 14.007, 12.011],
    "temperature": 300.0,
}
POSITIONS = np.random.default_rng(1).normal(size=(4, 3, 3))
FORCES = 30 * np.random.default_rng(2).normal(size=(4, 3, 3))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "beads.h5md"


def test_angstrom_and_kilocalories_are_converted(path):
    positions, forces = POSITIONS.copy(), FORCES.copy()
    positions[2, 1] = [12.5, -3.0, 0.04]  # Å
    forces[2, 1] = [1.0, -25.0, 0.1]  # kcal/mol/Å: 1 is 4.184 kJ/mol in 0.1 nm
    write_frames(
        path, positions, forces, **BEADS, bonds=[(0, 1), (2, 1)], length_unit="angstrom",
        force_unit="kcal/mol/angstrom",
    )  # fmt: skip
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.positions[2][1], [1.25, -0.3, 0.004], rtol=1e-6)
        np.testing.assert_allclose(frames.forces[2][1], [41.84, -1046.0, 4.184], rtol=1e-6)
        assert len(frames) == 4
        assert frames.bonds.tolist() == [[0, 1], [1, 2]]
        assert frames.names == BEADS["names"] and frames.temperature == 300
        assert frames.boxes is None
        np.testing.assert_array_equal(frames.times, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("kJ/mol/nm", 1.0), ("kJ/mol/angstrom", 10.0), ("kcal/mol/nm", 4.184), ("kcal/mol/angstrom", 41.84)],
)
def test_every_unit_of_force_has_its_factor(path, unit, factor):
    write_frames(path, POSITIONS, FORCES, **BEADS, force_unit=unit)
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.positions[:], POSITIONS, rtol=1e-6)
        np.testing.assert_allclose(frames.forces[:], factor * FORCES, rtol=1e-6)


@pytest.mark.parametrize("boxes", [np.diag([20.0, 21.0, 22.0]), np.diag([20.0, 21.0, 22.0]) * np.ones((4, 1, 1))])
def test_boxes_and_times_come_along_and_forces_need_not(path, boxes):
    write_frames(path, POSITIONS, **BEADS, boxes=boxes, times=[0.0, 0.5, 1.0, 7.0], length_unit="angstrom")
    with Frames(path) as frames:
        np.testing.assert_allclose(frames.boxes[3], np.diag([2.0, 2.1, 2.2]))
        np.testing.assert_array_equal(frames.times, [0.0, 0.5, 1.0, 7.0])
        assert not frames.has_forces
    with FrameWriter(path, **BEADS, forces=False, resume=True) as writer:
        writer.append(POSITIONS[0], np.eye(3), 8.0)
        assert len(writer) == 5


def broken(values, frame):
    result = values.copy()
    result[frame, 1, 2] = np.nan
    return result


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forces": broken(FORCES, 3)}, "forces of 1 frames are not finite, the first is frame 3; leave those"),
        ({"positions": broken(POSITIONS, 0)}, "positions of 1 frames are not finite, the first is frame 0"),
        ({"forces": FORCES[:3]}, r"forces have the shape \[3, 3, 3\], they must be \[4, 3, 3\]"),
        ({"positions": POSITIONS[:, :2]}, r"positions have the shape \[4, 2, 3\], they must be \[4, 3, 3\]"),
        ({"positions": POSITIONS[:0]}, "positions must be of one frame or more"),
        ({"boxes": np.eye(3)[None]}, r"boxes have the shape \[1, 3, 3\], they must be \[4, 3, 3\]"),
        ({"times": [1.0, 2.0, 2.0, 3.0]}, "times must increase"),
        ({"length_unit": "pm"}, "unknown length_unit 'pm'; known are nm, angstrom"),
        ({"force_unit": "N"}, "unknown force_unit 'N'; known are kJ/mol/nm, kJ/mol/angstrom, kcal"),
        ({"types": [0, 1, 2]}, "types must be between 0 and 1"),
        ({"bonds": [(0, 3)]}, "bonds must join particles between 0 and 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_leave_nothing(path, changes, message):
    arguments = {"positions": POSITIONS, "forces": FORCES, **BEADS} | changes
    with pytest.raises(ValueError, match=message):
        write_frames(path, arguments.pop("positions"), arguments.pop("forces"), **arguments)
    assert list(path.parent.iterdir()) == []


def test_a_file_appears_complete_or_not_at_all(path, monkeypatch):
    original = FrameWriter.extend

    def interrupted(writer, *arguments):
        original(writer, *arguments)
        assert not path.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FrameWriter, "extend", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_frames(path, POSITIONS, FORCES, **BEADS)
    assert list(path.parent.iterdir()) == []
    write_frames(path, POSITIONS, FORCES, **BEADS)
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        write_frames(path, POSITIONS, FORCES, **BEADS)
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_frames(path.parent / "missing" / "beads.h5md", POSITIONS, FORCES, **BEADS)
