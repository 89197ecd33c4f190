"""Matrix factorizations by alternating least squares; a new user is one more row, solved exactly.

Know pairs and ratings; no content, no order. Memory: both factor tables, no items x items matrix.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.rivals.least_squares import System, blocks, solve_row, solve_rows
from metarec_ray.algorithms.sums import log_shares, positive_pairs, positives
from metarec_ray.core.batch import Encoded, Params, at_rows
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback

_START_SCALE = 0.1  # norm of an item's initial factors


class IAls(FittedLearner):
    """Implicit alternating least squares; a new user is folded in by the closed form.

    [Hu et al., 2008], in the form and with the tuning advice of [Rendle et al., 2021,
    arXiv:2110.14037]: sum over positives of (1 - s)^2 + unobserved x sum over all pairs of s^2 +
    penalty x sum over rows of (positives + unobserved x columns)^frequency x |w|^2. An empty
    support ranks by popularity.

    Attributes:
        factors: dimensions of a vector.
        unobserved: weight of every pair, positive or not, in the term that draws scores to 0.
        penalty: of squared factors.
        frequency: exponent of the rows' sizes in the penalty: 0 for a constant penalty, 1 for
            weighted lambda.
        sweeps: updates of all users and all items.

    """

    name: Literal["ials"] = "ials"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    factors: PositiveInt = 64
    unobserved: PositiveFloat = 0.2
    penalty: PositiveFloat = 0.02
    frequency: NonNegativeFloat = 1.0
    sweeps: PositiveInt = 16
    positive_min: float | None = None

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        entity, item = positive_pairs(histories, self.positive_min)
        one = torch.ones(len(item))
        n_users, n_items = histories.n_entities, histories.n_items
        users, items = blocks(entity, item, one), blocks(item, entity, one)
        factors = _start(n_items, self.factors, fitting.seed)
        for sweep in range(self.sweeps):
            user = solve_rows(self.system(factors, _gram(factors)), users, n_users, fitting)
            factors = solve_rows(self.system(user, _gram(user)), items, n_items, fitting)
            fitting.progress(f"{self.name} sweep {sweep + 1}/{self.sweeps}")
        count = torch.bincount(item, minlength=n_items).float()
        return {"item": factors, "gram": _gram(factors), "count": count}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        positive = positives(support, self.positive_min)
        system = self.system(meta["item"], meta["gram"])
        user = solve_row(system, support.index, torch.ones_like(support.label), positive)
        return {"user": user, "known": positive.any()}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        def scores(item: Tensor, count: Tensor) -> Tensor:
            return torch.where(fast["known"], item @ fast["user"], count)

        return at_rows(scores, candidates.index, meta["item"], meta["count"])

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)

    def system(self, other: Tensor, gram: Tensor) -> System:
        """Return the least squares of one side, given the other's factors and their Gram matrix."""
        return System(
            design=other,
            offset=torch.zeros(len(other)),
            base=self.unobserved * gram,
            penalty=torch.full((self.factors,), self.penalty),
            extra=self.unobserved * len(other),
            exponent=self.frequency,
        )


class MfFoldIn(FittedLearner):
    """Biased matrix factorization of ratings [Koren et al., 2009] by alternating ridge regressions.

    rating = mean + b_u + b_i + p_u . q_i; a new user's (b_u, p_u) is the ridge regression of the
    support's residuals on (1, q_i) [Zhou et al., 2008]. An empty support predicts mean + b_i; an
    item that training never met has b_i = 0 and q_i = 0.

    Attributes:
        factors: dimensions of an item's vector.
        bias_penalty: of a squared bias.
        penalty: of squared factors, whose products are in standard deviations of all ratings.
        sweeps: updates of all users and all items.

    """

    name: Literal["mf_fold_in"] = "mf_fold_in"
    kind: ClassVar = "rival"
    suits: ClassVar[tuple[Feedback, ...]] = ("explicit",)
    factors: PositiveInt = 32
    bias_penalty: PositiveFloat = 6.0
    penalty: PositiveFloat = 8.0
    sweeps: PositiveInt = 16

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        entity, item = histories.entity(), histories.item
        mean = histories.label.double().sum() / max(item.numel(), 1)
        residual = histories.label - mean.float()
        n_users, n_items = histories.n_entities, histories.n_items
        users, items = blocks(entity, item, residual), blocks(item, entity, residual)
        factors = _start(n_items, self.factors, fitting.seed)
        table = torch.cat([torch.zeros(n_items, 1), factors], 1)
        for sweep in range(self.sweeps):
            user = solve_rows(self._system(table), users, n_users, fitting)
            table = solve_rows(self._system(user), items, n_items, fitting)
            fitting.progress(f"{self.name} sweep {sweep + 1}/{self.sweeps}")
        return {"item": table, "mean": mean.float()}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        residual = support.label - meta["mean"]
        system = self._system(meta["item"])
        return {"user": solve_row(system, support.index, residual, support.mask)}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        bias, user = fast["user"][0], fast["user"][1:]
        weight = torch.cat([torch.ones_like(user[:1]), user])
        match = at_rows(lambda item: item @ weight, candidates.index, meta["item"])
        return meta["mean"] + bias + match

    def _system(self, other: Tensor) -> System:
        size = self.factors + 1
        penalty = torch.full((size,), self.penalty)
        penalty[0] = self.bias_penalty
        return System(
            design=torch.cat([torch.ones(len(other), 1), other[:, 1:]], 1),
            offset=other[:, 0],
            base=torch.zeros(size, size),
            penalty=penalty,
            extra=0.0,
            exponent=0.0,
        )


def _start(rows: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, size, generator=generator) * (_START_SCALE / size**0.5)


def _gram(factors: Tensor) -> Tensor:
    return factors.T @ factors
