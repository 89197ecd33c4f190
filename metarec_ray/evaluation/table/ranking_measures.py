"""Metrics of rankings: one value per entity and metric, for a method, k and seed.

Knows scores and candidates; does not compare methods (`rows` does) and does not know where scores
come from. Groups, means and the bootstrap work on these values.

Besides the metrics of `core.metrics`, a ranking gets

    popularity_bias@10    mean popularity (share of training entities with an event on the item) of
                          the first 10, minus that of the query items: above 0 the list is more
                          popular than what the entity chose
    gain                  NDCG@10 minus that of the empty support with the same candidates
    diversity@10          mean distance between the first 10, if items have vectors

Where 10, or 50, are all candidates there are, a list holds them whatever the scores: metrics of
what it holds are NaN, those of its order are of the whole list.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from scipy.sparse import csr_array
from torch import Tensor

from metarec_ray.core import label_metrics, metrics
from metarec_ray.evaluation.scoring import Method, RankingTasks, require_finite

SHOWN, DEEP = 10, 50  # lengths of the judged lists
OF_LISTS = (
    "hr@10",
    "recall@10",
    "recall@50",
    "precision@10",
    "novelty",
    "popularity@10",
    "popularity_bias@10",
)
"""Metrics of what a list holds; a list of all candidates has none."""
BY_ROWS = (
    "squared_error",
    "mae",
    "log_loss",
    "gain",
)  # means over query rows, not entities
TIES = 104_729  # added to seeds: synthetic data of the same seed must not share the noise


class Condition(NamedTuple):
    """The number of known events of an entity, or the name of a scenario, or both."""

    k: int | None = None
    scenario: str | None = None

    def keys(self) -> dict[str, int | str]:
        """Return its fields of a row."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Measured(NamedTuple):
    """One method under one condition with one seed.

    Attributes:
        method, kind: as in a table.
        seed: of the fit.
        condition: of the table's row.
        entity: [E], whom the values belong to: task ids, or raw ids.
        weight: float [E], query rows per value of the metrics `BY_ROWS`; 1 in rankings.
        values: metric -> float [E]; NaN if it is undefined for an entity.
        facts: numbers of all entities together: coverage, calibration, seconds.

    """

    method: str
    kind: str
    seed: int
    condition: Condition
    entity: list[str]
    weight: Tensor
    values: dict[str, Tensor]
    facts: dict[str, float]


def measure(
    tasks: RankingTasks,
    method: Method,
    *,
    ks: Sequence[int],
    seed: int,
    ties: int,
    clock: Callable[[], float],
    vectors: csr_array | None = None,
    scenario: str | None = None,
) -> list[Measured]:
    """Return the metrics of a method's rankings after each k.

    Args:
        tasks: whom to rank for.
        method: what scores.
        ks: numbers of known events.
        seed: of the fit.
        ties: seed that breaks ties, the same for every method.
        clock: seconds.
        vectors: [I, D] of items, of norm 1 or 0; None leaves diversity out.
        scenario: of the condition.

    Raises:
        NotFinite: the score of a candidate is NaN or infinite.

    """
    found, entity = [], [str(one) for one in tasks.entity.tolist()]
    for k, scores, prior, costs in _scores(method, ks, len(entity), clock):
        candidates = tasks.candidates(k)
        for events, given in ((k, scores), (0, prior)):
            require_finite(given, candidates, method=method.name, entity=entity, k=events)
        values, coverage = _rankings(tasks, scores, prior, candidates, ties, vectors)
        one = Measured(
            method=method.name,
            kind=method.kind,
            seed=seed,
            condition=Condition(k, scenario),
            entity=entity,
            weight=torch.ones(len(entity)),
            values=values,
            facts={"coverage@10": coverage, **costs},
        )
        found.append(one)
    return found


def mean(values: Tensor, weight: Tensor) -> float:
    """Return the weighted mean over entities with a value; NaN if there is none."""
    known = ~values.isnan()
    total = weight[known].double().sum().item()
    return (values[known].double() @ weight[known].double()).item() / total if total else math.nan


def weight_of(metric: str, weight: Tensor) -> Tensor:
    """Return the weight of each entity in the mean of a metric: `weight` for errors, else 1.

    Every query row has an error of its own; a list or a correlation is of a whole entity.
    """
    return weight if metric in BY_ROWS else torch.ones_like(weight)


def _scores(
    method: Method, ks: Sequence[int], entities: int, clock: Callable[[], float]
) -> Iterator[tuple[int, Tensor, Tensor, dict[str, float]]]:
    """Yield each k, the scores after k events and after none, and the costs of the former."""
    prior = None if ks[0] == 0 else method.scores(0)
    for k in ks:
        start = clock()
        scores = method.scores(k)
        seconds = clock() - start
        prior = scores if prior is None else prior
        costs = {
            "fit_seconds": method.fit_seconds,
            "score_seconds": seconds,
            "adapt_ms": 1000 * seconds / entities,
            "adapted": float(method.adapted),
        }
        yield k, scores, prior, costs


def _rankings(
    tasks: RankingTasks,
    scores: Tensor,
    prior: Tensor,
    candidates: Tensor,
    ties: int,
    vectors: csr_array | None,
) -> tuple[dict[str, Tensor], float]:
    gains = tasks.gains()
    fewest = int(candidates.sum(1).min())
    depth = DEEP if fewest > DEEP else min(SHOWN, fewest)
    rank = partial(_ranked, gains=gains, candidates=candidates, depth=depth, ties=ties)
    found, shown = rank(scores), min(SHOWN, fewest)
    ndcg = metrics.ndcg(found, shown)
    before = ndcg if prior is scores else metrics.ndcg(rank(prior), shown)
    relevant = (gains > 0) & candidates
    values = {
        "ndcg@10": ndcg,
        "mrr@10": metrics.reciprocal_rank(found, shown),
        "map@10": metrics.average_precision(found, shown),
        "auc": label_metrics.auc(scores, relevant, candidates),
        "gain": ndcg - before,
    }
    names = OF_LISTS if vectors is None else (*OF_LISTS, "diversity@10")
    lists, coverage = dict.fromkeys(names, torch.full_like(ndcg, torch.nan)), math.nan
    if fewest > SHOWN:
        chosen = (relevant * tasks.share).sum(1) / relevant.sum(1)
        lists |= _of_lists(found, tasks.share, chosen)
        coverage = metrics.coverage(found, SHOWN, catalogue=int(candidates.any(0).sum()))
        if vectors is not None:
            lists["diversity@10"] = metrics.diversity(found, SHOWN, vectors=vectors)
    if fewest > DEEP:
        lists["recall@50"] = metrics.recall(found, DEEP)
    return values | lists, coverage


def _of_lists(found: metrics.Ranked, share: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """Return what is in the first 10, whatever their order; `chosen` [E] is of the query items."""
    popularity = metrics.popularity(found, SHOWN, share=share)
    return {
        "hr@10": metrics.hit_rate(found, SHOWN),
        "recall@10": metrics.recall(found, SHOWN),
        "precision@10": metrics.precision(found, SHOWN),
        "novelty": metrics.novelty(found, SHOWN, share=share),
        "popularity@10": popularity,
        "popularity_bias@10": popularity - chosen,
    }


def _ranked(
    scores: Tensor, gains: Tensor, candidates: Tensor, depth: int, ties: int
) -> metrics.Ranked:
    generator = torch.Generator().manual_seed(TIES + ties)
    return metrics.rank(scores, gains, depth=depth, generator=generator, candidates=candidates)
