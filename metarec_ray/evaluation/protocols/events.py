"""Parts of histories: shuffled ties, first events per item, selections, padded sets.

Knows flat events with offsets; does not know any protocol.
"""

import torch
from torch import Generator, Tensor

from metarec_ray.core.batch import Features, entity_of
from metarec_ray.data.tasks.task_store import HistoryTable


def shuffled_ties(offsets: Tensor, time: Tensor, generator: Generator) -> Tensor:
    """Return a permutation that shuffles the events of each entity at the same time.

    Nothing else moves. The control for information in the order of events with equal timestamps.

    Args:
        offsets: int64 [E + 1].
        time: int64 [N], ascending inside an entity; days are `time // DAY`.
        generator: draws the order.

    """
    entity = entity_of(offsets)
    begins = torch.ones_like(time, dtype=torch.bool)
    begins[1:] = (time[1:] != time[:-1]) | (entity[1:] != entity[:-1])
    drawn = torch.rand(time.numel(), generator=generator, dtype=torch.float64).argsort(stable=True)
    return drawn[begins.cumsum(0)[drawn].argsort(stable=True)]


def first_meetings(offsets: Tensor, item: Tensor, keep: Tensor, n_items: int) -> Tensor:
    """Return bool [N]: the first `kept` event of each entity with each item; repeats are False."""
    rows = keep.nonzero().squeeze(1)
    pairs, where = torch.unique(
        entity_of(offsets)[rows] * n_items + item[rows], return_inverse=True
    )
    first = torch.full((pairs.numel(),), item.numel(), dtype=torch.int64)
    first.scatter_reduce_(0, where, rows, "amin")
    return torch.zeros_like(keep).index_fill_(0, first, True)


def item_share(offsets: Tensor, item: Tensor, n_items: int) -> Tensor:
    """Return for each item the share of (non-empty) entities with an event on it, float [I] > 0."""
    met = torch.unique(entity_of(offsets) * n_items + item) % n_items
    count = torch.bincount(met, minlength=n_items).clamp(min=1)
    return count / (offsets.diff() > 0).sum().clamp(min=1)


def select(table: HistoryTable, entities: Tensor, events: Tensor, sizes: Tensor) -> HistoryTable:
    """Return the table of `entities` [E'] whose events are `events` [N'], `sizes` [E'] of each."""
    return HistoryTable(
        task_id=table.task_id[entities],
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
        item=table.item[events],
        label=table.label[events],
        time=table.time[events],
        context=at(table.context, events),
        user=at(table.user, entities),
    )


def padded(starts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows start, start + 1, .. of each set, int64 [T, N], 0 on padding; and their mask.

    N is at least 1: an empty set has one masked slot.
    """
    step = torch.arange(max(int(sizes.max()) if sizes.numel() else 0, 1))
    mask = step < sizes.unsqueeze(1)
    return torch.where(mask, starts.unsqueeze(1) + step, 0), mask


def at(features: Features, rows: Tensor) -> Features:
    """Return features at `rows` of any shape."""
    return Features(*(column[rows] for column in features))
