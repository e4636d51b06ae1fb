"""Force matching: a network learns the mean forces on beads."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

from openmmcg.fitting.beads import bead_types
from openmmcg.fitting.data import ForceDataset, check_molecule, split_frames
from openmmcg.fitting.directory import claim_directory, write_json
from openmmcg.fitting.forces import network_forces
from openmmcg.fitting.training import ForceLearning, keep_freed_memory, make_loaders, make_trainer
from openmmcg.frames import Frames
from openmmcg.potentials import BeadType, CGPotential
from openmmcg.potentials.priors import Prior, to_xml

KCAL_PER_MOL_PER_ANGSTROM = 41.84  # in kJ/mol/nm


@dataclass(frozen=True)
class ForceMatchingResult:
    """What force matching found.

    Attributes
    ----------
    potential : CGPotential
        With the weights of the best epoch.
    validation_force_rmse : float
        Root mean square force difference per component on the validation frames, kJ/mol/nm.
    epochs, best_epoch : int
        How many epochs were done, and which was the best, counted from 1.
    seconds : float
        What training took, of the last session if it was interrupted.
    """

    potential: CGPotential
    validation_force_rmse: float
    epochs: int
    best_epoch: int
    seconds: float

    @property
    def validation_force_rmse_kcal_per_mol_angstrom(self) -> float:
        """The same in kcal/mol/Å."""
        return self.validation_force_rmse / KCAL_PER_MOL_PER_ANGSTROM


class ForceMatching:
    """Multiscale coarse-graining: the potential whose forces are nearest to those that act on the beads.

    Minimises equation 3 of Husic et al., J. Chem. Phys. 153, 194101 (2020). The forces of priors are
    subtracted beforehand, as OpenMM computes them, and the network learns the rest.

    Parameters
    ----------
    network : Module
        Energies of beads, such as `SchNet`. It is the starting point and is not changed.
    priors : sequence
        Such as `Repulsion`.
    learning_rate : float
        The highest of the one-cycle schedule.
    weight_decay : float
        Of AdamW.
    batch_size : int
        Frames per step.
    epochs : int
        How many times every training frame is used at most.
    patience : int
        Training ends early when the validation error has not improved for so many epochs.
    validation_fraction : float
        Fraction of the frames that are not trained on.
    split : {"last", "random"}
        Whether these are the last frames, or drawn at random.
    seed : int
        Of the split and the order of the frames. The network's initial weights come with it: call
        ``torch.manual_seed`` before making it.
    trainer_options : mapping, optional
        Passed to Lightning's ``Trainer``: ``accelerator``, ``devices``, ``strategy``, ``callbacks`` …

    Raises
    ------
    ValueError
        An argument is out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        priors: Sequence[Prior] = (),
        *,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        batch_size: int = 1,
        epochs: int = 60,
        patience: int = 30,
        validation_fraction: float = 0.1,
        split: str = "last",
        seed: int = 0,
        trainer_options: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in {
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "epochs": epochs,
            "patience": patience,
        }.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
        self.network = network
        self.priors = list(priors)
        self.trainer_options = dict(trainer_options or {})
        self.settings: dict[str, Any] = {
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "batch_size": batch_size,
            "epochs": epochs,
            "patience": patience,
            "validation_fraction": validation_fraction,
            "split": split,
            "seed": seed,
        }

    def fit(
        self,
        path: str | os.PathLike[str],
        directory: str | os.PathLike[str],
        *,
        frames: slice = slice(None),
        tensorboard: bool = False,
        progress: bool = True,
    ) -> ForceMatchingResult:
        """Train, or go on with an interrupted training, or return at once what a finished one found.

        Parameters
        ----------
        path
            Mapped frames with forces, see `openmmcg.frames.Frames`.
        directory
            Where the state of the training is kept and, in the end, the file ``potential.pt``. Beside them
            are the errors by epoch, ``log/version_*/metrics.csv``.
        frames : slice
            Which frames to use.
        tensorboard : bool
            Whether to log for TensorBoard as well.
        progress : bool
            Whether to show progress bars.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            The frames hold no forces, numbers that are not finite, or other beads than those of a network of one
            molecule; or the directory holds a training with other settings.
        """
        folder = Path(directory).expanduser()
        with Frames(path) as source:
            molecule: Any = getattr(self.network, "molecule", None)
            check_molecule(source, None if molecule is None else molecule.tolist())
            selection = range(len(source))[frames]
            training, validation = split_frames(
                len(selection), *(self.settings[key] for key in ("validation_fraction", "split", "seed"))
            )
            _ = source.forces  # the error about missing ones comes before anything is written
            self._claim(folder, source, selection)
            if (folder / "result.json").exists():
                return _read_result(folder)
            cutoff: Any = self.network.cutoff
            datasets = [
                ForceDataset(source, [selection[i] for i in part], cutoff, self.priors, progress)
                for part in (training, validation)
            ]
            kinds = bead_types(source)
            temperature = source.temperature
        return self._train(folder, datasets, kinds, temperature, tensorboard, progress)

    def _train(
        self,
        folder: Path,
        datasets: Sequence[ForceDataset],
        kinds: Sequence[BeadType],
        temperature: float,
        tensorboard: bool,
        progress: bool,
    ) -> ForceMatchingResult:
        keep_freed_memory()
        settings = self.settings
        training, validation = datasets
        learning = ForceLearning(
            copy.deepcopy(self.network).float(),
            settings["learning_rate"],
            settings["weight_decay"],
            training.force_scale(),
        )
        last = folder / "last.ckpt"
        begin = perf_counter()
        with _quiet():
            trainer, checkpoints = make_trainer(
                folder,
                epochs=settings["epochs"],
                patience=settings["patience"],
                tensorboard=tensorboard,
                progress=progress,
                options=self.trainer_options,
            )
            trainer.fit(
                learning,
                *make_loaders(training, validation, settings["batch_size"], settings["seed"]),
                ckpt_path=str(last) if last.exists() else None,
            )
        best = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
        learning.load_state_dict(best["state_dict"])
        result = {
            "validation_force_rmse": float(checkpoints.best_model_score or float("nan")),
            "epochs": trainer.current_epoch,
            "best_epoch": best["epoch"] + 1,
            "seconds": perf_counter() - begin,
        }
        if trainer.is_global_zero:
            provenance = {**json.loads((folder / "settings.json").read_text()), **result, **_versions()}
            potential = CGPotential(
                learning.network, kinds, priors=self.priors, temperature=temperature, provenance=provenance
            )
            potential.save(folder / "potential.pt")
            write_json(folder / "result.json", result)
        trainer.strategy.barrier()
        return _read_result(folder)

    def _claim(self, folder: Path, source: Frames, selection: range) -> None:
        """Write the settings into a directory, or check that those there are the same."""
        weights = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            weights.update(name.encode())
            weights.update(str(tuple(tensor.shape)).encode())
        settings = {
            **self.settings,
            "network": type(self.network).__name__,
            "network_structure": weights.hexdigest()[:16],
            "cutoff": self.network.cutoff,
            "priors": hashlib.sha256("".join(map(to_xml, self.priors)).encode()).hexdigest()[:16],
            "frames": source.path.name,
            "selection": [selection.start, selection.stop, selection.step],
        }
        claim_directory(folder, settings, "a training")


