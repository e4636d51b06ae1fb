"""Force matching: a network learns the mean forces on beads."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import lightning
import numpy as np
import torch
from torch import nn

from openmmcg.fitting.beads import bead_types
from openmmcg.fitting.directory import claim_directory, write_json
from openmmcg.fitting.force_matching.data import ForceDataset, Paths, check_molecule, open_frames, split_frames
from openmmcg.fitting.force_matching.force_errors import KCAL_PER_MOL_PER_ANGSTROM, ForceErrors, measure_errors
from openmmcg.fitting.force_matching.training import ForceLearning, keep_freed_memory, make_loaders, make_trainer
from openmmcg.frames import Frames
from openmmcg.potentials import CGPotential
from openmmcg.potentials.priors import Prior, to_xml

# What is made from the frames to train on; it is given one Frames, or a list of those of several files.
PriorMaker: TypeAlias = "Callable[[Any], Prior]"
NetworkMaker: TypeAlias = "Callable[[Any], nn.Module]"


@dataclass(frozen=True)
class ForceMatchingResult:
    """What force matching found.

    Attributes
    ----------
    potential : CGPotential
        With the weights of the best epoch.
    validation_force_rmse : float
        Root mean square force difference per component on the validation frames, kJ/mol/nm. As the best epoch is
        chosen by it, it is slightly better than on frames that nobody has looked at.
    validation : dict of str to ForceErrors
        The same of each file, with those of the priors alone and of no forces, as mean squares.
    epochs, best_epoch : int
        How many epochs were done, and which was the best, counted from 1.
    seconds : float
        What training took, of the last session if it was interrupted.
    """

    potential: CGPotential
    validation_force_rmse: float
    validation: dict[str, ForceErrors]
    epochs: int
    best_epoch: int
    seconds: float

    @property
    def validation_force_rmse_kcal_per_mol_angstrom(self) -> float:
        """The same in kcal/mol/Å."""
        return self.validation_force_rmse / KCAL_PER_MOL_PER_ANGSTROM

    @property
    def errors(self) -> ForceErrors:
        """Mean squared errors on all validation frames."""
        return ForceErrors.combine(list(self.validation.values()))


class ForceMatching:
    """Multiscale coarse-graining: the potential whose forces are nearest to those that act on the beads.

    Minimises equation 3 of Husic et al., J. Chem. Phys. 153, 194101 (2020). The forces of priors are
    subtracted beforehand, as OpenMM computes them, and the network learns the rest.

    Parameters
    ----------
    network : Module or callable
        Energies of beads, such as `SchNet`. It is the starting point and is not changed. Or what makes it from the
        frames to train on, such as ``CGnet.from_frames``.
    priors : sequence
        Such as `Repulsion`, or what makes them from the frames to train on, such as ``HarmonicBonds.from_frames``.
        With several files, makers are given a list of Frames.
    learning_rate : float
        The highest of the one-cycle schedule.
    learning_rate_decay : float, optional
        With it, the learning rate begins with `learning_rate` and falls by this factor after every epoch; Husic et
        al. took 0.3. By default it rises and falls in one cycle over all epochs.
    weight_decay : float
        Of AdamW.
    batch_size : int
        Frames per step.
    epochs : int
        How many times every training frame is used at most.
    patience : int
        Training ends early when the validation error has not improved for so many epochs.
    validation_fraction : float
        Fraction of the frames of each file that are not trained on.
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
        network: nn.Module | NetworkMaker,
        priors: Sequence[Prior | PriorMaker] = (),
        *,
        learning_rate: float = 3e-3,
        learning_rate_decay: float | None = None,
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
        if learning_rate_decay is not None and not 0 < learning_rate_decay <= 1:
            raise ValueError(f"learning_rate_decay must be above 0 and at most 1, got {learning_rate_decay}")
        self.network = network
        self.priors = list(priors)
        self.trainer_options = dict(trainer_options or {})
        self.settings: dict[str, Any] = {
            "learning_rate": learning_rate,
            "learning_rate_decay": learning_rate_decay,
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
        paths: Paths,
        directory: str | os.PathLike[str],
        *,
        frames: slice = slice(None),
        tensorboard: bool = False,
        progress: bool = True,
    ) -> ForceMatchingResult:
        """Train, or go on with an interrupted training, or return at once what a finished one found.

        Parameters
        ----------
        paths : path, or a sequence of them
            Mapped frames with forces, see `openmmcg.frames.Frames`. Several files may be of different molecules: what
            they share are bead types, by name. The network's types are the names in the order in which the files
            bring them up.
        directory
            Where the state of the training is kept and, in the end, the file ``potential.pt``. Beside them
            are the errors by epoch, ``log/version_*/metrics.csv``.
        frames : slice
            Which frames to use, of each file.
        tensorboard : bool
            Whether to log for TensorBoard as well.
        progress : bool
            Whether to show progress bars.

        Raises
        ------
        FileNotFoundError
            There are no such frames.
        ValueError
            The frames hold no forces, numbers that are not finite, or other beads than those of the network; or the
            directory holds a training with other settings.
        """
        with open_frames(paths) as sources:
            selections = [range(len(source))[frames] for source in sources]
            parts: tuple[list[Frames], list[Frames]] = [], []
            for source, selection in zip(sources, selections, strict=True):
                split = split_frames(
                    len(selection), *(self.settings[key] for key in ("validation_fraction", "split", "seed"))
                )
                for part, chosen in zip(parts, split, strict=True):
                    part.append(source.select([selection[i] for i in chosen]))
            record = [
                {"frames": source.path.name, "selection": [selection.start, selection.stop, selection.step]}
                for source, selection in zip(sources, selections, strict=True)
            ]
            return self.fit_frames(
                *parts,
                directory,
                record=record[0] if len(record) == 1 else {"frames": record},
                tensorboard=tensorboard,
                progress=progress,
            )

    def fit_frames(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames],
        directory: str | os.PathLike[str],
        *,
        record: Mapping[str, Any],
        tensorboard: bool = False,
        progress: bool = True,
    ) -> ForceMatchingResult:
        """As `fit`, with a division into frames to train on and to validate on that is given.

        Parameters
        ----------
        training, validation : sequences of Frames
            Of each file one, in the same order, see `Frames.select`; of the same bead types.
        directory
            As of `fit`.
        record : mapping
            What tells these frames from others, anything JSON can express; a training is resumed only with the same.
        tensorboard, progress
            As of `fit`.

        Raises
        ------
        ValueError
            As of `fit`.
        """
        folder = Path(directory).expanduser()
        for source in training:
            _ = source.forces  # the error about missing ones comes before anything is written
        kinds, temperature = bead_types(training), _temperature(training)
        given: Any = training[0] if len(training) == 1 else list(training)
        # A module can be called too, but not with frames.
        network = self.network if isinstance(self.network, nn.Module) else self.network(given)
        priors = [prior(given) if callable(prior) else prior for prior in self.priors]
        number: Any = getattr(network, "types", len(kinds))
        if number != len(kinds):
            raise ValueError(
                f"the network knows {number} bead types, the frames have {len(kinds)}: {[kind.name for kind in kinds]}"
            )
        molecule: Any = getattr(network, "molecule", None)
        for source in training:
            check_molecule(source, None if molecule is None else molecule.tolist())
        self._claim(folder, network, priors, record)
        if (folder / "result.json").exists():
            return _read_result(folder)
        cutoff: Any = network.cutoff
        datasets = [
            [ForceDataset(source, range(len(source)), cutoff, priors, progress) for source in part]
            for part in (training, validation)
        ]
        by_file = {str(source.path): data for source, data in zip(validation, datasets[1], strict=True)}
        return self._train(
            folder,
            copy.deepcopy(network).float(),
            ForceDataset.concatenate(datasets[0]),
            by_file,
            lambda trained, provenance: CGPotential(
                trained, kinds, priors=priors, temperature=temperature, provenance=provenance
            ),
            tensorboard,
            progress,
        )

    def _train(
        self,
        folder: Path,
        network: nn.Module,
        training: ForceDataset,
        validation: Mapping[str, ForceDataset],
        make_potential: Callable[[nn.Module, Mapping[str, Any]], CGPotential],
        tensorboard: bool,
        progress: bool,
    ) -> ForceMatchingResult:
        keep_freed_memory()
        settings = self.settings
        learning = ForceLearning(
            network,
            settings["learning_rate"],
            settings["weight_decay"],
            float(np.sqrt(training.mean_square_delta)),
            settings["learning_rate_decay"],
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
                *make_loaders(
                    training,
                    ForceDataset.concatenate(list(validation.values())),
                    settings["batch_size"],
                    settings["seed"],
                ),
                ckpt_path=str(last) if last.exists() else None,
            )
        best = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
        learning.to("cpu").load_state_dict(best["state_dict"])
        result = {
            "validation_force_rmse": float(checkpoints.best_model_score or float("nan")),
            "validation": {name: measure_errors(network, data)._asdict() for name, data in validation.items()},
            "epochs": trainer.current_epoch,
            "best_epoch": best["epoch"] + 1,
            "seconds": perf_counter() - begin,
        }
        if trainer.is_global_zero:
            provenance = {**json.loads((folder / "settings.json").read_text()), **result, **_versions()}
            make_potential(network, provenance).save(folder / "potential.pt")
            write_json(folder / "result.json", result)
        trainer.strategy.barrier()
        return _read_result(folder)

    def _claim(self, folder: Path, network: nn.Module, priors: Sequence[Prior], record: Mapping[str, Any]) -> None:
        """Write the settings into a directory, or check that those there are the same."""
        weights = hashlib.sha256()
        for name, tensor in network.state_dict().items():
            weights.update(name.encode())
            weights.update(str(tuple(tensor.shape)).encode())
        settings = {
            **self.settings,
            "network": type(network).__name__,
            "network_structure": weights.hexdigest()[:16],
            "cutoff": network.cutoff,
            "priors": hashlib.sha256("".join(map(to_xml, priors)).encode()).hexdigest()[:16],
            **record,
        }
        claim_directory(folder, settings, "a training")


def _temperature(sources: Sequence[Frames]) -> float:
    temperatures = {str(source.path): source.temperature for source in sources}
    if len(set(temperatures.values())) > 1:
        raise ValueError(f"frames must be of one temperature; got, in K, {temperatures}")
    return sources[0].temperature


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
    result = json.loads((folder / "result.json").read_text())
    validation = {name: ForceErrors(**errors) for name, errors in result.pop("validation").items()}
    return ForceMatchingResult(CGPotential.load(folder / "potential.pt"), validation=validation, **result)
