"""Covariance tracking: the prior of a user's head is tracked over users by a recursive filter.

Knows whole histories and a variational backbone, whose item factors are the features; `task_prior`
has the recursion.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.closed_form.factorisation import (
    evidence,
    moments,
    rating_matrix,
    unfold,
)
from metarec_ray.algorithms.closed_form.task_prior import Evidence, TaskPrior, tracker
from metarec_ray.algorithms.closed_form.variational import VariationalBayes, prior_mean
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories

_SHARD = 4096  # users whose evidence is in memory at once


class CovarianceTracking(FittedLearner):
    """Linear head whose prior's mean and covariance are tracked over users, not descended to.

    A user's ratings are linear in the factors of the items, with weights of the user's own, (bias,
    factors) ~ N(W z + m, P): z is what is known of the user, W the backbone's. Users pass by in the
    order in which they began. Each gives an exact Gaussian posterior, which updates m, P and the
    noise recursively, as a filter does, so that with `forgetting` < 1 the prior follows users who
    change. A new user's events are the measurements of a Kalman filter whose measurement matrix are
    the item factors; its posterior covariance is kept and says how sure each prediction is.

    Bayesian linear regression under a meta-learned Gaussian prior is ALPaCA's [Harrison et al.,
    2018, arXiv:1807.08912], which learns the prior by gradients; here it is estimated in closed
    form, as in empirical Bayes [Lim & Teh, 2007]. Tasks that come one after another and a prior
    that forgets the older ones are those of online meta-learning [Finn et al., 2019,
    arXiv:1902.08438; Harrison et al., 2020, arXiv:1912.08866, without known borders of tasks].

    Attributes:
        backbone: what gives the factors of items, the noise and the prior before the first user.
        forgetting: weight of a user relative to the next one; of the last 1 / (1 - forgetting)
            users, so many tell what users are like. 1 for all users alike.
        prior_tasks: how many users the backbone's covariance counts for.
        block: users after whom the prior is updated.

    """

    name: Literal["covariance_tracking"] = "covariance_tracking"
    suits: ClassVar = ("explicit",)
    backbone: VariationalBayes = VariationalBayes()
    forgetting: Annotated[float, Field(gt=0.5, le=1)] = 1.0
    prior_tasks: PositiveFloat = 30.0
    block: PositiveInt = 16

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        meta = self.backbone.fit_posteriors(histories, fitting)
        prior = self._tracked(meta, histories)
        del meta["item_cov"]
        # The first regressor is 1, whatever is known of a user.
        user_map = meta["user_map"].double()
        user_map[0] += prior.mean
        return meta | {
            "user_map": user_map.float(),
            "user_precision": torch.linalg.inv(prior.covariance).float(),
            "noise": meta["noise"] * prior.scale.float(),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return self.backbone.adapt(problem, meta, support)

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return self.backbone.score(problem, meta, fast, candidates)

    def score_std(
        self, problem: Problem, meta: Params, fast: Params, candidates: Encoded
    ) -> Tensor:
        return self.backbone.score_std(problem, meta, fast, candidates)

    def _tracked(self, meta: Params, histories: Histories) -> TaskPrior:
        spread = torch.linalg.inv(meta["user_precision"].double())
        state = tracker(spread, prior_tasks=self.prior_tasks, forgetting=self.forgetting)
        for users in in_order_of_start(histories).split(_SHARD):
            told = evidence_of(meta, histories.take(users))
            for block in torch.arange(len(users)).split(self.block):
                state = state.update(told.at(block))
        return state.prior


def in_order_of_start(histories: Histories) -> Tensor:
    """Return the entities that have events by the time of their first one; ties as they stand."""
    known = (histories.lengths() > 0).nonzero().flatten()
    return known[histories.starts()[known].argsort(stable=True)]


def evidence_of(meta: Params, histories: Histories) -> Evidence:
    """Return what entities' ratings say of how their weights differ from the backbone's prior.

    Expected under the posteriors of the items, `item` and `item_cov`, which these ratings made.
    """
    bare = histories.without_features()
    item, noise = meta["item"].double(), meta["noise"].double()
    residual = bare.label.double() - meta["mean"]
    counts = rating_matrix(bare, torch.ones_like(residual))
    of_items = moments(item, meta["item_cov"].double())
    spread, pull = evidence(counts, rating_matrix(bare, residual), of_items)
    gram = unfold(spread)
    squares = (residual - item[bare.item, 0]).square() + meta["item_cov"][bare.item, 0, 0]
    total = torch.zeros(bare.n_entities, dtype=noise.dtype).index_add(0, bare.entity(), squares)
    prior = prior_mean(meta, histories.users.matrix()).double()
    fitted = (gram @ prior.unsqueeze(-1)).squeeze(-1)
    total = total - (prior * (2 * pull - fitted)).sum(-1)
    return Evidence(gram / noise, (pull - fitted) / noise, total / noise, bare.lengths().double())
