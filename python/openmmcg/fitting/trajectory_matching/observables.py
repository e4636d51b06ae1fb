"""What a trajectory is fitted to: functions of a configuration whose means are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.optional import optional_imports

with optional_imports():
    import torch
    from torch import Tensor

    from openmmcg.geometry.scriptable import minimum_image

FloatArray = NDArray[np.float64]
Curve: TypeAlias = "str | os.PathLike[str] | ArrayLike"

# Bins to either side that a pair counts in, in units of the width of its Gaussian.
_WIDTHS = 3.0


class Configuration(NamedTuple):
    """Beads at one time.

    Attributes
    ----------
    positions : Tensor [N, 3]
        nm
    box : Tensor [3, 3] or None
        nm, rows.
    types : Tensor [N]
    """

    positions: Tensor
    box: Tensor | None
    types: Tensor


class OfConfiguration(Protocol):
    """An observable that is a function of a configuration, the mean of which is to be that of a reference.

    Attributes
    ----------
    weight : float
        Of its mean squared difference in the loss.
    """

    weight: float

    @property
    def label(self) -> str:
        """What logs call it."""
        ...

    @property
    def target(self) -> FloatArray | None:
        """The mean that is wanted, ``[values]``; None where it is that of the reference frames."""
        ...

    @property
    def reach(self) -> float:
        """The longest distance between beads that it depends on, nm; 0 where it does not depend on distances."""
        ...

    def values(self, configuration: Configuration) -> Tensor:
        """``[values]``, differentiable with respect to the positions."""
        ...


@dataclass(frozen=True)
class PairDistances:
    r"""The radial distribution function, each pair smeared by a Gaussian.

    .. math:: g(r_k) = \frac{V}{N_{pairs} V_k} \sum_{i<j} w_k(r_{ij})

    with the volume :math:`V_k` of the shell of a bin, and :math:`w_k \propto e^{-(r_{ij}-r_k)^2/2\sigma^2}`, which adds
    up to one over the bins (Wang, Axelrod and Gómez-Bombarelli, differentiable molecular simulation).

    Parameters
    ----------
    maximum : float
        nm
    bin_width : float
        nm
    smearing : float, optional
        σ, nm; the width of a bin by default.
    curve : path or array [n, 2], optional
        Distances in nm and g(r), for example from an experiment, as columns of numbers; by default that of the
        reference frames. Without a value below its first distance there is 0, beyond its last there must be none.
    types : pair of int, optional
        Bead types of the pairs; all pairs by default.
    weight : float
        Of the mean squared difference over the bins.

    Raises
    ------
    ValueError
        A curve has no two columns, distances that do not rise, values that are not finite, or ends below the maximum.
    """

    maximum: float = 1.0
    bin_width: float = 0.01
    smearing: float | None = None
    curve: Curve | None = None
    types: tuple[int, int] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.bin_width < self.maximum:
            raise ValueError(f"the bins must be narrower than the range, got {self.bin_width} and {self.maximum} nm")
        if self.smearing is not None and not self.smearing > 0:
            raise ValueError(f"the smearing must be positive, got {self.smearing} nm")
        _ = self.target

    @property
    def distances(self) -> FloatArray:
        """Centres of the bins, nm."""
        number = round(self.maximum / self.bin_width)
        return np.asarray((np.arange(number) + 0.5) * self.maximum / number)

    @property
    def label(self) -> str:
        return "g(r)" if self.types is None else f"g(r) of types {self.types[0]} and {self.types[1]}"

    @property
    def reach(self) -> float:
        return self.maximum

    @property
    def target(self) -> FloatArray | None:
        if self.curve is None:
            return None
        places, values = _two_columns(self.curve)
        if places[-1] < self.distances[-1]:
            raise ValueError(
                f"the curve ends at {places[-1]:g} nm, g(r) is wanted up to {self.maximum:g} nm; take a smaller maximum"
            )
        # No two beads are nearer than where a curve begins.
        return np.interp(self.distances, places, values, left=0.0)

    def values(self, configuration: Configuration) -> Tensor:
        positions, box, types = configuration
        if box is None:
            raise ValueError("a radial distribution function needs frames with a box")
        distances = self.distances
        width, number = float(distances[1] - distances[0]), len(distances)
        sigma = width if self.smearing is None else self.smearing
        margin = int(np.ceil(_WIDTHS * sigma / width)) + 1
        # Beyond half the width of the box no distance is that of the nearest images.
        reach = min(self.maximum + margin * width, float(torch.diagonal(box).min()) / 2)
        delta, rows, columns = neighbor_separations(positions, box, reach)
        r = torch.linalg.norm(delta, dim=1)
        if self.types is None:
            pairs = len(positions) * (len(positions) - 1) / 2
        else:
            a, b = self.types
            first, second = types[rows], types[columns]
            chosen = ((first == a) & (second == b)) | ((first == b) & (second == a))
            r = r[chosen]
            of_a, of_b = int((types == a).sum()), int((types == b).sum())
            pairs = of_a * (of_a - 1) / 2 if a == b else of_a * of_b
            if not pairs:
                raise ValueError(f"there are no pairs of the bead types {a} and {b}")
        offsets = torch.arange(-margin, margin + 1)
        cells = (r.detach() / width).long()[:, None] + offsets
        shares = torch.exp(-0.5 * ((r[:, None] - (cells + 0.5) * width) / sigma) ** 2)
        shares = shares / shares.sum(1, keepdim=True)
        inside = (cells >= 0) & (cells < number)
        counts = shares.new_zeros(number).index_add(0, cells[inside], shares[inside])
        edges = torch.arange(number + 1, dtype=r.dtype) * width
        shells = 4 / 3 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3)
        return counts * torch.linalg.det(box) / (pairs * shells)


@dataclass(frozen=True)
class TripletAngles:
    """The distribution of the angle at a bead between two neighbours, smeared by a Gaussian.

    As `openmmcg.analysis.angle_distribution` (Loose, Sahrman, Qu and Voth, equation 5), but a neighbour counts less and
    less over the last tenth of the cutoff, so that it is differentiable, and in units of the density of directions
    that do not know of each other: 1 for an ideal gas at all angles.

    Parameters
    ----------
    cutoff : float
        Of neighbours, nm.
    bin_width : float
        degrees
    smearing : float, optional
        σ, degrees; the width of a bin by default.
    curve : path or array [n, 2], optional
        Angles in degrees and the distribution; by default that of the reference frames.
    weight : float
    """

    cutoff: float = 0.45
    bin_width: float = 3.0
    smearing: float | None = None
    curve: Curve | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (self.cutoff > 0 and 0 < self.bin_width <= 45):
            raise ValueError(
                f"cutoff and bins must be positive, bins at most 45 degrees; got {self.cutoff} nm, {self.bin_width}"
            )
        _ = self.target

    @property
    def angles(self) -> FloatArray:
        """Centres of the bins, degrees."""
        number = round(180 / self.bin_width)
        return np.asarray((np.arange(number) + 0.5) * 180 / number)

    @property
    def label(self) -> str:
        return "angles"

    @property
    def reach(self) -> float:
        return self.cutoff

    @property
    def target(self) -> FloatArray | None:
        if self.curve is None:
            return None
        places, values = _two_columns(self.curve)
        if places[0] > self.angles[0] or places[-1] < self.angles[-1]:
            raise ValueError(
                f"the curve of angles goes from {places[0]:g} to {places[-1]:g} degrees, and is wanted from "
                f"{self.angles[0]:g} to {self.angles[-1]:g}; give a wider one, or wider bins"
            )
        return np.interp(self.angles, places, values)

    def values(self, configuration: Configuration) -> Tensor:
        positions, box, _ = configuration
        delta, rows, columns = neighbor_separations(positions, box, self.cutoff)
        r = torch.linalg.norm(delta, dim=1)
        delta = delta / r[:, None]
        first = torch.cat([rows, columns])
        order = torch.argsort(first, stable=True)
        first, directions = first[order], torch.cat([delta, -delta])[order]
        t = torch.clamp((torch.cat([r, r])[order] - 0.9 * self.cutoff) / (0.1 * self.cutoff), 0, 1)
        weights = 1 - t**2 * (3 - 2 * t)
        cosines, shares = [], []
        # Neighbours of one bead stand together: those `step` apart belong to one bead until the largest is passed.
        for step in range(1, len(first)):
            same = torch.nonzero(first[step:] == first[:-step])[:, 0]
            if not len(same):
                break
            cosines.append((directions[same] * directions[same + step]).sum(1))
            shares.append(weights[same] * weights[same + step])
        number = len(self.angles)
        if not cosines:
            return positions.new_zeros(number) + 0 * positions.sum()
        width = 180 / number
        sigma = width if self.smearing is None else self.smearing
        # Straight angles have no derivative.
        theta = torch.rad2deg(torch.arccos(torch.clamp(torch.cat(cosines), -1 + 1e-7, 1 - 1e-7)))
        share = torch.cat(shares)
        margin = int(np.ceil(_WIDTHS * sigma / width)) + 1
        cells = (theta.detach() / width).long()[:, None] + torch.arange(-margin, margin + 1)
        kernel = torch.exp(-0.5 * ((theta[:, None] - (cells + 0.5) * width) / sigma) ** 2)
        inside = ((cells >= 0) & (cells < number)).to(kernel.dtype)
        kernel = kernel * inside
        kernel = kernel / kernel.sum(1, keepdim=True) * share[:, None]
        counts = kernel.new_zeros(number).index_add(0, cells.clamp(0, number - 1).flatten(), kernel.flatten())
        edges = torch.deg2rad(torch.arange(number + 1, dtype=theta.dtype) * width)
        ideal = (torch.cos(edges[:-1]) - torch.cos(edges[1:])) / 2
        return counts / share.sum() / ideal


@dataclass(frozen=True)
class Pressure:
    """The pressure, which depends on the potential as well as on the configuration.

    Parameters
    ----------
    value : float
        bar
    scale : float
        bar, by which differences are divided in the loss.
    weight : float
    """

    value: float
    scale: float = 1000.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.value) and self.scale > 0):
            raise ValueError(f"a pressure must be finite and its scale positive, got {self.value} and {self.scale} bar")

    @property
    def label(self) -> str:
        return "pressure"

    @property
    def target(self) -> FloatArray:
        return np.array([self.value / self.scale])

    @property
    def reach(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Mean:
    """Any function of the positions.

    Parameters
    ----------
    function : callable
        Of positions ``[N, 3]``, nm, the box ``[3, 3]`` or None, and bead types ``[N]``, all tensors; returns a tensor
        of any shape, by operations that torch differentiates.
    wanted : array, optional
        Its mean; by default that of the reference frames.
    name : str
        What logs call it.
    weight : float
    """

    function: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    wanted: ArrayLike | None = None
    name: str = "mean"
    weight: float = 1.0

    @property
    def label(self) -> str:
        return self.name

    @property
    def target(self) -> FloatArray | None:
        return None if self.wanted is None else np.asarray(self.wanted, float).reshape(-1)

    @property
    def reach(self) -> float:
        return 0.0

    def values(self, configuration: Configuration) -> Tensor:
        return self.function(*configuration).reshape(-1)


Observable: TypeAlias = "OfConfiguration | Pressure"


def describe_observable(observable: Observable, first: Configuration) -> dict[str, Any]:
    """What a fit depends on of an observable, for `openmmcg.state.describe`.

    A function has no content that could be compared; it is told by what it says of the first frame, in so many digits
    as another machine computes as well.
    """
    known = {name: value for name, value in vars(observable).items() if name not in ("function", "curve")}
    if isinstance(observable, Mean):
        with torch.no_grad():
            known["of the first frame"] = [float(f"{value:.5g}") for value in observable.values(first).tolist()]
    return {"kind": type(observable).__name__, **known, "target": observable.target}


def neighbor_separations(positions: Tensor, box: Tensor | None, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Displacements ``[E, 3]`` of all pairs within a cutoff, differentiable, and the pairs' rows and columns.

    Raises
    ------
    ValueError
        The cutoff exceeds half the smallest width of the box.
    """
    vectors = None if box is None else box.detach().numpy().astype(float)
    found = neighbor_pairs(positions.detach().numpy().astype(float), vectors, cutoff)
    rows, columns = (torch.from_numpy(np.asarray(each, np.int64)) for each in found)
    delta = positions[columns] - positions[rows]
    return delta if box is None else minimum_image(delta, box), rows, columns


