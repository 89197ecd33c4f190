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
from metarec_ray.core.batch import Encoded, Events, Features, Lane, Params, Task, own_labels
from metarec_ray.core.buckets import buckets
from metarec_ray.core.outer_loop import LaneObjective
from metarec_ray.training.meta_step.distillation import Teaching
from metarec_ray.training.meta_step.encoded_tasks import (
    EncodedTasks,
    Users,
    encoded_context,
    in_parts,
    offsets_of,
    strangers,
)
from metarec_ray.training.meta_step.query_loss import Scorer, choice_judge, label_judge


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
    teaching: Teaching | None


def lane_objective(
    recipe: Recipe,
    buffers: Params,
    lane: Lane,
    *,
    progress: float | None = None,
    teaching: Teaching | None = None,
    oracle: bool = False,
) -> LaneObjective:
    """Return `(dense, rows) -> (mean objective, [query loss, query metric])` of a lane.

    `rows` holds the lane's rows of `item.ids` [U, D] and `user.ids` [T, D], where the model has
    them. The metric is the mean of what `query_loss` measures.
    `progress` is the share of meta-training that is done; None outside it, where nothing is random.
    `teaching` says how much the answers of the lane's teacher count, if it has one.
    `oracle` asks for vmap over one task whatever the learner is: what batched learners are held to.
    """

    def objective(dense: Params, rows: Params) -> tuple[Tensor, Tensor]:
        shared = _shared(recipe, buffers, lane, dense, rows, progress, teaching)
        judged = _judged_parts(shared, lane, rows, batched=recipe.batched and not oracle)
        values, metrics = (torch.cat(found) for found in zip(*judged, strict=True))
        return values.mean(), metrics.mean(0)

    return objective


def _shared(
    recipe: Recipe,
    buffers: Params,
    lane: Lane,
    dense: Params,
    rows: Params,
    progress: float | None,
    teaching: Teaching | None,
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
        teaching=teaching,
    )


def _judged_parts(
    shared: _Shared, lane: Lane, rows: Params, *, batched: bool
) -> list[tuple[Tensor, Tensor]]:
    """Return what `_judged` does, part by part: at once, in buckets of like length, or by vmap."""
    learner, model = shared.recipe.learner, shared.recipe.model
    tasks, table = _with_labels(lane.tasks), shared.items.vector
    known = Users(lane.user, rows.get("user.ids"))
    if shared.progress is not None:
        known = strangers(known, model.user_dropout)
    users = model.encode(shared.dense, "user", *known)
    contexts = [
        encoded_context(model, shared.dense, events.context)
        for events in (tasks.support, tasks.query)
    ]
    choice = isinstance(shared.recipe.loss, ChoiceLoss)
    offsets = offsets_of(shared.buffers, lane, of_items=choice)
    if batched and learner.ragged:
        whole = EncodedTasks(tasks, users, table, contexts[0], table, contexts[1], *offsets)
        return [_judged(shared, learner.objective_batch, whole)]
    if batched:
        parts = in_parts(tasks, buckets(tasks.support.mask), users, contexts, table, offsets)
        return [_judged(shared, learner.objective_batch, part) for part in parts]
    everything = [torch.arange(len(users), device=users.device)]
    (whole,) = in_parts(tasks, everything, users, contexts, table, offsets)
    raw: tuple[Any, ...] = ()
    if model.encoder.adapts:  # encodes users anew
        raw = known.features, torch.zeros(len(users), 1) if known.ids is None else known.ids
    one = partial(_judged, shared, learner.objective)
    return [vmap(one, randomness="different")(whole, *raw)]


def _with_labels(tasks: Task) -> Task:
    """Return the tasks, of whose events each has further labels, no more than none maybe."""
    sets = (tasks.support, tasks.query)
    support, query = (one._replace(labels=own_labels(one.labels, one.mask)) for one in sets)
    return tasks._replace(support=support, query=query)


def _log_q(buffers: Params, items: Tensor) -> Tensor:
    """Return the log-probabilities [U] of items to be sampled as a negative."""
    if "negatives.log_q" in buffers:
        return buffers["negatives.log_q"][items]
    return -torch.log(buffers["catalogue_size"]).expand(len(items))


def _judged(
    shared: _Shared,
    objective: Callable[..., tuple[Tensor, Tensor]],
    tasks: EncodedTasks,
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
        judge = choice_judge(
            recipe.loss,
            items,
            task,
            user,
            now=now,
            log_q=shared.log_q,
            teaching=shared.teaching,
        )
    else:
        assert isinstance(recipe.loss, LabelLoss)
        reference = None
        judge = label_judge(
            recipe.loss, query, recipe.feedback, task.answers, teaching=shared.teaching
        )
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
    support = Support(own, context, events.label, events.mask, events.time, events.labels)
    return encode_support(support, user)
