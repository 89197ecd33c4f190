"""From a learner to scores of the whole catalogue, for many tasks at once.

Knows the calls of a learner and batches them with vmap; does not know encoders: events carry their
catalogue rows, labels, ages and masks, and empty vectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Learner, Params, Problem
from metarec_ray.core.batch import Encoded
from metarec_ray.data.settings import Feedback
from metarec_ray.evaluation.strict import StrictTasks


class Method(NamedTuple):
    """What stands in a table.

    Attributes:
        name: as in the table.
        kind: floor, rival, learner or optimum.
        fit_seconds: what fitting took.
        scores: k -> float [E, I], higher is better, after each entity's first k events.

    """

    name: str
    kind: str
    fit_seconds: float
    scores: Callable[[int], Tensor]


def index_only(item: Tensor, label: Tensor, mask: Tensor) -> Encoded:
    """Return events [*T, N] without encoded vectors, oldest first."""
    later = mask.flip(-1).cumsum(-1).flip(-1) - mask.to(torch.int64)
    nothing = torch.zeros(*item.shape, 0)
    return Encoded(
        index=item,
        item=nothing,
        offset=torch.zeros(item.shape),
        user=torch.zeros(*item.shape[:-1], 0),
        context=nothing,
        label=label,
        age=torch.where(mask, later, 0).to(torch.float32),
        mask=mask,
    )


def catalogue_of(n_items: int) -> Encoded:
    """Return every item of the catalogue as candidates of one task."""
    item = torch.arange(n_items)
    candidates = index_only(item, torch.zeros(n_items), torch.ones(n_items, dtype=torch.bool))
    return candidates._replace(age=torch.zeros(n_items))


def no_problem(feedback: Feedback) -> Problem:
    """Return the problem of learners that are fitted by statistics: they ask nothing of a model."""
    return Problem(
        feedback=feedback,
        predict=_not_asked,
        features=_not_asked,
        support_loss=_not_asked,
        reference=None,
        reference_log_q=torch.zeros(0),
    )


def score_matrix(
    learner: Learner,
    problem: Problem,
    meta: Params,
    tasks: StrictTasks,
    k: int,
    *,
    chunk: int = 256,
) -> Tensor:
    """Return the scores [E, I] of a learner that reads no encoded vectors, `chunk` at a time."""
    candidates = catalogue_of(len(tasks.trained))

    def one(support: Encoded) -> Tensor:
        fast = learner.adapt(problem, meta, support)
        return learner.score(problem, meta, fast, candidates)

    # A masked slot stands for the empty support: kernels need not know sets of size 0.
    width = max(k, 1)
    item, label = tasks.support[:, :width], tasks.label[:, :width]
    mask = torch.full(item.shape, k > 0)
    parts = [
        torch.func.vmap(one)(index_only(*part))
        for part in zip(item.split(chunk), label.split(chunk), mask.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def _not_asked(params: Params, events: Encoded) -> Tensor:
    raise AssertionError("a learner fitted by statistics asked for a model")
