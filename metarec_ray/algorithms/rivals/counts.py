"""The floors, and rankings that are the same for all users.

None of them adapts: they do not read the support set.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from metarec_ray.algorithms.base import Problem, StatisticalLearner
from metarec_ray.algorithms.sums import (
    check_positions,
    count_pairs,
    freshness,
    is_positive,
    log_shares,
    position_weight,
)
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories


class Random(StatisticalLearner):
    """The floor of ranking: every candidate scores 0, and evaluation breaks ties at random."""

    name: Literal["random"] = "random"
    kind: ClassVar = "floor"
    ranks_only: ClassVar = True

    def statistics(self, meta: Params, histories: Histories) -> Params:
        return {}

    def solve(self, meta: Params, sums: Params) -> Params:
        return {}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return {}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return torch.zeros_like(candidates.label)


class Constant(StatisticalLearner):
    """The floor of rating prediction: the mean training label, for every entity and item."""

    name: Literal["constant"] = "constant"
    kind: ClassVar = "floor"
    suits: ClassVar = ("explicit",)

    def statistics(self, meta: Params, histories: Histories) -> Params:
        label = histories.label.double()
        return {"label": label.sum(), "events": torch.tensor(float(label.numel()))}

    def solve(self, meta: Params, sums: Params) -> Params:
        return {"mean": (sums["label"] / sums["events"].clamp(min=1)).float()}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return {}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return torch.zeros_like(candidates.label) + meta["mean"]


class Popularity(StatisticalLearner):
    """Rank by the number of training entities with a positive event on the item."""

    name: Literal["popularity"] = "popularity"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    positive_min: float | None = None

    def statistics(self, meta: Params, histories: Histories) -> Params:
        return {"count": count_pairs(histories, self.positive_min)}

    def solve(self, meta: Params, sums: Params) -> Params:
        return sums

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return {}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return meta["count"][candidates.index]

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)


class RecencyPopularity(StatisticalLearner):
    """Rank by what entities that began recently met after their first few events.

    An event counts 2^(-days between the entity's first event and the cutoff / half life) if its
    position in the history is in `first_position` .. `last_position - 1`, and almost 0 otherwise.
    Without a clock, all entities count the same.
    """

    name: Literal["recency_popularity"] = "recency_popularity"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    half_life_days: PositiveFloat = 83.0
    first_position: NonNegativeInt = 5
    last_position: PositiveInt = 25
    positive_min: float | None = None

    @model_validator(mode="after")
    def _positions_are_some(self) -> "RecencyPopularity":
        check_positions(self.first_position, self.last_position)
        return self

    def statistics(self, meta: Params, histories: Histories) -> Params:
        weight = position_weight(histories, self.first_position, self.last_position)
        weight *= is_positive(histories.label, self.positive_min)
        fresh = freshness(histories, self.half_life_days)
        weight *= fresh.repeat_interleave(histories.lengths())
        count = torch.zeros(histories.n_items, dtype=torch.float64)
        return {"count": count.index_add(0, histories.item, weight)}

    def solve(self, meta: Params, sums: Params) -> Params:
        return {"count": sums["count"].float()}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return {}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return meta["count"][candidates.index]

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)
