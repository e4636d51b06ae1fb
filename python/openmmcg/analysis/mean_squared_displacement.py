"""The mean squared displacement of beads, and the diffusion constant from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft

from openmmcg.analysis.statistics import block_slices, mean_and_error
from openmmcg.constants import GAS_CONSTANT
from openmmcg.geometry.internal_coordinates import FrameSequence
from openmmcg.geometry.minimum_image import check_boxes, minimum_image
from openmmcg.progress import tqdm

FloatArray = NDArray[np.float64]

# Elements of float64 that one Fourier transform may hold; beads are taken in groups of this size at most.
_GROUP_ELEMENTS = 2**23


# In kJ/mol ps/nm³.
_PASCAL_SECOND = 6.02214076e5


class Diffusion(NamedTuple):
    """A diffusion constant and its standard error, nm²/ps; 1 nm²/ps is 10⁻² cm²/s."""

    constant: float
    error: float

    def without_finite_size(self, box: ArrayLike, temperature: float, viscosity: float) -> Diffusion:
        r"""The constant in an infinite system, :math:`D_0 = D + 2.837297\,k_B T/(6\pi\eta L)`.

        Periodic images hold each other back hydrodynamically (Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004),
        equation 12). It is for cubic boxes and dynamics that conserves momentum: friction of a Langevin thermostat
        screens hydrodynamics, so correct runs with ``thermostat="Nose-Hoover"`` or at constant energy.

        Parameters
        ----------
        box : array [3, 3]
            Box vectors as rows, nm; of a cube.
        temperature : float
            K
        viscosity : float
            Of the liquid as it was simulated, Pa s; SPC/E water at 298 K has 7.3e-4.

        Raises
        ------
        ValueError
            The box is no cube, or temperature and viscosity are not positive.

        Examples
        --------
        >>> water = Diffusion(2.4e-3, 0.1e-3).without_finite_size(2.485 * np.eye(3), 300.0, 7.3e-4)
        >>> round(1e3 * water.constant, 2)
        2.74
        """
        vectors = np.asarray(box, float)
        if vectors.shape != (3, 3) or not np.allclose(vectors, vectors[0, 0] * np.eye(3)) or not vectors[0, 0] > 0:
            raise ValueError(f"the correction for the finite size is for cubic boxes, got {vectors.tolist()}")
        if not (0 < temperature < np.inf and 0 < viscosity < np.inf):
            raise ValueError(f"temperature and viscosity must be positive, got {temperature} K and {viscosity} Pa s")
        share = 2.837297 * GAS_CONSTANT * temperature
        shift = share / (6 * np.pi * viscosity * _PASCAL_SECOND * vectors[0, 0])
        return self._replace(constant=float(self.constant + shift))


@dataclass(frozen=True)
class MeanSquaredDisplacement:
    """Mean squared displacement against time.

    Attributes
    ----------
    time : array [lags]
        ps, from 0.
    block_values : array [blocks, lags]
        Mean squared displacement in each block of consecutive frames, nm².
    """

    time: FloatArray
    block_values: FloatArray

    @property
    def value(self) -> FloatArray:
        """Mean squared displacement, nm², [lags]."""
        return mean_and_error(self.block_values)[0]

    @property
    def error(self) -> FloatArray:
        """Standard error of `value` from the blocks, nm², [lags]."""
        return mean_and_error(self.block_values)[1]

    def diffusion(self, start: float, stop: float) -> Diffusion:
        """Diffusion constant D by the Einstein relation MSD = 6Dt + constant, fitted by least squares.

        The values at different times are not independent of each other, so the error is not that of the fit:
        the slope is fitted in each block, and the spread of the blocks gives the error.

        Parameters
        ----------
        start, stop : float
            Range of times of the fit, ps; it should begin after the ballistic motion.

        Raises
        ------
        ValueError
            When fewer than two times lie in the range.
        """
        inside = (self.time >= start) & (self.time <= stop)
        if inside.sum() < 2:
            raise ValueError(
                f"fewer than two times lie from {start:g} to {stop:g} ps; the mean squared displacement is "
                f"known up to {self.time[-1]:g} ps in steps of {self.time[1] - self.time[0]:g} ps"
            )
        slopes = np.polyfit(self.time[inside], self.block_values[:, inside].T, 1)[0]
        constant, error = mean_and_error(slopes / 6)
        return Diffusion(float(constant), float(error))


def mean_squared_displacement(
    positions: FrameSequence,
    times: ArrayLike,
    *,
    boxes: FrameSequence | None = None,
    maximum: float | None = None,
    blocks: int = 5,
    progress: bool = True,
) -> MeanSquaredDisplacement:
    """Mean squared displacement over all beads and all time origins.

    The trajectory is cut into blocks of consecutive frames. In each, all time origins are used, by Fourier
    transform (Calandrini et al., Collection SFN 12, 201 (2011)); the spread of the blocks gives the error
    bars.

    Parameters
    ----------
    positions : array-like [F, N, 3]
        Bead positions, nm; anything that is sliced by frame, read one block at a time. Beads must not jump
        when they cross the box, unless `boxes` are given.
    times : array-like [F]
        ps, equally spaced.
    boxes : array-like [F, 3, 3], optional
        Box vectors as rows, nm. With them, a bead's step between two frames is taken to be the shortest of
        its periodic images, which undoes jumps; frames must be close enough that no bead moves half a box
        width between two.
    maximum : float, optional
        Largest time, ps; half the length of a block by default.
    blocks : int
        Blocks for the error bars; with 1 they are NaN.
    progress : bool
        Show a progress bar where it takes longer than two seconds.

    Raises
    ------
    ValueError
        For wrong shapes, positions that are not finite, boxes not in the reduced form, unequally spaced times, or a
        `maximum` that a block does not reach.

    Examples
    --------
    Beads moving at 1 nm/ps have MSD = t²:

    >>> import numpy as np
    >>> times = 0.5 * np.arange(9)
    >>> positions = np.zeros((9, 4, 3))
    >>> positions[:, :, 0] = times[:, None]
    >>> np.round(mean_squared_displacement(positions, times, maximum=1.0, blocks=2).value, 9)
    array([0.  , 0.25, 1.  ])
    """
    shape, times = positions.shape, np.asarray(times, dtype=np.float64)
    if len(shape) != 3 or shape[2] != 3 or shape[0] < 2:
        raise ValueError(
            f"positions must have the shape [frames, beads, 3] with at least two frames, not {list(shape)}"
        )
    if times.shape != (shape[0],):
        raise ValueError(f"times must have the shape [{shape[0]}], one per frame, not {list(times.shape)}")
    interval = (times[-1] - times[0]) / (len(times) - 1)
    # Times stored in float32 carry a relative error of 6e-8 of the largest, far below this.
    if interval <= 0 or np.abs(np.diff(times) - interval).max() > 0.01 * interval:
        raise ValueError("times must be equally spaced; leave out the frames that are not")
    slices = block_slices(shape[0], blocks)
    shortest = min(block.stop - block.start for block in slices)
    lags = shortest // 2 if maximum is None else round(maximum / interval)
    if not 1 <= lags < shortest:
        reach = (shortest - 1) * interval
        raise ValueError(
            f"a block of {shortest} frames every {interval:g} ps reaches {reach:g} ps, which cannot give "
            f"times up to {lags * interval:g} ps; choose fewer blocks, another maximum, or simulate longer"
        )
    block_values = []
    for block in tqdm(
        slices, desc="mean squared displacement", unit="block", delay=2, leave=False, disable=not progress
    ):
        block_values.append(_block_displacement(positions, boxes, block, lags))
    return MeanSquaredDisplacement(time=interval * np.arange(lags + 1), block_values=np.array(block_values))


def _block_displacement(positions: FrameSequence, boxes: FrameSequence | None, block: slice, lags: int) -> FloatArray:
    """Mean squared displacement [lags+1] in one block of frames, all beads and time origins."""
    paths = np.asarray(positions[block])
    frames, beads, _ = paths.shape
    if not np.isfinite(paths).all():
        raise ValueError(
            f"frames {block.start} to {block.stop - 1} have positions that are not finite; analyse the frames before"
        )
    group = max(1, _GROUP_ELEMENTS // (3 * 2 * frames))
    total = np.zeros(lags + 1)
    for first in range(0, beads, group):
        path = paths[:, first : first + group].astype(np.float64)
        if boxes is not None:
            path = unwrap(path, np.asarray(boxes[block], dtype=np.float64))
        # Far from the origin the difference of squares below would lose digits.
        path = path - path.mean(axis=0)
        total += _summed_displacement(path.reshape(frames, -1), lags)
    return total / beads


def _summed_displacement(path: FloatArray, lags: int) -> FloatArray:
    """Σ over columns of ⟨(x(s+t) − x(s))²⟩ over all s, for t = 0 … lags, of `path` [frames, columns].

    (x(s+t) − x(s))² is a sum of squares, which a running sum gives, minus twice an autocorrelation, which the
    Fourier transform of the path, padded with zeros, gives.
    """
    frames = len(path)
    spectrum = rfft(path, n=next_fast_len(2 * frames, real=True), axis=0)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
    correlation = irfft(power, n=next_fast_len(2 * frames, real=True))[: lags + 1]
    squares = np.concatenate([[0.0], np.cumsum((path**2).sum(axis=1))])
    lag = np.arange(lags + 1)
    sum_of_squares = squares[frames - lag] + squares[frames] - squares[lag]
    return (sum_of_squares - 2 * correlation) / (frames - lag)


def unwrap(positions: FloatArray, boxes: FloatArray) -> FloatArray:
    """Undo the jumps of beads that were put back into the box.

    Every step between two frames is replaced by the shortest of its periodic images. Exact for a constant box
    and steps shorter than half its smallest width.

    Parameters
    ----------
    positions : array [F, N, 3]
        nm
    boxes : array [F, 3, 3]
        Box vectors as rows in OpenMM's reduced form, nm.

    Returns
    -------
    array [F, N, 3], nm

    Examples
    --------
    >>> import numpy as np
    >>> wrapped = np.array([[[0.8, 0.0, 0.0]], [[0.1, 0.0, 0.0]]])
    >>> unwrap(wrapped, np.tile(np.eye(3), (2, 1, 1)))[:, 0, 0]
    array([0.8, 1.1])
    """
    steps = minimum_image(np.diff(positions, axis=0), check_boxes(boxes, len(positions))[1:])
    return np.concatenate([positions[:1], positions[:1] + np.cumsum(steps, axis=0)])
