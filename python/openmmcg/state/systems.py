"""Descriptions of OpenMM Systems that outlive the formats of their XML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import openmm

from openmmcg.state.content import differences

_FEW = 4  # values of a column that are described by themselves


def describe_system(system: openmm.System) -> dict[str, Any]:
    """All that a System's XML says, potential's weights included, as columns that a later version can compare.

    Each Force, and the System without them, is a section. A column of a section is all values of one attribute, in
    their order: ``Bonds/Bond@k`` are the force constants of a HarmonicBondForce, ``Bonds/Bond#`` their number.

    Returns
    -------
    dict
        Of texts, numbers and digests. To be compared by `system_differences`.
    """
    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(system))
    release = root.get("openmmVersion", "")
    forces = root.find("Forces")
    sections = {"System": root}
    for index, force in enumerate([] if forces is None else forces):
        sections[f"force {index} ({force.get('type')})"] = force
    if forces is not None:
        root.remove(forces)
    return {
        name: {"format": f"{release} {section.get('version')}", "columns": _columns(section)}
        for name, section in sections.items()
    }


def is_system(description: Any) -> bool:
    """Whether a description is one of `describe_system`."""
    return isinstance(description, Mapping) and all(
        isinstance(section, Mapping) and set(section) == {"format", "columns"} for section in description.values()
    )


def system_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between the descriptions of two Systems, in words.

    What only one of them knows does not count where they were written by different versions of OpenMM or of a Force's
    format: a new version may have added it.
    """
    result = [
        f"{name} is only {'there' if name in there else 'here'}"
        for name in [*there, *here]
        if (name in there) != (name in here)
    ]
    for name in there:
        if name not in here:
            continue
        old, new = there[name]["columns"], here[name]["columns"]
        same_format = there[name]["format"] == here[name]["format"]
        for column in [*old, *(column for column in new if column not in old)]:
            if column in old and column in new:
                result += differences(old[column], new[column], f"{name} {column}")
            elif same_format or _counts_in_both(column, old, new):
                result += differences(old.get(column, "nothing"), new.get(column, "nothing"), f"{name} {column}")
    return result


def _counts_in_both(column: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a column counts entries of a list that both Systems have, empty in one of them."""
    parent = column.rpartition("/")[0] + "#"
    return column.endswith("#") and parent in old and parent in new


def _columns(section: ElementTree.Element) -> dict[str, Any]:
    values: dict[str, list[str]] = {}
    counts: dict[str, int] = {}

    def visit(element: ElementTree.Element, path: str) -> None:
        for attribute, value in element.attrib.items():
            if path or attribute not in ("openmmVersion", "version", "type"):
                values.setdefault(f"{path}@{attribute}", []).append(value)
        text = (element.text or "").strip()
        if text:
            values.setdefault(f"{path}:text", []).append(text)
        for child in element:
            below = f"{path}/{child.tag}" if path else child.tag
            counts[f"{below}#"] = counts.get(f"{below}#", 0) + 1
            visit(child, below)

    visit(section, "")
    return {**counts, **{column: _describe_column(entries) for column, entries in values.items()}}


def _describe_column(entries: list[str]) -> Any:
    if len(entries) <= _FEW and sum(map(len, entries)) < 200:
        return entries[0] if len(entries) == 1 else entries
    return {"values": len(entries), "sha256": hashlib.sha256("\0".join(entries).encode()).hexdigest()[:16]}