def _two_columns(curve: Curve) -> tuple[FloatArray, FloatArray]:
    name = "the curve"
    if isinstance(curve, (str, os.PathLike)):
        name = f"the curve {curve}"
        try:
            values = np.loadtxt(Path(curve), delimiter=None if "," not in Path(curve).read_text() else ",", ndmin=2)
        except ValueError as error:
            raise ValueError(f"{name} is not two columns of numbers ({error})") from error
    else:
        values = np.asarray(curve, float)
    if values.ndim != 2 or values.shape[1] != 2 or len(values) < 2:
        raise ValueError(f"{name} must be two columns, of two rows or more; got the shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")
    falls = np.flatnonzero(np.diff(values[:, 0]) <= 0)
    if len(falls):
        row = int(falls[0]) + 1
        raise ValueError(
            f"the first column of {name.removeprefix('the ')} must rise; row {row} has {values[row, 0]:g} after "
            f"{values[row - 1, 0]:g}. Sort the rows"
        )
    return values[:, 0], values[:, 1]


def reference_means(observables: Sequence[Observable], configurations: Sequence[Configuration]) -> list[FloatArray]:
    """The means that are wanted: those given, or those of reference configurations."""
    result = []
    for observable in observables:
        target = observable.target
        if target is None:
            assert not isinstance(observable, Pressure)
            with torch.no_grad():
                target = np.mean([observable.values(each).numpy() for each in configurations], axis=0)
        result.append(np.asarray(target, float))
    return result


def loss_of(observables: Sequence[Observable], means: Sequence[FloatArray], targets: Sequence[FloatArray]) -> float:
    """The sum over observables of weight times mean squared difference."""
    return float(differentiable_loss(observables, [torch.as_tensor(mean) for mean in means], targets))


def differentiable_loss(
    observables: Sequence[Observable], means: Sequence[Tensor], targets: Sequence[FloatArray]
) -> Tensor:
    """As `loss_of`, of tensors."""
    total = torch.zeros((), dtype=torch.float64)
    for observable, mean, target in zip(observables, means, targets, strict=True):
        total = total + observable.weight * ((mean - torch.as_tensor(target)) ** 2).mean()
    return total
