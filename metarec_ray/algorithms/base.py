"""What everything that can stand in a table answers, meta-learner or simple rival.

Knows one task at a time; batching, workers, files and HTTP are the callers' business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Generator, Tensor

from metarec_ray.algorithms.label_scale import UNCHANGED, LabelScale
from metarec_ray.algorithms.losses.base import Loss
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.core.parameters import Declared
from metarec_ray.data.settings import Feedback

T = TypeVar("T")
R = TypeVar("R")
QueryLoss = Callable[[Callable[[Encoded], Tensor]], Tensor]
"""From a scorer of candidates to the mean loss over a task's query set."""


class Problem(NamedTuple):
    """What a learner may ask of the model it adapts.

    Attributes:
        feedback: what a label means.
        loss: what a set is learned by.
        predict: `(params, events) -> scores [N]` of one task: standardised labels (explicit) or
            log-odds (binary, implicit); differentiable.
        features: `(params, events) -> [N, P]`, what the last layer of `predict` is linear in.
        support_loss: `(params, support) -> scalar`, mean loss over a set; for implicit feedback
            against `reference`, where a positive does not compete with itself. A third argument,
            bool [N, R], may say which items of `reference` can be chosen at each event.
        reference: a fixed sample of the catalogue (implicit feedback), else None.
        reference_log_q: log-probability [R] of each reference item to have been sampled.
        progress: share of meta-training that is done; None outside meta-training, where nothing may
            be random.
        begins: bool scalar, whether the support begins the entity's history; a new user's does.
        adapting: names of the encoder's parameters that adapt to a task beside the head.

    """

    feedback: Feedback
    loss: Loss
    predict: Callable[[Params, Encoded], Tensor]
    features: Callable[[Params, Encoded], Tensor]
    support_loss: Callable[..., Tensor]
    reference: Encoded | None
    reference_log_q: Tensor
    progress: float | None = None
    begins: Tensor = torch.tensor(True)
    adapting: tuple[str, ...] = ()


class Learner(BaseModel, ABC):
    """Hyper-parameters as fields, mathematics as methods over ONE task (vmap batches them)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[Literal["floor", "rival", "learner"]] = "learner"
    suits: ClassVar[tuple[Feedback, ...]] = ("implicit", "explicit", "binary")
    ranks_only: ClassVar[bool] = False
    """Whether scores mean an order alone: they predict no label, whatever the feedback."""
    reads_labels: ClassVar[bool] = False
    """Whether it adapts on the further labels of events too; without any it is another learner."""
    adapts_encoder: ClassVar[bool] = False
    """Whether it adapts the encoder too, where `model.encoder.adapts` asks for it."""

    def label_scale(self, label: Tensor, feedback: Feedback) -> LabelScale:
        """Return the scale on which labels are given to the learner, by those of training [N].

        Ratings come without a unit, and predicted ones are restored by whoever asked for them.
        Clicks and positives come as they are, and so do the ratings of learners that rank only:
        they compare them with `positive_min`, which has the unit of the log.
        """
        without_unit = feedback == "explicit" and not self.ranks_only
        return LabelScale.of(label) if without_unit else UNCHANGED

    @abstractmethod
    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        """Return the fast weights after the support set; the prior's for an empty one."""

    @abstractmethod
    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        """Return one score a candidate [N]; higher is better."""

    def score_std(
        self, problem: Problem, meta: Params, fast: Params, candidates: Encoded
    ) -> Tensor | None:
        """Return the standard deviation [N] of the label that each score predicts, in its unit.

        It holds what is not known after the support set, and the noise of a label. None of a
        learner without a posterior, which all are that do not say otherwise.
        """
        return None

    def log_share(self, scores: Tensor) -> Tensor:
        """Return scores of the whole catalogue [*, I] as log-probabilities, up to a constant.

        What blends of learners for implicit feedback add up. Log-odds are that already: their
        softmax over the catalogue takes the same constant from every item.
        """
        return scores


