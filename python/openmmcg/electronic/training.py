"""Training of DKL-ECG: folds of a cross-validation, in each of which a deep kernel is learned."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import gpytorch
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from openmmcg.electronic.calibration import Scores, recalibrate, scores
from openmmcg.electronic.data import (
    check_bead_names,
    check_training_data,
    check_variation,
    fold_slices,
    standardisation,
)
from openmmcg.electronic.deep_kernel import DeepKernel
from openmmcg.electronic.features import DistanceFeatures
from openmmcg.electronic.kernel_network import batch_divergence, draw_latent
from openmmcg.electronic.predictor import DKLPredictor, Member
from openmmcg.progress import tqdm
from openmmcg.state import lock

CHECKS = 40  # how often the held-out frames are looked at
WARM_UP = 0.2  # fraction of the steps in which the learning rate rises
SETTLING = 0.3  # fraction of the steps, the last ones, that are without noise
AVERAGING = 0.98  # of the parameters over the steps without noise, the weight of what was before a step
LARGEST_GRADIENT = 10.0

_DIVERGED = "the training diverged: lower learning_rate, and check the energies for outliers"


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation.

    Attributes
    ----------
    predictor : DKLPredictor
        Of one member, trained on the other frames.
    held_out : slice
        The frames that it was not trained on. They chose when to stop and recalibrated the predictions.
    scores : Scores
        On those frames, so a little flattering.
    steps : int
        After so many steps of the optimiser the fold was at its best.
    seconds : float
    """

    predictor: DKLPredictor
    held_out: slice
    scores: Scores
    steps: int
    seconds: float


@dataclass(frozen=True)
class DKLResult:
    """What training found.

    Attributes
    ----------
    predictor : DKLPredictor
        All folds as members.
    folds : list of Fold
    """

    predictor: DKLPredictor
    folds: list[Fold]


