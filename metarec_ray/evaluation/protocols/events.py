"""Parts of histories: shuffled ties, first events per item, selections, padded sets.

Knows `Histories`; does not know any protocol.
"""

import torch
from torch import Generator, Tensor

from metarec_ray.core.histories import Histories


def shuffled_ties(histories: Histories, time: Tensor, generator: Generator) -> Histories:
    """Return the histories with each entity's events of one moment in a random order.

    All other events keep their places: the control for what the order inside a timestamp gives
    away.

    Args:
        histories: of any entities.
        time: int64 [N], which moment each event is of, ascending inside an entity.
        generator: draws the order.

    """
    entity = histories.entity()
    begins = torch.ones_like(time, dtype=torch.bool)
    begins[1:] = (time[1:] != time[:-1]) | (entity[1:] != entity[:-1])
    drawn = torch.rand(time.numel(), generator=generator, dtype=torch.float64).argsort(stable=True)
    return histories.reorder(drawn[begins.cumsum(0)[drawn].argsort(stable=True)])


def first_meetings(histories: Histories, keep: Tensor) -> Tensor:
    """Return bool [N]: each entity's first event with an item, of those in `keep`, bool [N]."""
    rows, n_items = keep.nonzero().squeeze(1), histories.n_items
    pairs, where = torch.unique(
        histories.entity()[rows] * n_items + histories.item[rows], return_inverse=True
    )
    first = torch.full((pairs.numel(),), histories.item.numel(), dtype=torch.int64)
    first.scatter_reduce_(0, where, rows, "amin")
    return torch.zeros_like(keep).index_fill_(0, first, True)


def item_share(histories: Histories) -> Tensor:
    """Return the share of entities with events that met each item, float [I], never 0."""
    n_items = histories.n_items
    met = torch.unique(histories.entity() * n_items + histories.item) % n_items
    count = torch.bincount(met, minlength=n_items).clamp(min=1)
    return count / (histories.lengths() > 0).sum().clamp(min=1)


def padded(starts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows start, start + 1, .. of each set, int64 [T, N], 0 on padding; and their mask.

    N is at least 1: an empty set has one masked slot.
    """
    step = torch.arange(max(int(sizes.max()) if sizes.numel() else 0, 1))
    mask = step < sizes.unsqueeze(1)
    return torch.where(mask, starts.unsqueeze(1) + step, 0), mask
