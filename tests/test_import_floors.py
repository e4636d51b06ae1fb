"""The rooms of the package stand on floors: each imports only what is on a floor below."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "python" / "openmmcg"
FLOORS = [
    {"optional", "progress"},
    {"constants", "model_file", "_openmmcg", "state", "frames", "geometry"},
    {"forces", "analysis", "mapping", "electronic"},
    {"simulation"},
    {"potentials", "reference"},
    {"fitting", "external"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# What every room may import.
GROUND = {"optional", "progress", "constants", "model_file", "state", "_openmmcg", "__version__"}


def imported_rooms(file):
    """The rooms that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "openmmcg":
                yield parts[1]


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_floor():
    entries = {room_of(file) for file in PACKAGE.rglob("*.py")} - {"__init__"}
    assert entries == FLOOR.keys() - {"_openmmcg"}


@pytest.mark.parametrize("room", sorted(FLOOR.keys() - {"_openmmcg"}))
def test_a_room_imports_only_what_stands_below_it(room):
    files = [file for file in PACKAGE.rglob("*.py") if room_of(file) == room]
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {other}"
        for file in files
        for other in set(imported_rooms(file)) - {room} - GROUND
        if FLOOR[other] >= FLOOR[room]
    ]
    assert not wrong, wrong
