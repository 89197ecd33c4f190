"""The outer loop's gradient over one lane: dense parameters and gathered embedding rows.

Knows nothing of optimizers, workers or which lane this is.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params

LaneObjective = Callable[[Params, Params], tuple[Tensor, Tensor]]


class MetaGradient(NamedTuple):
    """Gradient of a lane's mean objective, and its mean query metrics."""

    dense: Params
    rows: Params  # of each table: gradient of the rows this lane touched
    metrics: Tensor  # float [n]: the lane's means


def meta_gradient(objective: LaneObjective, dense: Params, rows: Params) -> MetaGradient:
    """Return the gradient of `objective(dense, rows) -> (mean objective, metrics)`.

    The mean over tasks is taken inside, so that shared parameters have one gradient a lane instead
    of one a task: the same numbers at a fraction of the memory. Plain autograd, not `torch.func`:
    its transforms cost more than the work of a small operation.
    """
    own, touched = (
        {n: p.detach().requires_grad_() for n, p in part.items()} for part in (dense, rows)
    )
    with torch.enable_grad():
        value, metrics = objective(own, touched)
    gradient = torch.autograd.grad(
        value, [*own.values(), *touched.values()], materialize_grads=True
    )
    found = iter(gradient)
    return MetaGradient(
        {name: next(found) for name in own}, {name: next(found) for name in touched}, metrics
    )
