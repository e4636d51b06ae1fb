"""Elements of H5MD, each with steps and times of its own, and which of their rows belong together.

H5MD 1.1 stores a quantity that changes with time as ``value``, ``step`` and, if wanted, ``time``. The latter two are
either one entry for each row, or a scalar: the distance between rows, from the attribute ``offset`` on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from openmmcg.frames.units import factor


class Element:
    """A quantity of every frame.

    Parameters
    ----------
    path
        Of the file.
    particles
        The group of the particles.
    name
        Of the element in it, ``"box/edges"`` for example.
    rows : int, optional
        How many of the file's rows are complete, where it says so.

    Attributes
    ----------
    value : h5py.Dataset [rows, ...]
    rows : int
        Rows that have a value, a step and a time.

    Raises
    ------
    ValueError
        The group is no such element.
    """

    def __init__(self, path: Path, particles: h5py.Group, name: str, rows: int | None = None) -> None:
        group = particles[name]
        self._path, self.name = path, name
        self._clocks = {clock: _dataset(group, clock) for clock in ("step", "time")}
        value = _dataset(group, "value")
        if value is None or not value.shape:
            raise ValueError(f"{path}: {group.name} has no dataset value with a row for each frame")
        self.value: Any = value
        for clock, dataset in self._clocks.items():
            if dataset is not None and (dataset.ndim > 1 or dataset.dtype.kind not in "iuf"):
                raise ValueError(
                    f"{path}: {group.name}/{clock} is {dataset.dtype} of shape {dataset.shape}; it must be numbers, "
                    "one for each row or one for all"
                )
        explicit = [dataset for dataset in self._clocks.values() if dataset is not None and dataset.ndim]
        self.rows = min(len(dataset) for dataset in [self.value, *explicit])
        if rows is not None:
            if rows > self.rows:
                raise OSError(
                    f"{path} is damaged: it should hold {rows} frames and has {self.rows} of {name}; bring back a copy"
                )
            self.rows = rows

    def clock(self, name: str) -> NDArray[Any] | None:
        """``step`` or ``time`` (ps) of all rows, ``[rows]``; None where the file does not say."""
        dataset = self._clocks[name]
        if dataset is None:
            return None
        if dataset.ndim:
            values = dataset[: self.rows]
        else:
            values = dataset.attrs.get("offset", 0) + dataset[()] * np.arange(self.rows)
        if name == "time":
            return values.astype(float) * factor(self._path, dataset, "time")
        return values.astype(np.int64 if values.dtype.kind in "iu" else float)

    def rows_with(self, other: Element) -> NDArray[np.int64]:
        """For each row of this element the row of another one at the same step, −1 where there is none.

        It is the same time where steps are absent or do not increase, as in files that were joined.

        Raises
        ------
        ValueError
            Neither tells which rows belong together, or they contradict each other.
        """
        shared = {clock: self._clocks[clock] == other._clocks[clock] for clock in self._clocks if self._clocks[clock]}
        if shared and all(shared.values()):  # the same datasets, linked
            return _limited(np.arange(self.rows), other.rows)
        why = []
        for clock in ("step", "time"):
            here, there = self.clock(clock), other.clock(clock)
            if here is None or there is None:
                why.append(f"{clock}s are not there")
                continue
            tolerance = 0.0 if clock == "step" else _tolerance(here, there)
            if shared[clock] or (len(here) == len(there) and (abs(here - there) <= tolerance).all()):
                rows = _limited(np.arange(self.rows), other.rows)
            elif (np.diff(here) > 0).all() and (np.diff(there) > 0).all():
                rows = _nearest(here, there, tolerance)
            else:
                why.append(f"{clock}s differ and do not increase")
                continue
            if clock == "step":
                self._check_times(other, rows)
            return rows
        raise ValueError(
            f"{self._path}: it is not said which rows of {self.name} and {other.name} belong together: "
            f"{', '.join(why)}. Write the dataset 'step' of both"
        )

    def _check_times(self, other: Element, rows: NDArray[np.int64]) -> None:
        here, there = self.clock("time"), other.clock("time")
        if here is None or there is None:
            return
        paired = rows >= 0
        wrong = np.flatnonzero(abs(here[paired] - there[rows[paired]]) > _tolerance(here, there))
        if len(wrong):
            row = np.flatnonzero(paired)[wrong[0]]
            raise ValueError(
                f"{self._path}: {self.name} and {other.name} have the same step in row {row} of {self.name}, but are "
                f"of {here[row]:.6g} and {there[rows[row]]:.6g} ps; write steps that agree with the times"
            )


def _dataset(group: Any, name: str) -> h5py.Dataset | None:
    found = group.get(name) if isinstance(group, h5py.Group) else None
    return found if isinstance(found, h5py.Dataset) else None


def _limited(rows: NDArray[np.int64], end: int) -> NDArray[np.int64]:
    return np.where(rows < end, rows, -1)


def _tolerance(here: NDArray[Any], there: NDArray[Any]) -> float:
    """How far times of the same frame may be apart: they are rounded, or added up from a time step."""
    gaps = abs(np.concatenate([np.diff(here), np.diff(there)]))
    return 0.1 * float(gaps[gaps > 0].min()) if gaps.any() else 1e-6 * float(abs(here).max(initial=0.0))


def _nearest(here: NDArray[Any], there: NDArray[Any], tolerance: float) -> NDArray[np.int64]:
    if not len(there):
        return np.full(len(here), -1)
    right = np.searchsorted(there, here).clip(0, len(there) - 1)
    left = (right - 1).clip(0)
    nearest = np.where(abs(there[left] - here) < abs(there[right] - here), left, right)
    return np.where(abs(there[nearest] - here) <= tolerance, nearest, -1)
