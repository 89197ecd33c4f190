"""What the encoders make of a step's lanes, for every run of a stack: each thing once a step.

Knows the towers and lanes; does not know learners, losses or gradients. Lanes have items in common,
all of them where the whole catalogue is ranked, and encoding them takes its time for every run: so
it is done once a step, of the items of all lanes together.

Axes: L lanes, T tasks of a lane, U items of a step, E events of all its sets, D dimensions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import (
    Events,
    Features,
    Lane,
    OffsetChanges,
    Params,
    Task,
    own_labels,
)
from metarec_ray.models.towers import Towers


class Encodings(NamedTuple):
    """What one run's encoders make of a step, or of a lane; of all runs with a leading axis."""

    item: Tensor  # [U, D]
    user: Tensor  # [L * T, D]
    context: Tensor  # [E, D]


class StepTasks(NamedTuple):
    """The lanes of a step, and what of them is encoded."""

    lanes: list[Lane]
    items: Tensor  # int64 [U]: of all lanes, rows of the catalogue, ascending
    item_features: Features  # [U]
    entity: Tensor  # int64 [L * T]
    user_features: Features  # [L * T], nothing of strangers
    known: Tensor  # float [L * T, 1]: 0 for strangers
    context_features: Features  # [E]: supports and queries, lane by lane

    def encode(self, model: Towers, dense: Params, tables: Params) -> Encodings:
        """Return what a run encodes, given its dense parameters and its rows of each table."""
        ids = tables.get("user.ids")
        return Encodings(
            model.encode(dense, "item", self.item_features, tables.get("item.ids")),
            model.encode(
                dense, "user", self.user_features, None if ids is None else ids * self.known
            ),
            model.encode(dense, "context", self.context_features),
        )

    def of_lane(self, number: int, encodings: Encodings) -> "LaneEncodings":
        """Return the part of a lane, of one run or of all with a leading axis."""
        lane, tasks = self.lanes[number], [len(lane.entity) for lane in self.lanes]
        user = encodings.user.split(tasks, -2)[number]
        shapes = [mask.shape for lane in self.lanes for mask in _masks(lane)]
        events = encodings.context.split([shape.numel() for shape in shapes], -2)
        own = zip(events, shapes, strict=True)
        both = [part.unflatten(-2, shape) for part, shape in list(own)[2 * number :][:2]]
        item = encodings.item
        if len(lane.items) < len(self.items):
            item = item.index_select(-2, torch.searchsorted(self.items, lane.items))
        return LaneEncodings(item, user, *both)


class LaneEncodings(NamedTuple):
    """What is encoded of a lane, of one run or of all with a leading axis."""

    item: Tensor  # [U, D] of the lane's items
    user: Tensor  # [T, D]
    support_context: Tensor  # [T, N, D]
    query_context: Tensor  # [T, Q, D]


def step_tasks(lanes: list[Lane], *, user_dropout: float, seeds: list[int]) -> StepTasks:
    """Return the tasks of a step; lanes that rank the same items are one lane of all their tasks.

    `seeds` decide, lane by lane, of which users nothing is known. They are those of `lane_result`,
    so that the same users are strangers.
    """
    drawn = zip(lanes, seeds, strict=True)
    known = torch.cat([_known(lane, user_dropout, seed) for lane, seed in drawn])
    if all(_alike(lane, lanes[0]) for lane in lanes):
        lanes = [_one_lane(lanes)]
    items, features = (lanes[0].items, lanes[0].item_features)
    if len(lanes) > 1:
        items, features = _united(lanes)
    users = joined([lane.user for lane in lanes])
    sets = [events for lane in lanes for events in (lane.tasks.support, lane.tasks.query)]
    return StepTasks(
        lanes=lanes,
        items=items,
        item_features=features,
        entity=torch.cat([lane.entity for lane in lanes]),
        user_features=users._replace(weights=users.weights * known, dense=users.dense * known),
        known=known,
        context_features=joined(
            [Features(*(c.flatten(0, -2) for c in events.context)) for events in sets]
        ),
    )


def joined(parts: Sequence[Any]) -> Any:
    """Return NamedTuples of tensors, or of such, with the first axes of all beside each other."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return type(parts[0])(*(joined(columns) for columns in zip(*parts, strict=True)))


def _alike(lane: Lane, other: Lane) -> bool:
    same = lane.items is other.items or torch.equal(lane.items, other.items)
    widths = [[mask.shape[1] for mask in _masks(one)] for one in (lane, other)]
    return same and widths[0] == widths[1] and not lane.tasks.negatives.shape[1]


def _one_lane(lanes: list[Lane]) -> Lane:
    first, before = lanes[0], 0
    keys = []
    for lane in lanes:
        keys.append(lane.own.key + before * len(first.items))
        before += len(lane.entity)
    tasks = [lane.tasks for lane in lanes]
    return first._replace(
        entity=torch.cat([lane.entity for lane in lanes]),
        user=joined([lane.user for lane in lanes]),
        tasks=Task(
            support=_events([one.support for one in tasks]),
            query=_events([one.query for one in tasks]),
            negatives=joined([one.negatives for one in tasks]),
            begins=joined([one.begins for one in tasks]),
            answers=joined([one.answers for one in tasks]),
        ),
        own=OffsetChanges(torch.cat(keys), torch.cat([lane.own.change for lane in lanes])),
    )


def _events(sets: list[Events]) -> Events:
    """Return the sets of all tasks; further labels that nobody has stay one row."""
    labels = [own_labels(one.labels, one.mask) for one in sets]
    return joined([one._replace(labels=own) for one, own in zip(sets, labels, strict=True)])


def _masks(lane: Lane) -> tuple[Tensor, Tensor]:
    return lane.tasks.support.mask, lane.tasks.query.mask


def _known(lane: Lane, user_dropout: float, seed: int) -> Tensor:
    drawn = torch.rand(len(lane.entity), 1, generator=torch.Generator().manual_seed(seed))
    return (drawn >= user_dropout).to(lane.user.weights.dtype)


def _united(lanes: list[Lane]) -> tuple[Tensor, Features]:
    """Return the items of all lanes, each once, and their features."""
    items = torch.unique(torch.cat([lane.items for lane in lanes]))
    every = joined([lane.item_features for lane in lanes])
    place = torch.empty(len(items), dtype=torch.int64)
    where = torch.searchsorted(items, torch.cat([lane.items for lane in lanes]))
    place[where] = torch.arange(len(where))
    return items, every.at(place)
