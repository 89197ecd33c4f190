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
from metarec_ray.evaluation.table.comparison import (
    RANKINGS,
    Averaged,
    Compared,
    averaged,
    compared,
    target_of,
)
from metarec_ray.evaluation.table.groups import Groups, group_means
from metarec_ray.evaluation.table.ranking_measures import (
    Condition,
    Measured,
    mean,
    measure,
    weight_of,
)
from metarec_ray.evaluation.table.statistics import bonferroni, holm

Value = str | int | float | bool | list[float] | list[int] | dict[str, float] | None
Row = dict[str, Value]
Key = tuple[str, Condition]  # a method under one condition
Judged = dict[Key, Compared]
LEVEL = 0.05
SIMPLE = (
    "popularity",
    "recency_popularity",
    "item_knn",
    "user_knn",
    "ease",
    "ials",
    "item_knn_popularity",
    "ease_popularity",
)
"""Rivals, and blends of them, that a learner is compared with at the support sizes below."""
CONFIRMED = (3, 5, 10)
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

    `p_vs_best_rival` is the two-sided p of the paired difference to the best rival under that
    condition (None in its own row, and without rivals), `n_for_5_percent` how many entities it
    takes to see a difference of 5 % from it, four times in five at p < .05; `better` follows from
    the correction of p by Holm's method over all learners and conditions. `p_bonferroni` is the p
    against the best of the `simple` rivals, times the number of conditions whose k is in
    `CONFIRMED`. `p_vs_control` is against the best control, such as the same method without the
    source domain. More resamples than asked for are drawn if their smallest possible p could not
    survive the correction.

    Args:
        measured: of any number of seeds; all methods have the same entities.
        header: of the rows; its seed draws the bootstrap.
        resamples: of the bootstrap, at least.
        groups: of entities; their means are in the rows.
        simple: names of simple rivals.

    """
    target, methods = target_of(measured), averaged(measured)
    tests = sum(one.kind == "learner" for one in methods)
    resamples = max(resamples, math.ceil(_RESAMPLES_A_TEST * tests / LEVEL))
    compare = partial(compared, target=target, simple=simple, resamples=resamples, seed=header.seed)
    judged = _judged(methods, compare)
    corrected, against_simple = _against_best(judged), _against_simple(judged)
    return [
        {"protocol": header.protocol, **header._asdict()}
        | _row(found, corrected.get(key), against_simple.get(key), rankings=target is RANKINGS)
        | group_means(found.one, target, groups or {})
        for key, found in judged.items()
    ]


def _judged(
    methods: Sequence[Averaged], compare: Callable[[list[Averaged]], list[Compared]]
) -> Judged:
    """Return the methods compared under each condition, by method, then by condition."""
    names = dict.fromkeys(one.method for one in methods)
    conditions = dict.fromkeys(one.condition for one in methods)
    found: Judged = {}
    for condition in conditions:
        for one in compare([one for one in methods if one.condition == condition]):
            found[one.one.method, condition] = one
    return {(n, c): found[n, c] for n in names for c in conditions if (n, c) in found}


def _against_best(judged: Judged) -> dict[Key, float]:
    """Return each learner's p against the best rival, corrected over learners and conditions."""
    p_values = {
        key: found.rival.p
        for key, found in judged.items()
        if found.one.kind == "learner" and found.rival.p is not None
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _against_simple(judged: Judged) -> dict[Key, float]:
    """Return each learner's p against the best simple rival, corrected over `CONFIRMED`."""
    families: dict[str, dict[Key, float]] = {}
    for key, found in judged.items():
        confirmed = found.one.kind == "learner" and found.one.condition.k in CONFIRMED
        if confirmed and found.simple.p is not None:
            families.setdefault(found.one.method, {})[key] = found.simple.p
    return {
        key: p
        for family in families.values()
        for key, p in zip(family, bonferroni(list(family.values())), strict=True)
    }


def _row(
    found: Compared, p_corrected: float | None, p_bonferroni: float | None, *, rankings: bool
) -> Row:
    one = found.one
    return {
        "method": one.method,
        "kind": one.kind,
        **one.condition.keys(),
        "n": len(one.entity),
        **_levels(one),
        "ci95": [end if rankings else end**0.5 for end in found.interval],
        "p_vs_best_rival": found.rival.p,
        "p_corrected": p_corrected,
        "best_rival": found.rival.best,
        "n_for_5_percent": found.rival.needed if rankings else None,
        "better": found.rival.above and p_corrected is not None and p_corrected < LEVEL,
        "p_vs_best_simple": found.simple.p,
        "p_bonferroni": p_bonferroni,
        "best_simple": found.simple.best,
        "better_than_simple": found.simple.above
        and p_bonferroni is not None
        and p_bonferroni < LEVEL,
        "p_vs_control": found.control.p,
        "best_control": found.control.best,
        "better_than_control": found.control.above
        and found.control.p is not None
        and found.control.p < LEVEL,
        "chance": found.chance,
        "seeds": one.seeds,
        "seed_std": one.spread,
        "seconds": one.facts.get("fit_seconds", 0.0) + one.facts.get("score_seconds", 0.0),
    }


def _levels(one: Averaged) -> Row:
    """Return the mean of every metric; None if no entity has a value."""
    means = {name: mean(values, weight_of(name, one.weight)) for name, values in one.values.items()}
    if "squared_error" in means:
        means = {"rmse": means.pop("squared_error") ** 0.5, **means}
    if "gain" in means:
        means["adaptation_gain"] = means.pop("gain")
    facts = {n: v for n, v in one.facts.items() if n not in ("fit_seconds", "score_seconds")}
    return {n: v if math.isfinite(v) else None for n, v in (means | facts).items()}
