"""The directory of a fit, which belongs to the settings it was begun with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def claim_directory(folder: Path, settings: Mapping[str, Any], what: str) -> None:
    """Write the settings into a directory, or check that those there are the same.

    Parameters
    ----------
    folder
        Made where it does not exist.
    settings
        Anything JSON can express.
    what
        What error messages call the fit.

    Raises
    ------
    ValueError
        The directory holds a fit with other settings.
    """
    file = folder / "settings.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)
        return
    found = json.loads(file.read_text())
    different = [key for key in settings if found.get(key) != settings[key]]
    if different:
        changes = ", ".join(f"{key} {found.get(key)} there, {settings[key]} here" for key in different)
        raise ValueError(
            f"{folder} holds {what} with other settings ({changes}); choose another directory, or remove it"
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that appears complete or not at all."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(json.dumps(content, indent=1))
    unfinished.replace(path)
