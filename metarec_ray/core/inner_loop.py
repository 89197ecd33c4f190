"""The inner loop: gradient descent on one support set, as a pure function of the fast weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import grad

from metarec_ray.core.batch import Params


def trajectory(
    loss: Callable[[Params], Tensor], fast: Params, rates: Sequence[Params], *, first_order: bool
) -> list[Params]:
    """Return the fast weights after each step of SGD on `loss`, a step for every entry of `rates`.

    Args:
        loss: scalar loss of the support set under fast weights; slow weights are closed over.
        fast: weights before the first step.
        rates: for each step, the learning rate of each fast weight: scalar or of its shape.
        first_order: treat the steps' gradients as constants: the derivative of the result is the
            identity with respect to `fast`, and 0 with respect to slow weights.

    """
    path = []
    for step in rates:
        at = {name: weight.detach() for name, weight in fast.items()} if first_order else fast
        gradient = grad(loss)(at)
        if first_order:
            gradient = {name: value.detach() for name, value in gradient.items()}
        fast = {name: weight - step[name] * gradient[name] for name, weight in fast.items()}
        path.append(fast)
    return path


def descend(
    loss: Callable[[Params], Tensor], fast: Params, rates: Params, *, steps: int, first_order: bool
) -> Params:
    """Return `fast` after `steps` >= 0 steps of `trajectory`, all at the same rates."""
    return [fast, *trajectory(loss, fast, [rates] * steps, first_order=first_order)][-1]


def constant_rates(fast: Params, inner_lr: float) -> Params:
    """Return the same rate for every fast weight."""
    return {name: torch.full((), inner_lr, dtype=w.dtype) for name, w in fast.items()}
