"""Training by Lightning: what is learned, in which steps, and what is kept of it."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError, Metric

from openmmcg.fitting.force_matching.checkpoints import MONITOR, KeepBest, Stage
from openmmcg.fitting.force_matching.data import Batch, EpochShuffle, ForceDataset
from openmmcg.fitting.force_matching.forces import network_forces
from openmmcg.potentials.networks import CGnet
from openmmcg.progress import tqdm
from openmmcg.state import claim


class ForceLearning(lightning.LightningModule):
    """A network that learns forces: mean squared difference per component, AdamW, one-cycle learning rate.

    The loss is equation 3 of Husic et al., J. Chem. Phys. 153, 194101 (2020), in units of the mean squared
    force. The learning rate rises over the first twentieth of the steps and then falls to zero along a cosine
    (Smith and Topin 2019), which averages the noise of the forces out.

    Parameters
    ----------
    network : Module
        Energies of beads, as `SchNet.forward`.
    learning_rate : float
        The highest.
    weight_decay : float
        Of AdamW.
    force_scale : float
        Root mean square of a force component, kJ/mol/nm.
    learning_rate_decay : float, optional
        The learning rate falls by this factor after each epoch instead.

    Raises
    ------
    FloatingPointError
        The training has diverged, in `on_train_epoch_end` or `on_validation_epoch_end`.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float,
        force_scale: float,
        learning_rate_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.force_scale = force_scale
        self.learning_rate_decay = learning_rate_decay
        # Where noise dominates, what is learned shows in the last digits.
        self.training_error = MeanSquaredError(squared=False).set_dtype(torch.float64)
        self.validation_error = MeanSquaredError(squared=False).set_dtype(torch.float64)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        forces = network_forces(self.network, batch)
        self.training_error.update(forces.detach().double(), batch.forces.double())
        self.log("training_force_rmse", self.training_error, on_step=False, on_epoch=True, batch_size=1)
        return nn.functional.mse_loss(forces, batch.forces) / self.force_scale**2

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        if isinstance(self.network, CGnet):
            self.network.project()

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validation_error.update(network_forces(self.network, batch).double(), batch.forces.double())
        self.log(MONITOR, self.validation_error, on_epoch=True, prog_bar=True, batch_size=1)

    def on_validation_epoch_end(self) -> None:
        self._check_finite("validation", self.validation_error)

    def on_train_epoch_end(self) -> None:
        self._check_finite("training", self.training_error)

    def _check_finite(self, frames: str, error: Metric) -> None:
        """Called before the epoch's checkpoint is written, so that the last one is of finite weights."""
        value = float(error.compute())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the training has diverged in epoch {self.current_epoch + 1}: the error of the forces on the "
                f"{frames} frames is {value}. Take a lower learning_rate than {self.learning_rate:g}, larger batches, "
                "or gradient clipping (trainer_options={'gradient_clip_val': 1.0}), and another directory"
            )

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedules = torch.optim.lr_scheduler
        if self.learning_rate_decay is not None:
            return {
                "optimizer": optimizer,
                "lr_scheduler": schedules.ExponentialLR(optimizer, self.learning_rate_decay),
            }
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = _OneCycle(optimizer, self.learning_rate, total_steps=steps, pct_start=0.05)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _OneCycle(torch.optim.lr_scheduler.OneCycleLR):
    """Goes on from where a checkpoint was, over as many steps as there are now to be."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({name: state_dict[name] - 1 for name in ("last_epoch", "_step_count")})
        self.step()  # which sets the rate that is due now, where the optimizer remembers that of another cycle


class TrainingProgress(TQDMProgressBar):
    """Lightning's bars, which are lines where there is no terminal."""

    def init_train_tqdm(self) -> Any:
        return tqdm(desc=self.train_description, disable=self.is_disabled, smoothing=0, bar_format=self.BAR_FORMAT)

    def init_validation_tqdm(self) -> Any:
        return tqdm(desc=self.validation_description, disable=self.is_disabled, leave=False, bar_format=self.BAR_FORMAT)


def make_loaders(
    training: ForceDataset, validation: ForceDataset, batch_size: int, seed: int
) -> tuple[DataLoader, DataLoader]:
    """Batches of frames to train on, in an order of their own each epoch, and to validate on."""
    options: dict[str, Any] = {"batch_size": batch_size, "collate_fn": _as_it_is}
    return (
        DataLoader(training, sampler=EpochShuffle(len(training), seed), **options),
        DataLoader(validation, **options),
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch


def make_trainer(
    directory: Path,
    *,
    stages: Sequence[Stage],
    tensorboard: bool,
    progress: bool,
    options: Mapping[str, Any],
) -> lightning.Trainer:
    """Lightning's Trainer, which keeps the best and the last epoch's weights in the directory.

    ``options`` go to the Trainer as they are; its callbacks are added to those made here.
    """
    callbacks: list[Callback] = [KeepBest(directory, stages)]
    if progress:
        callbacks.append(TrainingProgress())
    loggers: list[Logger] = [CSVLogger(directory, name="log")]
    if tensorboard:
        loggers.append(TensorBoardLogger(directory, name="tensorboard"))
    settings = {
        "max_epochs": stages[-1].epochs,
        "logger": loggers,
        "enable_progress_bar": progress,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        **options,
    }
    settings["callbacks"] = [*callbacks, *options.get("callbacks", [])]
    return lightning.Trainer(**settings)


def is_first_process() -> bool:
    """Whether this is the process that writes, of those that Lightning or a scheduler has started for one training."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def claim_once(
    folder: Path, what: str, inputs: Mapping[str, Any], remedies: Mapping[str, str] | None = None
) -> AbstractContextManager[object]:
    """Have a directory for a work, see `openmmcg.state.claim`, or for the process that started this one for it."""
    return claim(folder, what, inputs, remedies) if is_first_process() else nullcontext()


def keep_freed_memory() -> None:
    """Let the C library keep the memory that is freed after a step for the next one.

    By default glibc returns arrays of this size to the system and asks for them anew, page by page, which
    takes a third of a training step.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        trim_threshold, mmap_threshold = -1, -3  # the names of malloc.h
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**25)
