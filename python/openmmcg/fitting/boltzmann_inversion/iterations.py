"""What is kept of each iteration in the folder of an inversion."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmmcg.fitting.boltzmann_inversion.distributions import Coordinate, Counts
from openmmcg.state import replacing

FloatArray = NDArray[np.float64]


class Iterations:
    """The iterations in a folder.

    Energies and the counts of the frames sampled with them lie in one file, so that no counts are ever taken for those
    of other energies.

    Parameters
    ----------
    folder : Path
    coordinates : sequence of Coordinate
        Whose distributions they are about.
    """

    def __init__(self, folder: Path, coordinates: Sequence[Coordinate]) -> None:
        self._folder = folder
        self._shapes = [(len(coordinate.edges) - 1,) for coordinate in coordinates]

    def trajectory(self, iteration: int) -> Path:
        """Where the frames of an iteration go."""
        return self._folder / f"iteration_{iteration}.h5md"

    def write(self, number: int, energies: Sequence[FloatArray], counts: Counts | None = None) -> None:
        """Keep the energies ``[bins]`` of each coordinate, kJ/mol, and the counts, when that is done."""
        arrays: dict[str, Any] = {f"energies_{index}": values for index, values in enumerate(energies)}
        if counts is not None:
            arrays |= {field.name: getattr(counts, field.name) for field in fields(Counts)}
        with replacing(self._file(number)) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, **arrays)

    def read(self, number: int) -> tuple[list[FloatArray] | None, Counts | None]:
        """Energies and counts of an iteration, as far as it came.

        Of one whose file is damaged everything is removed, so that it will be done again; a warning says so.
        """
        file = self._file(number)
        if not file.exists():
            return None, None
        try:
            with np.load(file) as kept:
                return self._unpack({name: kept[name] for name in kept.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(f"{file} is damaged ({error}); this iteration is done again", stacklevel=2)
        for leftover in self._folder.glob(f"iteration_{number}.*"):
            leftover.unlink()
        return None, None

    def _unpack(self, arrays: dict[str, NDArray[Any]]) -> tuple[list[FloatArray], Counts | None]:
        energies = [arrays[f"energies_{index}"] for index in range(len(self._shapes))]
        if [values.shape for values in energies] != self._shapes:
            raise ValueError("it is of other bins")
        counts = Counts(**{field.name: arrays[field.name] for field in fields(Counts)}) if "frames" in arrays else None
        return energies, counts

    def _file(self, number: int) -> Path:
        return self._folder / f"iteration_{number}.npz"
