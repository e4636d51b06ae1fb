"""Radial bases of other packages, with trained centres and widths, in those packages' units of length."""

import math

import torch
from torch import Tensor, nn


class CosineWindow(nn.Module):
    r"""Between a lower and an upper cutoff, :math:`\frac12(\cos(\pi(2\frac{r - r_l}{r_u - r_l} + 1)) + 1)`.

    With a lower cutoff of zero, :math:`\frac12(\cos(\pi r/r_u) + 1)`; zero elsewhere.

    Parameters
    ----------
    lower, upper : float
        :math:`r_l` and :math:`r_u`, in the package's unit of length.
    per_nm : float
        So many of these units are a nm.
    shift : float
        By how much less than they are distances count, in this unit. mlcg's PaiNN takes
        :math:`\sqrt{r^2 + \epsilon^2} - \epsilon` in their place, with :math:`\epsilon` = 1e-8 Å; but for beads that
        coincide that is :math:`r - \epsilon`.
    """

    def __init__(self, lower: float, upper: float, per_nm: float, shift: float = 0.0) -> None:
        super().__init__()
        if not 0 <= lower < upper < math.inf:
            raise ValueError(f"the cutoffs of a radial basis must be 0 <= lower < upper, got {lower} and {upper}")
        self.lower, self.upper = float(lower), float(upper)
        self.per_nm, self.shift = float(per_nm), float(shift)

    def measure(self, distances: Tensor) -> Tensor:
        """Distances in nm as they count, in the package's unit."""
        return self.per_nm * distances - self.shift

    def forward(self, distances: Tensor) -> Tensor:
        inside = torch.clamp(self.measure(distances), self.lower, self.upper)
        if self.lower > 0.0:
            inside = 2.0 * (inside - self.lower) + (self.upper - self.lower)
        return 0.5 * (torch.cos(inside * (math.pi / (self.upper - self.lower))) + 1.0)


class DirectedWindow(nn.Module):
    """A window of filters for directions, which mlcg makes by dividing by the distance that is a little too short."""

    def __init__(self, window: CosineWindow) -> None:
        super().__init__()
        self.window = window

    def forward(self, distances: Tensor) -> Tensor:
        # Those of beads that nearly coincide would grow without bound.
        factor = 1.0 + self.window.shift / torch.clamp(self.window.per_nm * distances, min=0.1)
        return factor * self.window(distances)


class TrainedExponentialBasis(nn.Module):
    r"""Functions of any centres and widths, :math:`e_k(r) = C(r) \exp(-\beta_k(\exp(\alpha(r_l - r)) - \mu_k)^2)`.

    Parameters
    ----------
    window : CosineWindow
        :math:`C`.
    start : float
        :math:`r_l`.
    decay : float
        :math:`\alpha`.
    centers, widths : Tensor, shape [size]
        :math:`\mu_k` and :math:`\beta_k`.
    """

    centers: Tensor
    widths: Tensor

    def __init__(self, window: CosineWindow, start: float, decay: float, centers: Tensor, widths: Tensor) -> None:
        super().__init__()
        self.window = window
        self.start, self.decay = float(start), float(decay)
        self.size = len(centers)
        self.register_buffer("centers", centers.detach().clone())
        self.register_buffer("widths", widths.detach().clone())

    def forward(self, distances: Tensor) -> Tensor:
        decayed = torch.exp(self.decay * (self.start - self.window.measure(distances))).unsqueeze(-1)
        functions = torch.exp(-self.widths * (decayed - self.centers).square())
        return self.window(distances).unsqueeze(-1) * functions


class TrainedGaussianBasis(nn.Module):
    r"""Gaussians of any centres and one width, :math:`e_k(r) = \exp(-\beta(r - \mu_k)^2)`.

    Parameters
    ----------
    per_nm : float
        So many of the package's units of length are a nm.
    centers : Tensor, shape [size]
        :math:`\mu_k`.
    width : Tensor, shape []
        :math:`\beta`.
    """

    centers: Tensor
    width: Tensor

    def __init__(self, per_nm: float, centers: Tensor, width: Tensor) -> None:
        super().__init__()
        self.per_nm = float(per_nm)
        self.size = len(centers)
        self.register_buffer("centers", centers.detach().clone())
        self.register_buffer("width", width.detach().clone())

    def forward(self, distances: Tensor) -> Tensor:
        return torch.exp(-self.width * ((self.per_nm * distances).unsqueeze(-1) - self.centers).square())
