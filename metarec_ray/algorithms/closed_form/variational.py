"""Variational Bayes for ratings: learned priors of entities and items, posteriors in closed form.

Knows whole histories and side information; `factorisation` has the algebra of posteriors, `content`
that of content. The two sides are symmetric: on a log with entities and items exchanged, the same
learner adapts items to their first raters.
"""

from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem, StatisticalLearner
from metarec_ray.algorithms.closed_form.content import Regression, Regressors, choose, regression
from metarec_ray.algorithms.closed_form.factorisation import (
    Shard,
    entity_step,
    posterior,
    regressor,
)
from metarec_ray.core.batch import Encoded, Params, at_rows
from metarec_ray.core.histories import Histories
from metarec_ray.core.matrices.spd import solve_spd
from metarec_ray.errors import DataError

# Of ratings without a unit: their variance is 1.
_START_NOISE = 0.8  # variance of a rating around its prediction, before it is learned
_LEAST_NOISE = 1e-3  # of the variance of ratings: the least that float32 can solve with
_START_SHRINK = 5.0  # of an item's mean residual, the first guess of its bias
_START_SCALE = 0.1  # standard deviation of the first item factors
_SHARD = StatisticalLearner.shard

Scale = Annotated[float, Field(gt=0)]


class VariationalBayes(FittedLearner):
    """Matrix factorisation with content priors on both sides; exact posterior for a new entity.

    Mean-field variational Bayes [Lim & Teh, 2007] whose prior means are ridge regressions on
    content and demographics [Agarwal & Chen, 2009] and whose prior covariances and noise are
    learned with them (empirical Bayes). An item without ratings has the latent that its content
    predicts; the uncertainty of that is added to the noise of its ratings.

    Attributes:
        factors: dimensions of an item's vector.
        sweeps: updates of all entities' and all items' posteriors.
        content: fields of items that predict their latents, and their scales; None for every field
            at scale 1.
        demographics: the same for entities.
        content_ridge: penalty of the regression on content.
        demographic_ridge: of the regression on demographics.
        content_shrink: an item with n ratings has weight n / (n + this) in the regression.
        demographic_shrink: the same for entities.

    """

    name: Literal["variational_bayes"] = "variational_bayes"
    suits: ClassVar = ("explicit",)
    factors: PositiveInt = 16
    sweeps: PositiveInt = 14
    content: dict[str, Scale] | None = None
    demographics: dict[str, Scale] | None = None
    content_ridge: PositiveFloat = 30.0
    demographic_ridge: PositiveFloat = 20.0
    content_shrink: NonNegativeFloat = 0.0
    demographic_shrink: NonNegativeFloat = 0.0

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        found = self.fit_posteriors(histories, fitting)
        return {name: value for name, value in found.items() if name != "item_cov"}

    def fit_posteriors(self, histories: Histories, fitting: Fitting) -> Params:
        """Return what `fit` does, and `item_cov` [I, P, P], the covariances of items' latents."""
        if not len(histories.item):
            raise DataError(
                f"a factorisation must have at least one rating to learn from, got 0 ratings of "
                f"{histories.n_entities} entities"
            )
        sizes = histories.lengths().float()
        count = torch.bincount(histories.item, minlength=histories.n_items).float()
        places = (f"{self.name}.demographics", f"{self.name}.content")
        users = choose(histories.users, self.demographics, places[0], sizes > 0)
        items = choose(histories.items, self.content, places[1], count > 0)
        of_user = sizes / (sizes + self.demographic_shrink).clamp(min=1)
        of_item = count / (count + self.content_shrink).clamp(min=1)
        user_table = users.table(histories.users)
        item_table = items.table(histories.items)
        sides = _Sides(
            regression(user_table, of_user, self.demographic_ridge),
            regression(item_table, of_item, self.content_ridge),
        )
        fitted = _alternate(histories, sides, self.factors, self.sweeps, fitting)
        return fitted | {f"user_{name}": value for name, value in users._asdict().items()}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        precision, pull = user_evidence(meta, prior_mean(meta, support.user), support)
        return {"user": solve_spd(precision, pull), "precision": precision}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return predict(meta, fast["user"], candidates.index)

    def score_std(
        self, problem: Problem, meta: Params, fast: Params, candidates: Encoded
    ) -> Tensor:
        return predicted_variance(meta, fast["precision"], candidates.index).sqrt()


def prior_mean(meta: Params, user: Tensor) -> Tensor:
    """Return the prior mean [P] of an entity with the plain feature vector `user`."""
    # Checkpoints from before numbers had limits have none.
    names = [name for name in Regressors._fields if f"user_{name}" in meta]
    regressors = Regressors(**{name: meta[f"user_{name}"] for name in names})
    return regressors.of(user) @ meta["user_map"]


def user_evidence(meta: Params, prior: Tensor, support: Encoded) -> tuple[Tensor, Tensor]:
    """Return the precision [P, P] of an entity's posterior, and precision x mean [P]."""
    item = meta["item"][support.index]
    x = regressor(item)
    weight = support.mask / (meta["noise"] + meta["item_noise"][support.index])
    precision = meta["user_precision"] + x.T @ (weight.unsqueeze(1) * x)
    residual = support.label - meta["mean"] - item[:, 0]
    return precision, meta["user_precision"] @ prior + x.T @ (weight * residual)


