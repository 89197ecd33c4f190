"""What a recommender says of the query ratings of tasks, and what that is worth.

Knows rating tasks and a recommender; metrics are `evaluation.table.rating_measures`', comparisons
`evaluation.table.rows`'s business.
"""

from collections.abc import Callable, Sequence

import torch

from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.ratings import RatingTasks
from metarec_ray.evaluation.protocols.strict import TRAINING
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured
from metarec_ray.evaluation.table.rating_measures import Asked, measure_ratings
from metarec_ray.inference.recommender import Recommender


def measure_tasks(
    recommender: Recommender,
    tasks: Sequence[RatingTasks],
    *,
    ks: Sequence[int] | None,
    feedback: Feedback,
    scale: tuple[float, float],
    positive_min: float,
    seed: int,
    ties: int,
    clock: Callable[[], float],
    name: str | None = None,
) -> list[Measured]:
    """Return the values of a method for every task set and k.

    Args:
        recommender: fitted on the store that the tasks are cut for.
        tasks: of every scenario.
        ks: sizes of the support, each a condition; None for whole supports, where the scenario is
            the condition.
        feedback: explicit or binary.
        scale: lowest and highest label; predicted ratings are clipped to it.
        positive_min: smallest rating of a positive.
        seed: of the fit.
        ties: seed that breaks ties of lists.
        clock: seconds.
        name: in the table; the learner's by default.

    """
    method = name or recommender.method
    sizes = (None,) if ks is None else tuple(ks)
    costs = {
        "fit_seconds": float(recommender.metadata["metrics"].get("seconds", 0.0)),
        "adapted": float(recommender.adapted()),
    }
    found: list[Measured] = []
    for one in tasks:
        prior = None if sizes[0] == 0 else recommender.scores(one.supports(0), items=one.query)
        asked = Asked(one.label, one.mask, feedback, scale, positive_min)
        for k in sizes:
            start = clock()
            predicted = recommender.scores(one.supports(k), items=one.query)
            seconds = clock() - start
            prior = predicted if prior is None else prior
            worth = measure_ratings(predicted, asked, ties=ties, prior=prior)
            spent = {"score_seconds": seconds, "adapt_ms": 1000 * seconds / len(one.entity)}
            found.append(
                Measured(
                    method=method,
                    kind=recommender.kind,
                    seed=seed,
                    condition=Condition(scenario=one.scenario) if k is None else Condition(k=k),
                    entity=one.entity,
                    weight=worth.weight,
                    values=worth.values,
                    facts=costs | spent | worth.facts,
                )
            )
    return found


def label_range(store: TaskStore) -> tuple[float, float]:
    """Return the lowest and the highest label that training met."""
    low, high = torch.aminmax(store.histories(TRAINING).label)
    return low.item(), high.item()
