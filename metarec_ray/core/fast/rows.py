"""Rows of T tasks, and what descent does with them. Knows shapes; does not know layers or losses.

A slope is the derivative of a loss with respect to an output; what is called `of_x` is a gradient
of x. A name that ends in an underscore writes to its first argument, as torch has it.

Axes: T tasks, M rows of a task, K columns, H outputs.
"""

import torch
from torch import Tensor

Gradients = dict[str, Tensor | None]
"""Gradients by names; None, or no entry, for 0."""
Rate = float | Tensor
"""One rate of all weights of a map, or of each its own."""


class Rows:
    """Rows [T, M, K] that a layer reads, and their transposes."""

    def __init__(self, rows: Tensor):
        self.rows, self.columns = rows, rows.mT


def flat(rows: Tensor) -> Tensor:
    """Return the rows of all tasks below each other; a view."""
    return rows.view(-1, rows.shape[-1])


def shared_product(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the products with weights [K, H] that all tasks share."""
    return torch.mm(flat(rows), weights).view(*rows.shape[:-1], weights.shape[-1])


def times(left: Tensor, right: Tensor, onto: Tensor | None) -> Tensor:
    """Return the products of T pairs, added to `onto`, in place, if there is one."""
    return torch.bmm(left, right) if onto is None else onto.baddbmm_(left, right)


def plus(known: Tensor | None, more: Tensor) -> Tensor:
    """Return a sum that may be empty so far."""
    return more if known is None else known + more


def relu_backward(slope: Tensor, units: Tensor) -> Tensor:
    """Return the slopes at the inputs of a ReLU, given those at its outputs `units`."""
    return torch.ops.aten.threshold_backward(slope, units, 0)


def relu_backward_(slope: Tensor, units: Tensor) -> Tensor:
    """Return what `relu_backward` does, in place."""
    return torch.ops.aten.threshold_backward.grad_input(slope, units, 0, grad_input=slope)


def descended(weights: Tensor, rate: Rate, left: Tensor, right: Tensor) -> Tensor:
    """Return the weights of T tasks after a step along the gradients `left @ right`."""
    if isinstance(rate, float):
        return torch.baddbmm(weights, left, right, alpha=-rate)
    return weights - rate * torch.bmm(left, right)


def stepped(value: Tensor, rate: Rate, gradient: Tensor) -> Tensor:
    """Return a value after a step along its gradient."""
    if isinstance(rate, float):
        return torch.sub(value, gradient, alpha=rate)
    return value - rate * gradient


def headed(adjoint: Tensor, rate: Rate) -> tuple[Tensor, float]:
    """Return a direction and its length: together, minus the rate times the adjoint."""
    return (adjoint, -rate) if isinstance(rate, float) else (adjoint * -rate, 1.0)


def rate_gradient(adjoint: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the gradient of the rates of a step along `left @ right`, summed over tasks."""
    return -(adjoint * torch.bmm(left, right)).sum(0)


def path_to(path: list, last: object, *, second_order: bool) -> list:
    """Return a path with one more point; with its ends alone, unless `second_order`."""
    return [*path, last] if second_order else [path[0], last]
