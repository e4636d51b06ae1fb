"""Force matching: a network learns the mean forces on beads."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import lightning
import numpy as np
import openmm
import torch
from torch import nn

from openmmcg.fitting.beads import bead_types
from openmmcg.fitting.force_matching.checkpoints import (
    BEST,
    LAST,
    is_finished,
    load_checkpoint,
    next_stages,
    read_progress,
)
from openmmcg.fitting.force_matching.data import ForceDataset, Paths, check_molecule, open_frames, split_frames
from openmmcg.fitting.force_matching.force_errors import ForceErrors, measure_errors
from openmmcg.fitting.force_matching.forces import network_forces
from openmmcg.fitting.force_matching.result import (
    ForceMatchingResult,
    read_result,
    save_result,
    to_json,
    verdict,
    warn_of,
)
from openmmcg.fitting.force_matching.training import (
    ForceLearning,
    claim_once,
    is_first_process,
    keep_freed_memory,
    make_loaders,
    make_trainer,
)
from openmmcg.frames import Frames
from openmmcg.potentials import CGPotential
from openmmcg.potentials.contract import check_cutoff
from openmmcg.potentials.priors import Prior, from_xml, to_xml
from openmmcg.state import describe, describe_system, replacing

# What is made from the frames to train on; it is given one Frames, or a list of those of several files.
PriorMaker: TypeAlias = "Callable[[Any], Prior]"
NetworkMaker: TypeAlias = "Callable[[Any], nn.Module]"

# Options of Lightning's Trainer on which it depends what is learned.
_OPTIONS_THAT_MATTER = (
    "accumulate_grad_batches",
    "devices",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "limit_val_batches",
    "num_nodes",
    "overfit_batches",
    "precision",
    "use_distributed_sampler",
)


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
        Training ends early when the validation error has not improved for so many epochs. A training that is called
        again with more epochs or patience goes on, with the learning rate that one cycle over all epochs, as many as
        they are now, has at that place: it rises once more. So it is not the same as one that was to have so many
        from the start; `ForceMatchingResult.stages` keeps account of it.
    validation_fraction : float
        Fraction of the frames of each file that are not trained on.
    split : {"last", "random"}
        Whether these are the last frames, or drawn at random.
    seed : int
        Of the split and the order of the frames. The network's initial weights come with it, see the argument
        ``seed`` of `SchNet`; call ``torch.manual_seed`` before making a network of your own.
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
        if "max_epochs" in (trainer_options or {}):
            raise ValueError("trainer_options cannot say max_epochs; give epochs to ForceMatching")
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

        A directory belongs to one training: to the content of the frames used, the priors, the network with its
        settings and initial weights, and what was given to `ForceMatching`, except for `epochs` and `patience`, which
        may become larger.

        Parameters
        ----------
        paths : path, or a sequence of them
            Mapped frames with forces, see `openmmcg.frames.Frames`. Several files may be of different molecules: what
            they share are bead types, by name. The network's types are the names in the order in which the files
            bring them up.
        directory
            Where the state of the training is kept (``inputs.json``, ``initial.pt``, the network's weights before it,
            and ``best.ckpt`` and ``last.ckpt``) and, in the end, the file ``potential.pt``. Beside them are the errors
            by epoch, ``log/version_*/metrics.csv``.
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
            The frames hold no forces or only zeros, numbers that are not finite, other beads than those of the
            network, or beads too far apart for its cutoff; the network cannot be run by OpenMM, see `CGPotential`; or
            the directory holds a training with other inputs, or damaged files.
        BlockingIOError
            Another process trains there.
        FloatingPointError
            The training has diverged.

        Warns
        -----
        UserWarning
            The network has learned nothing; a single frame has most of the squared forces; or ``last.ckpt`` is
            damaged, so that the training goes on from ``best.ckpt``.
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
            Which frames these are, anything JSON can express: part of the potential's provenance.
        tensorboard, progress
            As of `fit`.

        Raises
        ------
        ValueError
            As of `fit`.
        """
        folder = Path(directory).expanduser()
        for part, sources in (("train", training), ("validate", validation)):
            for source in sources:
                if not len(source):
                    raise ValueError(f"there are no frames to {part} on of {source.path}")
                _ = source.forces  # the error about missing ones comes before anything is written
        kinds, temperature = bead_types(training), _temperature([*training, *validation])
        given: Any = training[0] if len(training) == 1 else list(training)
        # A module can be called too, but not with frames.
        network = self.network if isinstance(self.network, nn.Module) else self.network(given)
        priors = [prior(given) if callable(prior) else prior for prior in self.priors]
        number: Any = getattr(network, "types", len(kinds))
        if number != len(kinds):
            raise ValueError(
                f"the network knows {number} bead types, the frames have {len(kinds)}: {[kind.name for kind in kinds]}"
            )
        check_cutoff(network)
        molecule: Any = getattr(network, "molecule", None)
        for source in training:
            check_molecule(source, None if molecule is None else molecule.tolist())

        def make_potential(trained: nn.Module, provenance: Mapping[str, Any]) -> CGPotential:
            return CGPotential(trained, kinds, priors=priors, temperature=temperature, provenance=provenance)

        with self._claim(folder, network, priors, training, validation):
            found = read_result(folder)
            if found is not None:
                stage = next_stages(
                    found.stages, found.epochs, self.settings["epochs"], self.settings["patience"], folder
                )[-1]
                if is_finished(found.epochs, found.best_epoch, stage):
                    return warn_of(found)
            # Whatever a potential could be refused for is refused now, and not after the last epoch.
            make_potential(network, {})
            datasets = [
                [ForceDataset(source, range(len(source)), network.cutoff, priors, progress) for source in part]  # type: ignore[arg-type]
                for part in (training, validation)
            ]
            by_file = {str(source.path): data for source, data in zip(validation, datasets[1], strict=True)}
            joined = ForceDataset.concatenate(datasets[0])
            network = copy.deepcopy(network).float()
            _check_learning(network, joined, ", ".join(str(source.path) for source in training))
            if is_first_process() and not (folder / "initial.pt").exists():
                with replacing(folder / "initial.pt") as unfinished:
                    torch.save(network.state_dict(), unfinished)
            return warn_of(self._train(folder, network, joined, by_file, make_potential, record, tensorboard, progress))

    def _train(
        self,
        folder: Path,
        network: nn.Module,
        training: ForceDataset,
        validation: Mapping[str, ForceDataset],
        make_potential: Callable[[nn.Module, Mapping[str, Any]], CGPotential],
        record: Mapping[str, Any],
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
        done = read_progress(folder)
        if done.file is not None:
            load_checkpoint(folder / BEST)  # the error about a damaged one comes before more is trained
        stages = next_stages(done.stages, done.epochs, settings["epochs"], settings["patience"], folder)
        begin = perf_counter()
        if not is_finished(done.epochs, done.best_epoch, stages[-1]):
            with _quiet():
                trainer = make_trainer(
                    folder, stages=stages, tensorboard=tensorboard, progress=progress, options=self.trainer_options
                )
                loaders = make_loaders(
                    training,
                    ForceDataset.concatenate(list(validation.values())),
                    settings["batch_size"],
                    settings["seed"],
                )
                trainer.fit(learning, *loaders, ckpt_path=None if done.file is None else str(done.file))
                trainer.strategy.barrier()
            # Other processes may have trained, which leave nothing here but their files.
            done = read_progress(folder)
        if done.file is None:
            raise ValueError("not one epoch of the training was completed; see trainer_options")
        learning.to("cpu").load_state_dict(load_checkpoint(folder / BEST)["state_dict"])
        errors = {name: measure_errors(network, data) for name, data in validation.items()}
        if not np.isfinite([each.potential for each in errors.values()]).all():
            raise FloatingPointError(f"the best epoch of {folder} has forces that are not finite; take another network")
        found: dict[str, Any] = {
            "validation_force_rmse": done.best_error,
            "validation": errors,
            "epochs": done.epochs,
            "best_epoch": done.best_epoch,
            "seconds": perf_counter() - begin,
            "stages": done.stages,
        }
        provenance = {
            **settings,
            "network": type(network).__name__,
            "cutoff": network.cutoff,
            **record,
            **to_json(found),
            "verdict": verdict(ForceErrors.combine(list(errors.values()))),
            **_versions(),
        }
        result = ForceMatchingResult(make_potential(network, provenance), **found)
        if is_first_process():
            save_result(folder, result)
        return result

    def _claim(
        self,
        folder: Path,
        network: nn.Module,
        priors: Sequence[Prior],
        training: Sequence[Frames],
        validation: Sequence[Frames],
    ) -> AbstractContextManager[object]:
        """Have the directory for this training."""
        if not (folder / "inputs.json").exists() and any((folder / name).exists() for name in (LAST, "result.json")):
            raise ValueError(f"{folder} holds a training of an earlier version of this package; choose another place")
        described = describe(network)
        inputs = {
            **{name: value for name, value in self.settings.items() if name not in ("epochs", "patience")},
            "trainer_options": {
                name: value for name, value in self.trainer_options.items() if name in _OPTIONS_THAT_MATTER
            },
            "network": described["structure"],
            "initial weights": described["weights"],
            "priors": describe_system(_system_of(priors)),
            "training frames": {f"of file {number}": source for number, source in enumerate(training, 1)},
            "validation frames": {f"of file {number}": source for number, source in enumerate(validation, 1)},
        }
        remedy = (
            "If the network is meant to be the same, begin with the same weights: give it a seed, call "
            "torch.manual_seed before making it, or give it those it was begun with, "
            f"network.load_state_dict(torch.load({str(folder / 'initial.pt')!r}))"
        )
        return claim_once(folder, "a training", inputs, {"initial weights": remedy})


def _system_of(priors: Sequence[Prior]) -> openmm.System:
    """A System that says what the priors are."""
    system = openmm.System()
    for prior in priors:
        system.addForce(from_xml(to_xml(prior)))
    return system


def _check_learning(network: nn.Module, data: ForceDataset, frames: str) -> None:
    """Refuse a training from which nothing could be learned."""
    if not data.mean_square_force:
        raise ValueError(f"all forces in {frames} are zero: they were not written there; sample with forces")
    if not data.mean_square_delta:
        raise ValueError(f"the priors alone have exactly the forces of {frames}: there is nothing left to learn")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"the network {type(network).__name__} has no parameters that could be learned")
    with torch.no_grad():
        forces = network_forces(network, data[0])
    if not bool(torch.isfinite(forces).all()):
        raise ValueError(
            f"the network {type(network).__name__} has forces that are not finite in the first frame of {frames}, "
            "before it is trained; are there beads at the same place?"
        )


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
