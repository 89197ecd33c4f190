"""The quality of a fitted learner on validation entities, by which choices are made.

Knows the entities of the part `valid`, judged as the protocol `strict` judges test entities, which
are never read here. The learner must be fitted on the part `train` only.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.blending import ranking_quality
from metarec_ray.config.experiment import Experiment
from metarec_ray.core import losses
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import StrictTasks, cut_tasks, positive_threshold
from metarec_ray.evaluation.scoring import require_finite
from metarec_ray.inference.predictor import Predictor


class Validation(NamedTuple):
    """The validation entities of a store, judged by rankings or by predicted labels."""

    feedback: Feedback
    tasks: StrictTasks
    ranks: bool
    method: str = "a method"  # whose scores are judged, for an error

    def quality(self, scores: Tensor, k: int) -> Tensor:
        """Return one number per entity [E], higher is better, of scores [E, I] after k events.

        NDCG@10 of the query; or, of its labels, minus the mean squared error (explicit) or minus
        the mean log-loss.

        Raises:
            NotFinite: the score of an item that training met is NaN or infinite.

        """
        self.require_finite(scores, k, method=self.method)
        if self.ranks:
            return ranking_quality(scores, self.tasks.gains(), candidates=self.tasks.candidates(k))
        asked = scores.gather(1, self.tasks.query)
        if self.feedback == "explicit":
            return -(asked - self.tasks.query_label).square().mean(1)
        everything = torch.ones_like(asked, dtype=torch.bool)
        return -torch.func.vmap(losses.cross_entropy)(asked, self.tasks.query_label, everything)

    def require_finite(self, scores: Tensor, k: int, *, method: str) -> None:
        """Raise NotFinite unless a method's scores [E, I] of items that training met are finite."""
        entity = self.tasks.entity.tolist()
        require_finite(scores, self.tasks.trained, method=method, entity=entity, k=k)


def validation(
    experiment: Experiment, store: TaskStore, *, ranks: bool | None = None
) -> Validation:
    """Return the validation entities with enough events; DataError if there is none.

    With `ranks` they are judged by the ranking of their positives; with None the feedback and the
    algorithm decide.
    """
    feedback = store.manifest.feedback
    if ranks is None:
        ranks = feedback == "implicit" or experiment.algorithm.ranks_only
    # Without rankings the prediction of every label is judged.
    positive_min = positive_threshold(experiment.evaluate, feedback) if ranks else None
    tasks = cut_tasks(
        store.histories(("train",)),
        store.histories(("valid",)),
        experiment.evaluate.model_copy(update={"force": True}),
        positive_min=positive_min,
        part="valid",
    )
    return Validation(feedback, tasks, ranks, method=experiment.algorithm.name)


def validate(
    predictor: Predictor, experiment: Experiment, store: TaskStore, *, ranks: bool | None = None
) -> dict[int, float]:
    """Return the mean quality on validation entities after each k of `evaluate.ks`.

    NotFinite as in `Validation.quality`.
    """
    judge = validation(experiment, store, ranks=ranks)
    return {
        k: judge.quality(predictor.scores(judge.tasks.supports(k)), k).mean().item()
        for k in experiment.evaluate.ks
    }
