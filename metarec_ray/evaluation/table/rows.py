"""The table of a protocol: one row per method and condition, with intervals and p-values.

Knows measurements and how methods compare; does not know where scores come from.
"""

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

from metarec_ray.config.experiment import Evaluate
from metarec_ray.data.settings import Feedback
from metarec_ray.evaluation.scoring import Method, RankingTasks
from metarec_ray.evaluation.table.comparison import Compared, compared
from metarec_ray.evaluation.table.groups import Groups, group_means
from metarec_ray.evaluation.table.leaks import leak_of
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured, measure
from metarec_ray.evaluation.table.runs import RANKINGS, Runs, Target, runs_of, target_of
from metarec_ray.evaluation.table.statistics import holm

Value = str | int | float | bool | list[float] | list[int] | dict[str, float] | None
Row = dict[str, Value]
Key = tuple[str, Condition]  # a method under one condition
Judged = dict[Key, Compared]
Comparison = tuple[str, Condition, str, str]
"""A method under one condition, whom it is compared with, and by which metric."""
LEVEL = 0.05
CORRECTED = "p values are corrected by Holm's method over all comparisons of this table"
SIMPLE = (
    "popularity",
    "recency_popularity",
    "item_knn",
    "user_knn",
    "sequence_neighbours",
    "blend_of_rivals",
    "ease",
    "ials",
    "item_knn_popularity",
    "ease_popularity",
)
"""Rivals, and blends of them, that a learner is compared with besides the best of all."""
_RESAMPLES_A_TEST = 4  # then the smallest p, 2 / (B + 1), is half of the strictest level


class Header(NamedTuple):
    """The first fields of every row of a table."""

    dataset: str
    feedback: Feedback
    seed: int
    protocol: str = "strict"


def evaluate(
    tasks: RankingTasks,
    methods: Sequence[Method],
    settings: Evaluate,
    *,
    header: Header,
    clock: Callable[[], float],
) -> list[Row]:
    """Return the rows of a table of rankings, in the order of `methods`, then of k.

    Args:
        tasks: the entities to judge.
        methods: names must differ.
        settings: of the protocol.
        header: of the rows; its seed breaks ties and draws the bootstrap.
        clock: seconds.

    """
    seed = header.seed
    measured = [
        found
        for method in methods
        for found in measure(tasks, method, ks=settings.ks, seed=seed, ties=seed, clock=clock)
    ]
    return judge(measured, header, resamples=settings.resamples)


def judge(
    measured: Sequence[Measured],
    header: Header,
    *,
    resamples: int,
    groups: Groups | None = None,
    simple: Collection[str] = SIMPLE,
) -> list[Row]:
    """Return the rows of a table, by method, then by condition, in their first order.

    Every row has `p_vs_best_rival`, the two-sided p of the paired difference to the best rival
    under that condition (None in its own row, and without rivals), `p_vs_best_simple` to the best
    of the `simple` rivals, `p_vs_control` to the best control (such as the same method without the
    source domain) and `p_vs_chance` to the best floor. What a table concludes from them (`better`,
    `better_than_simple`, `better_than_control`, and `chance`, which is not better than a floor)
    goes by the corrected ones (`p_corrected`, `p_corrected_simple`, ...): by Holm's method over all
    comparisons of the table that something is concluded from. They are of learners with the first
    three, and of all but floors with the last; two with the same other are one. `n_for_5_percent`
    is how many entities it takes to see a difference of 5 % from the best rival, four times in five
    at p < .05. More resamples than asked for are drawn if their smallest possible p could not
    survive the correction.

    Args:
        measured: of any number of seeds; all methods have the same entities.
        header: of the rows; its seed draws the bootstrap.
        resamples: of the bootstrap, at least.
        groups: of entities; their means are in the rows.
        simple: names of simple rivals.

    """
    target = target_of(measured)
    methods = runs_of(measured, target)
    needed = math.ceil(_RESAMPLES_A_TEST * _comparisons(methods, simple) / LEVEL)
    compare = partial(
        compared, target=target, simple=simple, resamples=max(resamples, needed), seed=header.seed
    )
    judged = _judged(methods, compare)
    corrected = _corrected(judged, target)
    return [
        {"protocol": header.protocol, **header._asdict(), **leak_of(header.protocol)}
        | _row(key, found, corrected, target)
        | group_means(found.one, target, groups or {})
        for key, found in judged.items()
    ]


