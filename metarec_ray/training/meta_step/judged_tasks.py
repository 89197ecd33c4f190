"""What a learner makes of encoded tasks: problems, objectives, query losses.

Knows the order learner -> query loss; does not know what the encoders read, lanes or gradients.
Written for one task and for T alike, and for tasks of many models at once, which vmap maps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Problem
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
from metarec_ray.training.meta_step.distillation import Teaching
from metarec_ray.training.meta_step.encoded_tasks import EncodedTasks
from metarec_ray.training.meta_step.query_loss import Judge, Scorer, choice_judge, label_judge


class Shared(NamedTuple):
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


def with_labels(tasks: Task) -> Task:
    """Return the tasks, of whose events each has further labels, no more than none maybe."""
    sets = (tasks.support, tasks.query)
    support, query = (one._replace(labels=own_labels(one.labels, one.mask)) for one in sets)
    return tasks._replace(support=support, query=query)


def shared_of(
    recipe: Recipe,
    buffers: Params,
    lane: Lane,
    dense: Params,
    vector: Tensor,
    *,
    item_ids: Tensor | None = None,
    progress: float | None,
    teaching: Teaching | None,
) -> Shared:
    """Return what all tasks of a lane have in common, given the vectors [U, D] of its items."""
    return Shared(
        recipe=recipe,
        buffers=buffers,
        dense=dense,
        items=encoded_table(lane.items, vector, buffers["offset"][lane.items]),
        log_q=_log_q(buffers, lane.items),
        reference=lane.reference,
        progress=progress,
        item_features=lane.item_features,
        item_ids=item_ids,
        teaching=teaching,
    )


def judged(
    shared: Shared,
    objective: Callable[..., tuple[Tensor, Tensor]],
    tasks: EncodedTasks,
    *raw_user: Any,
) -> tuple[Tensor, Tensor]:
    """Return the objective [*T] and [query loss, query metric] [*T, 2].

    `raw_user` is what an encoder that adapts encodes the user of a task from.
    """
    posed = _posed(shared, tasks, *raw_user)
    # A learner may ask for several losses; what is shown is the metric of the last one's scores.
    measure: Callable[[], Tensor] | None = None

    def query_loss(score: Scorer) -> Tensor:
        nonlocal measure
        value, measure = posed.judge(score)
        return value

    value, loss = objective(posed.problem, shared.dense, posed.support, posed.query, query_loss)
    assert measure is not None
    return value, torch.stack([loss, measure()], -1)


def objective_alone(shared: Shared, tasks: EncodedTasks) -> Tensor:
    """Return the objective [T] of tasks of one of the models that vmap maps; nothing is shown."""
    posed = _posed(shared, tasks)
    return shared.recipe.learner.objective_mapped(
        posed.problem,
        shared.dense,
        posed.support,
        posed.query,
        lambda score: posed.judge(score)[0],
    )


class _Posed(NamedTuple):
    """What a learner is given of T tasks, or of one."""

    problem: Problem
    support: Encoded
    query: Encoded
    judge: Judge


def _posed(shared: Shared, tasks: EncodedTasks, *raw_user: Any) -> _Posed:
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
    return _Posed(problem, support, query, judge)


def _reencoder(shared: Shared, user: Features, user_id: Tensor) -> Reencoder:
    model, adapting = shared.recipe.model, shared.recipe.adapting
    return Reencoder(model, shared.item_features, shared.item_ids, user, user_id, adapting)


def _events(
    shared: Shared, events: Events, user: Tensor, vector: Tensor, context: Tensor, offset: Tensor
) -> Encoded:
    """Return a padded set whose items are encoded already: looked up, or all in a table."""
    index, _, _, place = shared.items
    own = EncodedItems(index[events.item], vector, offset, place[events.item])
    support = Support(own, context, events.label, events.mask, events.time, events.labels)
    return encode_support(support, user)


def _log_q(buffers: Params, items: Tensor) -> Tensor:
    """Return the log-probabilities [U] of items to be sampled as a negative."""
    if "negatives.log_q" in buffers:
        return buffers["negatives.log_q"][items]
    return -torch.log(buffers["catalogue_size"]).expand(len(items))
