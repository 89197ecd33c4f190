"""Products with matrices that all models of a vmap share: the matrices are read, not copied.

What vmap maps, times a matrix of each task that it does not map, would first give every model a
copy of the matrices. Here the rows, or columns, of all models stand beside each other in one
product. The matrices are constants; without vmap these are plain products.
"""

from typing import Any

from torch import Tensor
from torch.autograd import Function


def times_shared(rows: Tensor, matrices: Tensor) -> Tensor:
    """Return `rows @ matrices`, of rows [*T, M, K] and constant matrices [*T, K, H]."""
    return _Rows.apply(rows, matrices)


def shared_times(matrices: Tensor, columns: Tensor) -> Tensor:
    """Return `matrices @ columns`, of constant matrices [*T, H, K] and columns [*T, K, M]."""
    return _Columns.apply(columns, matrices)


class _Rows(Function):
    """Linear in rows: its VJP is the product with the transposed matrices."""

    @staticmethod
    def forward(rows: Tensor, matrices: Tensor) -> Tensor:
        return rows @ matrices

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (matrices,) = ctx.saved_tensors
        return _Rows.apply(*grads, matrices.mT), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *parts: Tensor) -> tuple[Tensor, int]:
        rows, matrices = parts
        at, matrices_at = in_dims
        if at is None or matrices_at is not None:
            return _Rows.apply(_led(rows, at, info), _led(matrices, matrices_at, info)), 0
        beside = rows.movedim(at, 0).movedim(0, -3)  # [*T, B, M, K]
        found = _Rows.apply(beside.flatten(-3, -2), matrices)
        return found.unflatten(-2, beside.shape[-3:-1]).movedim(-3, 0), 0


class _Columns(Function):
    """Linear in columns: its VJP is the product with the transposed matrices."""

    @staticmethod
    def forward(columns: Tensor, matrices: Tensor) -> Tensor:
        return matrices @ columns

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (matrices,) = ctx.saved_tensors
        return _Columns.apply(*grads, matrices.mT), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *parts: Tensor) -> tuple[Tensor, int]:
        columns, matrices = parts
        at, matrices_at = in_dims
        if at is None or matrices_at is not None:
            return _Columns.apply(_led(columns, at, info), _led(matrices, matrices_at, info)), 0
        beside = columns.movedim(at, 0).movedim(0, -2)  # [*T, K, B, M]
        found = _Columns.apply(beside.flatten(-2, -1), matrices)
        return found.unflatten(-1, beside.shape[-2:]).movedim(-2, 0), 0


def _led(value: Tensor, at: int | None, info: Any) -> Tensor:
    return value.expand(info.batch_size, *value.shape) if at is None else value.movedim(at, 0)
