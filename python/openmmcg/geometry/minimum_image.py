"""Displacements to the nearest periodic image, in numpy; for TorchScript modules see `scriptable`.

Boxes are three row vectors in OpenMM's reduced form: lower triangular, with a positive diagonal, and elements below it
of at most half the diagonal element of their column. The image is found by `d -= c·round(d_z/c_z)`, then b, then a, as
in OpenMM and in the plugin's kernels. What comes out shorter than half the smallest diagonal element is the shortest
image, and the only one that short: every lattice vector is at least as long as that element. Beyond, the nearest image
may be another one, or there may be two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# By which boxes that were stored in single precision may exceed the limits of the reduced form.
_ROUNDING = 1e-5


def minimum_image(displacements: ArrayLike, box: ArrayLike | None) -> FloatArray:
    """Shift displacements to their nearest periodic image, see above for where it is the nearest.

    Parameters
    ----------
    displacements : array [..., 3]
        Differences of positions, nm.
    box : array [3, 3] or [F, 3, 3], or None
        Box vectors as rows in OpenMM's reduced form, nm: one, or one for each of the displacements [F, ..., 3]; None
        when not periodic.

    Returns
    -------
    float64 [..., 3], nm

    Examples
    --------
    >>> minimum_image([0.9, -0.6, 0.2], np.eye(3)).round(3)
    array([-0.1,  0.4,  0.2])
    """
    return np.asarray(displacements, np.float64) if box is None else nearest_images(displacements, box)[0]


def nearest_images(displacements: ArrayLike, box: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Minimum images, and how often each box vector was subtracted for them, both ``[..., 3]``.

    Examples
    --------
    >>> nearest_images([0.9, -0.6, 0.2], np.eye(3))[1]
    array([ 1., -1.,  0.])
    """
    nearest = np.array(displacements, np.float64)
    vectors = np.asarray(box, np.float64)
    vectors = vectors.reshape(*vectors.shape[:-2], *[1] * (nearest.ndim + 1 - vectors.ndim), 3, 3)
    crossings = np.empty_like(nearest)
    for axis in (2, 1, 0):
        crossed = np.round(nearest[..., axis] / vectors[..., axis, axis])
        crossings[..., axis] = crossed
        # Vector number `axis` has no elements beyond it.
        for component in range(axis + 1):
            nearest[..., component] -= crossed * vectors[..., axis, component]
    return nearest, crossings


def check_boxes(boxes: ArrayLike, frames: int) -> FloatArray:
    """Boxes of frames as float64 ``[frames, 3, 3]``, nm, after checking that each is one.

    Parameters
    ----------
    boxes : array [3, 3] or [frames, 3, 3]
    frames : int

    Raises
    ------
    ValueError
        There is not one for each frame, or one is not finite or not in the reduced form.
    """
    vectors = np.asarray(boxes, np.float64)
    if vectors.shape == (3, 3):
        vectors = np.broadcast_to(vectors, (frames, 3, 3))
    if vectors.shape != (frames, 3, 3):
        raise ValueError(
            f"boxes must have the shape [3, 3] or [{frames}, 3, 3], one for each frame, not {list(vectors.shape)}"
        )
    widths = np.diagonal(vectors, axis1=1, axis2=2)
    skew = np.abs(vectors[:, [1, 2, 2], [0, 0, 1]])
    with np.errstate(invalid="ignore"):
        fine = (widths > 0).all(1) & (vectors[:, [0, 0, 1], [1, 2, 2]] == 0).all(1)
        fine &= (skew <= (0.5 + _ROUNDING) * widths[:, [0, 0, 1]]).all(1) & np.isfinite(vectors).all((1, 2))
    if not fine.all():
        frame = int(np.argmin(fine))
        raise ValueError(
            f"the box of frame {frame}, {vectors[frame].tolist()}, is not in OpenMM's reduced form (lower triangular, "
            "positive diagonal, elements below it at most half the diagonal element of their column); "
            "openmm.app.internal.unitcell.reducePeriodicBoxVectors brings it into that form"
        )
    return vectors


def check_near(
    displacements: FloatArray, boxes: FloatArray, pairs: NDArray[np.int64], first_frame: int, *, remedy: str
) -> None:
    """Refuse minimum images of which another may have been meant.

    Parameters
    ----------
    displacements : array [F, P, 3]
        Minimum images, nm.
    boxes : array [F, 3, 3]
    pairs : int array [P, 2]
        The particles they are between.
    first_frame : int
        What error messages count frames from.
    remedy : str
        What to do, for the error message.

    Raises
    ------
    ValueError
        One is not shorter than half the smallest diagonal element of the box.
    """
    limits = boxes.diagonal(axis1=1, axis2=2).min(1) / 2
    far = ~(np.einsum("fpi,fpi->fp", displacements, displacements) < limits[:, None] ** 2)
    if far.any():
        frame, pair = np.argwhere(far)[0]
        raise ValueError(
            f"in frame {first_frame + frame} the particles {pairs[pair, 0]} and {pairs[pair, 1]} are "
            f"{np.linalg.norm(displacements[frame, pair]):.3f} nm apart, not less than half the smallest width of the "
            f"box, {limits[frame]:.3f} nm, so it cannot be told which of their periodic images is meant; {remedy}"
        )
