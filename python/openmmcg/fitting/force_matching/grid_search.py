"""Search for hyper-parameters on a small grid, by errors on frames held out."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openmmcg.fitting.force_matching.cross_validation import CrossValidationResult, cross_validate
from openmmcg.fitting.force_matching.data import Paths, open_frames
from openmmcg.fitting.force_matching.force_errors import KCAL_PER_MOL_PER_ANGSTROM, ForceErrors
from openmmcg.fitting.force_matching.force_matching import ForceMatching
from openmmcg.fitting.force_matching.result import ForceMatchingResult
from openmmcg.fitting.force_matching.training import claim_once, is_first_process
from openmmcg.progress import tqdm
from openmmcg.state import describe, replacing, write_json


@dataclass(frozen=True)
class GridPoint:
    """What one choice of hyper-parameters gives.

    Attributes
    ----------
    parameters : dict
        The choice.
    result : ForceMatchingResult or CrossValidationResult
        The latter with folds.
    """

    parameters: dict[str, Any]
    result: ForceMatchingResult | CrossValidationResult

    @property
    def errors(self) -> ForceErrors:
        """Mean squared errors on all frames that were held out."""
        errors = self.result.errors
        return errors if isinstance(errors, ForceErrors) else ForceErrors.combine(errors)

    def row(self) -> dict[str, Any]:
        """Parameters and scores, mean squares also in (kcal/mol/Å)²."""
        square = KCAL_PER_MOL_PER_ANGSTROM**2
        crossed = isinstance(self.result, CrossValidationResult)
        folds = self.result.folds if isinstance(self.result, CrossValidationResult) else [self.result]
        return {
            **self.parameters,
            "mean_squared_error": self.errors.potential,
            "gain": self.errors.gain,
            "mean_squared_error_kcal_per_mol_angstrom": self.errors.potential / square,
            "gain_kcal_per_mol_angstrom": self.errors.gain / square,
            "spread_kcal_per_mol_angstrom": self.result.spread / square if crossed else None,  # type: ignore[union-attr]
            "best_epochs": " ".join(str(fold.best_epoch) for fold in folds),
            "seconds": sum(fold.seconds for fold in folds),
        }


@dataclass(frozen=True)
class GridSearchResult:
    """What a search found.

    Attributes
    ----------
    points : list of GridPoint
        In the order of the grid, its last parameter varying fastest.
    """

    points: list[GridPoint]

    @property
    def best(self) -> GridPoint:
        """That of the lowest mean squared error on frames held out."""
        return min(self.points, key=lambda point: point.errors.potential)


def grid_search(
    make: Callable[..., ForceMatching],
    grid: Mapping[str, Sequence[Any]],
    paths: Paths,
    directory: str | os.PathLike[str],
    *,
    folds: int | None = None,
    split: str = "random",
    seed: int = 0,
    frames: slice = slice(None),
    progress: bool = True,
) -> GridSearchResult:
    """Train with every combination of hyper-parameters, and compare the errors on frames held out.

    Parameters
    ----------
    make : callable
        What makes a `ForceMatching`, with its network, of a choice: ``make(**parameters)``. Torch's random numbers are
        those of the seed each time, so that equal networks begin equal.
    grid : mapping
        The values of each parameter by its name; anything JSON can express.
    paths
        As of `ForceMatching.fit`.
    directory
        Where all trainings are kept, each in a folder of its own, and the table of scores, ``grid_search.csv`` and
        ``grid_search.json``, brought up to date after each. Interrupted, the search goes on where it was; a grid that
        has become larger is completed. It belongs to the frames and the folds that it was begun with, as each training
        does to all that it depends on.
    folds : int, optional
        Cross-validate each choice, see `cross_validate`; by default there is one split, that of the `ForceMatching`.
    split : {"random", "blocks"}
        Of the folds.
    seed : int
        Of torch, and of random folds.
    frames : slice
        Which frames to use, of each file.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        The grid is empty, or two choices have the same name; the directory holds a search with other inputs; and what
        `ForceMatching.fit` or `cross_validate` raise.
    BlockingIOError
        Another process searches there.

    Examples
    --------
    ::

        def make(channels, learning_rate):
            network = SchNet(types=3, channels=channels, cutoff=1.2)
            return ForceMatching(network, [HarmonicBonds.from_frames], learning_rate=learning_rate)

        found = grid_search(make, {"channels": [32, 64], "learning_rate": [1e-3, 3e-3]}, "frames.h5md", "search")
        found.best.parameters
    """
    folder = Path(directory).expanduser()
    choices = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if not grid or not choices:
        raise ValueError(f"a grid needs at least one parameter, and a value of each; got {dict(grid)}")
    places = [
        folder / ",".join(f"{name}={_in_a_name(value)}" for name, value in parameters.items()) for parameters in choices
    ]
    if len(set(places)) < len(places):
        raise ValueError(
            f"choices are kept in folders of their names, and two of the grid {dict(grid)} have the same; give values "
            "that differ in letters or digits"
        )
    with open_frames(paths) as sources:
        selected = [source.select(range(len(source))[frames]) for source in sources]
        content = describe({f"of file {number}": source for number, source in enumerate(selected, 1)})
    inputs = {"folds": folds, "split": None if folds is None else split, "seed": seed, "frames": content}
    points: list[GridPoint] = []
    with claim_once(folder, "a search", inputs):
        for place, parameters in zip(
            places, tqdm(choices, "hyper-parameters", unit="choice", disable=not progress), strict=True
        ):
            torch.manual_seed(seed)
            matching = make(**parameters)
            result: ForceMatchingResult | CrossValidationResult
            if folds is None:
                result = matching.fit(paths, place / "fit", frames=frames, progress=False)
            else:
                result = cross_validate(
                    matching, paths, place, folds=folds, split=split, seed=seed, frames=frames, progress=False
                )
            points.append(GridPoint(parameters, result))
            if is_first_process():
                _write_table(folder, [point.row() for point in points])
    return GridSearchResult(points)


def _in_a_name(value: Any) -> str:
    return "".join(character if character.isalnum() or character in ".+-" else "_" for character in str(value))


def _write_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_json(folder / "grid_search.json", {"choices": list(rows)})
    with replacing(folder / "grid_search.csv") as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
