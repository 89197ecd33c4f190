"""The objective of one lane: encode once, adapt and judge every task.

Knows the order encoders -> learner -> query loss; does not know optimizers, workers or files.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Support,
    encode_candidates,
    encode_support,
    make_problem,
)
from metarec_ray.core import losses
from metarec_ray.core.batch import Encoded, Events, Lane, Task
from metarec_ray.core.outer_loop import LaneObjective, Params
from metarec_ray.data.settings import Feedback
from metarec_ray.models.towers import encode

Scorer = Callable[[Encoded], Tensor]
METRIC = {"implicit": "query_ndcg@10", "explicit": "query_rmse", "binary": "query_accuracy"}


def lane_objective(
    learner: MetaLearner,
    feedback: Feedback,
    buffers: Params,
    lane: Lane,
    *,
    progress: float | None = None,
) -> LaneObjective:
    """Return `(dense, rows) -> (mean objective, [query loss, query metric])` of a lane.

    `rows` holds the lane's rows of `item.ids` [U, D] and `user.ids` [T, D], where the model has
    them. The metric is the mean NDCG@10, accuracy or mean squared error (whose root is shown).
    `progress` is the share of meta-training that is done; None outside it, where nothing is random.
    """

    def objective(dense: Params, rows: Params) -> tuple[Tensor, Tensor]:
        vector = encode(dense, "item", lane.item_features, rows.get("item.ids"))
        items = EncodedItems(lane.items, vector, buffers["offset"][lane.items])
        later = buffers["offset.later"][lane.items]
        users = encode(dense, "user", lane.user, rows.get("user.ids"))

        def one(task: Task, user: Tensor) -> tuple[Tensor, Tensor]:
            # What is met at the start of a history is not what is met later.
            known = items._replace(offset=torch.where(task.begins, items.offset, later))
            return _task_objective(
                learner, feedback, buffers, dense, known, lane.reference, task, user, progress
            )

        values, metrics = vmap(one, randomness="different")(lane.tasks, users)
        return values.mean(), metrics.mean(0)

    return objective


def _task_objective(
    learner: MetaLearner,
    feedback: Feedback,
    buffers: Params,
    dense: Params,
    items: EncodedItems,
    reference: Tensor,
    task: Task,
    user: Tensor,
    progress: float | None,
) -> tuple[Tensor, Tensor]:
    support = encode_support(_set(dense, items, task.support), user)
    query = encode_support(_set(dense, items, task.query), user)
    now = query.context[:1]
    problem = make_problem(
        feedback,
        items.at(reference),
        buffers["reference.log_q"],
        user,
        now,
        progress=progress,
        begins=task.begins,
    )
    if feedback == "implicit":
        taken = _taken(task, len(items.index))
        judge = partial(_choice_loss, items=items, task=task, user=user, buffers=buffers)
        judge = partial(judge, now=now, taken=taken)
    else:
        judge = partial(_label_loss, feedback=feedback, query=query)
    # A learner may ask for several losses; what is shown is the metric of the last one's scores.
    measure: Callable[[], Tensor] | None = None

    def query_loss(score: Scorer) -> Tensor:
        nonlocal measure
        value, measure = judge(score)
        return value

    value, loss = learner.objective(problem, dense, support, query, query_loss)
    assert measure is not None
    return value, torch.stack([loss, measure().detach()])


def _taken(task: Task, n_items: int) -> Tensor:
    """Return bool [U]: items of the support, which cannot be chosen again."""
    own = (task.support.item[:, None] == torch.arange(n_items)) & task.support.mask[:, None]
    return own.any(0)


def _set(dense: Params, items: EncodedItems, events: Events) -> Support:
    context = encode(dense, "context", events.context)
    has_context = events.context.tokens.shape[-1] + events.context.dense.shape[-1] > 0
    return Support(
        items.at(events.item),
        context if has_context else context[:1],
        events.label,
        events.mask,
        events.time,
    )


def _choice_loss(
    score: Scorer,
    *,
    items: EncodedItems,
    task: Task,
    user: Tensor,
    now: Tensor,
    taken: Tensor,
    buffers: Params,
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return the softmax loss of the query items, and what gives their NDCG@10."""
    query = task.query
    if task.negatives.shape[-1] == 0:
        scores = score(encode_candidates(items, user, now))
        loss = losses.full_softmax(scores, query.item, taken, query.mask)
        others = scores.masked_fill(taken, -torch.inf)
        mask = query.mask & ~taken[query.item]
        return loss, partial(_ndcg_at_10, others[query.item], others, mask)
    position = torch.cat([query.item, task.negatives])
    scores = score(encode_candidates(items.at(position), user, now))
    positives, others = scores[: query.item.shape[-1]], scores[query.item.shape[-1] :]
    # A sampled negative stands for catalogue / sample items: this estimates the full softmax.
    scale = torch.log(buffers["catalogue_size"] / task.negatives.shape[-1])
    loss = losses.softmax(positives, others + scale, query.mask)
    rivals = torch.cat([positives.masked_fill(~query.mask, -torch.inf), others])
    return loss, partial(_ndcg_at_10, positives, rivals, query.mask)


def _label_loss(
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


def _ndcg_at_10(positives: Tensor, rivals: Tensor, mask: Tensor) -> Tensor:
    """Return the NDCG@10 of `positives` [Q] among `rivals` [S], which hold them.

    Ties take their mean rank and a score that is NaN the last, so that a learner that has collapsed
    does not look perfect.
    """
    behind = (rivals[None, :] < positives[:, None]).sum(1)
    level = (rivals[None, :] == positives[:, None]).sum(1)
    rank = rivals.shape[0] - behind - (level + 1) / 2
    gain = torch.where(mask & (rank < 10), 1 / torch.log2(rank + 2.0), 0.0).sum()
    ideal = 1 / torch.log2(torch.arange(positives.shape[0]) + 2.0)
    possible = torch.where(
        torch.arange(positives.shape[0]) < mask.sum().clamp(max=10), ideal, 0.0
    ).sum()
    return gain / possible.clamp(min=1e-9)
