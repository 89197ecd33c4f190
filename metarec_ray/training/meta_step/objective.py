"""The objective of one lane: encode once, adapt and judge every task.

Knows the order encoders -> learner -> query loss; does not know optimizers, workers or files.
Everything but the learner is written for one task and for T alike: learners that are `batched` get
T tasks at once, in buckets of like length; of others, vmap makes T tasks out of one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Recipe,
    Reencoder,
    Support,
    encode_support,
    encoded_table,
    make_problem,
)
from metarec_ray.core.batch import Encoded, Events, Features, Lane, Params, Task
from metarec_ray.core.buckets import buckets
from metarec_ray.core.outer_loop import LaneObjective
from metarec_ray.models.towers import Towers
from metarec_ray.training.meta_step.query_loss import Scorer, choice_judge, label_judge


class _Encoded(NamedTuple):
    """Tasks after the shared encoders."""

    task: Task
    user: Tensor  # [*T, D]
    support_item: Tensor  # [*T, N, D], or the table [U, D]
    support_context: Tensor  # [*T, N, D] or [*T, 1, D]
    query_item: Tensor  # [*T, Q, D], or the table
    query_context: Tensor  # [*T, Q, D] or [*T, 1, D]
    offset: Tensor  # [*T, U] of the lane's items where positives compete with them, else [*T, 0]
    support_offset: Tensor  # [*T, N]
    query_offset: Tensor  # [*T, Q]


class _Shared(NamedTuple):
    """What all tasks of a lane have in common."""

    recipe: Recipe
    buffers: Params
    dense: Params
    items: EncodedItems
    log_q: Tensor  # [U]: of being sampled as a negative
    reference: Tensor
    progress: float | None
    item_features: Features  # [U]
    item_ids: Tensor | None  # [U, D]


def lane_objective(
    recipe: Recipe,
    buffers: Params,
    lane: Lane,
    *,
    progress: float | None = None,
    oracle: bool = False,
) -> LaneObjective:
    """Return `(dense, rows) -> (mean objective, [query loss, query metric])` of a lane.

    `rows` holds the lane's rows of `item.ids` [U, D] and `user.ids` [T, D], where the model has
    them. The metric is the mean of what `query_loss` measures.
    `progress` is the share of meta-training that is done; None outside it, where nothing is random.
    `oracle` asks for vmap over one task whatever the learner is: what batched learners are held to.
    """

    def objective(dense: Params, rows: Params) -> tuple[Tensor, Tensor]:
        shared = _shared(recipe, buffers, lane, dense, rows, progress)
        judged = _judged_parts(shared, lane, rows, batched=recipe.batched and not oracle)
        values, metrics = (torch.cat(found) for found in zip(*judged, strict=True))
        return values.mean(), metrics.mean(0)

    return objective


def _shared(
    recipe: Recipe, buffers: Params, lane: Lane, dense: Params, rows: Params, progress: float | None
) -> _Shared:
    """Return what all tasks of a lane have in common, its items encoded."""
    ids = rows.get("item.ids")
    vector = recipe.model.encode(dense, "item", lane.item_features, ids)
    return _Shared(
        recipe=recipe,
        buffers=buffers,
        dense=dense,
        items=encoded_table(lane.items, vector, buffers["offset"][lane.items]),
        log_q=_log_q(buffers, lane.items),
        reference=lane.reference,
        progress=progress,
        item_features=lane.item_features,
        item_ids=ids,
    )


def _judged_parts(
    shared: _Shared, lane: Lane, rows: Params, *, batched: bool
) -> list[tuple[Tensor, Tensor]]:
    """Return what `_judged` does, part by part: at once, in buckets of like length, or by vmap."""
    learner, model = shared.recipe.learner, shared.recipe.model
    tasks, table = lane.tasks, shared.items.vector
    user, ids = _strangers(shared, lane.user, rows.get("user.ids"))
    users = model.encode(shared.dense, "user", user, ids)
    contexts = [
        _contexts(model, shared.dense, events.context) for events in (tasks.support, tasks.query)
    ]
    offsets = _offsets(shared, lane)
    if batched and learner.ragged:
        whole = _Encoded(tasks, users, table, contexts[0], table, contexts[1], *offsets)
        return [_judged(shared, learner.objective_batch, whole)]
    if batched:
        parts = _parts(tasks, buckets(tasks.support.mask), users, contexts, table, offsets)
        return [_judged(shared, learner.objective_batch, part) for part in parts]
    everything = [torch.arange(len(users), device=users.device)]
    (whole,) = _parts(tasks, everything, users, contexts, table, offsets)
    raw: tuple[Any, ...] = ()
    if model.encoder.adapts:  # encodes users anew
        raw = user, torch.zeros(len(users), 1) if ids is None else ids
    one = partial(_judged, shared, learner.objective)
    return [vmap(one, randomness="different")(whole, *raw)]


def _strangers(
    shared: _Shared, user: Features, ids: Tensor | None
) -> tuple[Features, Tensor | None]:
    """Return the features and id rows of the lane's users, in training without some users' all.

    With probability `user_dropout` a task knows nothing of its user. What is known of a user may
    tell who it is; then a learner need not adapt in training, and cannot for new users.
    """
    share = shared.recipe.model.user_dropout
    if shared.progress is None or not share:
        return user, ids
    known = (torch.rand(len(user.tokens), 1, device=user.weights.device) >= share).float()
    hidden = user._replace(weights=user.weights * known, dense=user.dense * known)
    return hidden, None if ids is None else ids * known


def _log_q(buffers: Params, items: Tensor) -> Tensor:
    """Return the log-probabilities [U] of items to be sampled as a negative."""
    if "negatives.log_q" in buffers:
        return buffers["negatives.log_q"][items]
    return -torch.log(buffers["catalogue_size"]).expand(len(items))


def _offsets(shared: _Shared, lane: Lane) -> tuple[Tensor, Tensor, Tensor]:
    """Return the offsets of the lane's items [T, U] or [T, 0], of its supports and its queries.

    Without what a task's own entity added to them; of items at the start of a history for tasks
    that begin one, else of items that are met later.
    """
    begins, sets = lane.tasks.begins.unsqueeze(1), (lane.tasks.support.item, lane.tasks.query.item)
    start, later = (shared.buffers[name][lane.items] for name in ("offset", "offset.later"))
    tasks, size = len(begins), len(lane.items)
    if isinstance(shared.recipe.loss, ChoiceLoss):
        whole = torch.where(begins, start, later) + lane.own.dense(tasks, size)
        support, query = (whole.gather(1, item) for item in sets)
        return whole, support, query
    support, query = (
        torch.where(begins, start[item], later[item]) + lane.own.at(item, size) for item in sets
    )
    return start.new_zeros(tasks, 0), support, query


def _parts(
    tasks: Task,
    some: list[Tensor],
    users: Tensor,
    contexts: list[Tensor],
    vector: Tensor,
    offsets: tuple[Tensor, Tensor, Tensor],
) -> list[_Encoded]:
    """Return the lane's tasks in parts, each as wide as its longest support."""
    cut = [_cut(tasks, part) for part in some] if len(some) > 1 else [tasks]
    # One look-up for all sets: each would fill a gradient of all items of its own.
    sets = [events.item for task in cut for events in (task.support, task.query)]
    found = vector.index_select(0, torch.cat([item.flatten() for item in sets]))
    vectors = iter(found.split([item.numel() for item in sets]))
    parts = []
    for part, task in zip(some, cut, strict=True):
        width = task.support.mask.shape[1]
        own = (users, *contexts, *offsets)
        if len(some) > 1:
            own = tuple(column[part] for column in own)
        user, support_context, query_context, offset, support_offset, query_offset = own
        parts.append(
            _Encoded(
                task=task,
                user=user,
                support_item=next(vectors).view(*task.support.item.shape, -1),
                support_context=support_context[:, :width],
                query_item=next(vectors).view(*task.query.item.shape, -1),
                query_context=query_context,
                offset=offset,
                support_offset=support_offset[:, :width],
                query_offset=query_offset,
            )
        )
    return parts


