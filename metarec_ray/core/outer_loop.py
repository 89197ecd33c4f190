"""The outer loop's gradient over one lane: dense parameters and gathered embedding rows.

Knows nothing of optimizers, workers or which lane this is.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.func import grad

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
    of one a task: the same numbers at a fraction of the memory.
    """
    (dense_gradient, rows_gradient), metrics = grad(objective, argnums=(0, 1), has_aux=True)(
        dense, rows
    )
    return MetaGradient(dense_gradient, rows_gradient, metrics)
