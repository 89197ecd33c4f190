"""Empirical-Bayes ridge: a user's ratings regressed on item factors under a learned prior.

Knows ratings only: this is `VariationalBayes` without content and demographics.
"""

from typing import ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.closed_form.variational import VariationalBayes
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories

_BARE = VariationalBayes(content={}, demographics={})


class EBRidge(FittedLearner):
    """Ridge regression of residual ratings, under a prior and noise learned over users.

    [Robbins, 1956; Lim & Teh, 2007].

    Attributes:
        factors: dimensions of an item's vector.

    """

    name: Literal["eb_ridge"] = "eb_ridge"
    suits: ClassVar = ("explicit",)
    factors: PositiveInt = 16

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        return _BARE.model_copy(update={"factors": self.factors}).fit(histories, fitting)

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return _BARE.adapt(problem, meta, support)

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return _BARE.score(problem, meta, fast, candidates)

    def score_std(
        self, problem: Problem, meta: Params, fast: Params, candidates: Encoded
    ) -> Tensor:
        return _BARE.score_std(problem, meta, fast, candidates)
