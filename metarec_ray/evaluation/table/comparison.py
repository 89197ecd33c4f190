"""Methods compared: the best of the others found, differences bootstrapped.

Knows the values of methods under one condition (`runs`); does not know scores, learners or how a
row is laid out.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from metarec_ray.errors import DataError
from metarec_ray.evaluation.table.runs import Runs, Target
from metarec_ray.evaluation.table.statistics import (
    Bootstrap,
    Interval,
    bootstraps,
    entities_needed,
    shared,
)

EFFECT = 0.05
"""Relative difference for which `Difference.needed` says how many entities it takes."""
UNTOLD = ":target_only"
"""Suffix of the name of a method that is not given the source domain."""


class Difference(NamedTuple):
    """A method compared with the best of others; p is None for that one, and without others.

    Attributes:
        best: of the others.
        p: two-sided, not corrected.
        above: whether the method is better on the entities that both have a value for.
        needed: entities that it takes to see a difference of 5 % of the best one's mean.
        lacks: whether the method has no value for an entity that the other has one for.
        entities: that both have a value for.

    """

    best: str | None
    p: float | None
    above: bool
    needed: int | None = None
    lacks: bool = False
    entities: int = 0


NOTHING = Difference(None, None, above=False)
FEWEST = 30
"""Entities that a conclusion takes: over 10, a bootstrap sees a difference of equal methods in one
test of nine."""


class Compared(NamedTuple):
    """A method under one condition, compared with the others.

    Attributes:
        one: the method.
        interval: of its mean of the target's metric.
        rival: against the best of all rivals.
        simple: against the best of the simple rivals.
        control: against the best control: the same method without the source domain, or one that
            the bench names.
        floor: against the best floor, by the target's metric of chance.

    """

    one: Runs
    interval: Interval
    rival: Difference
    simple: Difference
    control: Difference
    floor: Difference

    def claims(self) -> dict[str, Difference]:
        """Return the comparisons that a table draws a conclusion from, by what they are with.

        A learner may be better than rivals and controls, and all but floors better than chance.
        Nothing is concluded of a method that lacks some of the other's values: it may be silent
        where it is bad. Nor of fewer than `FEWEST` entities.
        """
        found: dict[str, Difference] = {}
        if self.one.kind == "learner":
            found = {"rival": self.rival, "simple": self.simple, "control": self.control}
        if self.one.kind != "floor":
            found["floor"] = self.floor
        return {
            name: one
            for name, one in found.items()
            if one.p is not None and not one.lacks and one.entities >= FEWEST
        }


def compared(
    conditions: Sequence[Sequence[Runs]],
    target: Target,
    simple: Collection[str],
    *,
    resamples: int,
    seed: int,
) -> list[list[Compared]]:
    """Return the methods of each condition, compared by a paired bootstrap over entities and seeds.

    Args:
        conditions: the methods of each.
        target: metric of the comparison.
        simple: names of simple rivals.
        resamples: of the bootstrap.
        seed: of its draw.

    """

    def drawn(metric: str, asked: Sequence[Sequence[Runs]]) -> list[Bootstrap]:
        groups = [[one.sample(metric) for one in beside] for beside in asked]
        return bootstraps(groups, resamples=resamples, seed=seed)

    by_target = drawn(target.metric, conditions)
    by_chance: list[Bootstrap | None] = [*by_target]
    if target.chance != target.metric:
        # Lists that are too short have no metric of chance, whoever ranks them.
        listed = [all(_has(one, target.chance) for one in beside) for beside in conditions]
        found = iter(
            drawn(target.chance, [b for b, has in zip(conditions, listed, strict=True) if has])
        )
        by_chance = [next(found) if has else None for has in listed]
    return [
        _compared(*one, target, simple)
        for one in zip(conditions, by_target, by_chance, strict=True)
    ]


def _compared(
    beside: Sequence[Runs],
    by_target: Bootstrap,
    by_chance: Bootstrap | None,
    target: Target,
    simple: Collection[str],
) -> list[Compared]:
    rivals = [i for i, one in enumerate(beside) if one.kind == "rival"]
    plain = [i for i in rivals if beside[i].method in simple]
    floors = [i for i, one in enumerate(beside) if one.kind == "floor"]

    def against(i: int, others: list[int]) -> Difference:
        return _difference(beside, i, others, by_target, target.sign)

    return [
        Compared(
            one=one,
            interval=by_target.interval(i),
            rival=against(i, rivals),
            simple=against(i, plain),
            control=against(i, _controls(beside, one)),
            floor=_difference(beside, i, floors, by_chance, 1) if by_chance else NOTHING,
        )
        for i, one in enumerate(beside)
    ]


def _has(one: Runs, metric: str) -> bool:
    """Return whether every seed has a value of a metric."""
    return metric in one.values and bool(one.sample(metric).known().any(1).all())


def _controls(beside: Sequence[Runs], one: Runs) -> list[int]:
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
    beside: Sequence[Runs], i: int, others: list[int], drawn: Bootstrap, sign: int
) -> Difference:
    """Return how method `i` differs from the best of others; `sign` is that of `Target`."""
    if not others:
        return NOTHING
    best = max(others, key=lambda j: sign * drawn.samples[j].mean())
    name = beside[best].method
    if best == i:
        return NOTHING._replace(best=name)
    one, other = drawn.samples[i], drawn.samples[best]
    lacks = bool((other.known().all(0) & ~one.known().all(0)).any())
    both = shared(one, other)
    if both is not None:
        if not both.any():
            raise DataError(
                f"methods of a table must be judged on the same entities, {beside[i].method} and "
                f"{name} have no entity with a value of both"
            )
        one, other = one.at(both), other.at(both)
    above = sign * (one.mean() - other.mean()) > 0
    of_entities = one.values.nanmean(0) - other.values.nanmean(0)
    needed = entities_needed(of_entities[~of_entities.isnan()], EFFECT * other.mean())
    known = int((~of_entities.isnan()).sum())
    return Difference(name, drawn.p_value(i, best), above, needed, lacks, known)
