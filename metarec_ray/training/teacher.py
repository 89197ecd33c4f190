"""A teacher: a trained model that answers the queries of training tasks, as it would a new user's.

Knows the checkpoint that teaches and the lanes that ask; does not know the student, or how much an
answer counts (`meta_step.distillation`). An answer depends on the teacher, on what is known of the
user and on the support, never on the labels or positives of the query, and is a pure function of
the lane: whoever draws a lane finds the same answers in it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.label_scale import LabelScale
from metarec_ray.checkpoint import Checkpoint, parameters_sha256
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Events, Features, Lane
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, ConfigError, NotFinite
from metarec_ray.inference.predictor import Predictor, member_scores
from metarec_ray.inference.recommender import Recommender
from metarec_ray.inference.supports import Supports
from metarec_ray.training.artifact import features_of
from metarec_ray.training.meta_step.distillation import SILENT
from metarec_ray.training.warm_start import find

Share = Callable[..., dict[int, Lane]]
"""Returns the lanes that a worker computes, as `LaneSampler.share` does."""


class Teacher(NamedTuple):
    """A model that answers lanes.

    Attributes:
        path: of its checkpoint.
        sha256: of its parameters.
        name: of its algorithm.
        predictor: the model.
        trained: bool [I], items that it met; of others it says nothing.
        feedback: what labels mean.
        scale: of the student's labels, in which lanes have labels and are answered.

    """

    path: Path
    sha256: str
    name: str
    predictor: Predictor
    trained: Tensor
    feedback: Feedback
    scale: LabelScale

    def taught(self, share: Share) -> Share:
        """Return what gives the lanes of `share` with the teacher's answers."""

        def answered(*arguments: int, **sizes: int) -> dict[int, Lane]:
            return {n: self.beside(lane) for n, lane in share(*arguments, **sizes).items()}

        return answered

    def beside(self, lane: Lane) -> Lane:
        """Return the lane with the teacher's answers.

        CheckpointError if one is NaN or infinite.
        """
        return lane._replace(tasks=lane.tasks._replace(answers=self.answers(lane)))

    def answers(self, lane: Lane) -> Tensor:
        """Return what the teacher says of what each query asks, float32 [T, C].

        Of implicit feedback log-probabilities, up to a constant a task, of the lane's items or of
        the query's and the negatives; else predictions of the query's labels. `SILENT` for items
        that the teacher never met, and on padding.
        """
        tasks = lane.tasks
        asked, real = tasks.query.item, tasks.query.mask
        if self.feedback == "implicit" and not tasks.negatives.shape[1]:
            asked = torch.arange(len(lane.items)).expand(len(real), -1)
            real = torch.ones_like(asked, dtype=torch.bool)
        elif self.feedback == "implicit":
            asked = torch.cat([asked, tasks.negatives], 1)
            real = torch.cat([real, torch.ones_like(tasks.negatives, dtype=torch.bool)], 1)
        rows = lane.items[asked]
        scores = member_scores(self.predictor, self._supports(lane), self.feedback, rows)
        if self.feedback == "explicit":
            scores = self.scale.standardise(scores, torch.ones_like(real))
        known = real & self.trained[rows]
        self._require_finite(scores, known, lane)
        return scores.masked_fill(~known, SILENT)

    def sentence(self) -> str:
        """Return who teaches."""
        return f"{self.path} teaches ({self.name})"

    def _supports(self, lane: Lane) -> Supports:
        """Return the supports as requests have them: catalogue rows, labels in their unit."""
        support, query = lane.tasks.support, lane.tasks.query
        label = torch.where(support.mask, self.scale.restore(support.label), 0.0)
        return Supports(
            item=lane.items[support.item],
            label=label,
            mask=support.mask,
            time=support.time,
            context=support.context,
            user=lane.user,
            now=_first(query),
            labels=support.labels,
        )

    def _require_finite(self, scores: Tensor, known: Tensor, lane: Lane) -> None:
        wrong = (known & ~scores.isfinite()).any(1)
        if bool(wrong.any()):
            raise CheckpointError(
                f"a teacher's answers must be finite, {self.path} gives NaN or infinity for entity "
                f"{int(lane.entity[wrong][0])} ({int(wrong.sum())} of the {len(wrong)} tasks of a "
                "lane; train.teacher)"
            )


def teacher_of(experiment: Experiment, store: TaskStore, scale: LabelScale) -> Teacher | None:
    """Return the teacher of an experiment, None without one; `scale` is that of its labels.

    Raises:
        CheckpointError: it is no checkpoint, or of other feedback, another store or another
            encoding of features.
        ConfigError: it only ranks where labels are predicted, or knows entities by which choices
            are made.

    """
    train = experiment.train
    if train.teacher is None or train.teacher_weight == 0:
        return None
    path, checkpoint = find(train.teacher, key="train.teacher")
    _require_same_log(checkpoint, store, path)
    recommender = Recommender(checkpoint)
    _require_answers(recommender, path)
    _require_apart(recommender.experiment.train.parts, train.parts, path)
    return Teacher(
        path=path,
        sha256=parameters_sha256(checkpoint.model),
        name="blend" if recommender.experiment.blend.members else recommender.method,
        predictor=recommender.predictor,
        trained=recommender.trained,
        feedback=recommender.feedback,
        scale=scale,
    )


def _require_same_log(checkpoint: Checkpoint, store: TaskStore, path: Path) -> None:
    theirs, own = checkpoint.schema["feedback"], store.manifest.feedback
    if theirs != own:
        raise CheckpointError(
            f"a teacher has learned from the feedback of its student, {path} from {theirs}, now "
            f"{own} (train.teacher)"
        )
    if (trained_on := checkpoint.state["store_sha256"]) != store.manifest.store_sha256:
        raise CheckpointError(
            f"a teacher has learned from the store of its student, {path} has {trained_on[:12]}, "
            f"{store.path} is {store.manifest.store_sha256[:12]} (train.teacher)"
        )
    if features_of(checkpoint) != store.manifest.features:
        raise CheckpointError(
            f"a teacher reads features as its student does, {path} has other numbers for them than "
            f"{store.path}, which another version prepared (train.teacher)"
        )


def _require_answers(teacher: Recommender, path: Path) -> None:
    blended, learner = bool(teacher.experiment.blend.members), teacher.experiment.algorithm
    if teacher.feedback != "implicit" and learner.ranks_only and not blended:
        raise ConfigError(
            f"a teacher predicts the labels of {teacher.feedback} feedback, got {path} of "
            f"{learner.name}, which only ranks (train.teacher)"
        )
    try:
        teacher.rank([], k=1)
    except NotFinite as error:
        raise CheckpointError(
            f"a teacher's answers must be finite, {path} gives NaN or infinity to a user of whom "
            "nothing is known (train.teacher)"
        ) from error


def _require_apart(theirs: str, own: str, path: Path) -> None:
    if theirs != own and own == "train":
        raise ConfigError(
            f"a student of the part train is compared on validation entities, which its teacher "
            f"must not know, got {path} of {theirs} (train.teacher, train.parts)"
        )


def _first(query: Events) -> Features:
    """Return the context [T, 1] of the first event of each query."""
    return Features(*(column[:, :1] for column in query.context))
