"""What a recommender says of the query ratings of tasks, and what that is worth.

Knows rating tasks and a recommender; metrics are `evaluation.measure_ratings`', comparisons
`evaluation.table`'s business.
"""

from collections.abc import Callable, Sequence

import torch

from metarec_ray.data.task_store import TaskStore
from metarec_ray.evaluation.measure import Condition, Measured
from metarec_ray.evaluation.measure_ratings import measure_ratings
from metarec_ray.evaluation.ratings import RatingTasks
from metarec_ray.evaluation.strict import TRAINING
from metarec_ray.recommender import Recommender


def measure_tasks(
    recommender: Recommender,
    tasks: Sequence[RatingTasks],
    *,
    ks: Sequence[int] | None,
    scale: tuple[float, float],
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
        scale: lowest and highest label, predictions are clipped to it.
        seed: of the fit.
        ties: seed that breaks ties of lists.
        clock: seconds.
        name: in the table; the learner's by default.

    """
    found: list[Measured] = []
    for one in tasks:
        prior = recommender.scores(one.supports(0), items=one.query)
        for k in (None,) if ks is None else ks:
            start = clock()
            predicted = recommender.scores(one.supports(k), items=one.query)
            seconds = clock() - start
            found.append(
                measure_ratings(
                    predicted, one.label, one.mask,
                    method=name or recommender.metadata["algorithm"]["name"],
                    kind=recommender.kind,
                    condition=Condition(scenario=one.scenario) if k is None else Condition(k=k),
                    entity=one.entity,
                    seed=seed,
                    ties=ties,
                    prior=prior,
                    scale=scale,
                    facts={
                        "fit_seconds": float(recommender.metadata["metrics"].get("seconds", 0.0)),
                        "score_seconds": seconds,
                        "adapt_ms": 1000 * seconds / len(one.entity),
                    },
                )
            )  # fmt: skip
    return found


def label_range(store: TaskStore) -> tuple[float, float]:
    """Return the lowest and the highest label that training met."""
    low, high = torch.aminmax(store.histories(TRAINING).label)
    return low.item(), high.item()
