"""The radial distribution function g(r) of one kind of bead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from openmmcg.analysis.statistics import block_slices, mean_and_error
from openmmcg.geometry.neighbors import FrameSequence, PeriodicNeighbors, check_trajectory, periodic_frames
from openmmcg.progress import tqdm

# Standard deviation, nm; a third of the narrowest first peaks of liquids, and wider than their noise.
_SMOOTHING = 0.005


class Peak(NamedTuple):
    """A peak of g(r): where, in nm, and how high."""

    position: float
    height: float


@dataclass(frozen=True)
class RadialDistribution:
    """A radial distribution function.

    Attributes
    ----------
    distance : array [bins]
        Centres of the bins, nm.
    g : array [bins]
        Density of beads at this distance from a bead over the mean density; 1 for an ideal gas of any size.
    error : array [bins]
        Standard error of `g` by block averaging.
    """

    distance: NDArray[np.float64]
    g: NDArray[np.float64]
    error: NDArray[np.float64]

    def first_peak(self) -> Peak:
        """Position (nm) and height of the first peak.

        The peak is looked for in g smoothed by a Gaussian of 0.005 nm: the first run of bins above the level
        halfway between 1 and the largest value. To g itself, within the bins around the highest of that run
        that stay above three quarters of the way, at least five bins, a cubic is fitted by least squares, and
        its maximum is the peak. So neither position nor height depends on where the bin edges fall or on the
        noise of one bin.

        Raises
        ------
        ValueError
            When g never exceeds 1: there is no peak.
        """
        bin_width = self.distance[1] - self.distance[0]
        excess = gaussian_filter1d(self.g, _SMOOTHING / bin_width) - 1
        if excess.max() <= 0:
            raise ValueError("the radial distribution function never exceeds 1, so it has no peak")
        above = excess >= excess.max() / 2
        start = int(np.argmax(above))
        stop = start + int(np.argmin(np.append(above[start:], False)))
        highest = start + int(np.argmax(excess[start:stop]))
        level = 0.75 * excess[highest]
        first = last = highest
        while first > 0 and excess[first - 1] >= level:
            first -= 1
        while last < len(excess) - 1 and excess[last + 1] >= level:
            last += 1
        first, last = min(first, highest - 2), max(last, highest + 2)
        window = slice(max(first, 0), last + 1)
        return _cubic_maximum(self.distance[window], self.g[window])

    def mean_absolute_difference(self, other: RadialDistribution, start: float, stop: float) -> float:
        """Mean |Δg| over the bins with centres from `start` to `stop` (nm).

        Raises
        ------
        ValueError
            When the two have different bins, or when the range reaches beyond them.
        """
        if not np.array_equal(self.distance, other.distance):
            raise ValueError("the two distributions have different bins; compute both with the same")
        half_bin = (self.distance[1] - self.distance[0]) / 2
        lowest, highest = self.distance[0] - half_bin, self.distance[-1] + half_bin
        if not lowest - 1e-9 <= start < stop <= highest + 1e-9:
            raise ValueError(
                f"the range from {start:g} to {stop:g} nm is not within that of the distributions, "
                f"{lowest:g} to {highest:g} nm"
            )
        inside = (self.distance >= start) & (self.distance <= stop)
        return float(np.abs(self.g - other.g)[inside].mean())


def _cubic_maximum(distance: NDArray[np.float64], g: NDArray[np.float64]) -> Peak:
    cubic = np.polynomial.Polynomial.fit(distance, g, 3)
    turning = cubic.deriv().roots()
    candidates = np.append(turning[np.isreal(turning)].real, [distance[0], distance[-1]])
    candidates = candidates[(candidates >= distance[0]) & (candidates <= distance[-1])]
    position = candidates[np.argmax(cubic(candidates))]
    return Peak(float(position), float(cubic(position)))


def radial_distribution(
    positions: FrameSequence,
    boxes: FrameSequence,
    *,
    maximum: float = 1.0,
    bin_width: float = 0.005,
    blocks: int = 5,
    progress: bool = True,
) -> RadialDistribution:
    """Radial distribution function of all pairs of beads.

    g(r) = V/(N(N−1)) · ⟨number of ordered pairs in a shell⟩ / (volume of the shell), averaged over frames;
    the exact volume of the shell and the N−1 partners make g = 1 for an ideal gas whatever the bin width and
    N.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        Bead positions, nm; anything that is sliced by frame, read one frame at a time.
    boxes : array-like [F, 3, 3]
        Box vectors as rows, nm; any box shape.
    maximum : float
        Largest distance, nm; at most half the smallest width of the box.
    bin_width : float
        nm; the number of bins is the nearest integer to maximum / bin_width.
    blocks : int
        Blocks of consecutive frames for the error bars; with 1 they are NaN.
    progress : bool
        Show a progress bar where it takes longer than two seconds.

    Raises
    ------
    ValueError
        For wrong shapes, positions that are not finite, or a box too small for `maximum`.

    Examples
    --------
    Two beads, always 0.3 nm apart:

    >>> import numpy as np
    >>> positions = np.zeros((2, 2, 3))
    >>> positions[:, 1, 0] = 0.3
    >>> boxes = np.tile(2.0 * np.eye(3), (2, 1, 1))
    >>> distribution = radial_distribution(positions, boxes, maximum=0.5, bin_width=0.02, blocks=2)
    >>> print(f"{distribution.distance[distribution.g > 0].item():.2f} nm")
    0.29 nm
    """
    frames, beads = check_trajectory(positions, boxes)
    if beads < 2:
        raise ValueError("a radial distribution function needs at least two beads")
    if not 0 < bin_width <= maximum:
        raise ValueError(f"bin_width must be between 0 and maximum, {maximum:g} nm, not {bin_width:g} nm")
    edges = np.linspace(0.0, maximum, round(maximum / bin_width) + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    block_g = []
    with tqdm(
        total=frames, desc="radial distribution", unit="frame", delay=2, leave=False, disable=not progress
    ) as bar:
        for block in block_slices(frames, blocks):
            g = np.zeros(len(shells))
            for frame_positions, box in periodic_frames(positions, boxes, maximum, block):
                counts = PeriodicNeighbors(frame_positions, box, maximum).count(edges)
                g += counts * np.linalg.det(box) / (beads * (beads - 1) * shells)
                bar.update()
            block_g.append(g / (block.stop - block.start))
    mean, error = mean_and_error(block_g)
    return RadialDistribution(distance=(edges[:-1] + edges[1:]) / 2, g=mean, error=error)
