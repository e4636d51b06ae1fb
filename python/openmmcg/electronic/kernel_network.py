"""The deep kernel: a network that leads from features to a few latent dimensions, with noise on them in training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

FIRST_DEVIATION = 0.3  # of the latent noise before training, in units of the latent space


class KernelNetwork(nn.Module):
    """Features → a normal distribution in latent space.

    Layers with batch normalisation and ELU, then two dense layers e₁ and e₂ for the mean and the logarithm of the
    variance: equations 9 to 12 of Maier and Jackson.

    Parameters
    ----------
    features : int
        How many features a frame has.
    widths : sequence of int
        Of the layers before the latent space.
    latent : int
        Dimensions of the latent space.
    """

    def __init__(self, features: int, widths: Sequence[int] = (80, 40, 20, 10), latent: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = [features, *widths]
        for size, width in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(size, width), nn.BatchNorm1d(width), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.mean = nn.Linear(sizes[-1], latent)
        self.log_variance = nn.Linear(sizes[-1], 1)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, 2 * math.log(FIRST_DEVIATION))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``[frames, latent]`` and logarithm of the variance ``[frames, 1]`` of the latent distribution."""
        hidden = self.layers(features)
        return self.mean(hidden), self.log_variance(hidden)


def draw_latent(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A sample of the latent distribution that gradients pass through, equation 12."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def batch_divergence(latent: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of a batch's latent distribution from the standard normal distribution.

    The batch is a mixture of normal distributions, equation 14, and the divergence an average over one sample of each,
    equation 16 with :math:`p_0 = N(0, 1)`:
    :math:`\frac1N \sum_k \log p_b(z_k) - \log p_0(z_k)`.

    Parameters
    ----------
    latent : Tensor [frames, latent]
        A sample of each frame's distribution.
    mean : Tensor [frames, latent]
    log_variance : Tensor [frames, 1]
        Of the frames' distributions.

    Returns
    -------
    Tensor []

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> mean, log_variance = 0.8 * torch.randn(4000, 1), torch.full((4000, 1), math.log(0.36))
    >>> bool(batch_divergence(draw_latent(mean, log_variance), mean, log_variance).abs() < 0.01)
    True
    """
    dimensions = latent.shape[1]
    squares = torch.cdist(latent, mean).square()
    spread = log_variance.squeeze(1)
    log_densities = -0.5 * (squares / spread.exp() + dimensions * spread)
    log_batch = torch.logsumexp(log_densities, dim=1) - math.log(len(mean))
    return (log_batch + 0.5 * latent.square().sum(1)).mean()
