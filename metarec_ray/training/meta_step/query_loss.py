"""What a task's query set says of a scorer: a loss that trains, a metric that is shown.

Written for one task and for T alike; does not know who scores.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss
from metarec_ray.algorithms.problem import EncodedItems, encode_candidates
from metarec_ray.core import losses
from metarec_ray.core.batch import NO_LABELS, Encoded, Events, Task
from metarec_ray.core.metrics import ndcg_of_positives
from metarec_ray.data.settings import Feedback
from metarec_ray.training.meta_step import distillation
from metarec_ray.training.meta_step.distillation import TeacherLoss, Teaching

Scorer = Callable[[Encoded], Tensor]
Judged = tuple[Tensor, Callable[[], Tensor]]
"""A loss [*T], and what computes the metric [*T]."""
Judge = Callable[[Scorer], Judged]
METRIC = {"implicit": "query_ndcg@10", "explicit": "query_rmse", "binary": "query_accuracy"}


def choice_judge(
    loss: ChoiceLoss,
    items: EncodedItems,
    task: Task,
    user: Tensor,
    *,
    now: Tensor,
    log_q: Tensor,
    teaching: Teaching | None = None,
) -> Judge:
    """Return the loss of the query items, and their NDCG@10.

    Against the whole lane's items, or against sampled ones, which estimate these; `log_q` [U] is
    the logarithm of the probability of each of the lane's items to be the next that is sampled.
    What may be chosen is the same for both, and as in the protocols: items of the support are
    neither positives nor competitors, and the positives of a query compete with each other. What
    may be chosen is also what a teacher's answers are a distribution over, where the task has any.
    """
    taken = _members(task.support, len(items.index))
    if task.negatives.shape[-1] == 0:
        candidates = encode_candidates(items, user, now)
        return _among_all(loss, candidates, task, taken, teaching=teaching)
    position = torch.cat([task.query.item, task.negatives], -1)
    candidates = encode_candidates(items.at(position), user, now)
    return _among_some(loss, candidates, task, taken, log_q=log_q, teaching=teaching)


def _among_all(
    loss: ChoiceLoss,
    candidates: Encoded,
    task: Task,
    taken: Tensor,
    *,
    teaching: Teaching | None,
) -> Judge:
    """Judge by the scores of all items [U] but those that are `taken`, bool [*T, U]."""
    item = task.query.item
    barred, mask = losses.choosable(taken, item, task.query.mask)
    taught = _taught(teaching, task, barred)

    def judge(score: Scorer) -> Judged:
        scores = score(candidates)
        measure = partial(_ndcg_of_items, scores.detach(), item, taken, mask)
        return _with(taught, scores, loss.of_catalogue(scores, item, barred, mask)), measure

    return judge


def _among_some(
    loss: ChoiceLoss,
    candidates: Encoded,
    task: Task,
    taken: Tensor,
    *,
    log_q: Tensor,
    teaching: Teaching | None,
) -> Judge:
    """Judge by the scores of the query items [*T, Q], and of sampled ones behind them."""
    query, negatives = task.query, task.negatives
    width = query.item.shape[-1]
    mask = query.mask & ~taken.gather(-1, query.item)
    known = taken | _members(query, taken.shape[-1])
    # An item competes once, however often it is a positive; none of these was to be sampled.
    sampled = ~known.gather(-1, negatives)
    able = torch.cat([mask & ~losses.repeats(query.item, query.mask), sampled], -1)
    weight = torch.cat(
        [torch.zeros_like(query.label), _stands_for(log_q, negatives, known, sampled)], -1
    )
    # If nothing can be chosen, nothing is barred: no positive counts then, and no score is -inf.
    weight = weight.masked_fill(~able & able.any(-1, keepdim=True), -torch.inf)
    competes = query.item.unsqueeze(-1) != torch.cat([query.item, negatives], -1).unsqueeze(-2)
    taught = _taught(teaching, task, weight)

    def judge(score: Scorer) -> Judged:
        scores = score(candidates)
        positives, rivals = scores[..., :width], scores.detach().masked_fill(~able, -torch.inf)
        value = loss.of_choices(positives, scores, weight, mask, competes=competes)
        measure = partial(ndcg_of_positives, positives.detach(), rivals, mask=mask, k=10)
        return _with(taught, scores, value), measure

    return judge


def label_judge(
    loss: LabelLoss,
    query: Encoded,
    feedback: Feedback,
    answers: Tensor,
    *,
    teaching: Teaching | None = None,
) -> Judge:
    """Return the loss of the query labels, and their squared error or accuracy.

    `answers` [*T, N] are a teacher's scores of the query, or [*T, 0].
    """
    taught: TeacherLoss | None = None
    if teaching is not None and answers.shape[-1]:
        of = distillation.of_ratings if feedback == "explicit" else distillation.of_clicks
        taught = of(teaching, answers, query.mask)

    asked = query._replace(labels=NO_LABELS)

    def judge(score: Scorer) -> Judged:
        scores = score(asked)
        value, found = loss.of_labels(scores, query.label, query.mask), scores.detach()
        value = _with(taught, scores, value)
        if feedback == "explicit":
            return value, partial(losses.squared_error, found, query.label, query.mask)
        right = ((found > 0) == (query.label > 0.5)).to(found.dtype)
        return value, partial(losses.masked_mean, right, query.mask)

    return judge


def _taught(teaching: Teaching | None, task: Task, log_weight: Tensor) -> TeacherLoss | None:
    """Return the distance to the task's teacher over what may be chosen; None without one."""
    if teaching is None or not task.answers.shape[-1]:
        return None
    return distillation.of_choices(teaching, task.answers, log_weight)


def _with(taught: TeacherLoss | None, scores: Tensor, value: Tensor) -> Tensor:
    return value if taught is None else value + taught(scores)


def _ndcg_of_items(scores: Tensor, item: Tensor, taken: Tensor, mask: Tensor) -> Tensor:
    others = scores.masked_fill(taken, -torch.inf)
    return ndcg_of_positives(others.gather(-1, item), others, mask=mask, k=10)


def _stands_for(log_q: Tensor, negatives: Tensor, known: Tensor, sampled: Tensor) -> Tensor:
    """Return the logarithm of how many items each negative stands for [*T, S].

    Those that are `sampled`, not `known`, stand for all items that are not known: one that has a
    share q of these, and of n draws, for 1 / (n q).
    """
    share = 1 - known.to(log_q.dtype) @ torch.exp(log_q)
    draws = sampled.sum(-1).clamp(min=1).to(log_q.dtype)
    unknown = torch.log(share.clamp(min=torch.finfo(log_q.dtype).eps) / draws)
    return unknown.unsqueeze(-1) - log_q[negatives]


def _members(events: Events, n_items: int) -> Tensor:
    """Return bool [*T, U]: which of the lane's items a set has."""
    times = events.mask.new_zeros((*events.item.shape[:-1], n_items), dtype=torch.int64)
    return times.scatter_add(-1, events.item, events.mask.long()) > 0
