"""Bayesian personalised ranking: matrix factorization with a pairwise loss.

Knows positives; no content, no order. Axes: B pairs of a batch, R reference items, P factors.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.sums import positive_pairs, positives
from metarec_ray.core.batch import Encoded, Params, at_rows
from metarec_ray.core.histories import Histories
from metarec_ray.core.linear_head import bernoulli_posterior

_BATCH = 1024
_NEWTON_STEPS = 4
_START_SCALE = 0.1


class Bpr(FittedLearner):
    """Stochastic gradient ascent on log sigmoid(score of a positive - score of another item).

    [Rendle et al., 2009, arXiv:1205.2618], with item biases. A new user is folded in by maximising
    the same likelihood over the user's factors alone, in a few Newton steps: every positive against
    a fixed sample of the catalogue, under a Gaussian prior around the mean training user. An empty
    support ranks for that mean user.

    Attributes:
        factors: dimensions of a vector.
        epochs: passes over the positives.
        learning_rate: of the first epoch; it falls linearly to a tenth.
        penalty: of squared factors and biases, for each pair.
        prior: precision of a new user's factors, in positives.
        references: size of the sample that a new user's positives are compared with.

    """

    name: Literal["bpr"] = "bpr"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    factors: PositiveInt = 64
    epochs: PositiveInt = 40
    learning_rate: PositiveFloat = 0.05
    penalty: NonNegativeFloat = 0.01
    prior: PositiveFloat = 0.2
    references: PositiveInt = 256
    positive_min: float | None = None

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        user, item = positive_pairs(histories, self.positive_min)
        n_users, n_items = histories.n_entities, histories.n_items
        generator = torch.Generator().manual_seed(fitting.seed)
        met = torch.sort(user * n_items + item).values
        table = {
            "user": torch.randn(n_users, self.factors, generator=generator) * _START_SCALE,
            "item": torch.randn(n_items, self.factors, generator=generator) * _START_SCALE,
            "bias": torch.zeros(n_items),
        }
        for epoch in range(self.epochs):
            rate = self.learning_rate * (1 - 0.9 * epoch / self.epochs)
            for batch in torch.randperm(len(user), generator=generator).split(_BATCH):
                self._step(table, user[batch], item[batch], met, rate, generator)
            fitting.progress(f"{self.name} epoch {epoch + 1}/{self.epochs}")
        known = torch.unique(user)
        return {
            "item": table["item"],
            "bias": table["bias"],
            "mean": table["user"][known].sum(0) / max(len(known), 1),
            "reference": torch.randint(n_items, (self.references,), generator=generator),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        weight = positives(support, self.positive_min).to(meta["item"].dtype)
        others = meta["reference"]
        apart = meta["item"][support.index].unsqueeze(1) - meta["item"][others]
        ahead = meta["bias"][support.index].unsqueeze(1) - meta["bias"][others]
        # A pair of an item with itself says nothing.
        pairs = weight.unsqueeze(1) * (support.index.unsqueeze(1) != others)
        share = (pairs / pairs.sum(1, keepdim=True).clamp(min=1)).flatten()
        apart, ahead = apart.flatten(0, 1), ahead.flatten()
        # A pair is a click: its log-odds are the difference of the two scores.
        user = meta["mean"] + bernoulli_posterior(
            apart,
            torch.ones_like(share),
            apart @ meta["mean"] + ahead,
            share,
            torch.full_like(meta["mean"], self.prior),
            steps=_NEWTON_STEPS,
        )
        return {"user": user}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        def scores(item: Tensor, bias: Tensor) -> Tensor:
            return item @ fast["user"] + bias

        return at_rows(scores, candidates.index, meta["item"], meta["bias"])

    def _step(
        self, table: Params, user: Tensor, item: Tensor, met: Tensor, rate: float, rng: Generator
    ) -> None:
        """Ascend on one batch of pairs, in place."""
        n_items = len(table["bias"])
        other = torch.randint(n_items, item.shape, generator=rng)
        keys = user * n_items + other
        at = torch.searchsorted(met, keys).clamp(max=len(met) - 1)
        valid = (met[at] != keys).to(table["bias"].dtype)
        w, own, rival = table["user"][user], table["item"][item], table["item"][other]
        ahead = (w * (own - rival)).sum(1) + table["bias"][item] - table["bias"][other]
        wrong = (torch.sigmoid(-ahead) * valid).unsqueeze(1)
        decay = self.penalty * valid.unsqueeze(1)
        table["user"].index_add_(0, user, rate * (wrong * (own - rival) - decay * w))
        table["item"].index_add_(0, item, rate * (wrong * w - decay * own))
        table["item"].index_add_(0, other, rate * (-wrong * w - decay * rival))
        for index, sign in ((item, 1.0), (other, -1.0)):
            change = sign * wrong.squeeze(1) - decay.squeeze(1) * table["bias"][index]
            table["bias"].index_add_(0, index, rate * change)
