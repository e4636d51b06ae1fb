"""Finding neighbours with torch operators only, for modules that must do it themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from openmmcg.geometry.scriptable import minimum_image


def near_pairs(positions: Tensor, box: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Every pair of beads closer than the cutoff, once; the arguments are those of `cell_pairs`."""
    rows, columns = cell_pairs(positions, box, cutoff)
    displacements = minimum_image(positions.index_select(0, columns) - positions.index_select(0, rows), box)
    near = torch.nonzero(displacements.square().sum(1) < cutoff * cutoff).squeeze(1)
    return rows.index_select(0, near), columns.index_select(0, near)


def cell_pairs(positions: Tensor, box: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs of beads in the same or in adjacent cells, once: all those within the cutoff, and some more.

    The cells divide the box, or the space that the beads take where there is none, into parallelepipeds at
    least as wide as the cutoff. Where a periodic box is less than three cells wide, all pairs are listed.

    Parameters
    ----------
    positions
        ``[N, 3]``, nm
    box
        Box vectors as rows, ``[3, 3]``, nm; empty when not periodic.
    cutoff
        nm

    Returns
    -------
    rows, columns : Tensor
        ``[E]`` int64
    """
    beads = positions.shape[0]
    device = positions.device
    periodic = box.numel() > 0
    if periodic:
        reciprocal = torch.linalg.inv(box)
        fractions = torch.matmul(positions, reciprocal)
        fractions = fractions - torch.floor(fractions)
        widths = 1.0 / reciprocal.square().sum(0).sqrt()
    else:
        lowest = positions.amin(0)
        widths = positions.amax(0) - lowest + 1e-3
        fractions = (positions - lowest) / widths
    # No more cells than beads: a few beads far apart must not fill the memory with empty ones.
    most = 1 + int(float(beads) ** (1.0 / 3.0))
    cells = torch.clamp(torch.floor(widths / cutoff), min=1, max=most).to(torch.int64)
    if periodic and int(cells.min()) < 3:
        pairs = torch.triu_indices(beads, beads, 1, device=device)
        return pairs[0], pairs[1]

    # Where there are no periodic neighbours, a layer of empty cells spares the test for the edge.
    margin = 0 if periodic else 1
    shape = cells + 2 * margin
    place = torch.minimum((fractions * cells).to(torch.int64), cells - 1) + margin
    strides = torch.stack([shape[1] * shape[2], shape[2], torch.ones_like(shape[0])])
    cell = (place * strides).sum(1)
    order = torch.argsort(cell)
    population = torch.bincount(cell, minlength=int(shape.prod()))
    first = torch.cumsum(population, 0) - population

    side = torch.arange(-1, 2, device=device)
    half = torch.cartesian_prod(side, side, side)[13:]  # the cell itself, and one of each two opposite neighbours
    neighbors = place.index_select(0, order).unsqueeze(1) + half
    if periodic:
        neighbors = torch.remainder(neighbors, cells)
    neighbor = (neighbors * strides).sum(2).flatten()
    count = population.index_select(0, neighbor)
    # The first bead of a neighbouring cell, less the number of candidates listed before it.
    start = first.index_select(0, neighbor) - (torch.cumsum(count, 0) - count)
    visit = torch.arange(neighbor.shape[0], device=device).repeat_interleave(count)
    rows = torch.div(visit, half.shape[0], rounding_mode="floor")
    columns = torch.arange(visit.shape[0], device=device) + start.index_select(0, visit)
    within_own_cell = torch.remainder(visit, half.shape[0]) == 0
    once = torch.nonzero(torch.logical_not(within_own_cell) | (rows < columns)).squeeze(1)
    return order.index_select(0, rows.index_select(0, once)), order.index_select(0, columns.index_select(0, once))