def _contexts(model: Towers, dense: Params, context: Features) -> Tensor:
    """Return the encoded contexts of padded events, one for all where nothing is known of them."""
    if context.tokens.shape[-1] + context.dense.shape[-1] == 0:
        context = _each(context, lambda column: column[..., :1, :])
    return model.encode(dense, "context", context)


def _cut(tasks: Task, part: Tensor) -> Task:
    """Return the tasks at `part`, without the padding of supports that are longer than theirs."""
    some: Task = _each(tasks, lambda column: column[part])
    width = max(1, int(some.support.mask.sum(1).amax()))
    return some._replace(support=_each(some.support, lambda column: column[:, :width]))


def _each(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return the same NamedTuple, of NamedTuples of tensors, with `function` of each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(*(_each(field, function) for field in value))


def _judged(
    shared: _Shared,
    objective: Callable[..., tuple[Tensor, Tensor]],
    tasks: _Encoded,
    *raw_user: Any,
) -> tuple[Tensor, Tensor]:
    """Return the objective [*T] and [query loss, query metric] [*T, 2].

    `raw_user` is what an encoder that adapts encodes the user of a task from.
    """
    task, user, recipe = tasks.task, tasks.user, shared.recipe
    support, query = (
        _events(shared, events, user, *encoded)
        for events, *encoded in (
            (task.support, tasks.support_item, tasks.support_context, tasks.support_offset),
            (task.query, tasks.query_item, tasks.query_context, tasks.query_offset),
        )
    )
    now = tasks.query_context[..., :1, :]
    if isinstance(recipe.loss, ChoiceLoss):
        items = shared.items._replace(offset=tasks.offset)
        reference = items.at(shared.reference)
        judge = choice_judge(recipe.loss, items, task, user, now=now, log_q=shared.log_q)
    else:
        assert isinstance(recipe.loss, LabelLoss)
        reference, judge = None, label_judge(recipe.loss, query, recipe.feedback)
    problem = make_problem(
        recipe.feedback,
        reference,
        shared.buffers["reference.log_q"],
        user,
        now,
        loss=recipe.loss,
        progress=shared.progress,
        begins=task.begins,
        reencoder=_reencoder(shared, *raw_user) if raw_user else None,
    )
    # A learner may ask for several losses; what is shown is the metric of the last one's scores.
    measure: Callable[[], Tensor] | None = None

    def query_loss(score: Scorer) -> Tensor:
        nonlocal measure
        value, measure = judge(score)
        return value

    value, loss = objective(problem, shared.dense, support, query, query_loss)
    assert measure is not None
    return value, torch.stack([loss, measure()], -1)


def _reencoder(shared: _Shared, user: Features, user_id: Tensor) -> Reencoder:
    model, adapting = shared.recipe.model, shared.recipe.adapting
    return Reencoder(model, shared.item_features, shared.item_ids, user, user_id, adapting)


def _events(
    shared: _Shared, events: Events, user: Tensor, vector: Tensor, context: Tensor, offset: Tensor
) -> Encoded:
    """Return a padded set whose items are encoded already: looked up, or all in a table."""
    index, _, _, place = shared.items
    own = EncodedItems(index[events.item], vector, offset, place[events.item])
    return encode_support(Support(own, context, events.label, events.mask, events.time), user)
