"""What the networks' arguments have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn

from openmmcg.potentials.networks.primitives import ACTIVATIONS, Dense, Filter
from openmmcg.potentials.networks.radial import CosineCutoff, ExponentialNormalBasis, GaussianBasis

BASES = {"gaussian": GaussianBasis, "exponential_normal": ExponentialNormalBasis}


def check_options(basis: str, activation: str, **positive: float) -> None:
    """Refuse unknown choices, and numbers that are not positive, by name.

    Raises
    ------
    ValueError
        An argument is out of range.
    """
    if basis not in BASES:
        raise ValueError(f"unknown radial basis '{basis}'; known are {', '.join(BASES)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation '{activation}'; known are {', '.join(ACTIVATIONS)}")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def make_filter(
    basis: str, cutoff: float, size: int, start: float, channels: int, activation: str | None, neighbors: float
) -> Filter:
    """A filter on the radial basis of this name, which ends with a cosine."""
    return Filter(BASES[basis](cutoff, size, start), CosineCutoff(cutoff), channels, activation, neighbors)


def dense_layers(inputs: int, widths: Sequence[int], activation: str) -> nn.Module:
    """Layers with activation, one after the other: a `Dense`, or a sequence of them."""
    layers = [Dense(*sizes, activation) for sizes in pairwise([inputs, *widths])]
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def output_widths(output_channels: int | Sequence[int] | None, channels: int) -> list[int]:
    """The widths of the layers before the energy, of which there is at least one."""
    if output_channels is None or isinstance(output_channels, int):
        return [channels if output_channels is None else output_channels]
    if not output_channels:
        raise ValueError("output_channels must hold the width of at least one layer; leave it out for the default")
    return list(output_channels)


@contextmanager
def initial_weights(seed: int | None) -> Iterator[None]:
    """Within the block, random numbers on the CPU are those of a seed; torch's global generator does not notice.

    With None they are those of the global generator, as ever.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
