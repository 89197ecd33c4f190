"""The quality of a fitted learner on validation entities, by which every choice is made.

Trials of a sweep, candidates of a bench and weights of a blend are all compared by it. Knows the
entities of the part `valid`, judged as the protocol `strict` judges test entities, which are never
read here: the whole catalogue is ranked, after each k of `evaluate.ks`. Where the last events of
histories are held out, it is judged as `leave_last_out` does, on the event before the last. The
learner must be fitted on the part `train` only.

A sweep may be judged on folds of the training entities instead: `fold_validation`.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.blending import ranking_quality
from metarec_ray.config.experiment import Experiment
from metarec_ray.core import losses
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.folds import Fold, fold_of_entities
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import NotFinite
from metarec_ray.evaluation.protocols.leave_last_out import LastEventTasks, last_event_tasks
from metarec_ray.evaluation.protocols.strict import (
    TRAINING,
    Part,
    StrictTasks,
    cut_tasks,
    positive_threshold,
)
from metarec_ray.evaluation.scoring import require_finite
from metarec_ray.inference.predictor import Predictor


class Objective(NamedTuple):
    """The number that choices are made by, a mean over k, as it is told.

    Attributes:
        metric: its name.
        mode: whether more or less of it is better.

    """

    metric: str
    mode: Literal["max", "min"]

    def of(self, quality: float) -> float:
        """Return the metric of a quality, of which more is always better."""
        return quality if self.mode == "max" else -quality


class Validation(NamedTuple):
    """The validation entities of a store, judged by rankings or by predicted labels.

    Attributes:
        feedback: of the store.
        tasks: of the entities.
        ranks: whether rankings are judged.
        ks: sizes of the support.
        method: whose scores are judged, for an error.
        part: whose the entities are, in the name of the objective.

    """

    feedback: Feedback
    tasks: StrictTasks | LastEventTasks
    ranks: bool
    ks: tuple[int, ...]
    method: str = "a method"
    part: Part = "valid"

    @property
    def objective(self) -> Objective:
        """Return what `value` is called."""
        if self.ranks:
            return Objective(f"{self.part}_ndcg@10", "max")
        of = {"explicit": "squared_error", "binary": "log_loss"}
        return Objective(f"{self.part}_{of[self.feedback]}", "min")

    def value(self, predictor: Predictor) -> float:
        """Return the mean over k of the mean quality: of what is chosen from, the largest wins.

        Raises:
            NotFinite: it is NaN or infinite, and so neither more nor less than another.

        """
        found = self.by_k(predictor)
        value = sum(found.values()) / len(found)
        if not math.isfinite(value):
            raise NotFinite(
                f"a quality to choose by must be finite, {self.method} has {value} on validation "
                f"entities ({', '.join(f'k = {k}: {one:.4g}' for k, one in found.items())})"
            )
        return value

    def by_k(self, predictor: Predictor) -> dict[int, float]:
        """Return the mean quality after each k."""
        return {
            k: self.quality(predictor.scores(self.tasks.supports(k)), k).mean().item()
            for k in self.ks
        }

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
    """Return the validation entities with enough events, at most `evaluate.validation_entities`.

    Of more it is a fixed draw, the same for whatever is compared. With `ranks` they are judged by
    the ranking of their positives; with None the feedback and the algorithm decide.

    Raises:
        DataError: there is none.

    """
    name, settings = experiment.algorithm.name, experiment.evaluate.leave_last_out
    most = experiment.evaluate.validation_entities
    if store.held_last:
        asked = settings.model_copy(update={"entities": min(most, settings.entities)})
        last = last_event_tasks(store, asked, part="valid", force=True)
        return Validation(store.manifest.feedback, last, True, settings.ks, method=name)
    training, judged = store.histories(("train",)), store.histories(("valid",))
    return _judged(experiment, store, training, judged, part="valid", ranks=ranks, most=most)


def fold_validation(
    experiment: Experiment, store: TaskStore, fold: Fold, *, ranks: bool | None = None
) -> Validation:
    """Return the entities of a fold of training and validation entities, as `validation` does.

    The learner must be fitted without the fold (`train.without`). Each fold has its share of
    `evaluate.validation_entities`, at least one.

    Raises:
        DataError: none has enough events.

    """
    everything = store.histories(TRAINING)
    dealt = fold_of_entities(store.manifest.tasks, fold.folds)[everything.task_id] == fold.fold
    training, judged = (everything.take(own.nonzero().flatten()) for own in (~dealt, dealt))
    most = max(1, experiment.evaluate.validation_entities // fold.folds)
    return _judged(experiment, store, training, judged, part="fold", ranks=ranks, most=most)


def _judged(
    experiment: Experiment,
    store: TaskStore,
    training: Histories,
    judged: Histories,
    *,
    part: Part,
    ranks: bool | None,
    most: int,
) -> Validation:
    """Return at most `most` of the entities `judged`, after what is learned from `training`."""
    feedback, learner = store.manifest.feedback, experiment.algorithm
    if ranks is None:
        ranks = feedback == "implicit" or learner.ranks_only
    tasks = cut_tasks(
        training,
        judged,
        experiment.evaluate.model_copy(update={"force": True}),
        # Without rankings the prediction of every label is judged.
        positive_min=positive_threshold(experiment.evaluate, feedback) if ranks else None,
        part=part,
    )
    ks, some = experiment.evaluate.ks, _some(tasks, most)
    return Validation(feedback, some, ranks, ks, method=learner.name, part=part)


def _some(tasks: StrictTasks, most: int) -> StrictTasks:
    """Return the tasks, or a fixed draw of `most` of them."""
    count = len(tasks.entity)
    if count <= most:
        return tasks
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return tasks.at(drawn[:most].sort().values)
