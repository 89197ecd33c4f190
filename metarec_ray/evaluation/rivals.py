"""The rows that stand in every table beside a learner: which they are, and how they are fitted.

Knows which rivals make sense for which feedback; does not know how a table is laid out.
"""

import logging
from collections.abc import Callable, Sequence

from metarec_ray.algorithms.base import Histories, StatisticalLearner
from metarec_ray.algorithms.rivals import (
    Constant,
    Ease,
    EBRidge,
    ItemKNN,
    Popularity,
    Random,
    RecencyPopularity,
    UserItemBias,
    WindowedRidge,
)
from metarec_ray.data.settings import Feedback
from metarec_ray.evaluation.scoring import Method, no_problem, score_matrix
from metarec_ray.evaluation.strict import StrictTasks

log = logging.getLogger(__name__)


def standard_rivals(
    feedback: Feedback, *, n_items: int, positive_min: float | None
) -> list[StatisticalLearner]:
    """Return the floors, rivals and simple learners that belong beside every method.

    Those that keep items x items matrices are left out of catalogues they refuse, with a warning.
    """
    learners: list[StatisticalLearner] = [
        Random(),
        Popularity(positive_min=positive_min),
        RecencyPopularity(positive_min=positive_min),
    ]
    squares: list[ItemKNN | Ease | WindowedRidge] = [
        ItemKNN(positive_min=positive_min),
        Ease(positive_min=positive_min),
    ]
    if feedback == "implicit":
        squares.append(WindowedRidge())
    for learner in squares:
        if n_items <= learner.max_items:
            learners.append(learner)
        else:
            log.warning(
                "%s is left out: it takes %d items, got %d",
                learner.name,
                learner.max_items,
                n_items,
            )
    if feedback == "explicit":
        learners += [Constant(), UserItemBias(), EBRidge()]
    return learners


def fitted(
    learners: Sequence[StatisticalLearner],
    histories: Histories,
    tasks: StrictTasks,
    *,
    feedback: Feedback,
    clock: Callable[[], float],
) -> list[Method]:
    """Fit each learner on `histories` and return it as a row; `clock` gives seconds."""
    return [_method(learner, histories, tasks, feedback, clock) for learner in learners]


def _method(
    learner: StatisticalLearner,
    histories: Histories,
    tasks: StrictTasks,
    feedback: Feedback,
    clock: Callable[[], float],
) -> Method:
    start = clock()
    meta = learner.fit([histories])
    seconds = clock() - start
    problem = no_problem(feedback)
    return Method(
        name=str(learner.name),  # type: ignore[attr-defined]
        kind=learner.kind,
        fit_seconds=seconds,
        scores=lambda k: score_matrix(learner, problem, meta, tasks, k),
    )
