"""From bucket files to whole columns in the order of task ids, in the memory of one bucket.

Every bucket is read twice: first to count the events that each entity keeps, which says where they
go, then to write them there. Knows rows of buckets and which are kept; does not know where columns
are stored or who verifies files.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from metarec_ray.data.files.memory_mapped import Allocate, Shape
from metarec_ray.data.tasks.features import FeatureSpace
from metarec_ray.data.tasks.further_labels import LabelSpace


class Buckets(NamedTuple):
    """The bucket files of a store; `read` returns columns of one, given its number."""

    numbers: range
    read: Callable[[int, Sequence[str]], pa.Table]
    has_time: bool
    user: FeatureSpace
    context: FeatureSpace
    labels: LabelSpace


class EventFilter(NamedTuple):
    """Which events are kept: of entities of these parts, on these items, before the cutoff.

    The last `held_last` events of a history are left out first, whatever their items.
    """

    parts: Sequence[str]
    items: np.ndarray | None = None  # bool [I]; None for all
    cutoff: int | None = None  # microseconds; None for all
    held_last: int = 0


class _BucketSizes(NamedTuple):
    """How much space the e entities of a bucket take."""

    task_id: np.ndarray  # int64 [e]
    events: np.ndarray  # int64 [e]: kept ones
    user: list[int]  # most tokens of an entity, of each field
    context: list[int]  # most tokens of an event, kept or not, of each field


class _Layout(NamedTuple):
    """Where everything goes: row r of bucket b is entity rows[b][r] of E in all."""

    task_id: np.ndarray  # int64 [E], ascending
    offsets: np.ndarray  # int64 [E + 1]
    rows: list[np.ndarray]
    user: list[int]
    context: list[int]


def gather(buckets: Buckets, keep: EventFilter, allocate: Allocate) -> list[Tensor]:
    """Return task_id, offsets, item, label, time, the columns of context and users, and labels.

    As in `Histories`; an entity may be left without an event. Labels are left out where events have
    no further ones. `allocate` makes the tensors.
    """
    layout = _layout([_bucket_sizes(buckets, keep, number) for number in buckets.numbers])
    columns = allocate(_shapes(buckets, layout))
    columns[0].numpy()[:] = layout.task_id
    columns[1].numpy()[:] = layout.offsets
    for number in buckets.numbers:
        _copy(buckets, keep, number, layout=layout, to=columns)
    return columns


def _bucket_sizes(buckets: Buckets, keep: EventFilter, number: int) -> _BucketSizes:
    bags = [f"user.{name}" for name in _bags(buckets.user)]
    bags += [f"context.{name}" for name in _bags(buckets.context)]
    clock = [] if keep.cutoff is None else ["time"]
    table = _chosen(buckets, keep, number, ["task_id", "item", *clock, *bags])
    bounds = table["item"].combine_chunks().offsets.to_numpy()
    kept = np.concatenate([[0], _kept(table, keep).cumsum()])
    return _BucketSizes(
        task_id=table["task_id"].to_numpy(),
        events=np.diff(kept[bounds - bounds[0]]),
        user=_widths(buckets.user, _user(table)),
        context=_widths(buckets.context, _of_events(table, "context.")),
    )


def _layout(sizes: Sequence[_BucketSizes]) -> _Layout:
    task_id = np.concatenate([one.task_id for one in sizes])
    events = np.concatenate([one.events for one in sizes])
    order = task_id.argsort()
    rows = np.empty_like(order)
    rows[order] = np.arange(len(order))
    return _Layout(
        task_id=task_id[order],
        offsets=np.concatenate([[0], events[order].cumsum()]),
        rows=np.split(rows, np.cumsum([len(one.task_id) for one in sizes])[:-1]),
        user=[max(widths) for widths in zip(*(one.user for one in sizes), strict=True)],
        context=[max(widths) for widths in zip(*(one.context for one in sizes), strict=True)],
    )


def _shapes(buckets: Buckets, layout: _Layout) -> list[Shape]:
    entities, events = len(layout.task_id), int(layout.offsets[-1])
    shapes: list[Shape] = [(torch.int64, (entities,)), (torch.int64, (entities + 1,))]
    shapes += [(kind, (events,)) for kind in (torch.int64, torch.float32, torch.int64)]
    for n, space, widths in (
        (events, buckets.context, layout.context),
        (entities, buckets.user, layout.user),
    ):
        shapes += [(kind, (n, sum(widths))) for kind in (torch.int64, torch.float32)]
        shapes.append((torch.float32, (n, space.dense)))
    if buckets.labels.names:
        shapes.append((torch.float32, (events, len(buckets.labels.names))))
    return shapes


def _copy(
    buckets: Buckets, keep: EventFilter, number: int, *, layout: _Layout, to: list[Tensor]
) -> None:
    """Write the rows of a bucket where they belong."""
    events = ["item", "label", *(["time"] if buckets.has_time else [])]
    sides = [f"user.{field.name}" for field in buckets.user.fields]
    sides += [f"context.{field.name}" for field in buckets.context.fields]
    sides += [f"label.{name}" for name in buckets.labels.names]
    table = _chosen(buckets, keep, number, [*events, *sides])
    kept, rows = _kept(table, keep), layout.rows[number]
    first = layout.offsets[rows]
    sizes = layout.offsets[rows + 1] - first
    before = sizes.cumsum() - sizes
    places = np.repeat(first - before, sizes) + np.arange(sizes.sum())
    for name, column in zip(events, to[2:5], strict=False):  # without a clock times stay 0
        column.numpy()[places] = _flat(table[name]).to_numpy(zero_copy_only=False)[kept]
    context, labels = (
        {name: column.filter(pa.array(kept)) for name, column in found.items()}
        for found in (_of_events(table, "context."), _of_events(table, "label."))
    )
    _encode(buckets.context, context, layout.context, places=places, to=to[5:8])
    _encode(buckets.user, _user(table), layout.user, places=rows, to=to[8:11])
    if labels:
        to[11].numpy()[places] = buckets.labels.encode(labels, len(places)).numpy()


def _encode(
    space: FeatureSpace,
    columns: Mapping[str, pa.Array],
    widths: list[int],
    *,
    places: np.ndarray,
    to: list[Tensor],
) -> None:
    """Write features to `places`; a bag with fewer tokens than the largest ends with padding."""
    found = space.encode(columns, len(places))
    assert found.dense.shape[1] == space.dense
    starts = np.cumsum(widths) - widths
    own = zip(starts, _widths(space, columns), strict=True)
    bags = np.concatenate([np.arange(0), *(np.arange(at, at + width) for at, width in own)])
    for column, values, at in zip(to, found, (bags, bags, np.arange(space.dense)), strict=True):
        column.numpy()[places[:, None], at] = values.numpy()


def _chosen(buckets: Buckets, keep: EventFilter, number: int, columns: Sequence[str]) -> pa.Table:
    """Return columns of a bucket, of the entities of the asked parts."""
    table = buckets.read(number, ["part", *columns])
    chosen = [part in keep.parts for part in table["part"].to_pylist()]
    return table.filter(pa.array(chosen, pa.bool_()))


def _kept(table: pa.Table, keep: EventFilter) -> np.ndarray:
    """Return which events of a table are kept, bool [events]."""
    item = _flat(table["item"]).to_numpy()
    kept = np.ones(len(item), bool) if keep.items is None else keep.items[item]
    if keep.cutoff is not None:
        kept &= _flat(table["time"]).to_numpy() < keep.cutoff
    if keep.held_last:
        bounds = table["item"].combine_chunks().offsets.to_numpy()
        later = np.repeat(bounds[1:], np.diff(bounds)) - np.arange(bounds[0], bounds[-1]) - 1
        kept &= later >= keep.held_last
    return kept


def _user(table: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of user features that were read, by field."""
    names = [name for name in table.column_names if name.startswith("user.")]
    return {name.removeprefix("user."): table[name].combine_chunks() for name in names}


def _of_events(table: pa.Table, side: str) -> dict[str, pa.Array]:
    """Return the columns of `context.` or `label.` that were read, by field; a row is an event."""
    names = [name for name in table.column_names if name.startswith(side)]
    return {name.removeprefix(side): _flat(table[name]) for name in names}


def _bags(space: FeatureSpace) -> list[str]:
    return [field.name for field in space.fields if field.kind == "multi_categorical"]


def _widths(space: FeatureSpace, columns: Mapping[str, pa.Array]) -> list[int]:
    """Return the most tokens of a row in each token field, at least 1."""
    return [
        _widest(columns[field.name]) if field.kind == "multi_categorical" else 1
        for field in space.fields
        if field.name in space.first_row
    ]


def _widest(bags: pa.ListArray) -> int:
    return int(np.diff(bags.offsets.to_numpy()).max(initial=1))


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks().flatten()