class MetaLearner(Learner):
    """A learner fitted by an objective that the outer loop minimises.

    By default the meta-gradient goes straight through `adapt`, and the fast weights are parameters
    that the model predicts with.

    `adapt`, `score` and `objective` are of one task, which vmap makes into T. Of learners that are
    `batched`, the methods that end in `_batch` take T tasks at once, with a leading axis on
    everything that tasks do not share. Both forms give the same numbers.
    """

    batched: ClassVar[bool] = False
    ragged: ClassVar[bool] = False
    """Whether the batched form takes supports of any length and items as rows of one table."""

    needs_derivatives: ClassVar[bool] = False
    """Whether the batched form asks the loss for its derivatives by hand."""

    mapped: ClassVar[bool] = False
    """Whether vmap maps `objective_mapped` over runs that differ in rates alone."""

    def init(self, params: Params, generator: Generator) -> Declared:
        """Return the meta-parameters the learner adds to the model's (learned rates, a prior).

        Anything random in training is drawn from torch's global generator, which is seeded a lane.
        """
        return {}

    def init_labels(self, params: Params, labels: int) -> Declared:
        """Return the meta-parameters for so many further labels of events, beside those of `init`.

        None of a learner that does not read them, nor where events have none.
        """
        return {}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return problem.predict(fast, candidates)

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        """Return what the outer loop minimises for one task, and the query loss to report.

        The second is detached, and the query loss after the whole support whatever the first is;
        learners with dropout report it under dropout.
        """
        fast = self.adapt(problem, meta, support)
        value = loss(lambda candidates: self.score(problem, meta, fast, candidates))
        return value, value.detach()

    def adapt_batch(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        """Return the fast weights of T tasks: adapted ones [T, ...], others as they are in meta."""
        return self.adapt(problem, meta, support)

    def score_batch(
        self, problem: Problem, meta: Params, fast: Params, candidates: Encoded
    ) -> Tensor:
        """Return the scores [T, N] of each task's candidates, or of those that all tasks share."""
        return self.score(problem, meta, fast, candidates)

    def objective_batch(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        """Return the objective [T] and the query loss to report [T]."""
        return self.objective(problem, meta, support, query, loss)

    def objective_mapped(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> Tensor:
        """Return the objective [T] in one of many runs; rates that differ are tensors []."""
        return self.objective_batch(problem, meta, support, query, loss)[0]


def in_turn(function: Callable[[T], R], values: Sequence[T]) -> list[R]:
    """Return `function` of each value, one after another."""
    return [function(value) for value in values]


def _silent(line: str) -> None:
    del line


class Fitting(NamedTuple):
    """What a fit may use.

    Attributes:
        seed: of everything random.
        each: maps a function over values, in order; a cluster may run the calls beside each other.
        progress: takes a line for people.

    """

    seed: int = 0
    each: Callable[[Callable, Sequence], list] = in_turn
    progress: Callable[[str], None] = _silent


ALONE = Fitting()


class FittedLearner(Learner):
    """A learner fitted on whole histories, not by the outer loop; it needs no model."""

    @abstractmethod
    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        """Return everything that `adapt` and `score` need, for the whole catalogue."""

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        """Return the `scores` of the whole catalogue that adapting made, at the candidates."""
        return fast["scores"][candidates.index]


class StatisticalLearner(FittedLearner):
    """A learner fitted by sums over histories, in one or several rounds.

    The sums of shards, fixed numbers of entities, are added in their order: the numbers do not
    depend on what computed them.
    """

    rounds: ClassVar[int] = 1
    shard: ClassVar[int] = 16_384

    @abstractmethod
    def statistics(self, meta: Params, histories: Histories) -> Params:
        """Return sums over `histories`; sums of parts add up to the sums of the whole."""

    @abstractmethod
    def solve(self, meta: Params, sums: Params) -> Params:
        """Return the meta-parameters after one round."""

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        entities = torch.arange(histories.n_entities)
        shards = [histories.take(part) for part in entities.split(self.shard)]
        meta: Params = {}
        for _ in range(self.rounds):
            sums: Params = {}
            for found in fitting.each(partial(self.statistics, meta), shards):
                for name, value in found.items():
                    sums[name] = sums[name] + value if name in sums else value
            meta = self.solve(meta, sums)
        return meta
