"""What is kept of a training while it goes on: the weights of the best epoch, and all of the last one."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from openmmcg.state import replacing
from openmmcg.state.claim import refuse

MONITOR = "validation_force_rmse"
LAST, BEST = "last.ckpt", "best.ckpt"


class Stage(NamedTuple):
    """A stretch of a training: from which epoch on it was to have how many epochs, and how much patience."""

    first_epoch: int
    epochs: int
    patience: int


class KeepBest(Checkpoint):
    """Keeps the best and the last epoch, as whole files at every moment, and ends a training without progress.

    Parameters
    ----------
    folder
        Of ``best.ckpt`` and ``last.ckpt``.
    stages
        Those of the training, the one to be done now last.
    """

    def __init__(self, folder: Path, stages: Sequence[Stage]) -> None:
        self.folder, self.stages = folder, list(stages)
        self.epochs, self.best_epoch, self.best_error = 0, 0, float("inf")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # There is none in epochs without validation, see Lightning's check_val_every_n_epoch.
        error = float(trainer.callback_metrics.get(MONITOR, float("inf")))
        self.epochs = trainer.current_epoch + 1
        if error < self.best_error:
            self.best_epoch, self.best_error = self.epochs, error
            self._save(trainer, self.folder / BEST)
        self._save(trainer, self.folder / LAST)
        if self.epochs - self.best_epoch >= self.stages[-1].patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "best_error": self.best_error,
            "stages": [list(stage) for stage in self.stages],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The stages are those that it was made with: there may be one more.
        self.epochs, self.best_epoch, self.best_error = (
            state_dict[name] for name in ("epochs", "best_epoch", "best_error")
        )

    @staticmethod
    def _save(trainer: lightning.Trainer, file: Path) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(file)  # what the other processes do for the first, which writes
            return
        with replacing(file) as unfinished:
            trainer.save_checkpoint(unfinished)


class Progress(NamedTuple):
    """How far a training has come.

    Attributes
    ----------
    file : Path or None
        The checkpoint to go on from; None where there is none yet.
    epochs, best_epoch : int
        How many are done, and the best, counted from 1.
    best_error : float
        Root mean square force difference of the best, kJ/mol/nm.
    stages : list of Stage
        What it was to become.
    """

    file: Path | None
    epochs: int
    best_epoch: int
    best_error: float
    stages: list[Stage]


def read_progress(folder: Path) -> Progress:
    """The last complete checkpoint of a training.

    Raises
    ------
    ValueError
        There are checkpoints, but all are damaged.
    """
    damaged: list[str] = []
    for file in (folder / LAST, folder / BEST):
        if not file.exists():
            continue
        try:
            state = load_checkpoint(file)["callbacks"][KeepBest.__qualname__]
        except ValueError:
            damaged.append(f"{file} is damaged")
            continue
        if damaged:
            warnings.warn(f"{damaged[0]}; the training goes on from {file}, epoch {state['epochs']}", stacklevel=2)
        return Progress(file, **{**state, "stages": [Stage(*stage) for stage in state["stages"]]})
    if damaged:
        raise ValueError(f"{' and '.join(damaged)}; bring back a copy of one, or remove {folder} to begin anew")
    return Progress(None, 0, 0, float("inf"), [])


def load_checkpoint(file: Path) -> Mapping[str, Any]:
    """What Lightning keeps of a training.

    Raises
    ------
    ValueError
        It is damaged; the error names the file.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{file} is damaged, or no checkpoint ({reason}); bring back a copy, or remove {file.parent} to begin anew"
        ) from error


def next_stages(stages: Sequence[Stage], epochs_done: int, epochs: int, patience: int, folder: Path) -> list[Stage]:
    """The stages of a training that is to have so many epochs and so much patience from now on.

    Raises
    ------
    ValueError
        It was to have more before.
    """
    if not stages:
        return [Stage(0, epochs, patience)]
    before = stages[-1]
    fewer = [
        f"{name} {old} there, {new} here"
        for name, old, new in (("epochs", before.epochs, epochs), ("patience", before.patience, patience))
        if new < old
    ]
    refuse(fewer, folder, "a training", ["Only more of either goes on"])
    return [*stages] if (epochs, patience) == before[1:] else [*stages, Stage(epochs_done, epochs, patience)]


def is_finished(epochs_done: int, best_epoch: int, stage: Stage) -> bool:
    """Whether a training has all its epochs, or has been without progress for as long as it may."""
    return epochs_done >= stage.epochs or (epochs_done > 0 and epochs_done - best_epoch >= stage.patience)
