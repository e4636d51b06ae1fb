"""Forces of a network on beads, in the quickest way there is for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openmmcg.fitting.filter_tables import tabulated_forces
from openmmcg.fitting.force_matching.data import Batch
from openmmcg.potentials.networks import FilterConvolutionNetwork


def network_forces(network: nn.Module, batch: Batch, *, exact: bool = False) -> Tensor:
    """Forces of a network, ``[N, 3]``, kJ/mol/nm, differentiable with respect to its parameters.

    Parameters
    ----------
    network : Module
        Energies of beads, as `SchNet.forward`.
    batch : Batch
        Frames.
    exact : bool
        Whether to differentiate the network automatically even where `tabulated_forces` can do it.
    """
    displacements, types, rows, columns, _ = batch
    if isinstance(network, FilterConvolutionNetwork) and not exact:
        return tabulated_forces(network, displacements, types, rows, columns)
    learns = torch.is_grad_enabled()
    with torch.enable_grad():
        displacements = displacements.detach().requires_grad_()
        energy = network(displacements, types, rows, columns).sum()
        (gradients,) = torch.autograd.grad(energy, displacements, create_graph=learns)
    forces = gradients.new_zeros(len(types), 3)
    return forces.index_add(0, rows, gradients).index_add(0, columns, -gradients)
