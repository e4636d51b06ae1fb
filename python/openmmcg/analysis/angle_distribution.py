"""The distribution of the angle between two neighbours of a bead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmmcg.analysis.statistics import block_slices, mean_and_error
from openmmcg.geometry.internal_coordinates import FrameSequence
from openmmcg.geometry.neighbors import PeriodicNeighbors, check_trajectory, periodic_frames
from openmmcg.progress import tqdm


@dataclass(frozen=True)
class AngleDistribution:
    """A three-body angle distribution.

    Attributes
    ----------
    angle : array [bins]
        Centres of the bins, degrees.
    probability : array [bins]
        Probability density per degree, its integral over the range of angles is 1. (The paper divides by the
        largest value instead; that is `probability / probability.max()`.)
    error : array [bins]
        Standard error of `probability` by block averaging.
    """

    angle: NDArray[np.float64]
    probability: NDArray[np.float64]
    error: NDArray[np.float64]

    def difference(self, other: AngleDistribution) -> float:
        """Total variation distance ½∫|ΔP|dθ: 0 for equal distributions, 1 for distributions without overlap.

        Raises
        ------
        ValueError
            When the two have different bins.
        """
        if not np.array_equal(self.angle, other.angle):
            raise ValueError("the two angle distributions have different bins; compute both with the same")
        bin_width = self.angle[1] - self.angle[0]
        return float(np.abs(self.probability - other.probability).sum() * bin_width / 2)


def angle_distribution(
    positions: FrameSequence,
    boxes: FrameSequence,
    *,
    cutoff: float = 0.45,
    minimum: float = 30.0,
    maximum: float = 150.0,
    bin_width: float = 1.0,
    blocks: int = 5,
    progress: bool = True,
) -> AngleDistribution:
    """Distribution of the angle J–I–K over all beads I and all pairs J, K of beads within `cutoff` of I.

    Loose, Sahrman, Qu and Voth, *Coarse-Graining with Equivariant Neural Networks* (2023), equation 5, with
    its 0.45 nm, 30 to 150 degrees and bins of 1 degree as defaults. Normalised to integral 1 over the range
    of angles (in each block of frames), not to a largest value of 1, so that noise in one bin does not scale
    the whole curve.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        Bead positions, nm; anything that is sliced by frame, read one frame at a time.
    boxes : array-like [F, 3, 3]
        Box vectors as rows, nm; any box shape.
    cutoff : float
        nm; at most half the smallest width of the box.
    minimum, maximum, bin_width : float
        Range of angles and width of the bins, degrees.
    blocks : int
        Blocks of consecutive frames for the error bars; with 1 they are NaN.
    progress : bool
        Show a progress bar where it takes longer than two seconds.

    Raises
    ------
    ValueError
        For wrong shapes, positions that are not finite, two beads at the same place, a box too small for
        `cutoff`, or a block of frames in which no bead has two neighbours at an angle in the range.

    Examples
    --------
    Three beads in a right angle:

    >>> import numpy as np
    >>> positions = np.array([[[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.3, 0.0]]])
    >>> boxes = 2.0 * np.eye(3)[None]
    >>> distribution = angle_distribution(positions, boxes, cutoff=0.4, blocks=1)
    >>> distribution.angle[distribution.probability > 0].item()
    90.5
    """
    frames, _ = check_trajectory(positions, boxes)
    if not 0 <= minimum < maximum <= 180 or bin_width <= 0:
        raise ValueError(
            "angles must have 0 <= minimum < maximum <= 180 degrees and a positive bin width, "
            f"not {minimum:g}, {maximum:g} and {bin_width:g}"
        )
    bins = round((maximum - minimum) / bin_width)
    if abs(bins * bin_width - (maximum - minimum)) > 1e-9 * maximum:
        raise ValueError(
            f"the range from {minimum:g} to {maximum:g} degrees is not a whole number of bins of {bin_width:g} degrees"
        )
    edges = np.linspace(minimum, maximum, bins + 1)
    block_probability = []
    with tqdm(total=frames, desc="angle distribution", unit="frame", delay=2, leave=False, disable=not progress) as bar:
        for block in block_slices(frames, blocks):
            counts = np.zeros(bins)
            for frame_positions, box in periodic_frames(positions, boxes, cutoff, block):
                first, displacement = PeriodicNeighbors(frame_positions, box, cutoff).displacements()
                counts += np.histogram(_angles(first, displacement), bins=edges)[0]
                bar.update()
            if not counts.any():
                raise ValueError(
                    f"in frames {block.start} to {block.stop - 1} no bead has two neighbours within "
                    f"{cutoff:g} nm at an angle from {minimum:g} to {maximum:g} degrees; choose a larger "
                    "cutoff or fewer blocks"
                )
            block_probability.append(counts / (counts.sum() * bin_width))
    mean, error = mean_and_error(block_probability)
    return AngleDistribution(angle=(edges[:-1] + edges[1:]) / 2, probability=mean, error=error)


def _angles(first: NDArray[np.int64], displacement: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles in degrees between every two displacements of the same first bead; `first` is sorted."""
    distance = np.linalg.norm(displacement, axis=1, keepdims=True)
    if not (distance > 0).all():
        raise ValueError("two beads are at the same place and make no angle; leave out such frames")
    direction = displacement / distance
    cosines = [np.empty(0)]
    # Displacements of one bead stand together: those `step` apart belong to one bead until the largest group
    # is passed.
    for step in range(1, len(first)):
        same = np.flatnonzero(first[step:] == first[:-step])
        if len(same) == 0:
            break
        cosines.append(np.einsum("ij,ij->i", direction[same], direction[same + step]))
    return np.degrees(np.arccos(np.clip(np.concatenate(cosines), -1.0, 1.0)))
