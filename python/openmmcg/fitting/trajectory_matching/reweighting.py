"""Ensemble averages and their derivatives by reweighting the frames of a simulation, and the steps that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.analysis.statistics import block_slices
from openmmcg.constants import BAR
from openmmcg.fitting.filter_tables import tabulated_energies
from openmmcg.fitting.trajectory_matching.observables import Configuration, Observable, Pressure, loss_of
from openmmcg.geometry.minimum_image import minimum_image
from openmmcg.potentials.networks import FilterConvolutionNetwork

FloatArray = NDArray[np.float64]

# Blocks of frames from which the noise of a mean is known.
_BLOCKS = 10
# The length of a step in parameters counts so much beside what it does to energies, of an average direction.
_RIDGE = 1e-3
# Of the logarithm of the damping.
_BISECTIONS = 50
# How often a step is halved that frames say too little of.
_HALVINGS = 5


class Graph(NamedTuple):
    """One frame, as networks see it; displacements ``[E, 3]`` in nm, types ``[N]``, rows and columns ``[E]``."""

    displacements: Tensor
    types: Tensor
    rows: Tensor
    columns: Tensor

    def energy(self, network: nn.Module, exact: bool = False) -> Tensor:
        """kJ/mol; by tables of the filters where the network has some, see `filter_tables`."""
        if isinstance(network, FilterConvolutionNetwork) and not exact:
            return tabulated_energies(network, *self)[0].double().sum()
        return network(*self).double().sum()

    def energy_and_stretch(self, network: nn.Module, exact: bool = False) -> tuple[Tensor, Tensor]:
        """Also dU/ds, kJ/mol, where s stretches all lengths."""
        if isinstance(network, FilterConvolutionNetwork) and not exact:
            beads, slopes = tabulated_energies(network, *self, gradients=True)
            assert slopes is not None
        else:
            with torch.enable_grad():
                displacements = self.displacements.detach().requires_grad_()
                beads = network(displacements, *self[1:])
                (slopes,) = torch.autograd.grad(beads.sum(), displacements, create_graph=True)
        return beads.double().sum(), (slopes * self.displacements).double().sum()


class Linear(NamedTuple):
    """Reweighted means and how they change with the network's parameters.

    Attributes
    ----------
    means : list of Tensor [values]
    slopes : Tensor [all values, parameters]
        Of the means.
    energies : Tensor [frames, parameters]
        Of U/k_BT less its mean, times the root of the weights: their squares add up to the variance of the change.
    effective : float
        Effective number of frames, as a part of them.
    """

    means: list[Tensor]
    slopes: Tensor
    energies: Tensor
    effective: float


class SampledFrames:
    """Frames of a simulation, what they say of the observables, and the energies with which they were sampled.

    Parameters
    ----------
    network : Module
        Of the simulation.
    configurations : sequence of Configuration
        Its frames, those of each replica one after the other.
    observables : sequence of Observable
    thermal : float
        k_B T, kJ/mol.
    pressures : array [frames], optional
        Of the frames, bar, with this network; needed for a `Pressure`.
    dtype
        Of the network's arithmetic.
    exact
        Whether to evaluate filters at every pair, where tables would have an error of some 1e-4.
    """

    def __init__(
        self,
        network: nn.Module,
        configurations: Sequence[Configuration],
        observables: Sequence[Observable],
        thermal: float,
        pressures: FloatArray | None = None,
        dtype: torch.dtype = torch.float32,
        exact: bool = False,
    ) -> None:
        self._exact = exact
        self.observables, self.thermal = list(observables), thermal
        self.graphs = [_graph(each, network, dtype) for each in configurations]
        self._has_pressure = any(isinstance(each, Pressure) for each in observables)
        if self._has_pressure and pressures is None:
            raise ValueError("the frames have no pressures; simulate with pressures=True")
        self.volumes = torch.tensor([0.0 if c.box is None else float(torch.linalg.det(c.box)) for c in configurations])
        self.values: list[Tensor] = []
        for observable in observables:
            if isinstance(observable, Pressure):
                self.values.append(torch.as_tensor(pressures).double()[:, None] / observable.scale)
            else:
                with torch.no_grad():
                    self.values.append(torch.stack([observable.values(c).double() for c in configurations]))
        self._energies, self._stretches = self._evaluate(network)

    def __len__(self) -> int:
        return len(self.graphs)

    def _evaluate(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Energies and stretches of all frames."""
        with torch.no_grad():
            if not self._has_pressure:
                energies = torch.stack([graph.energy(network, self._exact) for graph in self.graphs])
                return energies, torch.zeros_like(energies)
            both = [graph.energy_and_stretch(network, self._exact) for graph in self.graphs]
            return torch.stack([each[0].detach() for each in both]), torch.stack([each[1].detach() for each in both])

    def weights(self, energies: Tensor) -> Tensor:
        """Of the frames, ``[F]``, with other energies than they were sampled with; they add up to one."""
        return torch.softmax(-(energies - self._energies) / self.thermal, 0)

    def _observed(self, stretches: Tensor) -> list[Tensor]:
        """Values of the observables, where pressures have changed with the network."""
        result = []
        for observable, values in zip(self.observables, self.values, strict=True):
            if isinstance(observable, Pressure):
                change = (stretches - self._stretches) * self._of_pressure(observable)
                values = values + change[:, None]
            result.append(values)
        return result

    def _of_pressure(self, observable: Pressure) -> Tensor:
        """By what a stretch changes the observable, ``[F]``."""
        return -1 / (3 * self.volumes * BAR * observable.scale)

    def loss(self, network: nn.Module, targets: Sequence[FloatArray]) -> tuple[float, list[FloatArray], float]:
        """Loss, means of the observables and effective number of frames, as a part of them."""
        energies, stretches = self._evaluate(network)
        weights = self.weights(energies)
        means = [(weights @ values).numpy() for values in self._observed(stretches)]
        return loss_of(self.observables, means, targets), means, effective(weights)

    def noise(self) -> float:
        """What the loss would be, on average, with the right network, from so many frames."""
        total = 0.0
        for observable, values in zip(self.observables, self.values, strict=True):
            number = max(2, min(_BLOCKS, len(values) // 2))
            blocks = torch.stack([values[part].mean(0) for part in block_slices(len(values), number)])
            total += observable.weight * float((blocks.var(0) / number).mean())
        return total

    def linearised(self, network: nn.Module) -> Linear:
        """Means and their derivatives, −β⟨(O − ⟨O⟩) ∂U/∂θ⟩ (Thaler and Zavadlav, equation 4), of every frame once."""
        parameters = [each for each in network.parameters() if each.requires_grad]
        energies, stretches, rows, stretch_rows = [], [], [], []
        for graph in self.graphs:
            if self._has_pressure:
                energy, stretch = graph.energy_and_stretch(network, self._exact)
                stretch_rows.append(
                    _flat(torch.autograd.grad(stretch, parameters, retain_graph=True, allow_unused=True), parameters)
                )
                stretches.append(stretch.detach())
            else:
                energy = graph.energy(network, self._exact)
            rows.append(_flat(torch.autograd.grad(energy, parameters, allow_unused=True), parameters))
            energies.append(energy.detach())
        weights = self.weights(torch.stack(energies))
        observed = self._observed(torch.stack(stretches) if stretches else self._stretches)
        jacobian = torch.stack(rows) / self.thermal
        jacobian -= weights @ jacobian
        means = [weights @ values for values in observed]
        slopes = []
        for observable, values, mean in zip(self.observables, observed, means, strict=True):
            slope = -((values - mean) * weights[:, None]).T @ jacobian
            if isinstance(observable, Pressure):
                slope += (weights * self._of_pressure(observable)) @ torch.stack(stretch_rows)
            slopes.append(slope)
        return Linear(means, torch.cat(slopes), weights.sqrt()[:, None] * jacobian, effective(weights))

    def gradient(self, network: nn.Module, targets: Sequence[FloatArray]) -> Tensor:
        """Of the loss, with respect to the network's parameters one after the other."""
        linear = self.linearised(network)
        residual, scales = self._residual(linear.means, targets)
        return 2 * (scales * residual) @ linear.slopes

    def _residual(self, means: Sequence[Tensor], targets: Sequence[FloatArray]) -> tuple[Tensor, Tensor]:
        """Differences whose squares add up to the loss, and by what differences of the means are multiplied there."""
        scales = [
            torch.full((len(mean),), (observable.weight / len(mean)) ** 0.5, dtype=torch.float64)
            for observable, mean in zip(self.observables, means, strict=True)
        ]
        away = torch.cat([mean - torch.as_tensor(target) for mean, target in zip(means, targets, strict=True)])
        return torch.cat(scales) * away, torch.cat(scales)

    def step(self, network: nn.Module, targets: Sequence[FloatArray], least: float) -> float:
        """Change the network such that the loss falls, as far as these frames can tell.

        A step of Gauss and Newton, damped (Levenberg and Marquardt) by the variance of the change of U/k_BT over the
        frames, which is what makes frames say less, and a little by the length in parameters. It is in the space of the
        frames' gradients, where these are fewer than the parameters. Damping is as strong as keeps the effective
        number of frames at `least`, and stronger where less would fit the noise.

        Returns
        -------
        float
            Effective number of frames after the step, as a part of them; 1 where there was nothing to be gained.
        """
        linear = self.linearised(network)
        residual, scales = self._residual(linear.means, targets)
        slopes = scales[:, None] * linear.slopes
        noise = self.noise()
        if float(residual @ residual) <= noise:
            return 1.0
        basis = torch.cat([linear.energies, slopes])
        if len(basis) > basis.shape[1]:
            basis = torch.eye(basis.shape[1], dtype=basis.dtype)
        of_means, of_energies, gram = slopes @ basis.T, linear.energies @ basis.T, basis @ basis.T
        metric = of_energies.T @ of_energies
        metric += _RIDGE * float(metric.trace() / gram.trace()) * gram
        metric += 1e-9 * float(metric.trace()) / len(basis) * torch.eye(len(basis), dtype=basis.dtype)
        # In axes in which both are diagonal, so that every strength of damping costs nothing.
        lower = torch.linalg.cholesky(metric)
        whitened = torch.linalg.solve_triangular(lower, of_means.T, upper=False)
        values, axes = torch.linalg.eigh(whitened @ whitened.T)
        axes = torch.linalg.solve_triangular(lower.T, axes, upper=True)
        along, spread, aim = of_means @ axes, of_energies @ axes, axes.T @ (of_means.T @ residual)
        strongest, weakest = (float(values[-1]) * each for each in (1e6, 1e-12))
        for _ in range(_BISECTIONS):
            damping = (strongest * weakest) ** 0.5
            trial = -aim / (values.clamp(min=0) + damping)
            left_over = residual + along @ trial
            too_far = float((spread @ trial).square().sum()) > -2 * np.log(least)
            if too_far or float(left_over @ left_over) < noise:
                weakest = damping
            else:
                strongest = damping
        return self._move(network, basis.T @ (axes @ (-aim / (values.clamp(min=0) + strongest))), least)

    def _move(self, network: nn.Module, change: Tensor, least: float) -> float:
        """Add a change to the parameters, or as much of it as leaves enough frames effective."""
        parameters = [each for each in network.parameters() if each.requires_grad]
        start = [each.detach().clone() for each in parameters]
        found = 0.0
        for _ in range(_HALVINGS):
            with torch.no_grad():
                place = 0
                for parameter, begin in zip(parameters, start, strict=True):
                    part = change[place : place + parameter.numel()].view_as(parameter)
                    parameter.copy_(begin + part.to(parameter.dtype))
                    place += parameter.numel()
            found = effective(self.weights(self._evaluate(network)[0]))
            if found >= least**2:
                break
            change = change / 2
        return found


def effective(weights: Tensor) -> float:
    """Effective number of frames, e^(−Σ w ln w), as a part of them (Thaler and Zavadlav, equation 5)."""
    entropy = -torch.special.xlogy(weights, weights).sum()
    return float(torch.exp(entropy) / len(weights))


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    parts = [
        (torch.zeros_like(parameter) if gradient is None else gradient).flatten().double()
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]
    return torch.cat(parts)


def _graph(configuration: Configuration, network: nn.Module, dtype: torch.dtype) -> Graph:
    positions = configuration.positions.numpy().astype(float)
    box = None if configuration.box is None else configuration.box.numpy().astype(float)
    if network.cutoff is None:
        rows = np.arange(len(positions) - 1)
        columns = rows + 1
    else:
        found = neighbor_pairs(positions, box, float(network.cutoff))  # type: ignore[arg-type]
        rows, columns = (np.asarray(each, np.int64) for each in found)
    separations = minimum_image(positions[columns] - positions[rows], box)
    return Graph(
        torch.from_numpy(separations).to(dtype), configuration.types, torch.from_numpy(rows), torch.from_numpy(columns)
    )
