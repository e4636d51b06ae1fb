"""Pair priors as a function of positions that torch differentiates twice, as the adjoint method needs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import openmm
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from openmmcg.fitting.trajectory_matching.observables import neighbor_separations
from openmmcg.potentials.priors import Prior, from_xml, to_xml

# Points of a table, from a tenth of the cutoff on, which no two beads come near.
_POINTS = 4000


class PairPriors(nn.Module):
    """Energies of pair priors, of cubic splines through what OpenMM says of two beads.

    Parameters
    ----------
    priors
        Each a force between pairs of beads.
    types : Tensor [N]
        Bead types.
    box : Tensor [3, 3] or None
        nm

    Raises
    ------
    ValueError
        A prior acts on bonds, angles, dihedrals or the volume.
    """

    def __init__(self, priors: Sequence[Prior], types: Tensor, box: Tensor | None) -> None:
        super().__init__()
        self.types, self.box = types, box
        self.tables: list[tuple[float, dict[tuple[int, int], Tensor]]] = []
        kinds = sorted(set(types.tolist()))
        for prior in priors:
            force = from_xml(to_xml(prior))
            if not isinstance(force, openmm.CustomNonbondedForce):
                raise ValueError(
                    f"the adjoint method differentiates priors between pairs alone, not {force.getName()}; take "
                    "gradient='reweighting'"
                )
            cutoff = force.getCutoffDistance()._value
            pairs = [(a, b) for a in kinds for b in kinds if a <= b]
            self.tables.append((cutoff, {pair: _spline(force, pair, cutoff) for pair in pairs}))

    def forward(self, positions: Tensor) -> Tensor:
        """kJ/mol"""
        total = positions.sum() * 0
        for cutoff, splines in self.tables:
            delta, rows, columns = neighbor_separations(positions, self.box, cutoff)
            r = torch.linalg.norm(delta, dim=1)
            start, step = 0.1 * cutoff, 0.9 * cutoff / (_POINTS - 1)
            first, second = self.types[rows], self.types[columns]
            for (a, b), coefficients in splines.items():
                ours = r[((first == a) & (second == b)) | ((first == b) & (second == a))]
                cells = ((ours.detach() - start) / step).long().clamp(0, _POINTS - 2)
                x = ours - start - cells * step
                c = coefficients.to(positions.dtype)[:, cells]
                total = total + (((c[0] * x + c[1]) * x + c[2]) * x + c[3]).sum()
        return total


def _spline(prior: openmm.CustomNonbondedForce, pair: tuple[int, int], cutoff: float) -> Tensor:
    """Coefficients of the pieces, ``[4, points − 1]``, the highest power first."""
    force, system = copy.deepcopy(prior), openmm.System()
    for kind in pair:
        system.addParticle(1.0)
        force.addParticle([kind])
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    grid = np.linspace(0.1 * cutoff, cutoff, _POINTS)
    energies = []
    for r in grid:
        context.setPositions([[0.0, 0.0, 0.0], [float(r), 0.0, 0.0]])
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    return torch.from_numpy(CubicSpline(grid, energies).c.copy())
