"""Gradients of ensemble averages by reweighting the frames of a simulation (DiffTRe)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openmmcg._openmmcg import neighbor_pairs
from openmmcg.constants import BAR
from openmmcg.fitting.filter_tables import tabulated_energies
from openmmcg.fitting.trajectory_matching.observables import Configuration, Observable, Pressure
from openmmcg.geometry.minimum_image import minimum_image
from openmmcg.potentials.networks import FilterConvolutionNetwork

FloatArray = NDArray[np.float64]

# Pairs of beads whose energies are differentiated at once: as many as fit the caches of one core.
_PAIRS_AT_ONCE = 200_000


@dataclass(frozen=True)
class Part:
    """Some frames as one graph without edges between them.

    Attributes
    ----------
    displacements : Tensor [E, 3]
        nm
    types, frame_of_bead : Tensor [N]
    rows, columns, frame_of_pair : Tensor [E]
    frames : slice
        Which of all.
    """

    displacements: Tensor
    types: Tensor
    frame_of_bead: Tensor
    rows: Tensor
    columns: Tensor
    frame_of_pair: Tensor
    frames: slice

    def energies(self, network: nn.Module, exact: bool = False) -> Tensor:
        """Of each frame, kJ/mol, ``[F]``; by tables of the filters where the network has some, see `filter_tables`."""
        graph = (self.displacements, self.types, self.rows, self.columns)
        if isinstance(network, FilterConvolutionNetwork) and not exact:
            return self._of_frames(tabulated_energies(network, *graph)[0], self.frame_of_bead)
        return self._of_frames(network(*graph), self.frame_of_bead)

    def _of_frames(self, values: Tensor, frames: Tensor) -> Tensor:
        total = values.new_zeros(self.frames.stop - self.frames.start, dtype=torch.float64)
        return total.index_add(0, frames, values.double())

    def energies_and_stretches(self, network: nn.Module, exact: bool = False) -> tuple[Tensor, Tensor]:
        """Also dU/ds of each frame, kJ/mol, where s stretches all lengths."""
        if isinstance(network, FilterConvolutionNetwork) and not exact:
            graph = (self.displacements, self.types, self.rows, self.columns)
            beads, slopes = tabulated_energies(network, *graph, gradients=True)
            assert slopes is not None
        else:
            with torch.enable_grad():
                displacements = self.displacements.detach().requires_grad_()
                beads = network(displacements, self.types, self.rows, self.columns)
                (slopes,) = torch.autograd.grad(beads.sum(), displacements, create_graph=True)
        along = (slopes * self.displacements).sum(1)
        return self._of_frames(beads, self.frame_of_bead), self._of_frames(along, self.frame_of_pair)


class SampledFrames:
    """Frames of a simulation, what they say of the observables, and the energies with which they were sampled.

    Parameters
    ----------
    network : Module
        Of the simulation.
    configurations : sequence of Configuration
        Its frames.
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
        self.parts = list(_parts(configurations, network, dtype))
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
        with torch.no_grad():
            self._energies, self._stretches = self._evaluate(network)

    def __len__(self) -> int:
        return len(self._energies)

    def _evaluate(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        energies, stretches = [], []
        for part in self.parts:
            if self._has_pressure:
                energy, stretch = part.energies_and_stretches(network, self._exact)
                stretches.append(stretch.detach())
            else:
                energy = part.energies(network, self._exact)
            energies.append(energy.detach())
        return torch.cat(energies), torch.cat(stretches) if stretches else torch.zeros(0)

    def weights(self, energies: Tensor) -> Tensor:
        """Of the frames, ``[F]``, with other energies than they were sampled with; they add up to one."""
        return torch.softmax(-(energies - self._energies) / self.thermal, 0)

    def _observed(self, stretches: Tensor) -> list[Tensor]:
        """Values of the observables, where pressures have changed with the network."""
        result = []
        for observable, values in zip(self.observables, self.values, strict=True):
            if isinstance(observable, Pressure):
                change = -(stretches - self._stretches) / (3 * self.volumes) / BAR / observable.scale
                values = values + change[:, None]
            result.append(values)
        return result

    def loss(self, network: nn.Module, targets: Sequence[FloatArray]) -> tuple[float, list[FloatArray], float]:
        """Loss, means of the observables and effective number of frames, as a part of them."""
        with torch.no_grad():
            energies, stretches = self._evaluate(network)
            weights = self.weights(energies)
            means = [weights @ values for values in self._observed(stretches)]
            loss = _loss(self.observables, means, targets)
        return float(loss), [mean.numpy() for mean in means], effective(weights)

    def gradient(self, network: nn.Module, targets: Sequence[FloatArray]) -> tuple[float, float]:
        """Adds the gradient of the loss to the network's parameters; the loss, and the effective number of frames.

        The derivative of a mean is that of the weights, −β⟨(O − ⟨O⟩) ∂U/∂θ⟩ (Thaler and Zavadlav, Nat. Commun. 12,
        6884 (2021), equation 4), so each frame's energy is differentiated once, times a number.
        """
        with torch.no_grad():
            energies, stretches = self._evaluate(network)
        weights = self.weights(energies)
        observed = self._observed(stretches)
        means = [(weights @ values).requires_grad_() for values in observed]
        loss = _loss(self.observables, means, targets)
        slopes = torch.autograd.grad(loss, means)
        # What each frame adds to the loss, to first order.
        shares = sum(values @ slope for values, slope in zip(observed, slopes, strict=True))
        assert isinstance(shares, Tensor)
        factors = -weights * (shares - weights @ shares) / self.thermal
        of_pressure = torch.zeros(0)
        if self._has_pressure:
            of_pressure = torch.zeros(len(self), dtype=torch.float64)
            for observable, slope in zip(self.observables, slopes, strict=True):
                if isinstance(observable, Pressure):
                    of_pressure -= slope[0] * weights / (3 * self.volumes) / BAR / observable.scale
        for part in self.parts:
            if self._has_pressure:
                energy, stretch = part.energies_and_stretches(network, self._exact)
                (energy @ factors[part.frames] + stretch @ of_pressure[part.frames]).backward()
            else:
                (part.energies(network, self._exact) @ factors[part.frames]).backward()
        return float(loss.detach()), effective(weights)


def effective(weights: Tensor) -> float:
    """Effective number of frames, e^(−Σ w ln w), as a part of them (Thaler and Zavadlav, equation 5)."""
    entropy = -torch.special.xlogy(weights, weights).sum()
    return float(torch.exp(entropy) / len(weights))


def loss_of(observables: Sequence[Observable], means: Sequence[FloatArray], targets: Sequence[FloatArray]) -> float:
    """The sum over observables of weight times mean squared difference."""
    return float(_loss(observables, [torch.as_tensor(mean) for mean in means], targets))


def _loss(observables: Sequence[Observable], means: Sequence[Tensor], targets: Sequence[FloatArray]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for observable, mean, target in zip(observables, means, targets, strict=True):
        total = total + observable.weight * ((mean - torch.as_tensor(target)) ** 2).mean()
    return total


def _parts(configurations: Sequence[Configuration], network: nn.Module, dtype: torch.dtype) -> Iterable[Part]:
    """Frames, gathered as long as they have few pairs together."""
    gathered: list[tuple[Configuration, NDArray[np.int64], NDArray[np.int64], FloatArray]] = []
    pairs, first = 0, 0
    for number, configuration in enumerate(configurations):
        positions = configuration.positions.numpy().astype(float)
        box = None if configuration.box is None else configuration.box.numpy().astype(float)
        if network.cutoff is None:
            rows = np.arange(len(positions) - 1)
            columns = rows + 1
        else:
            found = neighbor_pairs(positions, box, float(network.cutoff))  # type: ignore[arg-type]
            rows, columns = (np.asarray(each, np.int64) for each in found)
        gathered.append((configuration, rows, columns, minimum_image(positions[columns] - positions[rows], box)))
        pairs += len(rows)
        if pairs >= _PAIRS_AT_ONCE or number == len(configurations) - 1:
            yield _joined(gathered, slice(first, number + 1), dtype)
            gathered, pairs, first = [], 0, number + 1


def _joined(
    gathered: Sequence[tuple[Configuration, NDArray[np.int64], NDArray[np.int64], FloatArray]],
    frames: slice,
    dtype: torch.dtype,
) -> Part:
    sizes = [len(each[0].positions) for each in gathered]
    starts = np.cumsum([0, *sizes])[:-1]
    counts = [len(each[1]) for each in gathered]
    return Part(
        displacements=torch.from_numpy(np.concatenate([each[3] for each in gathered])).to(dtype),
        types=torch.cat([each[0].types for each in gathered]),
        frame_of_bead=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        rows=torch.from_numpy(np.concatenate([each[1] + start for each, start in zip(gathered, starts, strict=True)])),
        columns=torch.from_numpy(
            np.concatenate([each[2] + start for each, start in zip(gathered, starts, strict=True)])
        ),
        frame_of_pair=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        frames=frames,
    )