class DKLTraining:
    """Electronic coarse graining by deep kernel learning: learns p(E|R) from frames with energies.

    Maier and Jackson, *Bypassing backmapping: coarse-grained electronic property distributions using heteroscedastic
    Gaussian processes*, section II: distances → deep kernel with a stochastic latent space → approximate Gaussian
    process with learned inducing points, trained by the predictive log likelihood. Beyond the paper, the noise is a
    function of the place in latent space, the mean function is linear, weights decay, the last third of the training
    is without noise on the latent places (error bars learned with it are too wide for predictions, which are made
    without) and its parameters are averaged over some fifty steps, and what remains amiss with the error bars and the
    level of the means is mended on the frames held out.

    Parameters
    ----------
    features : {"distances", "squared distances"}
    pairs : sequence of pairs of int, optional
        Which distances; all by default.
    widths : sequence of int
        Of the network's layers before the latent space.
    latent : int
        Dimensions of the latent space.
    inducing_points : int
        At most as many as frames to train on.
    stochastic : bool
        Whether noise is added in the latent space during the first part of the training.
    latent_regularisation : float
        λ, the weight of the divergence of the latent distribution from the standard normal one, equation 16.
        The paper uses 1e-4 for pictures of a latent space of two dimensions.
    steps : int
        Of the optimiser at most: 1000 suit some 10 000 frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        The highest of the one-cycle schedule.
    weight_decay : float
        Of AdamW, for the network.
    patience : int
        The last part of a fold's training ends early when the held-out frames have not become more likely for so many
        of its 12 checks. In any case the fold is left as it was when they were most likely.
    seed : int
        Of the initial weights and the order of the frames.

    Raises
    ------
    ValueError
        An argument is out of range.
    """

    def __init__(
        self,
        features: str = "distances",
        *,
        pairs: Sequence[Sequence[int]] | None = None,
        widths: Sequence[int] = (80, 40, 20, 10),
        latent: int = 6,
        inducing_points: int = 100,
        stochastic: bool = True,
        latent_regularisation: float = 0.0,
        steps: int = 1000,
        batch_size: int = 256,
        learning_rate: float = 0.01,
        weight_decay: float = 0.1,
        patience: int = 6,
        seed: int = 0,
    ) -> None:
        at_least_one = {
            "latent": latent,
            "inducing_points": inducing_points,
            "steps": steps,
            "batch_size": batch_size,
            "patience": patience,
            "the least of widths": min(widths, default=1),
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        for name, number in {"weight_decay": weight_decay, "latent_regularisation": latent_regularisation}.items():
            if not number >= 0:
                raise ValueError(f"{name} must not be negative, got {number}")
        self.features = features
        self.pairs = pairs
        self.settings: dict[str, Any] = {
            "widths": list(widths),
            "latent": latent,
            "inducing_points": inducing_points,
            "stochastic": stochastic,
            "latent_regularisation": latent_regularisation,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "patience": patience,
            "seed": seed,
        }

    def fit(
        self,
        positions: ArrayLike,
        energies: ArrayLike,
        *,
        bead_names: Sequence[str] | None = None,
        folds: int = 5,
        directory: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> DKLResult:
        """Train one member for each fold, or only those that the directory does not hold yet.

        Parameters
        ----------
        positions : array [frames, beads, 3], nm
            Of molecules that are whole: see `openmmcg.geometry.make_whole`.
        energies : array [frames], eV
            Of an orbital, or any other scalar.
        bead_names : sequence of str, optional
            Of the map, recorded in the predictor so that another map is refused.
        folds : int
            The frames are cut into so many contiguous blocks (neighbours in time resemble each other), and each is
            held out once.
        directory : path, optional
            Where each fold's predictor is written when it is finished, ``fold_1.npz`` …, and in the end that of all,
            ``predictor.npz``. A training that was interrupted goes on after the last finished fold.
        progress : bool
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            Positions and energies that do not fit each other, numbers that are not finite, too few frames, nothing that
            varies, or a directory with a training of other settings or other frames.
        BlockingIOError
            Another process trains in the directory.
        RuntimeError
            The training diverged.

        Warns
        -----
        UserWarning
            For energies far from all others, and for distances that do not vary: those count for nothing.
        """
        if folds < 2:
            raise ValueError(f"a cross-validation has at least 2 folds, got {folds}")
        places, labels = check_training_data(positions, energies, folds)
        features = DistanceFeatures(places.shape[1], self.features, self.pairs)
        values = features(places)
        check_bead_names(bead_names, features.beads)
        check_variation(features, values, labels, fold_slices(len(labels), folds))
        settings = {**self.settings, "folds": folds, "features": features.describe(), "data": _digest(values, labels)}
        folder = None if directory is None else Path(directory).expanduser()
        found: list[Fold] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        mine = nullcontext() if folder is None else lock(folder / "lock", "a training of DKL-ECG")
        with mine, tqdm(total=folds * self.settings["steps"], unit="step", disable=not progress) as bar:
            for number, held_out in enumerate(fold_slices(len(labels), folds), start=1):
                bar.set_description(f"fold {number} of {folds}")
                path = None if folder is None else folder / f"fold_{number}.npz"
                if path is None or not path.exists():
                    fold = self._train_fold(features, values, labels, held_out, number, bead_names, settings, bar)
                    if path is not None:
                        fold.predictor.save(path)
                else:
                    fold = _read_fold(path, settings)
                bar.update(number * self.settings["steps"] - bar.n)
                found.append(fold)
        members = [fold.predictor.members[0] for fold in found]
        predictor = DKLPredictor(
            features,
            members,
            bead_names=bead_names,
            variance_factor=_variance_factor(members, values),
            provenance={"settings": settings, "folds": [fold.predictor.provenance["fold"] for fold in found]},
        )
        if folder is not None:
            predictor.save(folder / "predictor.npz")
        return DKLResult(predictor, found)

    def _train_fold(
        self,
        features: DistanceFeatures,
        values: NDArray[np.float64],
        labels: NDArray[np.float64],
        held_out: slice,
        number: int,
        bead_names: Sequence[str] | None,
        settings: dict[str, Any],
        bar: tqdm,
    ) -> Fold:
        begin = perf_counter()
        trained = np.ones(len(labels), bool)
        trained[held_out] = False
        feature_mean, feature_scale, energy = standardisation(features, values[trained], labels[trained])
        inputs = torch.tensor((values - feature_mean) / feature_scale, dtype=torch.float32)
        targets = torch.tensor((labels - energy[0]) / energy[1], dtype=torch.float32)
        mask = torch.from_numpy(trained)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * self.settings["seed"] + number)
            structure = {name: self.settings[name] for name in ("widths", "latent", "inducing_points")}
            kernel = DeepKernel(inputs[mask], **structure)
            steps = self._optimise(kernel, (inputs[mask], targets[mask]), (inputs[~mask], targets[~mask]), bar.update)
        member = kernel.export(feature_mean, feature_scale, energy)
        raw = member.predict(values[held_out])
        if not (np.isfinite(raw.mean).all() and np.isfinite(raw.standard_deviation).all()):
            raise RuntimeError(_DIVERGED)
        correction = recalibrate(
            (raw.mean - energy[0]) / energy[1],
            (raw.standard_deviation / energy[1]) ** 2,
            (labels[held_out] - energy[0]) / energy[1],
        )
        member = kernel.export(feature_mean, feature_scale, energy, correction.to_array())
        corrected = member.predict(values[held_out])
        found = scores(corrected.mean, corrected.standard_deviation, labels[held_out])
        record = {
            "held_out": [held_out.start, held_out.stop],
            "scores": found.to_dict(),
            "steps": steps,
            "seconds": perf_counter() - begin,
        }
        versions = {name: version(name) for name in ("torch", "gpytorch", "numpy")}
        provenance = {"settings": settings, "fold": record, "versions": versions}
        return _make_fold(DKLPredictor(features, [member], bead_names=bead_names, provenance=provenance))

    def _optimise(
        self,
        kernel: DeepKernel,
        training: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        advance: Callable[[int], Any],
    ) -> int:
        """Train in place up to the state under which the held-out frames are most likely; the steps that took."""
        settings = self.settings
        frames, steps = len(training[0]), settings["steps"]
        batch = min(settings["batch_size"], frames)
        objective = gpytorch.mlls.PredictiveLogLikelihood(kernel.noise, kernel.process, num_data=frames)
        groups = [
            {"params": kernel.network.parameters(), "weight_decay": settings["weight_decay"]},
            {"params": [*kernel.process.parameters(), *kernel.noise.parameters()], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, settings["learning_rate"], fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings["learning_rate"], total_steps=steps, pct_start=WARM_UP
        )
        averaged = AveragedModel(kernel, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))
        best, best_step, best_state = -math.inf, 0, kernel.copy_state()
        settled, settled_step = -math.inf, steps
        interval = max(1, steps // CHECKS)
        first_settling = steps - round(SETTLING * steps)
        order = torch.randperm(frames)
        for step in range(1, steps + 1):
            if step == first_settling:
                # Noise on the latent places, and the batches' own normalisation, keep the network from learning frames
                # by heart. But error bars learned with them are too wide for predictions, which are made without.
                kernel.network.eval()
            if len(order) < batch:
                order = torch.randperm(frames)
            chosen, order = order[:batch], order[batch:]
            optimizer.zero_grad()
            mean, log_variance = kernel.network(training[0][chosen])
            noisy = settings["stochastic"] and step < first_settling
            latent = draw_latent(mean, log_variance) if noisy else mean
            loss = -objective(kernel.process(latent), training[1][chosen], places=latent)
            if settings["latent_regularisation"]:
                drawn = latent if noisy else draw_latent(mean, log_variance)
                loss = loss + settings["latent_regularisation"] * batch_divergence(drawn, mean, log_variance)
            loss.backward()
            gradient = nn.utils.clip_grad_norm_(kernel.parameters(), LARGEST_GRADIENT)
            if torch.isfinite(gradient):
                optimizer.step()
            schedule.step()
            advance(1)
            if step >= first_settling:
                averaged.update_parameters(kernel)
            if step % interval == 0 or step == steps:
                judged = cast(DeepKernel, averaged.module) if step >= first_settling else kernel
                likelihood = judged.log_likelihood(*validation)
                if likelihood > best:
                    best, best_step, best_state = likelihood, step, judged.copy_state()
                # Before, while the learning rate is high, the likelihood goes up and down and says nothing of the end.
                if step >= first_settling and likelihood > settled:
                    settled, settled_step = likelihood, step
                if step - settled_step >= settings["patience"] * interval:
                    break
        if best == -math.inf:
            raise RuntimeError(_DIVERGED)
        kernel.load_state_dict(best_state)
        return best_step


def _variance_factor(members: Sequence[Member], values: NDArray[np.float64]) -> float:
    """What the variance of a mixture of members, each with true error bars, is multiplied by.

    At every frame the members' mean squared error is that of their mean plus the variance V of their means (Krogh and
    Vedelsby, Adv. Neural Inf. Process. Syst. 7, 231 (1995)). So if S is the mean of their variances, the error of the
    mean is S − V, while the variance of the mixture is S + V; here both are averages over the frames.
    """
    predictions = [member.predict(values) for member in members]
    spread = np.var([prediction.mean for prediction in predictions], axis=0).mean()
    own = np.mean([prediction.standard_deviation**2 for prediction in predictions])
    return float(max(own - spread, 0.5 * own) / (own + spread))


def _digest(values: NDArray[np.float64], labels: NDArray[np.float64]) -> str:
    return hashlib.sha256(values.tobytes() + labels.tobytes()).hexdigest()[:16]


def _make_fold(predictor: DKLPredictor) -> Fold:
    record = predictor.provenance["fold"]
    return Fold(predictor, slice(*record["held_out"]), Scores(**record["scores"]), record["steps"], record["seconds"])


def _read_fold(path: Path, settings: dict[str, Any]) -> Fold:
    """A fold that an interrupted training finished."""
    predictor = DKLPredictor.load(path)
    there = predictor.provenance.get("settings", {})
    different = [name for name, value in json.loads(json.dumps(settings)).items() if there.get(name) != value]
    if different:
        raise ValueError(
            f"'{path}' is of a training with other {', '.join(different)}; choose another directory, or remove it"
        )
    return _make_fold(predictor)
