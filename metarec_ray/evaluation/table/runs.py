"""The fits of one method under one condition: a row a seed, a column an entity.

Knows values per entity (`ranking_measures`); does not compare methods (`comparison` does).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.errors import DataError
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured, weight_of
from metarec_ray.evaluation.table.statistics import Sample


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


RANKINGS, RATINGS = Target("ndcg@10", 1, "ndcg@10"), Target("squared_error", -1, "ndcg@5")


class Runs(NamedTuple):
    """One method under one condition, with all its seeds.

    Attributes:
        seeds: S of them, ascending.
        entity: [E].
        weight: float [S, E], as in `Measured`.
        values: metric -> float [S, E]; NaN if it is undefined for an entity.
        facts: means over seeds.

    """

    method: str
    kind: str
    condition: Condition
    seeds: tuple[int, ...]
    entity: list[str]
    weight: Tensor
    values: dict[str, Tensor]
    facts: dict[str, float]

    def sample(self, metric: str) -> Sample:
        """Return the values of a metric, with the weight that an entity has in its mean."""
        return Sample(self.values[metric], weight_of(metric, self.weight), self.seeds)

    def spread(self, target: Target) -> float | None:
        """Return the standard deviation of the seeds' means; None for a single seed."""
        if len(self.seeds) == 1:
            return None
        return self.sample(target.metric).levels().std().item()


def target_of(measured: Sequence[Measured]) -> Target:
    """Return the target of the comparison: NDCG@10 for rankings, squared error for ratings."""
    return RATINGS if RATINGS.metric in measured[0].values else RANKINGS


def runs_of(measured: Sequence[Measured], target: Target) -> list[Runs]:
    """Return the seeds of each method and condition together, in their first order.

    Raises:
        DataError: a method was judged on other entities than the rest, or twice with a seed, or has
            no finite value of the target.

    """
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
        _require_finite(one, target)
    for (method, _), seeds in found.items():
        if len({one.seed for one in seeds}) < len(seeds):
            raise DataError(f"methods of a table must have names of their own, got two {method}")
    return [_together(sorted(seeds, key=lambda one: one.seed)) for seeds in found.values()]


def _require_finite(one: Measured, target: Target) -> None:
    """Raise a DataError if a method cannot be ordered among others by its values."""
    values = one.values[target.metric]
    if values.isinf().any() or values.isnan().all():
        got = "an infinite one" if values.isinf().any() else "none"
        raise DataError(
            f"a method of a table must have finite values of {target.metric}, got {got} "
            f"({', '.join(f'{k} {v}' for k, v in _place(one).items())})"
        )


def _place(one: Measured) -> dict[str, int | str]:
    return {"method": one.method, "seed": one.seed, **one.condition.keys()}


def _together(fits: Sequence[Measured]) -> Runs:
    first = fits[0]
    nothing = torch.full_like(first.weight, torch.nan)
    metrics = dict.fromkeys(name for one in fits for name in one.values)
    return Runs(
        method=first.method,
        kind=first.kind,
        condition=first.condition,
        seeds=tuple(one.seed for one in fits),
        entity=first.entity,
        weight=torch.stack([one.weight for one in fits]),
        values={n: torch.stack([one.values.get(n, nothing) for one in fits]) for n in metrics},
        facts={n: sum(one.facts[n] for one in fits) / len(fits) for n in first.facts},
    )
