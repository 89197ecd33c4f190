"""The tasks of a lane after the shared encoders: all at once, or in parts of like length.

Knows the towers and lanes; does not know learners or losses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Features, Lane, Params, Task
from metarec_ray.models.towers import Towers


class EncodedTasks(NamedTuple):
    """T tasks after the shared encoders, or one."""

    task: Task
    user: Tensor  # [*T, D]
    support_item: Tensor  # [*T, N, D], or the table [U, D]
    support_context: Tensor  # [*T, N, D] or [*T, 1, D]
    query_item: Tensor  # [*T, Q, D], or the table
    query_context: Tensor  # [*T, Q, D] or [*T, 1, D]
    offset: Tensor  # [*T, U] of the lane's items where positives compete with them, else [*T, 0]
    support_offset: Tensor  # [*T, N]
    query_offset: Tensor  # [*T, Q]


class Users(NamedTuple):
    """What is known of the users of T tasks."""

    features: Features  # [T]
    ids: Tensor | None  # [T, D]: their id rows, None without ids


class Offsets(NamedTuple):
    """The offsets that T tasks are asked with."""

    items: Tensor  # [T, U] of the lane's items, or [T, 0] where no item competes with another
    support: Tensor  # [T, N]
    query: Tensor  # [T, Q]


def strangers(users: Users, share: float) -> Users:
    """Return the users, without all that is known of a `share` of them, drawn at random.

    What is known of a user may tell who it is; then a learner need not adapt in training, and
    cannot for new users.
    """
    if not share:
        return users
    features, ids = users
    known = (torch.rand(len(features.tokens), 1, device=features.weights.device) >= share).float()
    hidden = features._replace(weights=features.weights * known, dense=features.dense * known)
    return Users(hidden, None if ids is None else ids * known)


def offsets_of(buffers: Params, lane: Lane, *, of_items: bool) -> Offsets:
    """Return the offsets of a lane; those of all items only where they are asked for.

    Without what a task's own entity added to them; of items at the start of a history for tasks
    that begin one, else of items that are met later.
    """
    begins, sets = lane.tasks.begins.unsqueeze(1), (lane.tasks.support.item, lane.tasks.query.item)
    start, later = (buffers[name][lane.items] for name in ("offset", "offset.later"))
    tasks, size = len(begins), len(lane.items)
    if of_items:
        whole = torch.where(begins, start, later) + lane.own.dense(tasks, size)
        return Offsets(whole, *(whole.gather(1, item) for item in sets))
    own = (torch.where(begins, start[item], later[item]) + lane.own.at(item, size) for item in sets)
    return Offsets(start.new_zeros(tasks, 0), *own)


def in_parts(
    tasks: Task,
    some: list[Tensor],
    users: Tensor,
    contexts: list[Tensor],
    vector: Tensor,
    offsets: Offsets,
) -> list[EncodedTasks]:
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
            EncodedTasks(
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


def encoded_context(model: Towers, dense: Params, context: Features) -> Tensor:
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
