"""From bucket files to whole columns in the order of task ids: memory is that of one bucket.

Buckets are read twice: how many events each entity keeps says where they belong, then they are
brought there. Knows rows of buckets and the cut; does not know where columns lie or who checks
files.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from metarec_ray.data.files.memory_mapped import Allocate, Shape
from metarec_ray.data.tasks.features import FeatureSpace


class Buckets(NamedTuple):
    """The bucket files of a store; `read` returns columns of one, given its number."""

    numbers: range
    read: Callable[[int, Sequence[str]], pa.Table]
    has_time: bool
    user: FeatureSpace
    context: FeatureSpace


class Wanted(NamedTuple):
    """Whose events, and which of them: those before the cutoff on items that are learned of."""

    parts: Sequence[str]
    learned: np.ndarray | None = None  # bool [I]; None is all
    cutoff: int | None = None  # microseconds; None is the end of time


class _Outline(NamedTuple):
    """What a bucket says of its e entities before their events are brought anywhere."""

    task_id: np.ndarray  # int64 [e]
    events: np.ndarray  # int64 [e]: those that are kept
    user: list[int]  # widths of the bags of its fields
    context: list[int]  # over all events, kept or not


class _Layout(NamedTuple):
    """Where everything goes: row r of bucket b is entity rows[b][r] of E."""

    task_id: np.ndarray  # int64 [E], ascending
    offsets: np.ndarray  # int64 [E + 1]
    rows: list[np.ndarray]
    user: list[int]
    context: list[int]


def gather(buckets: Buckets, wanted: Wanted, allocate: Allocate) -> list[Tensor]:
    """Return task_id, offsets, item, label, time, the context's columns, the users'.

    What they hold is said by `Histories`. An entity may be left without an event.
    """
    layout = _layout([_outline(buckets, wanted, number) for number in buckets.numbers])
    columns = allocate(_shapes(buckets, layout))
    columns[0].numpy()[:] = layout.task_id
    columns[1].numpy()[:] = layout.offsets
    for number in buckets.numbers:
        _bring(buckets, wanted, number, layout=layout, to=columns)
    return columns


def _outline(buckets: Buckets, wanted: Wanted, number: int) -> _Outline:
    bags = [f"user.{name}" for name in _bags(buckets.user)]
    bags += [f"context.{name}" for name in _bags(buckets.context)]
    clock = [] if wanted.cutoff is None else ["time"]
    table = _chosen(buckets, wanted, number, ["task_id", "item", *clock, *bags])
    bounds = table["item"].combine_chunks().offsets.to_numpy()
    kept = np.concatenate([[0], _kept(table, wanted).cumsum()])
    return _Outline(
        task_id=table["task_id"].to_numpy(),
        events=np.diff(kept[bounds - bounds[0]]),
        user=_widths(buckets.user, _user(table)),
        context=_widths(buckets.context, _context(table)),
    )


def _layout(outlines: Sequence[_Outline]) -> _Layout:
    task_id = np.concatenate([one.task_id for one in outlines])
    events = np.concatenate([one.events for one in outlines])
    order = task_id.argsort()
    rows = np.empty_like(order)
    rows[order] = np.arange(len(order))
    return _Layout(
        task_id=task_id[order],
        offsets=np.concatenate([[0], events[order].cumsum()]),
        rows=np.split(rows, np.cumsum([len(one.task_id) for one in outlines])[:-1]),
        user=[max(widths) for widths in zip(*(one.user for one in outlines), strict=True)],
        context=[max(widths) for widths in zip(*(one.context for one in outlines), strict=True)],
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
    return shapes


def _bring(
    buckets: Buckets, wanted: Wanted, number: int, *, layout: _Layout, to: list[Tensor]
) -> None:
    """Write what a bucket holds to its places; those of an entity's events are neighbours."""
    events = ["item", "label", *(["time"] if buckets.has_time else [])]
    sides = [f"user.{field.name}" for field in buckets.user.fields]
    sides += [f"context.{field.name}" for field in buckets.context.fields]
    table = _chosen(buckets, wanted, number, [*events, *sides])
    kept, rows = _kept(table, wanted), layout.rows[number]
    first = layout.offsets[rows]
    sizes = layout.offsets[rows + 1] - first
    before = sizes.cumsum() - sizes
    places = np.repeat(first - before, sizes) + np.arange(sizes.sum())
    for name, column in zip(events, to[2:5], strict=False):  # without a clock times stay 0
        column.numpy()[places] = _flat(table[name]).to_numpy(zero_copy_only=False)[kept]
    context = {name: column.filter(pa.array(kept)) for name, column in _context(table).items()}
    _encode(buckets.context, context, layout.context, places=places, to=to[5:8])
    _encode(buckets.user, _user(table), layout.user, places=rows, to=to[8:])


def _encode(
    space: FeatureSpace,
    columns: Mapping[str, pa.Array],
    widths: list[int],
    *,
    places: np.ndarray,
    to: list[Tensor],
) -> None:
    """Write features to `places`; bags that are narrower than the widest end with padding."""
    found = space.encode(columns, len(places))
    assert found.dense.shape[1] == space.dense
    starts = np.cumsum(widths) - widths
    own = zip(starts, _widths(space, columns), strict=True)
    bags = np.concatenate([np.arange(0), *(np.arange(at, at + width) for at, width in own)])
    for column, values, at in zip(to, found, (bags, bags, np.arange(space.dense)), strict=True):
        column.numpy()[places[:, None], at] = values.numpy()


def _chosen(buckets: Buckets, wanted: Wanted, number: int, columns: Sequence[str]) -> pa.Table:
    """Return columns of the entities of the parts that are wanted."""
    table = buckets.read(number, ["part", *columns])
    chosen = [part in wanted.parts for part in table["part"].to_pylist()]
    return table.filter(pa.array(chosen, pa.bool_()))


def _kept(table: pa.Table, wanted: Wanted) -> np.ndarray:
    """Return bool [events]: what is not cut."""
    item = _flat(table["item"]).to_numpy()
    kept = np.ones(len(item), bool) if wanted.learned is None else wanted.learned[item]
    if wanted.cutoff is not None:
        kept &= _flat(table["time"]).to_numpy() < wanted.cutoff
    return kept


def _user(table: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of user features that were read, by field."""
    names = [name for name in table.column_names if name.startswith("user.")]
    return {name.removeprefix("user."): table[name].combine_chunks() for name in names}


def _context(table: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of context features that were read, an event a row."""
    names = [name for name in table.column_names if name.startswith("context.")]
    return {name.removeprefix("context."): _flat(table[name]) for name in names}


def _bags(space: FeatureSpace) -> list[str]:
    return [field.name for field in space.fields if field.kind == "multi_categorical"]


def _widths(space: FeatureSpace, columns: Mapping[str, pa.Array]) -> list[int]:
    """Return how many tokens each field has; 1 for a bag that nobody has."""
    return [
        _widest(columns[field.name]) if field.kind == "multi_categorical" else 1
        for field in space.fields
        if field.name in space.first_row
    ]


def _widest(bags: pa.ListArray) -> int:
    return int(np.diff(bags.offsets.to_numpy()).max(initial=1))


def _flat(lists: pa.ChunkedArray) -> pa.Array:
    return lists.combine_chunks().flatten()
