"""Which items follow which, soon and later: pointwise mutual information of ordered pairs.

Knows the order of events; does not know users or scores. Pairs are kept as sorted keys, so that the
memory grows with the log and not with the square of the catalogue.

Axes: P pairs, I items, W windows, T tasks, C items of a shortlist.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories

WINDOWS = (10, 2)
"""Events after an item in which another one follows it, longest first."""
FOLLOWERS = 1000
"""Pairs that are kept of an item at most: the most frequent ones."""
SHRINK = 20.0
"""Pairs' worth of an item's share that are added to those of each pair of items."""
_CHUNK = 1_000_000  # events whose pairs are counted at a time


def transitions(histories: Histories) -> Params:
    """Return the pairs of items of which the second followed the first.

    `key` int64 [P], ascending: first x I + second; `count` float [W, P]; `log_total` float [W, I],
    of the pairs of each first item; `rarity` float [I], 1 / the share of second ones.
    """
    n = histories.n_items
    key, count = _pairs(histories)
    total = torch.zeros(len(WINDOWS), n).index_add_(1, key // n, count)
    follower = torch.zeros(n).index_add_(0, key % n, count[0]) + 0.1
    key, count = _most_frequent(key, count, n)
    if not len(key):  # a pair that never was, so that there is one to look up
        key, count = torch.zeros(1, dtype=torch.int64), torch.zeros(len(WINDOWS), 1)
    return {
        "key": key,
        "count": count,
        "log_total": (total + SHRINK).log(),
        "rarity": follower.sum() / follower,
    }


def association(params: Params, first: Tensor, second: Tensor) -> Tensor:
    """Return the pointwise mutual information [W, *] of pairs of items, int64 [*].

    log P(second | first) / P(second), shrunk to 0 where few pairs tell.
    """
    key, log_total = params["key"], params["log_total"]
    wanted = first * log_total.shape[1] + second
    place = torch.searchsorted(key, wanted).clamp_(max=len(key) - 1)
    known = params["rarity"][second] * (key[place] == wanted)
    return (params["count"][:, place] * known + SHRINK).log() - log_total[:, first]


def _pairs(histories: Histories) -> tuple[Tensor, Tensor]:
    """Return all pairs: keys [P], ascending, and their counts [W, P]."""
    n, longest = histories.n_items, WINDOWS[0]
    left = histories.lengths().repeat_interleave(histories.lengths()) - histories.position() - 1
    key = torch.zeros(0, dtype=torch.int64)
    count = torch.zeros(len(WINDOWS), 0)
    for events in torch.arange(len(histories.item)).split(_CHUNK):
        keys, weights = [key], [count]
        for lag in range(1, longest + 1):
            first = events[left[events] >= lag]
            keys.append(histories.item[first] * n + histories.item[first + lag])
            within = torch.tensor([float(lag <= window) for window in WINDOWS])
            weights.append(within[:, None].expand(-1, len(first)))
        key, where = torch.unique(torch.cat(keys), return_inverse=True)
        merged = torch.zeros(len(WINDOWS), len(key))
        count = merged.index_add_(1, where, torch.cat(weights, 1))
    different = key // n != key % n
    return key[different], count[:, different]


def _most_frequent(key: Tensor, count: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """Return the `FOLLOWERS` most frequent pairs of each first item, ascending by key."""
    order = count[0].argsort(descending=True, stable=True)
    order = order[(key[order] // n_items).argsort(stable=True)]
    first = key[order] // n_items
    starts = torch.searchsorted(first, first)
    kept = order[torch.arange(len(order)) - starts < FOLLOWERS].sort().values
    return key[kept], count[:, kept]
