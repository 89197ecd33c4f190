"""The ratings that a recommender predicts for the queries of tasks, and their metrics.

Knows rating tasks and a recommender; `evaluation.table.rating_measures` knows metrics,
`evaluation.table.rows` compares methods.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.ratings import RatingTasks
from metarec_ray.evaluation.protocols.strict import TRAINING
from metarec_ray.evaluation.scoring import require_finite
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.evaluation.table.rating_measures import Asked, Worth, measure_ratings
from metarec_ray.inference.recommender import Recommender


class Labels(NamedTuple):
    """What the labels of a log mean.

    Attributes:
        feedback: explicit or binary.
        scale: lowest and highest label; predicted ratings are clipped to it.
        positive_min: smallest rating of a positive.

    """

    feedback: Feedback
    scale: tuple[float, float]
    positive_min: float


def measure_tasks(
    recommender: Recommender,
    tasks: Sequence[RatingTasks],
    *,
    labels: Labels,
    ks: Sequence[int] | None,
    seed: int,
    ties: int,
    clock: Callable[[], float],
) -> list[Measured]:
    """Return what is measured of a recommender, for every set of tasks and k.

    Args:
        recommender: fitted on the store of the tasks.
        tasks: of every scenario.
        labels: of the store.
        ks: sizes of the support, a condition each; None for whole supports, with the scenario as
            condition.
        seed: of the fit.
        ties: seed that breaks ties of lists.
        clock: seconds.

    Raises:
        NotFinite: a prediction is NaN or infinite.

    """
    return [
        Measured(
            method=recommender.method,
            kind=recommender.kind,
            seed=seed,
            condition=condition,
            entity=one.entity,
            weight=worth.weight,
            values=worth.values,
            facts=worth.facts,
        )
        for one in tasks
        for condition, worth in _measured(recommender, one, labels, ks=ks, ties=ties, clock=clock)
    ]


def _measured(
    recommender: Recommender,
    tasks: RatingTasks,
    labels: Labels,
    *,
    ks: Sequence[int] | None,
    ties: int,
    clock: Callable[[], float],
) -> Iterator[tuple[Condition, Worth]]:
    """Yield the metrics of the predictions after each k, with their costs among the facts."""
    asked = Asked(tasks.label, tasks.mask, *labels)
    fit_seconds = float(recommender.metadata["metrics"].get("seconds", 0.0))
    adapted = float(recommender.adapted())
    sizes = (None,) if ks is None else tuple(ks)
    prior = None if sizes[0] == 0 else _predicted(recommender, tasks, 0)
    for k in sizes:
        start = clock()
        predicted = _predicted(recommender, tasks, k)
        seconds = clock() - start
        prior = predicted if prior is None else prior
        worth = measure_ratings(predicted, asked, ties=ties, prior=prior)
        costs = {
            "fit_seconds": fit_seconds,
            "adapted": adapted,
            "score_seconds": seconds,
            "adapt_ms": 1000 * seconds / len(tasks.entity),
        }
        condition = Condition(scenario=tasks.scenario) if k is None else Condition(k=k)
        yield condition, worth._replace(facts=costs | worth.facts)


def _predicted(recommender: Recommender, tasks: RatingTasks, k: int | None) -> Tensor:
    """Return finite predictions [T, Q] of the query labels after k events; None: whole supports."""
    found = recommender.scores(tasks.supports(k), items=tasks.query)
    require_finite(found, tasks.mask, method=recommender.method, entity=tasks.entity, k=k)
    return found


def label_range(store: TaskStore) -> tuple[float, float]:
    """Return the lowest and the highest label of training."""
    low, high = torch.aminmax(store.histories(TRAINING).label)
    return low.item(), high.item()