def force_rmse(
    potential: CGPotential,
    path: str | os.PathLike[str],
    *,
    frames: slice = slice(None),
    progress: bool = True,
) -> float:
    """Root mean square difference of a potential's forces, priors included, from those of frames.

    Parameters
    ----------
    potential : CGPotential
        Its network is evaluated as it is in the file, by torch.
    path
        Mapped frames with forces.
    frames : slice
        Which of them.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    float
        Per component, kJ/mol/nm.

    Raises
    ------
    FileNotFoundError
        There are no such frames.
    ValueError
        They hold no forces or other bead types, or numbers that are not finite.
    """
    with Frames(path) as source:
        known = [kind.name for kind in potential.bead_types]
        if source.type_names != known:
            raise ValueError(f"{source.path} has the bead types {source.type_names}, the potential {known}")
        check_molecule(source, potential.molecule)
        selection = range(len(source))[frames]
        if not selection:
            raise ValueError(f"no frames are selected of the {len(source)} in {source.path}")
        data = ForceDataset(source, selection, potential.cutoff, potential.priors, progress)
    squares = []
    for batch in (data[i] for i in range(len(data))):
        difference = network_forces(potential.network, batch, exact=True).detach() - batch.forces
        squares.append(float(difference.square().mean()))
    return float(np.sqrt(np.mean(squares)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Spare the user what Lightning says about itself, and warnings that do not apply here."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Frames are in memory already, so loading them by other processes would only cost.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists and is not empty.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
            yield
    finally:
        log.setLevel(level)


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "lightning": lightning.__version__, "openmm": version("openmm")}


def _read_result(folder: Path) -> ForceMatchingResult:
    return ForceMatchingResult(
        CGPotential.load(folder / "potential.pt"), **json.loads((folder / "result.json").read_text())
    )
