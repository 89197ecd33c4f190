"""How popular an item is on a day, in the long run and lately: as known on that day.

Knows when events happened; does not know tasks or scores. What a second stage learns from began
before the end of the log, and must be told no more than was known when it began.

Axes: S time scales, I items, T tasks, C items of a shortlist.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import DAY, Params
from metarec_ray.core.histories import Histories

SCALES = (120.0, 30.0, 7.0)
"""Days in which the weight of an entity's start falls to 1 / e, longest first."""
FIRST, LAST = 5, 25
"""Positions of the events that count: what entities meet after their first few events."""
SHRINK = 20.0
"""Entities' worth of the next longer scale that is added to each."""
_LEAST = 0.1  # events that every item has at least


class _Entering(NamedTuple):
    """What enters the counts, in the order in which it happened."""

    time: Tensor  # int64 [n]
    weight: Tensor  # float64 [S, n]


def popularity(histories: Histories) -> Params:
    """Return what is known of items at the end of the log.

    `table` [I, S + 2], the features of each item; `log_count` [I] and `position` [I], the logs of
    its events and of their mean position in histories.
    """
    end = torch.tensor([0 if histories.cutoff is None else histories.cutoff])
    (_, counts), *_ = _by_day(histories, end)
    position = histories.position().clamp(max=10 * LAST).float()
    count = torch.bincount(histories.item, minlength=histories.n_items).float()
    total = torch.zeros(histories.n_items).index_add_(0, histories.item, position)
    mean = total.sum() / count.sum().clamp(min=1)
    log_position = torch.log1p((total + 5 * mean) / (count + 5))
    table = torch.cat([_trends(counts.T), log_position.unsqueeze(1)], 1)
    return {"table": table, "log_count": torch.log1p(count), "position": log_position}


def popularity_as_of(histories: Histories, moments: Tensor, items: Tensor) -> Tensor:
    """Return how popular `items` [T, C] were at `moments`, int64 [T]: [T, C, S + 1].

    The log-share on each scale, and the log of all events. Only what happened before the day of a
    moment counts. A log without a clock has one moment, its end.
    """
    found = torch.empty(*items.shape, len(SCALES) + 1)
    for tasks, counts in _by_day(histories, moments):
        found[tasks] = counts[:, items[tasks]].movedim(0, -1)
    return found


def popularity_features(params: Params, items: Tensor, as_of: Tensor | None) -> Tensor:
    """Return features [T, C, S + 2] of `items` [T, C]; `as_of` [T, C, S + 1] is of other days."""
    found = params["table"][items]
    if as_of is None:
        return found
    return torch.cat([_trends(as_of), found[..., -1:]], -1)


def _trends(counts: Tensor) -> Tensor:
    """Return what is known of a day [*, S + 1]: of shares that of the longest scale, and what
    differs on the others.
    """
    return torch.cat(
        [
            counts[..., :1],
            counts[..., 1 : len(SCALES)] - counts[..., :1],
            counts[..., len(SCALES) :],
        ],
        -1,
    )


def _by_day(histories: Histories, moments: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tasks of each day of `moments`, and what was known at its beginning [S + 1, I]."""
    if histories.cutoff is None:
        yield torch.arange(len(moments)), _of_a_day(*_everything(histories))
        return
    events, of_item, starts = _entering(histories)
    every_time, by_time = histories.time.sort(stable=True)
    count = torch.zeros(len(SCALES), histories.n_items, dtype=torch.float64)
    ever = torch.zeros(histories.n_items, dtype=torch.float64)
    entities = torch.zeros(len(SCALES), dtype=torch.float64)
    days, which = torch.unique(moments // DAY, return_inverse=True)
    seen = begun = met = 0
    before = int(days[0]) if len(days) else 0
    scale = torch.tensor(SCALES, dtype=torch.float64)
    for number, day in enumerate(days.tolist()):
        fade, moment = torch.exp(-(day - before) / scale), day * DAY
        count *= fade[:, None]
        entities *= fade
        new = slice(seen, int(torch.searchsorted(events.time, moment)))
        count.index_add_(1, of_item[new], _faded(events, new, moment, scale))
        begins = slice(begun, int(torch.searchsorted(starts.time, moment)))
        entities += _faded(starts, begins, moment, scale).sum(1)
        every = slice(met, int(torch.searchsorted(every_time, moment)))
        ever += torch.bincount(histories.item[by_time[every]], minlength=histories.n_items)
        seen, begun, met, before = new.stop, begins.stop, every.stop, day
        yield (which == number).nonzero().flatten(), _of_a_day(count, entities, ever)


def _entering(histories: Histories) -> tuple[_Entering, Tensor, _Entering]:
    """Return events with their items and starts of entities, each in order of time.

    An event enters when it happens, with what its entity's start still weighs by then.
    """
    met, start = histories.lengths() > 0, histories.starts()
    position = histories.position()
    counts = ((position >= FIRST) & (position < LAST)).nonzero().flatten()
    order = counts[histories.time[counts].argsort(stable=True)]
    since = (histories.time[order] - start[histories.entity()[order]]).double() / DAY
    scale = torch.tensor(SCALES, dtype=torch.float64)[:, None]
    begun = start[met].sort().values
    ones = torch.ones(len(SCALES), len(begun), dtype=torch.float64)
    events = _Entering(histories.time[order], torch.exp(-since / scale))
    return events, histories.item[order], _Entering(begun, ones)


def _faded(entering: _Entering, some: slice, moment: int, scale: Tensor) -> Tensor:
    """Return the weights [S, n] of what enters, at a later moment."""
    days = (moment - entering.time[some]).double() / DAY
    return entering.weight[:, some] * torch.exp(-days / scale[:, None])


def _everything(histories: Histories) -> tuple[Tensor, Tensor, Tensor]:
    """Return the counts of a log without a clock: everything weighs the same on every scale."""
    position = histories.position()
    item = histories.item[(position >= FIRST) & (position < LAST)]
    count = torch.bincount(item, minlength=histories.n_items).double()
    ever = torch.bincount(histories.item, minlength=histories.n_items).double()
    entities = (histories.lengths() > 0).sum().double()
    return count.expand(len(SCALES), -1), entities.expand(len(SCALES)), ever


def _of_a_day(count: Tensor, entities: Tensor, ever: Tensor) -> Tensor:
    """Return log-shares, each shrunk to that of the next longer scale, and the log of all events.

    The longest is shrunk to the events that an entity has on each item if time does not matter.
    """
    share = (LAST - FIRST) * (ever + _LEAST) / (ever + _LEAST).sum()
    rows = []
    for own, weight in zip(count, entities, strict=True):
        share = (own + SHRINK * share) / (weight + SHRINK)
        rows.append(share.log())
    return torch.stack([*rows, torch.log1p(ever)]).float()
