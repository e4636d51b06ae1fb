"""The deep kernel as it is trained: network, Gaussian process and noise together, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openmmcg.electronic.calibration import Recalibration
from openmmcg.electronic.gaussian_process import ApproximateProcess, LatentNoise
from openmmcg.electronic.kernel_network import KernelNetwork
from openmmcg.electronic.predictor import DenseLayers, Member

Array = NDArray[np.float64]


class DeepKernel(nn.Module):
    """Network, process and noise, all in standardised units.

    Parameters
    ----------
    inputs : Tensor [frames, features]
        Those to train on; the first inducing points are some of their places in latent space.
    widths, latent
        As `KernelNetwork`.
    inducing_points : int
        At most as many as frames.
    """

    def __init__(self, inputs: Tensor, widths: Sequence[int], latent: int, inducing_points: int) -> None:
        super().__init__()
        self.network = KernelNetwork(inputs.shape[1], widths, latent)
        with torch.no_grad():
            # Latent places begin with unit variance, where the kernel's first lengths fit.
            places = self.network(inputs)[0]
            self.network.mean.weight /= places.std(0)[:, None]
            self.network.mean.bias.sub_(places.mean(0)).div_(places.std(0))
            places = self.network(inputs)[0]
        chosen = torch.randperm(len(places))[:inducing_points]
        self.process = ApproximateProcess(places[chosen].clone())
        self.noise = LatentNoise(latent)

    def copy_state(self) -> dict[str, Tensor]:
        """All numbers as they are now."""
        return {name: tensor.clone() for name, tensor in self.state_dict().items()}

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance at the latent means, as GPyTorch computes them."""
        was_training = self.network.training
        self.eval()
        latent = self.network(inputs)[0]
        distribution = self.process(latent)
        variance = distribution.variance + self.noise.noise(latent)
        self.train()
        self.network.train(was_training)
        return distribution.mean, variance

    def log_likelihood(self, inputs: Tensor, targets: Tensor) -> float:
        """Mean logarithm of the predictive density."""
        mean, variance = self.predict(inputs)
        return float(torch.distributions.Normal(mean, variance.sqrt()).log_prob(targets).mean())

    @torch.no_grad()
    def export(
        self,
        feature_mean: Array,
        feature_scale: Array,
        energy: Array,
        recalibration: Array | None = None,
    ) -> Member:
        """All that prediction needs, as float64 arrays."""
        process, strategy = self.process, self.process.variational_strategy
        lengths = _numpy(process.covar_module.base_kernel.lengthscale)[0]
        kernel_variance = _numpy(process.covar_module.outputscale).reshape(1)
        points = _numpy(strategy.inducing_points) / lengths
        squares = np.square(points[:, None] - points).sum(2)
        kernel = kernel_variance * np.exp(-0.5 * squares) + strategy.jitter_val * np.eye(len(points))
        values = strategy.variational_distribution
        covariance = _numpy(values.covariance_matrix)
        return Member(
            feature_mean=feature_mean,
            feature_scale=feature_scale,
            energy=energy,
            inducing_points=points,
            lengths=lengths,
            trend=np.append(_numpy(process.mean_module.weights)[:, 0], _numpy(process.mean_module.bias)),
            kernel_variance=kernel_variance,
            whitening=np.linalg.inv(np.linalg.cholesky(kernel)),
            values=_numpy(values.mean),
            root=np.asarray(np.linalg.cholesky(covariance + 1e-9 * np.eye(len(points)))),
            recalibration=Recalibration().to_array() if recalibration is None else recalibration,
            kernel_network=_dense_layers([*self.network.layers, self.network.mean]),
            noise_network=_dense_layers(self.noise.log_variance),
        )


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def _dense_layers(modules: Iterable[nn.Module]) -> DenseLayers:
    """Dense layers, each with the batch normalisation that follows it."""
    weights: list[Array] = []
    biases: list[Array] = []
    for module in modules:
        if isinstance(module, nn.Linear):
            weights.append(_numpy(module.weight).T)
            biases.append(_numpy(module.bias))
        elif isinstance(module, nn.BatchNorm1d):
            assert module.running_var is not None and module.running_mean is not None
            scale = _numpy(module.weight) / np.sqrt(_numpy(module.running_var) + module.eps)
            weights[-1] = weights[-1] * scale
            biases[-1] = (biases[-1] - _numpy(module.running_mean)) * scale + _numpy(module.bias)
    return DenseLayers(weights, biases)
