"""Radial bases and the cutoff function: what a filter network sees of a distance.

All modules here script, take distances in nm of any shape and add one axis for the basis functions.
"""

import math

import torch
from torch import Tensor, nn


class CosineCutoff(nn.Module):
    r"""Smooth decay to zero, :math:`\frac12(\cos(\pi r/r_c) + 1)` below the cutoff and 0 beyond.

    Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007), equation 4.

    Parameters
    ----------
    cutoff : float
        Cutoff distance :math:`r_c`, nm.

    Examples
    --------
    >>> import torch
    >>> CosineCutoff(0.6)(torch.tensor([0.0, 0.3, 0.6, 0.7]))
    tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = float(cutoff)

    def forward(self, distances: Tensor) -> Tensor:
        inside = torch.clamp(distances, max=self.cutoff)
        return 0.5 * (torch.cos(inside * (math.pi / self.cutoff)) + 1.0)


class GaussianBasis(nn.Module):
    r"""Gaussians at equally spaced centres, :math:`e_k(r) = \exp(-(r-\mu_k)^2 / 2w^2)`.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018); the width :math:`w` is the spacing of the centres.

    Parameters
    ----------
    cutoff : float
        The last centre, nm.
    size : int
        Number of functions.
    start : float
        The first centre, nm. The shortest distance that occurs in the data is a good choice.

    Examples
    --------
    >>> import torch
    >>> GaussianBasis(0.6, size=3)(torch.tensor([0.3]))
    tensor([[0.6065, 1.0000, 0.6065]])
    """

    centers: Tensor

    def __init__(self, cutoff: float, size: int = 50, start: float = 0.0) -> None:
        super().__init__()
        _check_range(cutoff, size, start)
        self.size = size
        centers = torch.linspace(start, cutoff, size, dtype=torch.float64)
        self.exponent = -0.5 / float(centers[1] - centers[0]) ** 2
        self.register_buffer("centers", centers.to(torch.get_default_dtype()))

    def forward(self, distances: Tensor) -> Tensor:
        return torch.exp(self.exponent * (distances.unsqueeze(-1) - self.centers).square())


class ExponentialNormalBasis(nn.Module):
    r"""Functions equally spaced in :math:`\exp(-\alpha r)`, narrow at short and wide at long distances.

    :math:`e_k(r) = \exp(-\beta(\exp(-\alpha(r - r_0)) - \mu_k)^2)` with :math:`\alpha = 5/(r_c - r_0)`, the
    centres :math:`\mu_k` equally spaced from :math:`e^{-5}` to 1 and :math:`\beta = [\frac2K(1 -
    e^{-5})]^{-2}`: Unke and Meuwly, J. Chem. Theory Comput. 15, 3678 (2019), equation 7, in the
    dimensionless form of TorchMD-Net, which here takes nm.

    Parameters
    ----------
    cutoff : float
        :math:`r_c`, nm.
    size : int
        Number of functions :math:`K`.
    start : float
        :math:`r_0`, nm: the distance at which the last function peaks.

    Examples
    --------
    >>> import torch
    >>> float(ExponentialNormalBasis(0.6, size=8, start=0.2)(torch.tensor(0.2))[-1])
    1.0
    """

    centers: Tensor

    def __init__(self, cutoff: float, size: int = 50, start: float = 0.0) -> None:
        super().__init__()
        _check_range(cutoff, size, start)
        self.size = size
        self.start = float(start)
        self.decay = 5.0 / (cutoff - start)
        lowest = math.exp(-5.0)
        self.exponent = -((2.0 / size * (1.0 - lowest)) ** -2)
        self.register_buffer("centers", torch.linspace(lowest, 1.0, size))

    def forward(self, distances: Tensor) -> Tensor:
        decayed = torch.exp(self.decay * (self.start - distances)).unsqueeze(-1)
        return torch.exp(self.exponent * (decayed - self.centers).square())


def _check_range(cutoff: float, size: int, start: float) -> None:
    if not 0.0 <= start < cutoff:
        raise ValueError(f"a radial basis needs 0 <= start < cutoff, got start={start} and cutoff={cutoff} nm")
    if size < 2:
        raise ValueError(f"a radial basis needs at least 2 functions, got size={size}")
