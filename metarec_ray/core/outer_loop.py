"""The outer loop's gradient over one lane: dense parameters and rows of embedding tables.

Does not know optimizers, workers or which lane this is.
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
    rows: Params  # of each table: gradient of the rows that the lane looked up
    metrics: Tensor  # float [n]: the lane's means


def meta_gradient(objective: LaneObjective, dense: Params, rows: Params) -> MetaGradient:
    """Return the gradient of `objective(dense, rows) -> (mean objective, metrics)`.

    The objective takes the mean over tasks: shared parameters then have one gradient for the lane,
    not one for each task, in a fraction of the memory. Plain autograd, as the transforms of
    `torch.func` cost more than a small operation itself.
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
