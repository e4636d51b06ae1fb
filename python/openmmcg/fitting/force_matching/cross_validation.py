"""Cross-validation: what force matching gains on frames that it was not trained on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmmcg.fitting.force_matching.data import Paths, open_frames, split_folds
from openmmcg.fitting.force_matching.force_errors import KCAL_PER_MOL_PER_ANGSTROM, ForceErrors
from openmmcg.fitting.force_matching.force_matching import ForceMatching
from openmmcg.fitting.force_matching.result import ForceMatchingResult
from openmmcg.fitting.force_matching.training import claim_once, is_first_process
from openmmcg.potentials import CGPotential
from openmmcg.state import write_json

# Of mean squared forces: (kcal/mol/Å)² in (kJ/mol/nm)².
_SQUARE = KCAL_PER_MOL_PER_ANGSTROM**2


@dataclass(frozen=True)
class CrossValidationResult:
    """What cross-validation found.

    Attributes
    ----------
    folds : list of ForceMatchingResult
        Their errors are those on the frames held out.
    """

    folds: list[ForceMatchingResult]

    @property
    def potentials(self) -> list[CGPotential]:
        """The potential of each fold, trained on the frames of the others."""
        return [fold.potential for fold in self.folds]

    @cached_property
    def errors(self) -> list[ForceErrors]:
        """Mean squared force errors of each fold on its held-out frames."""
        return [fold.errors for fold in self.folds]

    @property
    def gains(self) -> NDArray[np.float64]:
        """By how much the network lowers the mean squared error of the priors, ``[folds]``, (kJ/mol/nm)²."""
        return np.array([errors.gain for errors in self.errors])

    @property
    def gain(self) -> float:
        """Mean of the gains, (kJ/mol/nm)²."""
        return float(self.gains.mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the gains over folds, (kJ/mol/nm)²."""
        return float(self.gains.std(ddof=1))

    @property
    def mean_squared_error(self) -> float:
        """Of the potentials on held-out frames, every component of every frame once, (kJ/mol/nm)²."""
        return ForceErrors.combine(self.errors).potential

    def summary(self) -> dict[str, object]:
        """All numbers, also in (kcal/mol/Å)², as JSON can express them."""
        rows: list[dict[str, object]] = [
            {
                "fold": number,
                "best_epoch": fold.best_epoch,
                "epochs": fold.epochs,
                "seconds": fold.seconds,
                **{name: value for name, value in errors._asdict().items()},
                "gain": errors.gain,
                **{
                    f"{name}_kcal_per_mol_angstrom": getattr(errors, name) / _SQUARE
                    for name in ("zero", "priors", "potential", "gain")
                },
            }
            for number, (fold, errors) in enumerate(zip(self.folds, self.errors, strict=True))
        ]
        return {
            "folds": rows,
            "mean_squared_error": self.mean_squared_error,
            "gain": self.gain,
            "spread": self.spread,
            "mean_squared_error_kcal_per_mol_angstrom": self.mean_squared_error / _SQUARE,
            "gain_kcal_per_mol_angstrom": self.gain / _SQUARE,
            "spread_kcal_per_mol_angstrom": self.spread / _SQUARE,
        }

    def table(self) -> str:
        """A table to read, mean squared errors in (kcal/mol/Å)²."""
        lines = ["fold  zero force   priors  potential    gain  best epoch"]
        for number, (fold, errors) in enumerate(zip(self.folds, self.errors, strict=True)):
            zero, priors, potential, gain = (
                value / _SQUARE for value in (errors.zero, errors.priors, errors.potential, errors.gain)
            )
            epochs = f"{fold.best_epoch} of {fold.epochs}"
            lines.append(f"{number:4d} {zero:11.2f} {priors:8.2f} {potential:10.2f} {gain:7.2f}  {epochs}")
        lines.append(f"gain over the priors {self.gain / _SQUARE:.2f} ± {self.spread / _SQUARE:.2f} (kcal/mol/Å)²")
        return "\n".join(lines)


def cross_validate(
    matching: ForceMatching,
    paths: Paths,
    directory: str | os.PathLike[str],
    *,
    folds: int = 5,
    split: str = "random",
    seed: int = 0,
    frames: slice = slice(None),
    progress: bool = True,
) -> CrossValidationResult:
    """Train as many times as there are folds, each time without the frames of one, on which the errors are measured.

    Every frame is held out once. What `matching` makes from frames, priors such as ``HarmonicBonds.from_frames`` and
    networks such as ``CGnet.from_frames``, it makes from the frames to train on only. The best epoch of each training
    is chosen, and the training ended, by the held-out frames, as Husic et al., J. Chem. Phys. 153, 194101 (2020)
    did; so the errors are slightly optimistic. The potentials make an ensemble, see `openmmcg.potentials.Ensemble`.

    Parameters
    ----------
    matching : ForceMatching
        How to train. Its own ``validation_fraction`` and ``split`` have no meaning here.
    paths : path, or a sequence of them
        Mapped frames with forces, see `ForceMatching.fit`. A fold has its part of every file.
    directory
        Where each fold's training is kept, and ``cross_validation.json``. Interrupted, it goes on where it was;
        finished folds are not trained again. As the directory of `ForceMatching.fit`, it belongs to what it was begun
        with: frames, folds, and all that each training depends on.
    folds : int
        How many.
    split : {"random", "blocks"}
        Whether held-out frames are drawn at random, or are stretches of the trajectory. Frames that follow each
        other in a trajectory resemble each other, and only blocks keep them together.
    seed : int
        Of random folds.
    frames : slice
        Which frames to use, of each file.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    FileNotFoundError
        There are no such frames.
    ValueError
        A fold would be without data, the directory holds a cross-validation with other inputs; and what
        `ForceMatching.fit` raises.
    BlockingIOError
        Another process works there.
    """
    folder = Path(directory).expanduser()
    results = []
    with open_frames(paths) as sources:
        selected = [source.select(range(len(source))[frames]) for source in sources]
        held_out = []
        for source in selected:
            try:
                held_out.append(split_folds(len(source), folds, split, seed))
            except ValueError as error:
                raise ValueError(f"{source.path}: {error}") from None
        record = {
            "frames": [source.path.name for source in sources],
            "selection": [[int(source.indices[0]), int(source.indices[-1]), len(source)] for source in selected],
            "folds": folds,
            "fold_split": split,
            "fold_seed": seed,
        }
        inputs = {
            "folds": folds,
            "fold_split": split,
            "fold_seed": seed,
            "frames": {f"of file {number}": source for number, source in enumerate(selected, 1)},
        }
        with claim_once(folder, "a cross-validation", inputs):
            for fold in range(folds):
                validation = [source.select(parts[fold]) for source, parts in zip(selected, held_out, strict=True)]
                training = [
                    source.select(np.setdiff1d(np.arange(len(source)), parts[fold]))
                    for source, parts in zip(selected, held_out, strict=True)
                ]
                place = folder / f"fold_{fold}"
                results.append(
                    matching.fit_frames(training, validation, place, record={**record, "fold": fold}, progress=progress)
                )
            result = CrossValidationResult(results)
            if is_first_process():
                write_json(folder / "cross_validation.json", result.summary())
    return result
