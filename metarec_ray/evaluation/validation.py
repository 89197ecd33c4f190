"""How good a fitted learner is on validation entities: what every choice is made by.

Knows the entities of the part `valid`, judged as the protocol `strict` judges test entities; those
are never read here. The learner must have been fitted on the part `train` alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.config.experiment import Experiment
from metarec_ray.core import losses, metrics
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import StrictTasks, cut_tasks, positive_threshold
from metarec_ray.inference.predictor import Predictor


class Validation(NamedTuple):
    """The validation entities of a store; judged by rankings, or by predicted labels."""

    feedback: Feedback
    tasks: StrictTasks
    ranks: bool

    def quality(self, scores: Tensor, k: int) -> Tensor:
        """Return one number an entity [E], higher is better, of scores [E, I] after k events.

        NDCG@10 of the query, or minus the mean squared error (explicit) or the mean log-loss of
        its labels.
        """
        if self.ranks:
            ranked = metrics.rank(
                scores,
                self.tasks.gains(),
                depth=10,
                generator=torch.Generator().manual_seed(0),
                candidates=self.tasks.candidates(k),
            )
            return metrics.ndcg(ranked, 10)
        asked = scores.gather(1, self.tasks.query)
        if self.feedback == "explicit":
            return -(asked - self.tasks.query_label).square().mean(1)
        everything = torch.ones_like(asked, dtype=torch.bool)
        return -torch.func.vmap(losses.cross_entropy)(asked, self.tasks.query_label, everything)


def validation(
    experiment: Experiment, store: TaskStore, *, ranks: bool | None = None
) -> Validation:
    """Return the validation entities with enough events; DataError if there is none.

    With `ranks` they are judged by the ranking of their positives; None for what the feedback and
    the algorithm ask for.
    """
    feedback = store.manifest.feedback
    if ranks is None:
        ranks = feedback == "implicit" or experiment.algorithm.ranks_only
    # Without a ranking every label counts: what is judged is its prediction.
    positive_min = positive_threshold(experiment.evaluate, feedback) if ranks else None
    tasks = cut_tasks(
        store.histories(("train",)),
        store.histories(("valid",)),
        experiment.evaluate.model_copy(update={"force": True}),
        positive_min=positive_min,
        part="valid",
    )
    return Validation(feedback, tasks, ranks)


def validate(
    predictor: Predictor, experiment: Experiment, store: TaskStore, *, ranks: bool | None = None
) -> dict[int, float]:
    """Return the mean quality on validation entities after each k of `evaluate.ks`."""
    judge = validation(experiment, store, ranks=ranks)
    return {
        k: judge.quality(predictor.scores(judge.tasks.supports(k)), k).mean().item()
        for k in experiment.evaluate.ks
    }
