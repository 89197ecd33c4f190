"""What a task's query set says of a scorer: a loss that trains, a metric that is shown.

Written for one task and for T alike; does not know who scores.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metarec_ray.algorithms.problem import EncodedItems, encode_candidates
from metarec_ray.core import losses
from metarec_ray.core.batch import Encoded, Task
from metarec_ray.core.metrics import ndcg_of_positives
from metarec_ray.data.settings import Feedback

Scorer = Callable[[Encoded], Tensor]
Judged = tuple[Tensor, Callable[[], Tensor]]
"""A loss [*T], and what computes the metric [*T]."""
Judge = Callable[[Scorer], Judged]
METRIC = {"implicit": "query_ndcg@10", "explicit": "query_rmse", "binary": "query_accuracy"}


def choice_judge(
    items: EncodedItems, task: Task, user: Tensor, *, now: Tensor, log_q: Tensor
) -> Judge:
    """Return the softmax loss of the query items, and their NDCG@10.

    Against the whole lane's items but those of the support, or against sampled ones; `log_q` [U] is
    the logarithm of the probability of each of the lane's items to be the next that is sampled.
    """
    query = task.query
    if task.negatives.shape[-1] == 0:
        taken = _taken(task, len(items.index))
        barred, mask = losses.choosable(taken, query.item, query.mask)
        everything = encode_candidates(items, user, now)

        def among_all(score: Scorer) -> Judged:
            scores = score(everything)
            loss = losses.full_softmax(scores, query.item, barred, mask)
            found = scores.detach()
            measure = partial(_ndcg_of_items, found, query.item, taken, mask)
            return loss, measure

        return among_all
    position = torch.cat([query.item, task.negatives], -1)
    candidates = encode_candidates(items.at(position), user, now)
    width = query.item.shape[-1]
    # A sampled negative stands for 1 / (its expected number): this estimates the full softmax.
    stands_for = -log_q[task.negatives] - math.log(task.negatives.shape[-1])

    def among_some(score: Scorer) -> Judged:
        scores = score(candidates)
        positives, others = scores[..., :width], scores[..., width:]
        loss = losses.softmax(positives, others + stands_for, query.mask)
        rivals = torch.cat([positives.masked_fill(~query.mask, -torch.inf), others], -1).detach()
        return loss, partial(ndcg_of_positives, positives.detach(), rivals, mask=query.mask, k=10)

    return among_some


def label_judge(query: Encoded, feedback: Feedback) -> Judge:
    """Return the loss of the query labels, and their squared error or accuracy."""

    def of_ratings(score: Scorer) -> Judged:
        loss = losses.squared_error(score(query), query.label, query.mask)
        return loss, loss.detach

    def of_clicks(score: Scorer) -> Judged:
        scores = score(query)
        right = ((scores > 0) == (query.label > 0.5)).to(scores.dtype)
        loss = losses.cross_entropy(scores, query.label, query.mask)
        return loss, partial(losses.masked_mean, right, query.mask)

    return of_ratings if feedback == "explicit" else of_clicks


def _ndcg_of_items(scores: Tensor, item: Tensor, taken: Tensor, mask: Tensor) -> Tensor:
    others = scores.masked_fill(taken, -torch.inf)
    return ndcg_of_positives(others.gather(-1, item), others, mask=mask, k=10)


def _taken(task: Task, n_items: int) -> Tensor:
    """Return bool [*T, U]: items of the support, which cannot be chosen again."""
    item, mask = task.support.item, task.support.mask
    times = mask.new_zeros((*item.shape[:-1], n_items), dtype=torch.int64)
    return times.scatter_add(-1, item, mask.long()) > 0
