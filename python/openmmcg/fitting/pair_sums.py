"""Sums over pairs of neighbours and their derivatives, with little memory: what convolutions are made of.

Both functions are bilinear, and each is the other's derivative. With ``sign=-1`` what a pair says is the opposite
for its second bead, as a direction is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def convolve(features: Tensor, filters: Tensor, rows: Tensor, columns: Tensor, sign: int = 1) -> Tensor:
    """``y_i = Σ_j x_j ∘ W_ij`` over the neighbours of each bead, with ``W_ji = sign W_ij``.

    Parameters
    ----------
    features : Tensor, shape [N, channels]
    filters : Tensor, shape [E, channels]
    rows, columns : Tensor, shape [E]
        Each pair once.

    Returns
    -------
    Tensor, shape [N, channels]
    """
    return _Convolution.apply(features, filters, rows, columns, sign)


def multiply(first: Tensor, second: Tensor, rows: Tensor, columns: Tensor, sign: int = 1) -> Tensor:
    """``x_i ∘ y_j + sign x_j ∘ y_i`` for each pair: the derivative of ``Σ_i x_i · convolve(y, W)_i`` by ``W``.

    Parameters
    ----------
    first, second : Tensor, shape [N, channels]
    rows, columns : Tensor, shape [E]
        Each pair once.

    Returns
    -------
    Tensor, shape [E, channels]
    """
    return _Product.apply(first, second, rows, columns, sign)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, filters: Tensor, rows: Tensor, columns: Tensor, sign: int) -> Tensor:
        ctx.save_for_backward(features, filters, rows, columns)
        ctx.sign = sign
        return _convolve(features, filters, rows, columns, 1, sign)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        features, filters, rows, columns = ctx.saved_tensors
        return (
            _convolve(adjoint, filters, rows, columns, ctx.sign, 1),
            _multiply(adjoint, features, rows, columns, ctx.sign),
            None,
            None,
            None,
        )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, rows: Tensor, columns: Tensor, sign: int) -> Tensor:
        ctx.save_for_backward(first, second, rows, columns)
        ctx.sign = sign
        return _multiply(first, second, rows, columns, sign)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        first, second, rows, columns = ctx.saved_tensors
        return (
            _convolve(second, adjoint, rows, columns, 1, ctx.sign),
            _convolve(first, adjoint, rows, columns, ctx.sign, 1),
            None,
            None,
            None,
        )


def _convolve(
    features: Tensor, filters: Tensor, rows: Tensor, columns: Tensor, row_sign: int, column_sign: int
) -> Tensor:
    sums = torch.zeros_like(features)
    sums.index_add_(0, rows, features.index_select(0, columns).mul_(filters), alpha=row_sign)
    return sums.index_add_(0, columns, features.index_select(0, rows).mul_(filters), alpha=column_sign)


def _multiply(first: Tensor, second: Tensor, rows: Tensor, columns: Tensor, sign: int) -> Tensor:
    products = first.index_select(0, rows).mul_(second.index_select(0, columns))
    return products.addcmul_(first.index_select(0, columns), second.index_select(0, rows), value=sign)
