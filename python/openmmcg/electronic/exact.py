"""Exact Gaussian processes, for small data and to compare with: one noise for all frames."""

from __future__ import annotations

from collections.abc import Sequence

import gpytorch
import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from openmmcg.electronic.calibration import Recalibration
from openmmcg.electronic.data import check_bead_names, check_training_data, check_variation, standardisation
from openmmcg.electronic.features import DistanceFeatures
from openmmcg.electronic.gaussian_process import ExactProcess
from openmmcg.electronic.predictor import DenseLayers, DKLPredictor, Member
from openmmcg.progress import tqdm


class ExactProcessTraining:
    """Exact Gaussian process on the features themselves, equations 2 to 5 of Maier and Jackson.

    Lengths, variance and noise maximise the marginal likelihood of some of the frames; the process is conditioned on
    all. Time grows with the third power of the frames and memory with the second: for up to a few thousand.

    Parameters
    ----------
    features : {"distances", "squared distances"}
    pairs : sequence of pairs of int, optional
        Which distances; all by default.
    likelihood_frames : int
        Frames in the marginal likelihood at most, drawn at random.
    steps : int
        Of Adam.
    learning_rate : float
    seed : int
        Of the draw.

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
        likelihood_frames: int = 1500,
        steps: int = 100,
        learning_rate: float = 0.1,
        seed: int = 0,
    ) -> None:
        at_least_one = {"likelihood_frames": likelihood_frames, "steps": steps}
        for name, value in at_least_one.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.features = features
        self.pairs = pairs
        self.likelihood_frames = likelihood_frames
        self.steps = steps
        self.learning_rate = learning_rate
        self.seed = seed

    def fit(
        self,
        positions: ArrayLike,
        energies: ArrayLike,
        *,
        bead_names: Sequence[str] | None = None,
        progress: bool = True,
    ) -> DKLPredictor:
        """Train on all frames.

        Parameters
        ----------
        positions : array [frames, beads, 3], nm
            Of molecules that are whole: see `openmmcg.geometry.make_whole`.
        energies : array [frames], eV
        bead_names : sequence of str, optional
            Of the map.
        progress : bool
            Whether to show a progress bar.

        Raises
        ------
        ValueError
            Positions and energies that do not fit each other, numbers that are not finite, too few frames, or nothing
            that varies.

        Warns
        -----
        UserWarning
            As `DKLTraining.fit`.
        """
        places, labels = check_training_data(positions, energies)
        features = DistanceFeatures(places.shape[1], self.features, self.pairs)
        values = features(places)
        check_bead_names(bead_names, features.beads)
        check_variation(features, values, labels, [slice(0, len(labels))])
        feature_mean, feature_scale, energy = standardisation(features, values, labels)
        inputs = (values - feature_mean) / feature_scale
        targets = (labels - energy[0]) / energy[1]
        chosen = np.random.default_rng(self.seed).permutation(len(labels))[: self.likelihood_frames]
        process = self._maximise_likelihood(torch.tensor(inputs[chosen]), torch.tensor(targets[chosen]), progress)
        with torch.no_grad():
            lengths = process.covar_module.base_kernel.lengthscale.numpy()[0]
            kernel_variance = process.covar_module.outputscale.numpy().reshape(1)
            constant = process.mean_module.constant.item()
            noise = process.likelihood.noise.item()
        points = inputs / lengths
        squares = np.square(points).sum(1)
        kernel = kernel_variance * np.exp(-0.5 * np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0))
        kernel[np.diag_indices_from(kernel)] = kernel_variance + noise
        whitening = solve_triangular(np.linalg.cholesky(kernel), np.eye(len(points)), lower=True)
        dimensions = len(features)
        member = Member(
            feature_mean=feature_mean,
            feature_scale=feature_scale,
            energy=energy,
            inducing_points=points,
            lengths=lengths,
            trend=np.append(np.zeros(dimensions), constant),
            kernel_variance=kernel_variance,
            whitening=whitening,
            values=whitening @ (targets - constant),
            root=np.zeros((len(points), 0)),
            recalibration=Recalibration().to_array(),
            kernel_network=DenseLayers([], []),
            noise_network=DenseLayers([np.zeros((dimensions, 1))], [np.log([noise])]),
        )
        return DKLPredictor(features, [member], bead_names=bead_names)

    def _maximise_likelihood(self, inputs: torch.Tensor, targets: torch.Tensor, progress: bool) -> ExactProcess:
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        process = ExactProcess(inputs, targets, likelihood).double()
        objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, process)
        optimizer = torch.optim.Adam(process.parameters(), self.learning_rate)
        process.train()
        with gpytorch.settings.max_cholesky_size(len(targets) + 1):
            for _ in tqdm(range(self.steps), desc="marginal likelihood", unit="step", disable=not progress):
                optimizer.zero_grad()
                loss = -objective(process(inputs), targets)
                loss.backward()
                optimizer.step()
        return process
