"""What a task's query set says of a scorer: a loss that trains, a metric that is shown.

Written for one task and for T alike; does not know who scores.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metarec_ray.algorithms.problem import EncodedItems, encode_candidates
from metarec_ray.core import losses
from metarec_ray.core.batch import Encoded, Task
from metarec_ray.data.settings import Feedback

Scorer = Callable[[Encoded], Tensor]
METRIC = {"implicit": "query_ndcg@10", "explicit": "query_rmse", "binary": "query_accuracy"}


def choice_loss(
    score: Scorer,
    *,
    items: EncodedItems,
    task: Task,
    user: Tensor,
    now: Tensor,
    catalogue_size: Tensor,
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return the softmax loss of the query items, and what gives their NDCG@10."""
    query = task.query
    if task.negatives.shape[-1] == 0:
        taken = _taken(task, len(items.index))
        scores = score(encode_candidates(items, user, now))
        loss = losses.full_softmax(scores, query.item, taken, query.mask)
        others = scores.detach().masked_fill(taken, -torch.inf)
        mask = query.mask & ~taken.gather(-1, query.item)
        return loss, partial(ndcg_at_10, others.gather(-1, query.item), others, mask)
    position = torch.cat([query.item, task.negatives], -1)
    scores = score(encode_candidates(items.at(position), user, now))
    width = query.item.shape[-1]
    positives, others = scores[..., :width], scores[..., width:]
    # A sampled negative stands for catalogue / sample items: this estimates the full softmax.
    scale = torch.log(catalogue_size / task.negatives.shape[-1])
    loss = losses.softmax(positives, others + scale, query.mask)
    rivals = torch.cat([positives.masked_fill(~query.mask, -torch.inf), others], -1)
    return loss, partial(ndcg_at_10, positives, rivals, query.mask)


def label_loss(
    score: Scorer, *, feedback: Feedback, query: Encoded
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return the loss of the query labels, and what gives their squared error or accuracy."""
    scores = score(query)
    if feedback == "explicit":
        loss = losses.squared_error(scores, query.label, query.mask)
        return loss, lambda: loss
    right = ((scores > 0) == (query.label > 0.5)).to(scores.dtype)
    loss = losses.cross_entropy(scores, query.label, query.mask)
    return loss, lambda: losses.masked_mean(right, query.mask)


def ndcg_at_10(positives: Tensor, rivals: Tensor, mask: Tensor) -> Tensor:
    """Return the NDCG@10 [*T] of `positives` [*T, Q] among `rivals` [*T, S], which hold them.

    Ties take their mean rank and a score that is NaN the last, so that a learner that has collapsed
    does not look perfect.
    """
    behind = (rivals.unsqueeze(-2) < positives.unsqueeze(-1)).sum(-1)
    level = (rivals.unsqueeze(-2) == positives.unsqueeze(-1)).sum(-1)
    rank = rivals.shape[-1] - behind - (level + 1) / 2
    gain = torch.where(mask & (rank < 10), 1 / torch.log2(rank + 2.0), 0.0).sum(-1)
    place = torch.arange(positives.shape[-1])
    among = place < mask.sum(-1, keepdim=True).clamp(max=10)
    possible = torch.where(among, 1 / torch.log2(place + 2.0), 0.0).sum(-1)
    return gain / possible.clamp(min=1e-9)


def _taken(task: Task, n_items: int) -> Tensor:
    """Return bool [*T, U]: items of the support, which cannot be chosen again."""
    item, mask = task.support.item, task.support.mask
    times = mask.new_zeros((*item.shape[:-1], n_items), dtype=torch.int64)
    return times.scatter_add(-1, item, mask.long()) > 0
