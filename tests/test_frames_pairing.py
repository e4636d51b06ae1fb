"""H5MD gives positions, forces and boxes steps of their own: a frame is a step at which all of them are there."""

import warnings

import h5py
import numpy as np
import pytest

from openmmcg.frames import FrameArray, Frames, FrameWriter
from openmmcg.state import describe, differences

UNITS = {"position": "nm", "force": "kJ mol-1 nm-1", "box/edges": "nm"}
PARTICLES = 2


def values_of(name, steps):
    """Values that say of which step they are."""
    shape = (3,) if name == "box/edges" else (PARTICLES, 3)
    return np.asarray(steps, float)[(slice(None), *[None] * len(shape))] + np.ones(shape)


def write(path, group="all", *, boundary="periodic", mode="w", **elements):
    """Elements by name: the steps that their values are of, and the datasets step and time beside them."""
    with h5py.File(path, mode) as file:
        particles = file.create_group(f"particles/{group}")
        particles.create_group("box").attrs.update(boundary=[boundary] * 3, dimension=3)
        for name, (steps, clocks) in elements.items():
            name = name.replace("edges", "box/edges")
            element = particles.create_group(name)
            element["value"] = values_of(name, steps)
            element["value"].attrs["unit"] = UNITS[name]
            for clock, entries in clocks.items():
                entries, offset = entries if isinstance(entries, tuple) else (entries, None)
                element[clock] = entries
                if offset is not None:
                    element[clock].attrs["offset"] = offset
                if clock == "time":
                    element[clock].attrs["unit"] = "ps"


def assert_frames_are(frames, steps):
    """Every quantity is of these steps."""
    assert len(frames) == len(steps)
    np.testing.assert_array_equal(frames.positions[:], values_of("position", steps))
    if frames.has_forces:
        np.testing.assert_array_equal(frames.forces[:], values_of("force", steps))
    if frames.boxes is not None:
        np.testing.assert_array_equal(np.diagonal(frames.boxes, axis1=1, axis2=2), values_of("box/edges", steps))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "other.h5md"


EVERY = range(20)
SECOND = range(0, 20, 2)
THIRD = range(2, 20, 3)
TENTH = range(0, 20, 10)


def explicit(steps):
    return {"step": np.array(steps)}


@pytest.mark.parametrize(
    ("elements", "expected", "left_out"),
    [
        ({"force": (SECOND, explicit(SECOND))}, SECOND, "10 have no force"),
        ({"force": (SECOND, {"step": 2})}, SECOND, "10 have no force"),
        ({"force": (THIRD, {"step": (3, 2)})}, THIRD, "14 have no force"),
        ({"force": (EVERY[:-1], explicit(EVERY[:-1]))}, EVERY[:-1], "1 have no force"),
        ({"force": (EVERY[:-1], explicit(EVERY))}, EVERY[:-1], "1 have no force"),
        ({"edges": (TENTH, {"step": 10})}, TENTH, "18 have no box/edges"),
        (
            {"edges": (TENTH, explicit(TENTH)), "force": (SECOND, explicit(SECOND))},
            TENTH,
            "10 have no force, 18 have no box/edges",
        ),
    ],
)
@pytest.mark.parametrize("positions", [explicit(EVERY), {"step": 1}, {"step": (1, 0)}])
def test_frames_are_the_steps_at_which_all_is_there(path, elements, expected, left_out, positions):
    boundary = "periodic" if "edges" in elements else "none"
    write(path, boundary=boundary, position=(EVERY, positions), **elements)
    with pytest.warns(UserWarning, match=rf"other.h5md: of 20 positions, {left_out}.*; {20 - len(expected)} frames"):
        frames = Frames(path)
    with frames:
        assert_frames_are(frames, list(expected))
        assert frames.steps.tolist() == frames.indices.tolist() == list(expected)
        assert sum(frames.left_out.values()) == sum(int(part.split()[0]) for part in left_out.split(", "))
        chosen = frames.select([-1, 0])
        assert_frames_are(chosen, [expected[-1], expected[0]])
        assert chosen.steps.tolist() == [expected[-1], expected[0]]


