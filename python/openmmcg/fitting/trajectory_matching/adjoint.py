"""Gradients of averages along a trajectory by the adjoint method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openmmcg.fitting.trajectory_matching.observables import (
    Configuration,
    OfConfiguration,
    differentiable_loss,
    neighbor_separations,
)
from openmmcg.optional import optional_imports

with optional_imports():
    from torchdiffeq import odeint_adjoint

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """Of a liquid under a Nosé-Hoover chain.

    Attributes
    ----------
    positions, velocities : Tensor [N, 3]
        nm and nm/ps.
    chain : Tensor [links]
        Momenta of the chain, kJ/mol ps.
    """

    positions: Tensor
    velocities: Tensor
    chain: Tensor


class NoseHooverChain(nn.Module):
    """The equations of motion of beads under a Nosé-Hoover chain, of positions, velocities and momenta of the chain.

    Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992), equation 2.3.

    Parameters
    ----------
    network : Module
        Energies of beads.
    masses : Tensor [N]
        amu
    types : Tensor [N]
    box : Tensor [3, 3] or None
        nm
    thermal : float
        k_B T, kJ/mol.
    period : float
        ps, of the chain.
    links : int
    prior : callable, optional
        Energy, kJ/mol, of positions, in torch, of what acts besides and is not learned.
    """

    def __init__(
        self,
        network: nn.Module,
        masses: Tensor,
        types: Tensor,
        box: Tensor | None,
        thermal: float,
        period: float = 0.1,
        links: int = 3,
        prior: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network, self.prior = network, prior
        self.masses, self.types, self.box = masses[:, None], types, box
        self.thermal = thermal
        # Less those of the centre of mass, which is at rest.
        self.degrees = 3 * len(masses) - 3
        inertia = thermal * period**2
        self.inertia = torch.tensor([self.degrees * inertia] + [inertia] * (links - 1), dtype=masses.dtype)

    def energy(self, positions: Tensor) -> Tensor:
        """kJ/mol."""
        cutoff = float(self.network.cutoff)  # type: ignore[arg-type]
        delta, rows, columns = neighbor_separations(positions, self.box, cutoff)
        total = self.network(delta, self.types, rows, columns).sum()
        return total if self.prior is None else total + self.prior(positions)

    def forward(self, time: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rates of positions, velocities and the chain."""
        positions, velocities, chain = state
        with torch.enable_grad():
            if not positions.requires_grad:
                positions = positions.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.energy(positions), positions, create_graph=True)
        kinetic = (self.masses * velocities**2).sum()
        rates = chain / self.inertia
        pulls = [kinetic - self.degrees * self.thermal]
        pulls += [chain[link - 1] ** 2 / self.inertia[link - 1] - self.thermal for link in range(1, len(chain))]
        pushes = [
            pull - chain[link] * rates[link + 1] if link + 1 < len(chain) else pull for link, pull in enumerate(pulls)
        ]
        return velocities, -slopes / self.masses - velocities * rates[0], torch.stack(pushes)

    def conserved(self, state: State, displacement: float | Tensor = 0.0) -> Tensor:
        """The conserved energy, kJ/mol, less the part of the chain's coordinates, which `displacement` is."""
        kinetic = 0.5 * (self.masses * state.velocities**2).sum()
        chain = 0.5 * (state.chain**2 / self.inertia).sum()
        return self.energy(state.positions) + kinetic + chain + displacement


def trajectory(motion: NoseHooverChain, start: State, times: Sequence[float], time_step: float) -> list[State]:
    """States at some times, differentiable by the adjoint method (Chen et al., *Neural ordinary differential
    equations* (2018)): memory does not grow with the number of steps.

    Parameters
    ----------
    motion
        Whose network's parameters are differentiated.
    start
        At time 0.
    times
        ps, rising, from after 0 on.
    time_step
        ps, of the classical fourth-order method of Runge and Kutta.
    """
    dtype = start.positions.dtype
    grid = torch.tensor([0.0, *times], dtype=dtype)
    positions, velocities, chains = odeint_adjoint(
        motion,
        (start.positions, start.velocities, start.chain),
        grid,
        method="rk4",
        options={"step_size": time_step},
        adjoint_params=tuple(each for each in motion.network.parameters() if each.requires_grad),
    )
    return [State(*each) for each in zip(positions[1:], velocities[1:], chains[1:], strict=True)]


def adjoint_gradient(
    motion: NoseHooverChain,
    start: State,
    times: Sequence[float],
    time_step: float,
    observables: Sequence[OfConfiguration],
    targets: Sequence[FloatArray],
) -> tuple[float, list[FloatArray], State]:
    """Adds the gradient of the loss of means along a trajectory to the network's parameters.

    Returns
    -------
    float
        The loss.
    list of array
        Means of the observables.
    State
        At the end, from which the next trajectory goes on.
    """
    states = trajectory(motion, start, times, time_step)
    means = []
    for observable in observables:
        values = [observable.values(Configuration(each.positions, motion.box, motion.types)) for each in states]
        means.append(torch.stack(values).mean(0).double())
    loss = differentiable_loss(observables, means, targets)
    loss.backward()
    last = states[-1]
    end = State(last.positions.detach(), last.velocities.detach(), last.chain.detach())
    return float(loss.detach()), [mean.detach().numpy() for mean in means], end
