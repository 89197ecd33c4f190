"""A Gaussian process on a variational backbone: many kernels, about twenty learned scalars.

Knows whole histories; kernels come from `algorithms.closed_form.kernels`, episodes of entities that
the backbone has not seen from `algorithms.cross_fit`. Axes: N support events, Q queries, G kernels,
P = 1 + factors.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.closed_form.episodes import draw
from metarec_ray.algorithms.closed_form.factorisation import regressor
from metarec_ray.algorithms.closed_form.kernels import (
    dense_kernels,
    item_tables,
    kernels,
    token_scores,
)
from metarec_ray.algorithms.closed_form.task_covariance import (
    LeftOut,
    covariance_of,
    grams_of,
    left_out,
    predicted_variance,
    uncertainty_of,
)
from metarec_ray.algorithms.closed_form.variational import (
    VariationalBayes,
    predict,
    prior_mean,
    user_evidence,
)
from metarec_ray.algorithms.cross_fit import cross_fit
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.core.matrices.spd import solve_spd

_START = -5.0  # log weight of a kernel before it is learned
_SHOWN = 10  # steps between progress lines
_SURE = 64  # items whose variances are computed together, of all pairs of which there are kernels
_BATCHES = 8  # of episodes in each step


class GaussianProcessHead(FittedLearner):
    """Gaussian-process regression of a task's ratings around the backbone's prior.

    Prior mean: the backbone's for the entity. Covariance of two items' ratings: the backbone's, x
    user_cov x', plus a weighted sum of kernels between items. Noise: the backbone's, plus the
    uncertainty of the item [Rasmussen & Williams, 2006, ch. 2; Patacchiola et al., 2020,
    arXiv:1910.05199, deep kernel transfer]. The weights of kernels and noises are meta-trained on
    entities that the backbone has not seen: each rating of an episode is predicted from the
    others.

    Attributes:
        backbone: what gives factors, biases, covariances and priors.
        events: number of newest events of a support that go into the process; older ones go into
            the backbone's posterior, which is then the prior.
        folds: backbones of the cross-fitting.
        hidden_items: share of items that a fold's backbone is not fitted on, so that the weights
            are learned for new items too.
        episodes: largest number of entities to train on.
        steps: of Adam.
        rate: of Adam.
        penalty: of the sum of the kernels' weights.

    """

    name: Literal["gp_head"] = "gp_head"
    suits: ClassVar = ("explicit",)
    backbone: VariationalBayes = VariationalBayes()
    events: Annotated[int, Field(ge=1, le=1000)] = 100
    folds: Annotated[int, Field(ge=2, le=20)] = 2
    hidden_items: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    episodes: PositiveInt = 2048
    steps: PositiveInt = 70
    rate: PositiveFloat = 0.15
    penalty: NonNegativeFloat = 1e-3

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        crossed = cross_fit(
            self.backbone, histories, fitting, folds=self.folds, hidden_items=self.hidden_items
        )
        generator = torch.Generator().manual_seed(fitting.seed)
        most = max(self.episodes // self.folds, 1)
        prepared: list[_Prepared] = []
        for fold in crossed.folds:
            meta = fold.params | item_tables(fold.params, fold.seen, fitting.seed)
            drawn = draw(fold.unseen, generator, episodes=most, events=self.events)
            prepared += [_prepare(meta, episodes) for episodes in drawn]
        tables = item_tables(crossed.final, histories, fitting.seed)
        theta = self._train(_start(tables), prepared, generator, fitting)
        surprise = _surprise(theta, prepared, crossed.final["noise"])
        return crossed.final | tables | {"theta": theta, "surprise": surprise}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        older, recent = _split(support, self.events)
        precision, pull = user_evidence(meta, prior_mean(meta, support.user), older)
        cov = torch.cholesky_inverse(torch.linalg.cholesky_ex(precision).L)
        user = cov @ pull
        index = recent.index
        residual = recent.label - predict(meta, user, index)
        grams = grams_of(meta, cov, index, index)
        covariance = covariance_of(meta["theta"], grams, recent.mask, uncertainty_of(meta, index))
        alpha = solve_spd(covariance, residual * recent.mask)
        # The backbone's kernel is linear in the entity's latent: it moves that.
        weight = torch.exp(meta["theta"][0]) / meta["noise"]
        moved = user + weight * (cov @ (regressor(meta["item"][index]).T @ alpha))
        known = {"cov": cov, "covariance": covariance, "mask": recent.mask}
        return {"user": moved, "alpha": alpha, "index": index} | known

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        index, alpha = candidates.index, fast["alpha"]
        total = predict(meta, fast["user"], index)
        weights = torch.exp(meta["theta"][1:-1])
        dense = dense_kernels(meta, index, fast["index"])
        for weight, kernel in zip(weights, dense, strict=False):
            total = total + weight * (kernel @ alpha)
        tokens = weights[len(dense) :].unsqueeze(1) * alpha
        return total + token_scores(meta, fast["index"], tokens, index)

    def score_std(
        self, problem: Problem, meta: Params, fast: Params, candidates: Encoded
    ) -> Tensor:
        parts = candidates.index.split(_SURE)
        variance = torch.cat([predicted_variance(meta, fast, part) for part in parts])
        # Checkpoints from before predictions had a variance have none.
        return (meta.get("surprise", torch.tensor(1.0)) * variance).sqrt()

    def _train(
        self,
        theta: Tensor,
        prepared: "list[_Prepared]",
        generator: torch.Generator,
        fitting: Fitting,
    ) -> Tensor:
        theta.requires_grad_()
        optimizer = torch.optim.Adam([theta], self.rate)
        # If no entity has two ratings, there is nothing to learn the weights from.
        for step in range(self.steps if prepared else 0):
            chosen = torch.randperm(len(prepared), generator=generator)[:_BATCHES].tolist()
            errors = torch.cat([_squared_errors(theta, prepared[one]) for one in chosen])
            loss = errors.mean() + self.penalty * torch.exp(theta[1:-1]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % _SHOWN == 0:
                fitting.progress(f"step {step + 1} of {self.steps}: error {loss.item():.4f}")
        return theta.detach()


def _start(tables: Params) -> Tensor:
    """Return the logs of the weights before they are learned [2 + G].

    The backbone's kernel (first) and the items' uncertainty (last) have weight 1.
    """
    one = torch.zeros(1, dtype=torch.int64)
    theta = torch.full((len(kernels(tables, one, one)) + 2,), _START)
    theta[[0, -1]] = 0.0
    return theta


class _Prepared(NamedTuple):
    """T episodes, with all that does not depend on the weights."""

    grams: Tensor  # [T, 1 + G, N, N]
    residual: Tensor  # [T, N]: label minus its prior mean
    mask: Tensor  # [T, N]
    uncertainty: Tensor  # [T, N]: of the items, in units of the noise


def _prepare(meta: Params, episodes: Encoded) -> _Prepared:
    cov = torch.linalg.inv(meta["user_precision"])

    def one(events: Encoded) -> tuple[Tensor, ...]:
        index = events.index
        residual = events.label - predict(meta, prior_mean(meta, events.user), index)
        grams = grams_of(meta, cov, index, index)
        return grams, residual, events.mask, uncertainty_of(meta, index)

    return _Prepared(*vmap(one)(episodes))


def _left_out(theta: Tensor, prepared: _Prepared) -> LeftOut:
    """Return how each event of T tasks is predicted from the others, [T, N]; 0 on padding."""

    def one(grams: Tensor, residual: Tensor, mask: Tensor, uncertainty: Tensor) -> LeftOut:
        covariance = covariance_of(theta, grams, mask, uncertainty)
        return left_out(covariance, residual * mask)

    return LeftOut(*vmap(one)(*prepared))


def _squared_errors(theta: Tensor, prepared: _Prepared) -> Tensor:
    """Return the mean squared error [T] of each task's events, each left out in turn."""
    return _left_out(theta, prepared).error.square().sum(1) / prepared.mask.sum(1)


def _surprise(theta: Tensor, prepared: Sequence[_Prepared], noise: Tensor) -> Tensor:
    """Return how many times as large as predicted the squared errors are, on the mean of events.

    Squared errors alone say how variances compare with each other, not how large they are.
    """
    found = [_left_out(theta, one) for one in prepared]
    squares = [(one.error.square() / one.variance).sum() for one in found]
    events = sum(int(one.mask.sum()) for one in prepared)
    return torch.stack(squares).sum() / (noise * events) if events else torch.tensor(1.0)


def _split(support: Encoded, newest: int) -> tuple[Encoded, Encoded]:
    """Return all events with the newest masked out, and those alone.

    Shapes depend on the padded length only.
    """
    length = support.mask.shape[-1]
    older = support._replace(mask=support.mask & (support.age >= newest))
    if length <= newest:
        return older, support
    count = support.mask.sum()
    at = (count - newest).clamp(min=0) + torch.arange(newest)
    recent = support._replace(
        index=support.index[at],
        label=support.label[at],
        age=support.age[at],
        mask=at < count,
        time=support.time[at],
    )
    return older, recent
