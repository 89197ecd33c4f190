"""Methods compared: seeds averaged, the best rival found, differences bootstrapped.

Knows values per entity (`ranking_measures`); does not know scores, learners or how a row is laid
out.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.errors import DataError
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured, mean, weight_of
from metarec_ray.evaluation.table.statistics import (
    Bootstrap,
    Interval,
    bootstrap,
    entities_needed,
)


class Target(NamedTuple):
    """The metric that decides which method is better.

    Attributes:
        metric: that methods are compared by.
        sign: 1 if more is better, -1 if less is.
        chance: the metric that is compared with the random floor's; more is better.

    """

    metric: str
    sign: int
    chance: str


EFFECT = 0.05
"""Relative difference for which `Difference.needed` says how many entities it takes."""
UNTOLD = ":target_only"
"""Suffix of the name of a method that is not given the source domain."""
RANKINGS, RATINGS = Target("ndcg@10", 1, "ndcg@10"), Target("squared_error", -1, "ndcg@5")


class Averaged(NamedTuple):
    """One method under one condition, its seeds averaged entity by entity.

    Attributes:
        spread: standard deviation over seeds of the target's mean; None for a single seed.

    """

    method: str
    kind: str
    condition: Condition
    seeds: list[int]
    entity: list[str]
    weight: Tensor
    values: dict[str, Tensor]
    facts: dict[str, float]
    spread: float | None


class Difference(NamedTuple):
    """A method compared with the best of others; p is None for that one, and without others.

    Attributes:
        best: of the others.
        p: two-sided.
        above: whether the method's mean is better.
        needed: entities that it takes to see a difference of 5 % of the best one's mean.

    """

    best: str | None
    p: float | None
    above: bool
    needed: int | None = None


class Compared(NamedTuple):
    """A method under one condition, compared with the others.

    Attributes:
        one: the method.
        interval: of its mean of the target's metric.
        rival: against the best of all rivals.
        simple: against the best of the simple rivals.
        control: against the best control: the same method without the source domain, or one that
            the bench names.
        chance: whether its interval overlaps the random floor's.

    """

    one: Averaged
    interval: Interval
    rival: Difference
    simple: Difference
    control: Difference
    chance: bool


def target_of(measured: Sequence[Measured]) -> Target:
    """Return the target of the comparison: NDCG@10 for rankings, squared error for ratings."""
    return RATINGS if RATINGS.metric in measured[0].values else RANKINGS


def averaged(measured: Sequence[Measured]) -> list[Averaged]:
    """Return the mean over seeds of each method and condition, in their first order.

    Raises:
        DataError: a method was judged on other entities than the rest, or twice with a seed.

    """
    target = target_of(measured)
    found: dict[tuple[str, Condition], list[Measured]] = {}
    entity: dict[Condition, list[str]] = {}
    for one in measured:
        found.setdefault((one.method, one.condition), []).append(one)
        expected = entity.setdefault(one.condition, one.entity)
        if one.entity != expected:
            raise DataError(
                f"methods of a table must be judged on the same entities, got {len(one.entity)} "
                f"and {len(expected)} that differ ({one.method}, seed {one.seed})"
            )
    for (method, _), seeds in found.items():
        if len({one.seed for one in seeds}) < len(seeds):
            raise DataError(f"methods of a table must have names of their own, got two {method}")
    return [_average(seeds, target) for seeds in found.values()]


def compared(
    beside: Sequence[Averaged],
    target: Target,
    simple: Collection[str],
    *,
    resamples: int,
    seed: int,
) -> list[Compared]:
    """Return the methods of one condition, compared by a paired bootstrap over entities.

    Args:
        beside: the methods.
        target: metric of the comparison.
        simple: names of simple rivals.
        resamples: of the bootstrap.
        seed: of its draw.

    """

    def drawn(metric: str) -> Bootstrap:
        values = torch.stack([one.values[metric] for one in beside]).nan_to_num()
        weight = weight_of(metric, beside[0].weight)
        return bootstrap(values, resamples=resamples, seed=seed, weight=weight)

    by_target = drawn(target.metric)
    by_chance = by_target if target.chance == target.metric else drawn(target.chance)
    rivals = [i for i, one in enumerate(beside) if one.kind == "rival"]
    plain = [i for i in rivals if beside[i].method in simple]
    floor = _floor(beside, by_chance)
    return [
        Compared(
            one=one,
            interval=by_target.interval(i),
            rival=_difference(beside, i, rivals, target, by_target),
            simple=_difference(beside, i, plain, target, by_target),
            control=_difference(beside, i, _controls(beside, one), target, by_target),
            chance=by_chance.interval(i).low <= floor,
        )
        for i, one in enumerate(beside)
    ]


def _average(seeds: list[Measured], target: Target) -> Averaged:
    first = seeds[0]
    levels = torch.tensor([mean(one.values[target.metric], one.weight) for one in seeds])
    return Averaged(
        method=first.method,
        kind=first.kind,
        condition=first.condition,
        seeds=[one.seed for one in seeds],
        entity=first.entity,
        weight=torch.stack([one.weight for one in seeds]).mean(0),
        values={n: torch.stack([one.values[n] for one in seeds]).nanmean(0) for n in first.values},
        facts={n: sum(one.facts[n] for one in seeds) / len(seeds) for n in first.facts},
        spread=levels.std().item() if len(seeds) > 1 else None,
    )


def _controls(beside: Sequence[Averaged], one: Averaged) -> list[int]:
    """Return the indices of a learner's controls: its own, and those of no learner."""
    if one.kind != "learner":
        return []
    return [
        i
        for i, other in enumerate(beside)
        if other.kind == "control"
        and (not other.method.endswith(UNTOLD) or other.method == one.method + UNTOLD)
    ]


def _difference(
    beside: Sequence[Averaged], i: int, rivals: list[int], target: Target, drawn: Bootstrap
) -> Difference:
    def level(j: int) -> float:
        return target.sign * mean(beside[j].values[target.metric], beside[j].weight)

    best = max(rivals, key=level, default=None)
    if best is None:
        return Difference(None, None, False)
    if best == i:
        return Difference(beside[best].method, None, False)
    one, other = (beside[j].values[target.metric].nan_to_num() for j in (i, best))
    needed = entities_needed(one - other, EFFECT * level(best))
    p = drawn.p_value(i, best)
    return Difference(beside[best].method, p, level(i) > level(best), needed)


def _floor(beside: Sequence[Averaged], drawn: Bootstrap) -> float:
    """Return the upper end of the random floor's interval; minus infinity without a floor."""
    ends = [drawn.interval(i).high for i, one in enumerate(beside) if one.kind == "floor"]
    return min(ends, default=-math.inf)
