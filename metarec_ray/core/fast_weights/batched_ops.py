"""Operations on the rows of T tasks. Knows shapes; does not know layers or losses.

A name that ends in an underscore writes to its first argument, as in torch.

Axes: T tasks, M rows of a task, K columns, H outputs.
"""

import torch
from torch import Tensor

Grads = dict[str, Tensor | None]
"""Gradients by name; None, or no entry, stands for 0."""
Rate = float | Tensor
"""A learning rate: one for all entries of a weight, or one for each."""


class Rows:
    """Rows [T, M, K] that a layer reads, and their transpose."""

    def __init__(self, rows: Tensor):
        self.rows, self.mT = rows, rows.mT


def flat(rows: Tensor) -> Tensor:
    """Return the rows of all tasks below each other, [T * M, K]; a view."""
    return rows.view(-1, rows.shape[-1])


def shared_matmul(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the products of the rows with weights [K, H] that all tasks share."""
    return torch.mm(flat(rows), weights).view(*rows.shape[:-1], weights.shape[-1])


def bmm_into(left: Tensor, right: Tensor, total: Tensor | None) -> Tensor:
    """Return `left @ right` for each task, added in place to `total` unless that is None."""
    return torch.bmm(left, right) if total is None else total.baddbmm_(left, right)


def accumulate(total: Tensor | None, term: Tensor) -> Tensor:
    """Return `total + term`; a `total` of None stands for 0."""
    return term if total is None else total + term


def where_active(values: Tensor, activations: Tensor) -> Tensor:
    """Return `values` where a ReLU's output `activations` is positive, 0 elsewhere.

    This is both the VJP and the JVP of the ReLU, whose Jacobian is diagonal.
    """
    return torch.ops.aten.threshold_backward(values, activations, 0)


def where_active_(values: Tensor, activations: Tensor) -> Tensor:
    """Return what `where_active` does, in place."""
    return torch.ops.aten.threshold_backward.grad_input(values, activations, 0, grad_input=values)


def sgd_step(value: Tensor, rate: Rate, grad: Tensor) -> Tensor:
    """Return `value - rate * grad`."""
    if isinstance(rate, float):
        return torch.sub(value, grad, alpha=rate)
    return value - rate * grad


def sgd_step_matmul(weights: Tensor, rate: Rate, left: Tensor, right: Tensor) -> Tensor:
    """Return `weights - rate * (left @ right)`, where the product is the gradient."""
    if isinstance(rate, float):
        return torch.baddbmm(weights, left, right, alpha=-rate)
    return weights - rate * torch.bmm(left, right)


def update_direction(adjoint: Tensor, rate: Rate) -> tuple[Tensor, float]:
    """Return `-rate * adjoint`, the direction of the JVP, as a tensor and a factor of it."""
    return (adjoint, -rate) if isinstance(rate, float) else (adjoint * -rate, 1.0)


def rate_grad(adjoint: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the gradient of the rates of a step along `left @ right`, summed over tasks."""
    return -(adjoint * torch.bmm(left, right)).sum(0)


def extended(trajectory: list, last: object, *, second_order: bool) -> list:
    """Return a trajectory with one more point.

    Without `second_order` its first and last points are kept, nothing between them.
    """
    return [*trajectory, last] if second_order else [trajectory[0], last]
