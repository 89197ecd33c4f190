"""Numbers as ranks: how a numeric feature is spread over training rows.

The rank of a number is the share of training rows below it, rows of the same number counted half:
one row that is far from all others moves nobody, and a number beyond those of training has the rank
of the last of them. Knows numbers; does not know which rows are training rows.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np

Counted: TypeAlias = tuple[tuple[float, int], ...]
"""Numbers, ascending, and how many rows have each."""

POINTS = 1024  # most numbers that are kept of a part of a log
KNOTS = 33  # most points of a map from numbers to ranks


class RankMap(NamedTuple):
    """A map from numbers to ranks: straight between its knots, level beyond them."""

    knots: tuple[float, ...]  # ascending
    ranks: tuple[float, ...]  # of these, in 0..1


def counted(numbers: np.ndarray) -> Counted:
    """Return how often each number occurs: exact for up to `POINTS` numbers.

    Of more, numbers that stand side by side are counted as their median, so that no rank is off by
    more than about 1 / `POINTS`.
    """
    value, count = np.unique(numbers.astype(np.float64), return_counts=True)
    if len(value) > POINTS:
        value, count = _thinned(value, count)
    return tuple(zip(value.tolist(), count.tolist(), strict=True))


def merged(parts: Iterable[Counted]) -> Counted:
    """Return the counts of all parts together, whatever their order."""
    pairs = [pair for part in parts for pair in part]
    if not pairs:
        return ()
    numbers, counts = zip(*pairs, strict=True)
    value, inverse = np.unique(np.array(numbers), return_inverse=True)
    total = np.zeros(len(value), np.int64)
    np.add.at(total, inverse, np.array(counts))
    return tuple(zip(value.tolist(), total.tolist(), strict=True))


def rank_map(numbers: Counted) -> RankMap:
    """Return the map of the numbers of training rows; without any, everything has rank 1/2."""
    if not numbers:
        return RankMap((0.0,), (0.5,))
    value, count = (np.array(column) for column in zip(*numbers, strict=True))
    rank = (2 * count.cumsum() - count) / (2 * count.sum())
    at = np.arange(len(value))
    if len(value) > KNOTS:
        at = np.searchsorted(rank, np.linspace(rank[0], rank[-1], KNOTS - 2))
        # One number far beyond the others must not stretch the last part of the map.
        at = np.unique([*at.clip(max=len(value) - 1), 1, len(value) - 2])
    return RankMap(tuple(value[at].tolist()), tuple(rank[at].tolist()))


def _thinned(value: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `POINTS` numbers for those given, each for as many rows as it stands for."""
    end = count.cumsum()
    cell = (2 * end - count) * POINTS // (2 * end[-1])
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    last = np.append(first[1:], len(value)) - 1
    begin = end[first] - count[first]
    # The number of the row in the middle of a cell.
    middle = np.searchsorted(end, (begin + end[last] + 1) // 2)
    return value[middle], end[last] - begin