def predict(meta: Params, user: Tensor, index: Tensor) -> Tensor:
    """Return the expected ratings [N] of an entity with latent `user` [P]."""
    weight = torch.cat([torch.ones_like(user[:1]), user[1:]])
    return meta["mean"] + user[0] + at_rows(lambda item: item @ weight, index, meta["item"])


def predicted_variance(meta: Params, precision: Tensor, index: Tensor) -> Tensor:
    """Return the variances [N] of ratings of an entity whose latent has a precision [P, P]."""
    factor = torch.linalg.cholesky_ex(precision.double()).L
    x = regressor(meta["item"][index])
    known = torch.linalg.solve_triangular(factor, x.double().T, upper=False).square().sum(0)
    return known.to(x.dtype) + meta["noise"] + meta["item_noise"][index]


class _Sides(NamedTuple):
    """The regressions that predict the latents of entities and of items."""

    user: Regression
    item: Regression


def _alternate(
    histories: Histories, sides: _Sides, factors: int, sweeps: int, fitting: Fitting
) -> Params:
    parts = torch.arange(histories.n_entities).split(_SHARD)
    bare = histories.without_features()
    shards = [bare.take(part) for part in parts]
    state = _start(histories, sides, factors, fitting.seed)
    user, sums = torch.zeros(0), Params()
    for sweep in range(sweeps):
        prior = sides.user.predict(state["user_map"])
        given = [Shard(shard, prior[part]) for shard, part in zip(shards, parts, strict=True)]
        found = fitting.each(partial(entity_step, state), given)
        user = torch.cat([one.pop("user") for one in found])
        sums = {name: torch.stack([one[name] for one in found]).sum(0) for name in found[0]}
        if sweep > 0:  # the first posteriors reflect the random start more than the ratings
            state = state | _hyper_step(state, sides, user, sums)
        state = state | _item_step(state, sums)
        fitting.progress(f"sweep {sweep + 1} of {sweeps}: noise {state['noise'].item():.4f}")
    names = ("mean", "noise", "user_map", "user_precision", "item", "item_cov")
    kept = {name: state[name] for name in names}
    return kept | {"item_noise": _item_noise(state, user, sums["user_spread"])}


def _start(histories: Histories, sides: _Sides, factors: int, seed: int) -> Params:
    size, n_items = factors + 1, histories.n_items
    variance, mean = torch.var_mean(histories.label, correction=0)
    count = torch.bincount(histories.item, minlength=n_items)
    excess = torch.zeros(n_items).index_add(0, histories.item, histories.label - mean)
    generator = torch.Generator().manual_seed(seed)
    q = _START_SCALE * torch.randn(n_items, factors, generator=generator)
    bias = excess / (count + _START_SHRINK)
    return {
        "mean": mean,
        "noise": torch.tensor(_START_NOISE),
        "least_noise": _LEAST_NOISE * torch.where(variance > 1e-8, variance, 1.0),
        "user_map": torch.zeros(sides.user.table.shape[1], size),
        "user_precision": torch.diag(torch.tensor([4.0] + [1.0] * factors)),
        "item": torch.cat([bias.unsqueeze(1), q], 1),
        "item_cov": torch.zeros(n_items, size, size),
        "item_prior": torch.zeros(n_items, size),
        "item_precision": torch.diag(torch.tensor([4.0] + [10.0] * factors)),
    }


def _hyper_step(state: Params, sides: _Sides, user: Tensor, sums: Params) -> Params:
    """Return the priors and the noise that fit the posteriors best."""
    user_map = sides.user.solve(user)
    item_prior = sides.item.predict(sides.item.solve(state["item"]))
    spread = state["item_cov"][sides.item.weight > 0].sum(0)
    user_cov = sides.user.covariance(
        user, sides.user.predict(user_map), sums["user_spread"], scale=1.0
    )
    item_cov = sides.item.covariance(state["item"], item_prior, spread, scale=0.5)
    return {
        "user_map": user_map,
        "item_prior": item_prior,
        "user_precision": torch.linalg.inv(user_cov).float(),
        "item_precision": torch.linalg.inv(item_cov).float(),
        "noise": (sums["squares"] / sums["events"]).float().maximum(state["least_noise"]),
    }


def _item_step(state: Params, sums: Params) -> Params:
    spread, pull = sums["item_spread"].float(), sums["item_pull"].float()
    given = (state["item_prior"], state["item_precision"], spread, pull, state["noise"])
    mean, cov = posterior(*given)
    return {"item": mean, "item_cov": cov}


def _item_noise(state: Params, user: Tensor, spread: Tensor) -> Tensor:
    """Return the variance [I] that an item's uncertainty adds to an average entity's ratings."""
    x = regressor(user).double()
    second = x.T @ x
    second[1:, 1:] += spread[1:, 1:]
    second /= max(len(user), 1)
    return (state["item_cov"].double() * second).sum((1, 2)).float()