def _comparisons(methods: Sequence[Runs], simple: Collection[str]) -> int:
    """Return the largest number of comparisons that a table of these methods can have."""
    kinds = {one.kind for one in methods}
    plain = any(one.kind == "rival" and one.method in simple for one in methods)
    learned = ("rival" in kinds) + plain + ("control" in kinds)
    return sum(
        learned * (one.kind == "learner") + ("floor" in kinds and one.kind != "floor")
        for one in methods
    )


def _judged(
    methods: Sequence[Runs], compare: Callable[[list[list[Runs]]], list[list[Compared]]]
) -> Judged:
    """Return the methods compared under each condition, by method, then by condition."""
    conditions: dict[Condition, list[Runs]] = {}
    for one in methods:
        conditions.setdefault(one.condition, []).append(one)
    found = {
        (one.one.method, one.one.condition): one
        for beside in compare([*conditions.values()])
        for one in beside
    }
    names = dict.fromkeys(one.method for one in methods)
    return {(n, c): found[n, c] for n in names for c in conditions if (n, c) in found}


def _corrected(judged: Judged, target: Target) -> dict[Comparison, float]:
    """Return the corrected p of every comparison that the table concludes something from."""
    p_values = {
        _comparison(key, name, one.best, target): one.p
        for key, found in judged.items()
        for name, one in found.claims().items()
        if one.best is not None and one.p is not None
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _comparison(key: Key, claim: str, best: str | None, target: Target) -> Comparison:
    return (*key, str(best), target.chance if claim == "floor" else target.metric)


def _row(key: Key, found: Compared, corrected: dict[Comparison, float], target: Target) -> Row:
    one, claims, rankings = found.one, found.claims(), target is RANKINGS
    p = {
        name: corrected[_comparison(key, name, claim.best, target)]
        for name, claim in claims.items()
    }
    better = {name: claims[name].above and p[name] < LEVEL for name in claims}
    ends = found.interval if rankings else (max(end, 0.0) ** 0.5 for end in found.interval)
    return {
        "method": one.method,
        "kind": one.kind,
        **one.condition.keys(),
        "n": int(one.sample(target.metric).known().all(0).sum()),
        **_levels(one),
        "ci95": list(ends),
        "p_vs_best_rival": found.rival.p,
        "p_corrected": p.get("rival"),
        "best_rival": found.rival.best,
        "n_for_5_percent": found.rival.needed if rankings else None,
        "better": better.get("rival", False),
        "p_vs_best_simple": found.simple.p,
        "p_corrected_simple": p.get("simple"),
        "best_simple": found.simple.best,
        "better_than_simple": better.get("simple", False),
        "p_vs_control": found.control.p,
        "p_corrected_control": p.get("control"),
        "best_control": found.control.best,
        "better_than_control": better.get("control", False),
        "p_vs_chance": found.floor.p,
        "p_corrected_chance": p.get("floor"),
        "chance": found.floor.best is not None and not better.get("floor", one.kind != "floor"),
        "seeds": list(one.seeds),
        "seed_std": one.spread(target),
        "seconds": one.facts.get("fit_seconds", 0.0) + one.facts.get("score_seconds", 0.0),
    }


def _levels(one: Runs) -> Row:
    """Return the mean of every metric; None if no entity has a value."""
    means = {name: one.sample(name).mean() for name in one.values}
    if "squared_error" in means:
        means = {"rmse": means.pop("squared_error") ** 0.5, **means}
    if "gain" in means:
        means["adaptation_gain"] = means.pop("gain")
    facts = {n: v for n, v in one.facts.items() if n not in ("fit_seconds", "score_seconds")}
    return {n: v if math.isfinite(v) else None for n, v in (means | facts).items()}
