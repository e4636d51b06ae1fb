"""Displacements between beads, for TorchScript modules."""

from __future__ import annotations

import torch
from torch import Tensor


def minimum_image(displacements: Tensor, box: Tensor) -> Tensor:
    """Shift displacements to their nearest periodic image.

    The function scripts and is differentiable with respect to both arguments.

    Parameters
    ----------
    displacements : Tensor, shape [E, 3]
        Differences of positions, nm.
    box : Tensor, shape [3, 3] or [0]
        Box vectors as rows in OpenMM's reduced form, nm; empty when not periodic.

    Returns
    -------
    Tensor, shape [E, 3]
        The images. They are the shortest ones wherever the distance is below half the smallest diagonal
        element of the box.

    Examples
    --------
    >>> import torch
    >>> minimum_image(torch.tensor([[0.9, -0.6, 0.2]]), torch.eye(3))
    tensor([[-0.1000,  0.4000,  0.2000]])
    """
    if box.numel() == 0:
        return displacements
    for axis in (2, 1, 0):
        shifts = torch.round(displacements[:, axis] / box[axis, axis]).detach()
        displacements = displacements - shifts.unsqueeze(1) * box[axis]
    return displacements


def image_shifts(displacements: Tensor, box: Tensor) -> Tensor:
    """Whole numbers of box vectors ``[E, 3]`` that `minimum_image` adds to displacements: ``shifts @ box``.

    They are constants, whatever the displacements depend on, and zero where there is no box.
    """
    displacements = displacements.detach()
    shifts = torch.zeros_like(displacements)
    if box.numel() == 0:
        return shifts
    for axis in (2, 1, 0):
        shifts[:, axis] = -torch.round(displacements[:, axis] / box[axis, axis])
        displacements = displacements + shifts[:, axis].unsqueeze(1) * box[axis]
    return shifts


def near_origin(positions: Tensor, box: Tensor) -> Tensor:
    """Positions in the box, or about their mean where there is none, so that few digits tell them apart.

    Beads are moved by whole box vectors, which no energy depends on; the result is differentiable.
    """
    if box.numel() == 0:
        return positions - positions.detach().mean(0)
    for axis in (2, 1, 0):
        shifts = torch.floor(positions[:, axis] / box[axis, axis]).detach()
        positions = positions - shifts.unsqueeze(1) * box[axis]
    return positions


def chain_pairs(positions: Tensor, beads: int) -> tuple[Tensor, Tensor]:
    """Each bead and the next one of its molecule: the pairs that a network of a whole molecule takes.

    Parameters
    ----------
    positions : Tensor, shape [N, 3]
        Of the beads, one molecule after the other; beads left over at the end are in no pair.
    beads : int
        Of one molecule.

    Returns
    -------
    rows, columns : Tensor, shape [E]
        int64, where the positions are.

    Examples
    --------
    Two molecules of three beads:

    >>> import torch
    >>> rows, columns = chain_pairs(torch.zeros(6, 3), 3)
    >>> rows.tolist(), columns.tolist()
    ([0, 1, 3, 4], [1, 2, 4, 5])
    """
    number = positions.shape[0]
    rows = torch.arange(number - number % beads, device=positions.device).view(-1, beads)[:, :-1].flatten()
    return rows, rows + 1
