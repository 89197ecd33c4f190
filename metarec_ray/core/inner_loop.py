"""The inner loop: gradient descent on one support set, as a pure function of the fast weights."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad

Params = dict[str, Tensor]


def descend(
    loss: Callable[[Params], Tensor], fast: Params, rates: Params, *, steps: int, first_order: bool
) -> Params:
    """Return `fast` after `steps` steps of SGD on `loss`.

    Args:
        loss: scalar loss of the support set under fast weights; everything slow is closed over.
        fast: weights before the first step.
        rates: inner learning rate of each fast weight, scalar or of its shape.
        steps: number of steps, >= 0.
        first_order: treat the steps' gradients as constants, so that the result's derivative with
            respect to `fast` is the identity and with respect to slow weights is zero.

    """
    for _ in range(steps):
        at = {name: weight.detach() for name, weight in fast.items()} if first_order else fast
        gradient = grad(loss)(at)
        if first_order:
            gradient = {name: value.detach() for name, value in gradient.items()}
        fast = {name: weight - rates[name] * gradient[name] for name, weight in fast.items()}
    return fast


def constant_rates(fast: Params, inner_lr: float) -> Params:
    """Return the same rate for every fast weight."""
    return {name: torch.full((), inner_lr, dtype=w.dtype) for name, w in fast.items()}
