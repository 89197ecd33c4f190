"""What everything that can stand in a table answers, meta-learner or simple rival.

Knows one task at a time; batching, workers, files and HTTP are the callers' business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from metarec_ray.core.batch import Encoded
from metarec_ray.data.settings import Feedback

Params = dict[str, Tensor]
QueryLoss = Callable[[Callable[[Encoded], Tensor]], Tensor]
"""From a scorer of candidates to the mean loss over a task's query set."""


class Problem(NamedTuple):
    """What a learner may ask of the model it adapts.

    Attributes:
        feedback: what a label means.
        predict: `(params, events) -> scores [N]` of one task, on the scale of the labels (explicit)
            or in log-odds (binary, implicit); differentiable.
        features: `(params, events) -> [N, P]`, what the last layer of `predict` is linear in.
        support_loss: `(params, support) -> scalar`, mean loss over a set; for implicit feedback a
            softmax against `reference`.
        reference: a fixed sample of the catalogue (implicit feedback), else None.
        reference_log_q: log-probability [R] of each reference item to have been sampled.

    """

    feedback: Feedback
    predict: Callable[[Params, Encoded], Tensor]
    features: Callable[[Params, Encoded], Tensor]
    support_loss: Callable[[Params, Encoded], Tensor]
    reference: Encoded | None
    reference_log_q: Tensor


class Learner(BaseModel, ABC):
    """Hyper-parameters as fields, mathematics as methods over ONE task (vmap batches them)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[Literal["floor", "rival", "learner"]] = "learner"

    @abstractmethod
    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        """Return the fast weights after the support set; the prior's for an empty one."""

    @abstractmethod
    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        """Return one score a candidate [N]; higher is better."""


class MetaLearner(Learner):
    """A learner fitted by an objective that the outer loop minimises."""

    def init(self, params: Params) -> Params:
        """Return the meta-parameters the learner adds to the model's (learned rates, a prior)."""
        return {}

    @abstractmethod
    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        """Return what the outer loop minimises for one task, and its query loss (detached)."""


class Histories(NamedTuple):
    """Whole histories of E entities as values + offsets, oldest first: what statistics sum over.

    Attributes:
        offsets: int64 [E + 1]; entity e owns events offsets[e]:offsets[e + 1].
        item: int64 rows of the catalogue.
        label: float32.
        time: int64 microseconds, 0 without a clock.
        n_items: size of the catalogue.
        cutoff: int64 microseconds of the cut in time, or None.

    """

    offsets: Tensor
    item: Tensor
    label: Tensor
    time: Tensor
    n_items: int
    cutoff: int | None


class StatisticalLearner(Learner):
    """A learner fitted by sums over histories, in one or several rounds, not by gradients."""

    rounds: ClassVar[int] = 1

    @abstractmethod
    def statistics(self, meta: Params, histories: Histories) -> Params:
        """Return sums over `histories`; sums of parts add up to the sums of the whole."""

    @abstractmethod
    def solve(self, meta: Params, sums: Params) -> Params:
        """Return the meta-parameters after one round."""

    def fit(self, parts: list[Histories]) -> Params:
        """Return the meta-parameters fitted on all parts, added in their order."""
        meta: Params = {}
        for _ in range(self.rounds):
            sums: Params = {}
            for part in parts:
                for name, value in self.statistics(meta, part).items():
                    sums[name] = sums[name] + value if name in sums else value
            meta = self.solve(meta, sums)
        return meta
