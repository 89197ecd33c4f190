"""The objective of one lane: encode once, adapt and judge every task.

Knows the order encoders -> learner -> query loss; does not know optimizers, workers or files.
Everything but the learner is written for one task and for T alike: learners that are `batched` get
T tasks at once, in buckets of like length; of others, vmap makes T tasks out of one.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.losses.base import ChoiceLoss
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.batch import Lane, Params
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
from metarec_ray.training.meta_step.judged_tasks import Shared, judged, shared_of, with_labels


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
        ids = rows.get("item.ids")
        shared = shared_of(
            recipe,
            buffers,
            lane,
            dense,
            recipe.model.encode(dense, "item", lane.item_features, ids),
            item_ids=ids,
            progress=progress,
            teaching=teaching,
        )
        parts = _judged_parts(shared, lane, rows, batched=recipe.batched and not oracle)
        values, metrics = (torch.cat(found) for found in zip(*parts, strict=True))
        return values.mean(), metrics.mean(0)

    return objective


def _judged_parts(
    shared: Shared, lane: Lane, rows: Params, *, batched: bool
) -> list[tuple[Tensor, Tensor]]:
    """Return what `judged` does, part by part: at once, in buckets of like length, or by vmap."""
    learner, model = shared.recipe.learner, shared.recipe.model
    tasks, table = with_labels(lane.tasks), shared.items.vector
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
        return [judged(shared, learner.objective_batch, whole)]
    if batched:
        parts = in_parts(tasks, buckets(tasks.support.mask), users, contexts, table, offsets)
        return [judged(shared, learner.objective_batch, part) for part in parts]
    everything = [torch.arange(len(users), device=users.device)]
    (whole,) = in_parts(tasks, everything, users, contexts, table, offsets)
    raw: tuple[Any, ...] = ()
    if model.encoder.adapts:  # encodes users anew
        raw = known.features, torch.zeros(len(users), 1) if known.ids is None else known.ids
    one = partial(judged, shared, learner.objective)
    return [vmap(one, randomness="different")(whole, *raw)]
