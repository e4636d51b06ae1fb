"""Files that earlier versions wrote give what they gave then."""

import json
from pathlib import Path

import numpy as np
import pytest
from continuity.save import contents, save

KEPT = sorted(path.parent for path in Path(__file__).parent.glob("continuity/*/contents.json"))


def assert_equal(found, expected):
    assert set(expected) <= set(found)
    for name, values in expected.items():
        for quantity, value in values.items():
            if np.asarray(value).dtype.kind == "f":
                np.testing.assert_allclose(found[name][quantity], value, 1e-6, 1e-6, err_msg=f"{quantity} of {name}")
            else:
                assert np.array_equal(found[name][quantity], value), f"{quantity} of {name}"


@pytest.mark.parametrize("directory", KEPT, ids=lambda path: path.name)
def test_files_of_earlier_versions_give_what_they_gave(directory):
    assert_equal(contents(directory), json.loads((directory / "contents.json").read_text()))


def test_files_of_the_same_kinds_are_written_today(tmp_path):
    save(tmp_path / "present")
    kept = json.loads((KEPT[-1] / "contents.json").read_text())
    assert set(contents(tmp_path / "present")) == set(kept)