def test_positions_may_be_fewer_than_forces(path):
    write(path, boundary="none", position=(THIRD, {"step": (3, 2)}), force=(EVERY, {"step": 1}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing that has positions is left out
        frames = Frames(path)
    with frames:
        assert_frames_are(frames, list(THIRD))


@pytest.mark.parametrize(
    ("positions", "forces"),
    [
        ({"time": 0.1 * np.arange(20)}, {"time": 0.2}),
        ({"time": np.float32(0.1) * np.arange(20, dtype=np.float32)}, {"time": np.cumsum([0, *[0.2] * 9])}),
        # Two runs that were joined: steps begin anew, times go on.
        (
            {"time": 0.1 * np.arange(20), "step": [*range(10), *range(10)]},
            {"time": 0.2 * np.arange(10), "step": [0, 2, 4, 6, 8] * 2},
        ),
        # One program counts steps, the other frames, so steps are not there for both.
        ({"time": 0.1, "step": np.arange(20)}, {"time": 0.2}),
    ],
)
def test_frames_are_paired_by_time_where_steps_do_not_tell(path, positions, forces):
    write(path, boundary="none", position=(EVERY, positions), force=(SECOND, forces))
    with pytest.warns(UserWarning, match="10 have no force"), Frames(path) as frames:
        assert_frames_are(frames, list(SECOND))
        np.testing.assert_allclose(frames.times, 0.2 * np.arange(10), atol=1e-6)


@pytest.mark.parametrize("steps", [[0, 1, 1, 2], [5, 3, 4, 0], [0, 0, 0, 0]])
def test_rows_belong_together_where_all_steps_are_the_same(path, steps):
    write(path, boundary="none", position=(steps, explicit(steps)), force=(steps, explicit(steps)))
    with Frames(path) as frames:
        assert_frames_are(frames, steps)


@pytest.mark.parametrize(
    ("positions", "forces", "message"),
    [
        (
            explicit([0, 1, 1, 2]),
            (range(3), explicit(range(3))),
            "steps differ and do not increase, times are not there",
        ),
        ({}, (range(4), {}), "steps are not there, times are not there. Write the dataset 'step'"),
        (explicit(range(4)), (range(4), {"time": 1.0}), "steps are not there, times are not there"),
        (explicit(range(4)), (range(10, 14), explicit(range(10, 14))), "4 have no force .* so no frame is complete"),
        ({"step": 1, "time": 0.1}, (range(4), {"step": 1, "time": 0.2}), "same step in row 1 .* of 0.1 and 0.2 ps"),
    ],
)
def test_what_cannot_be_paired_is_refused(path, positions, forces, message):
    write(path, boundary="none", position=(range(4), positions), force=forces)
    with pytest.raises(ValueError, match=f"other.h5md: .*{message}"):
        Frames(path)


def test_of_several_groups_of_particles_one_is_chosen(path):
    write(path, "solute", boundary="none", position=(range(3), {"step": 1}))
    write(path, "solvent", boundary="none", position=(range(10, 15), {"step": 1}), mode="a")
    for wrong in (None, "ions"):
        with pytest.raises(ValueError, match="groups of particles solute, solvent"):
            Frames(path, group=wrong)
    with Frames(path, group="solvent") as frames:
        assert_frames_are(frames, range(10, 15))


def change(name, values, **attributes):
    def apply(particles):
        unit = particles[name].attrs.get("unit") if name in particles else None
        if name in particles:
            del particles[name]
        particles[name] = values
        particles[name].attrs.update({"unit": unit} if unit is not None else {}, **attributes)

    return apply


BAD = values_of("position", range(4))
BAD[2, 1, 0] = np.nan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("position/value", BAD), "frame 2 of .*other.h5md has positions that are not finite numbers; leave"),
        (change("force/value", BAD), "frame 2 of .*other.h5md has forces that are not finite"),
        (change("force/value", np.ones((4, 3, 3))), r"force/value is float64 of shape \(4, 3, 3\); .*\[frames, 2, 3\]"),
        (change("position/value", np.ones((4, 2, 2))), r"position/value is float64 of shape \(4, 2, 2\)"),
        (change("position/value", np.ones((4, 2, 3), int)), "position/value is int64 of shape .* must be floats"),
        (change("position/value", np.ones((4, 2, 3)), unit="a0"), "the unit 'a0'; known are nm, .* attribute 'unit'"),
        (change("position/step", np.array(["a"] * 4, "S1")), "position/step is .* must be numbers"),
        (change("box/edges/value", np.zeros((4, 3))), "box 0 has edges that are not positive"),
        (change("box/edges/value", -np.ones((4, 3, 3))), "box 0 has edges that are not positive"),
        (change("box/edges/value", np.eye(3) + 2 * np.tri(3, k=-1) * np.ones((4, 1, 1))), "box 0 .* reduced form"),
        (change("box/edges/value", np.eye(3) + 0.1 * np.tri(3).T * np.ones((4, 1, 1))), "box 0 .* reduced form"),
        (change("box/edges/value", np.ones((4, 2))), r"entries of shape \(2,\), not \[3\] or \[3, 3\]"),
        (change("mass", [1.0, -1.0], unit="u"), "masses must be finite and not negative"),
        (change("mass", [1.0, 1.0], unit="kg"), "mass has the unit 'kg'"),
    ],
)
def test_a_file_with_numbers_that_cannot_be_is_refused_by_name(path, changed, message):
    write(path, position=(range(4), {"step": 1}), force=(range(4), {"step": 1}), edges=(range(4), {"step": 1}))
    with h5py.File(path, "a") as file:
        changed(file["particles/all"])
    with pytest.raises(ValueError, match=message) as error, Frames(path) as frames:
        frames.boxes, frames.positions[:], frames.forces[1:], frames.masses  # noqa: B018
    assert "other.h5md" in str(error.value)


