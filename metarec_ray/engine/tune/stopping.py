"""Which trials of a group stop at a rung: Tune's schedulers, for trials that arrive at once.

Knows values at rungs; does not know trials, or Tune. Tune's `asha` decides on each trial as it
comes, by those that came before it; of a group all are at a rung together, and the worse half of
them stops.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Literal

LEAST = 3
"""Others that the median rule needs, as Tune's does."""


def stopped(
    scheduler: Literal["asha", "median", "none"],
    values: Mapping[int, Sequence[float]],
    *,
    rungs: int,
    maximise: bool,
) -> set[int]:
    """Return which trials stop, by number.

    Args:
        scheduler: `asha` stops the worse half at rungs 1, 2, 4, 8; `median` those whose best value
            is below the median of the means of the others.
        values: finite, of each trial that has reached the rung, at all of its rungs so far.
        rungs: of the sweep; at the last one nobody stops early.
        maximise: whether more is better.

    """
    sign = 1.0 if maximise else -1.0
    rung = max(map(len, values.values()), default=0)
    if scheduler == "none" or not values or rung >= rungs:
        return set()
    if scheduler == "asha":
        if rung & (rung - 1):  # no power of two
            return set()
        last = {number: sign * found[-1] for number, found in values.items()}
        middle = median(last.values())
        return {number for number, value in last.items() if value < middle}
    means = {number: fmean(found) for number, found in values.items()}
    found = set()
    for number, own in values.items():
        others = [sign * mean for other, mean in means.items() if other != number]
        if len(others) >= LEAST and max(sign * one for one in own) < median(others):
            found.add(number)
    return found
