"""How a network tells what it computes, to whoever compiles it or runs it in another way."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from openmmcg.potentials.networks.primitives import Filter

Value = TypeVar("Value")


class Program(Protocol[Value]):
    """Takes the primitives of ``docs/design.md`` one after the other.

    A value stands for one vector per bead. Weights are as torch has them, ``[out, in]``, and remain connected
    to the network's parameters.
    """

    def embedding(self, weight: Tensor) -> Value:
        """``y_i = weight[type_i]``; weight ``[types, channels]``."""

    def dense(self, value: Value, weight: Tensor, bias: Tensor | None, activation: str) -> Value:
        """``y_i = f(x_i · weightᵀ + bias)``."""

    def convolution(self, value: Value, filter: Filter) -> Value:
        """``y_i = Σ_j x_j ∘ W(r_ij)``."""

    def sum(self, *values: Value) -> Value:
        """``y_i = Σ_a x^a_i``."""

    def readout(self, value: Value, weight: Tensor) -> None:
        """``E = Σ_i x_i · weight`` in kJ/mol; weight ``[in]``. Always the last."""


@runtime_checkable
class FilterConvolutionNetwork(Protocol):
    """A network made of nothing but the primitives, which can be compiled."""

    types: int
    cutoff: float

    def describe(self, program: Program[Value]) -> None:
        """Give the program the primitives that make up the energy."""
