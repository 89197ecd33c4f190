"""A neighbourhood rival blended with popularity, with weights chosen on held-out users.

Knows both rivals and a ranking metric; reads histories of positives, in order.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem, StatisticalLearner
from metarec_ray.algorithms.blending import DEPTH, best_of, ranking_quality, weights_row
from metarec_ray.algorithms.rivals.counts import Popularity, RecencyPopularity
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.sums import (
    freshness,
    is_positive,
    log_shares,
    newest,
    positives,
)
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories

_SIZES = (1, 3, 5, 10)  # support sizes that have their own weight
# Weights are chosen by the ranking of the ten positives after the first ten.
_WINDOW, _QUERY = 10, 10
_WEIGHTS = (0.0, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class PopularityBlend(FittedLearner):
    """Similarity to the support + weight x popularity, with a weight for each support size.

    Weights maximise the NDCG@10 of held-out training users: with a clock those that began last,
    without one random ones. Then both rivals are fitted on all users. If no held-out user has
    enough positives, and enough of the catalogue left to rank, all weights are 1. An empty support
    ranks by popularity.

    Attributes:
        held_out: share of the users that weights are chosen on.
        half_life_days: of recency in popularity; None for plain counts.

    """

    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.15
    half_life_days: PositiveFloat | None = 83.0
    positive_min: float | None = None
    max_items: PositiveInt = 20_000

    @property
    @abstractmethod
    def evidence(self) -> StatisticalLearner:
        """The neighbourhood rival; its meta-parameters have `similarity` [I, I]."""

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        judges = self._judges(histories, fitting.seed)
        tasks = _tasks(histories.take(judges), self.positive_min)
        weight = torch.ones(len(_SIZES))
        if len(tasks.support):
            others = torch.ones(histories.n_entities, dtype=torch.bool)
            others[judges] = False
            meta = self._tables(histories.take(others.nonzero().squeeze(1)), fitting)
            weight = torch.tensor([_best_weight(meta, tasks, size) for size in _SIZES])
        found = ", ".join(f"{w:g} at {k}" for w, k in zip(weight.tolist(), _SIZES, strict=True))
        fitting.progress(f"{self.name}: weight of popularity {found} ({len(tasks.support)} judges)")  # type: ignore[attr-defined]
        return self._tables(histories, fitting) | {"weight": weight}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        positive = positives(support, self.positive_min)
        kept = positive.to(meta["popularity"].dtype)
        weight = meta["weight"][weights_row(positive.sum(), torch.tensor(_SIZES))]
        evidence = kept @ meta["similarity"][support.index]
        blended = evidence + weight * meta["popularity"]
        return {"scores": torch.where(positive.any(), blended, meta["popularity"])}

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)

    def _tables(self, histories: Histories, fitting: Fitting) -> Params:
        if self.half_life_days is None:
            counted = Popularity(positive_min=self.positive_min)
        else:
            counted = RecencyPopularity(
                positive_min=self.positive_min, half_life_days=self.half_life_days
            )
        count = counted.fit(histories, fitting)["count"]
        return {
            "similarity": self.evidence.fit(histories, fitting)["similarity"],
            "popularity": count / count.max().clamp(min=1e-12),
        }

    def _judges(self, histories: Histories, seed: int) -> Tensor:
        """Return the held-out users with enough positives, int64 [n]."""
        users = histories.n_entities
        late = freshness(histories, half_life_days=365.0)
        if histories.cutoff is None:
            late = torch.rand(users, generator=torch.Generator().manual_seed(seed))
        chosen = late.topk(int(self.held_out * users)).indices.sort().values
        long_enough = _positives(histories.take(chosen), self.positive_min).offsets.diff()
        return chosen[long_enough >= _WINDOW + _QUERY]


class EasePopularity(PopularityBlend):
    """EASE and popularity [Steck, 2019, arXiv:1905.03375].

    Attributes:
        penalty: of EASE.

    """

    name: Literal["ease_popularity"] = "ease_popularity"
    penalty: PositiveFloat = 2000.0

    @property
    def evidence(self) -> StatisticalLearner:
        return Ease(penalty=self.penalty, positive_min=self.positive_min, max_items=self.max_items)


class ItemKNNPopularity(PopularityBlend):
    """Item-based neighbours and popularity [Sarwar et al., 2001].

    Attributes:
        shrink: of the neighbours' cosines.

    """

    name: Literal["item_knn_popularity"] = "item_knn_popularity"
    shrink: PositiveFloat = 1.0

    @property
    def evidence(self) -> StatisticalLearner:
        return ItemKNN(shrink=self.shrink, positive_min=self.positive_min, max_items=self.max_items)


class _Tasks(NamedTuple):
    """Windows of J users to evaluate rankings on."""

    support: Tensor  # int64 [J, _WINDOW]: the first positives
    gains: Tensor  # float [J, I]: 1 for the positives after the support
    allowed: Tensor  # bool [J, I]: items that are not in the support


def _tasks(histories: Histories, positive_min: float | None) -> _Tasks:
    """Return the tasks that have a positive to find and more candidates than the list is long."""
    kept = _positives(histories, positive_min)
    rows = kept.offsets[:-1].unsqueeze(1) + torch.arange(_WINDOW + _QUERY)
    support, query = kept.item[rows].split([_WINDOW, _QUERY], 1)
    shape = (len(support), histories.n_items)
    allowed = torch.ones(shape, dtype=torch.bool).scatter_(1, support, False)
    # Items of the support are no candidates.
    gains = torch.zeros(shape).scatter_(1, query, 1.0) * allowed
    judged = (gains.sum(1) > 0) & (allowed.sum(1) > DEPTH)
    return _Tasks(support[judged], gains[judged], allowed[judged])


def _positives(histories: Histories, positive_min: float | None) -> Histories:
    return histories.keep(is_positive(histories.label, positive_min))


def _best_weight(meta: Params, tasks: _Tasks, size: int) -> float:
    """Return the weight with the largest NDCG@10, and of equal ones the smallest."""
    known = tasks.support[:, :size]
    kept = newest(known, torch.ones_like(known, dtype=torch.bool))
    evidence = (meta["similarity"][known] * kept.unsqueeze(2)).sum(1)

    def quality(weight: float) -> Tensor:
        scores = evidence + weight * meta["popularity"]
        return ranking_quality(scores, tasks.gains, candidates=tasks.allowed)

    return best_of(_WEIGHTS, quality)
