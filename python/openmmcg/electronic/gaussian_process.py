"""Gaussian processes in GPyTorch: approximate ones, whose noise depends on the place, and exact ones."""

from __future__ import annotations

from typing import Any

import gpytorch
import torch
from torch import Tensor, nn


class ApproximateProcess(gpytorch.models.ApproximateGP):
    """Gaussian process of learned inducing points, equations 6 and 7 of Maier and Jackson.

    Its mean is linear, its kernel the RBF with a length for each dimension, and the distribution of the values at
    the inducing points is a normal one with a full covariance (Cholesky factor), whitened.

    Parameters
    ----------
    inducing_points : Tensor [points, dimensions]
        Where they are before training.
    """

    def __init__(self, inducing_points: Tensor) -> None:
        points, dimensions = inducing_points.shape
        strategy = gpytorch.variational.VariationalStrategy(
            self, inducing_points, gpytorch.variational.CholeskyVariationalDistribution(points)
        )
        super().__init__(strategy)
        self.mean_module = gpytorch.means.LinearMean(dimensions)
        nn.init.zeros_(self.mean_module.weights)
        nn.init.zeros_(self.mean_module.bias)
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=dimensions))
        self.covar_module.base_kernel.lengthscale = dimensions**0.5

    def forward(self, places: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(places), self.covar_module(places))


class LatentNoise(gpytorch.likelihoods.Likelihood):
    """Normal noise whose logarithm of the variance is a function of the place in latent space.

    The constant noise of the approximate process makes its variance follow the data's only by way of the covariance of
    the inducing points. A function of its own, one hidden layer, does so directly.

    Parameters
    ----------
    dimensions : int
        Of the latent space.
    hidden : int
        Width of the hidden layer.
    """

    def __init__(self, dimensions: int, hidden: int = 16) -> None:
        super().__init__()
        last = nn.Linear(hidden, 1)
        nn.init.constant_(last.bias, -1.0)
        self.log_variance = nn.Sequential(nn.Linear(dimensions, hidden), nn.ELU(), last)

    def noise(self, places: Tensor) -> Tensor:
        """Variance of the noise ``[frames]`` at places ``[frames, dimensions]``."""
        return self.log_variance(places).squeeze(-1).exp()

    def forward(self, function_samples: Tensor, places: Tensor, **_: Any) -> torch.distributions.Normal:
        return torch.distributions.Normal(function_samples, self.noise(places).sqrt())

    def log_marginal(
        self, observations: Tensor, function_dist: gpytorch.distributions.MultivariateNormal, places: Tensor, **_: Any
    ) -> Tensor:
        """Logarithm of the predictive density of each observation."""
        variance = function_dist.variance + self.noise(places)
        return torch.distributions.Normal(function_dist.mean, variance.sqrt()).log_prob(observations)


class ExactProcess(gpytorch.models.ExactGP):
    """Gaussian process over all training frames, equations 2 to 5: constant mean, RBF, a length for each dimension.

    Parameters
    ----------
    places : Tensor [frames, dimensions]
    targets : Tensor [frames]
        Standardised.
    likelihood : GaussianLikelihood
        The same noise everywhere.
    """

    def __init__(self, places: Tensor, targets: Tensor, likelihood: gpytorch.likelihoods.GaussianLikelihood) -> None:
        super().__init__(places, targets, likelihood)
        dimensions = places.shape[1]
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=dimensions))
        self.covar_module.base_kernel.lengthscale = dimensions**0.5

    def forward(self, places: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(places), self.covar_module(places))
