"""What a task's query set says of a scorer: a loss that trains, a metric that is shown.

Written for one task and for T alike; does not know who scores.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss
from metarec_ray.algorithms.problem import EncodedItems, encode_candidates
from metarec_ray.core import losses
from metarec_ray.core.batch import Encoded, Task
from metarec_ray.data.settings import Feedback

Scorer = Callable[[Encoded], Tensor]
Judged = tuple[Tensor, Callable[[], Tensor]]
"""A loss [*T], and what computes the metric [*T]."""
Judge = Callable[[Scorer], Judged]
METRIC = {"implicit": "query_ndcg@10", "explicit": "query_rmse", "binary": "query_accuracy"}


def choice_judge(
    loss: ChoiceLoss, items: EncodedItems, task: Task, user: Tensor, *, now: Tensor, log_q: Tensor
) -> Judge:
    """Return the loss of the query items, and their NDCG@10.

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
            measure = partial(_ndcg_of_items, scores.detach(), query.item, taken, mask)
            return loss.of_catalogue(scores, query.item, barred, mask), measure

        return among_all
    position = torch.cat([query.item, task.negatives], -1)
    candidates = encode_candidates(items.at(position), user, now)
    width = query.item.shape[-1]
    # A sampled negative stands for 1 / (its expected number): this estimates the whole catalogue.
    stands_for = -log_q[task.negatives] - math.log(task.negatives.shape[-1])

    def among_some(score: Scorer) -> Judged:
        scores = score(candidates)
        positives, others = scores[..., :width], scores[..., width:]
        value = loss.of_choices(positives, others, stands_for, query.mask)
        rivals = torch.cat([positives.masked_fill(~query.mask, -torch.inf), others], -1).detach()
        return value, partial(ndcg_at_10, positives.detach(), rivals, query.mask)

    return among_some


def label_judge(loss: LabelLoss, query: Encoded, feedback: Feedback) -> Judge:
    """Return the loss of the query labels, and their squared error or accuracy."""

    def judge(score: Scorer) -> Judged:
        scores = score(query)
        value, found = loss.of_labels(scores, query.label, query.mask), scores.detach()
        if feedback == "explicit":
            return value, partial(losses.squared_error, found, query.label, query.mask)
        right = ((found > 0) == (query.label > 0.5)).to(found.dtype)
        return value, partial(losses.masked_mean, right, query.mask)

    return judge


def ndcg_at_10(positives: Tensor, rivals: Tensor, mask: Tensor) -> Tensor:
    """Return the NDCG@10 [*T] of `positives` [*T, Q] among `rivals` [*T, S], which hold them.

    Ties take their mean rank and a score that is NaN the last, so that a learner that has collapsed
    does not look perfect.
    """
    # The best 21 tell every rank below 10: who ties with the last of them, g places from the top,
    # has a mean rank of at least g + (20 - g) / 2. To topk, what is not a number is the greatest.
    best = rivals.topk(min(21, rivals.shape[-1]), sorted=False).values.unsqueeze(-2)
    ahead = (~(best <= positives.unsqueeze(-1))).sum(-1)
    level = (best == positives.unsqueeze(-1)).sum(-1)
    rank = ahead + (level - 1) / 2
    gain = torch.where(mask & (rank < 10), 1 / torch.log2(rank + 2.0), 0.0).sum(-1)
    place = torch.arange(positives.shape[-1])
    among = place < mask.sum(-1, keepdim=True).clamp(max=10)
    possible = torch.where(among, 1 / torch.log2(place + 2.0), 0.0).sum(-1)
    return gain / possible.clamp(min=1e-9)


def _ndcg_of_items(scores: Tensor, item: Tensor, taken: Tensor, mask: Tensor) -> Tensor:
    others = scores.masked_fill(taken, -torch.inf)
    return ndcg_at_10(others.gather(-1, item), others, mask)


def _taken(task: Task, n_items: int) -> Tensor:
    """Return bool [*T, U]: items of the support, which cannot be chosen again."""
    item, mask = task.support.item, task.support.mask
    times = mask.new_zeros((*item.shape[:-1], n_items), dtype=torch.int64)
    return times.scatter_add(-1, item, mask.long()) > 0
