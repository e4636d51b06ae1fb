"""How a network tells what it computes, to whoever compiles it or runs it in another way."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from openmmcg.potentials.networks.primitives import Dense, Filter

Value = TypeVar("Value")


class Program(Protocol[Value]):
    """Takes the primitives of ``docs/design.md`` one after the other.

    A value stands for a row of channels per bead, a scalar; for three, the components of a vector; or for five, those
    of a tensor. Weights are as torch
    has them, ``[out, in]``, and remain connected to the network's parameters. Every value must be used.
    """

    def embedding(self, weight: Tensor) -> Value:
        """``y_i = weight[type_i]``; weight ``[types, channels]``."""

    def dense(self, value: Value, weight: Tensor, bias: Tensor | None, activation: str) -> Value:
        """``y_i = f(x_i · weightᵀ + bias)``, or ``y_id = x_id · weightᵀ`` of a vector or tensor."""

    def activation(self, value: Value, activation: str) -> Value:
        """``y_i = f(x_i)`` of a scalar; see `activate`."""

    def convolution(self, value: Value, filter: Filter) -> Value:
        """``y_i = Σ_j x_j ∘ W(r_ij)``, for each component."""

    def vector_convolution(self, value: Value, filter: Filter) -> Value:
        """``y_i = Σ_j (x_j ∘ W(r_ij)) r̂_ij``, from a scalar to a vector; ``r̂_ij`` points from i to j."""

    def tensor_convolution(self, value: Value, filter: Filter) -> Value:
        """``y_i = Σ_j (x_j ∘ W(r_ij)) Y(r̂_ij)``, from a scalar to a tensor; Y are the `quadrupoles`."""

    def product(self, scalar: Value, value: Value) -> Value:
        """``y_i = a_i ∘ b_i`` of a scalar, and a scalar, vector or tensor."""

    def inner_product(self, first: Value, second: Value) -> Value:
        """``y_i = Σ_d a_id ∘ b_id`` of two vectors or two tensors."""

    def sum(self, *values: Value) -> Value:
        """``y_i = Σ_a x^a_i``."""

    def readout(self, value: Value, weight: Tensor, bias: Tensor | None = None) -> None:
        """``E = Σ_i x_i · weight + bias`` in kJ/mol; weight ``[in]``, bias ``[1]``. Always the last."""


@runtime_checkable
class FilterConvolutionNetwork(Protocol):
    """A network made of nothing but the primitives, which can be compiled."""

    types: int
    cutoff: float

    def describe(self, program: Program[Value]) -> None:
        """Give the program the primitives that make up the energy."""


def describe_dense(program: Program[Value], value: Value, layer: Dense) -> Value:
    """A dense layer that is a module."""
    return program.dense(value, layer.weight, layer.bias, layer.activation)


def describe_layers(program: Program[Value], value: Value, layers: nn.Module) -> Value:
    """What `dense_layers` makes."""
    for layer in [layers] if isinstance(layers, Dense) else layers.children():
        value = describe_dense(program, value, layer)  # type: ignore[arg-type]
    return value
