"""The methods that every table compares a learner with, and how they are fitted.

Knows which rivals suit which feedback; does not know how a table is laid out.
"""

import logging

from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.algorithms.closed_form.eb_ridge import EBRidge
from metarec_ray.algorithms.closed_form.windowed_ridge import WindowedRidge
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.rivals.sequence_neighbours import SequenceNeighbours
from metarec_ray.config.experiment import Experiment
from metarec_ray.config.judging import Blending
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit_histories

log = logging.getLogger(__name__)


def standard_rivals(
    feedback: Feedback, *, n_items: int, positive_min: float | None
) -> list[FittedLearner]:
    """Return the floors, rivals and simple learners of every table.

    Methods with item-item matrices are left out, with a warning, if the catalogue is too large.
    """
    learners: list[FittedLearner] = [
        Random(),
        Popularity(positive_min=positive_min),
        RecencyPopularity(positive_min=positive_min),
    ]
    if feedback == "implicit":
        learners.append(SequenceNeighbours(positive_min=positive_min))
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


def fitted(learner: FittedLearner, experiment: Experiment, store: TaskStore) -> Recommender:
    """Return a simple learner fitted on the training and validation entities."""
    train = experiment.train.model_copy(update={"parts": "train+valid"})
    changes = {"algorithm": learner, "train": train, "blend": Blending(), "second_stage": None}
    return Recommender(fit_histories(experiment.model_copy(update=changes), store))