def test_the_box_of_what_is_not_periodic_is_none(path):
    write(path, boundary="none", position=(range(4), {"step": 1}), edges=(range(2), {"step": 5}))
    with Frames(path) as frames:
        assert_frames_are(frames, range(4))
        assert frames.boxes is None


BEADS = {"names": ["A", "B"], "types": [0, 1], "type_names": ["A", "B"], "masses": [1.0, 2.0], "temperature": 300.0}


def write_own(path, frames=6, scale=1.0, **changes):
    with FrameWriter(path, **{**BEADS, **changes}) as writer:
        for frame in range(frames):
            writer.append(np.full((2, 3), 1.0 + frame), 3 * np.eye(3), frame + 1.0, np.full((2, 3), scale * frame))


def test_our_own_files_are_read_in_slices(path, monkeypatch):
    write_own(path, frames=60)
    with Frames(path) as frames:
        read, original = [], FrameArray._read
        monkeypatch.setattr(FrameArray, "_read", lambda array, rows: read.append(rows) or original(array, rows))
        for part in (slice(None), slice(3, 50), slice(3, 50, 5), np.arange(4, 9)):
            frames.positions[part], frames.forces[part]  # noqa: B018
        assert read == [
            rows for rows in (slice(0, 60, 1), slice(3, 50, 1), slice(3, 49, 5), slice(4, 9, 1)) for _ in "xf"
        ]
        assert frames.left_out == {"force": 0, "box/edges": 0}


def test_frames_are_described_by_what_they_are_and_not_by_where_they_lie(tmp_path):
    def description(name, select=slice(None), **options):
        path = tmp_path / name
        if not path.exists():
            write_own(path, **options)
        with Frames(path) as frames:
            return describe(frames.select(np.arange(len(frames))[select]))

    first = description("first.h5md")
    assert differences(first, description("second.h5md")) == []
    assert differences(first, description("longer.h5md", slice(0, 6), frames=9)) == []
    for changed, what in [
        (description("scaled.h5md", scale=5.0), "forces"),
        (description("renamed.h5md", type_names=["B", "A"]), "type_names"),
        (description("heavier.h5md", masses=[1.0, 3.0]), "masses"),
        (description("hotter.h5md", temperature=310.0), "temperature"),
        (description("bonded.h5md", bonds=[(0, 1)]), "bonds"),
        (description("first.h5md", slice(None, None, -1)), "positions"),
    ]:
        assert any(difference.startswith(what) for difference in differences(first, changed))


@pytest.mark.parametrize("kept", np.linspace(0.02, 0.98, 13))
def test_a_truncated_file_is_refused_by_name(path, kept):
    write_own(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(OSError, match=r"other\.h5md cannot be opened: it is truncated.* or remove it and make it anew"):
        Frames(path)


def test_damage_is_found_where_it_is_read_and_named(path):
    """One byte is changed in each of the headers that HDF5 keeps a checksum of."""
    write_own(path)
    content = path.read_bytes()
    headers = [index for index in range(len(content)) if content[index : index + 4] == b"OHDR"]
    found = 0
    for header in headers:
        path.write_bytes(content[: header + 20] + bytes([content[header + 20] ^ 255]) + content[header + 21 :])
        try:
            with Frames(path) as frames:
                frames.boxes, frames.times, frames.header, frames.positions[:], frames.forces[:]  # noqa: B018
        except (OSError, ValueError) as error:
            assert "other.h5md" in str(error)
            found += 1
    assert found > 15  # those of author, creator and the like are not asked for
