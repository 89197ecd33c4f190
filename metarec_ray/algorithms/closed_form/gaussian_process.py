"""A Gaussian process on a variational backbone: many kernels, about twenty learned scalars.

Knows whole histories; kernels come from `algorithms.closed_form.kernels`, episodes of entities that
the backbone has not seen from `algorithms.cross_fit`. Axes: N support events, Q queries, G kernels,
P = 1 + factors.
"""

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
from metarec_ray.algorithms.closed_form.variational import (
    VariationalBayes,
    predict,
    prior_mean,
    user_evidence,
)
from metarec_ray.algorithms.cross_fit import cross_fit
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.core.spd import solve_spd

_START = -5.0  # log weight of a kernel before it is learned
_SHOWN = 10  # steps between progress lines
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
        return crossed.final | tables | {"theta": theta}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        older, recent = _split(support, self.events)
        precision, pull = user_evidence(meta, prior_mean(meta, support.user), older)
        cov = torch.cholesky_inverse(torch.linalg.cholesky_ex(precision).L)
        user = cov @ pull
        index = recent.index
        residual = recent.label - predict(meta, user, index)
        grams = _grams(meta, cov, index, index)
        covariance = _covariance(meta["theta"], grams, recent.mask, _uncertainty(meta, index))
        alpha = solve_spd(covariance, residual * recent.mask)
        # The backbone's kernel is linear in the entity's latent: it moves that.
        weight = torch.exp(meta["theta"][0]) / meta["noise"]
        moved = user + weight * (cov @ (regressor(meta["item"][index]).T @ alpha))
        return {"user": moved, "alpha": alpha, "index": index}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        index, alpha = candidates.index, fast["alpha"]
        total = predict(meta, fast["user"], index)
        weights = torch.exp(meta["theta"][1:-1])
        dense = dense_kernels(meta, index, fast["index"])
        for weight, kernel in zip(weights, dense, strict=False):
            total = total + weight * (kernel @ alpha)
        tokens = weights[len(dense) :].unsqueeze(1) * alpha
        return total + token_scores(meta, fast["index"], tokens, index)

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
        grams = _grams(meta, cov, index, index)
        return grams, residual, events.mask, _uncertainty(meta, index)

    return _Prepared(*vmap(one)(episodes))


def _grams(meta: Params, cov: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the backbone's kernel and all others between the items a and b, [1 + G, N, C].

    All (co)variances of the process are in units of the variance of a rating's noise.
    """
    own = regressor(meta["item"][a]) @ (cov / meta["noise"]) @ regressor(meta["item"][b]).T
    return torch.cat([own.unsqueeze(0), kernels(meta, a, b)])


def _uncertainty(meta: Params, index: Tensor) -> Tensor:
    return meta["item_noise"][index] / meta["noise"]


def _covariance(theta: Tensor, grams: Tensor, mask: Tensor, uncertainty: Tensor) -> Tensor:
    """Return the covariance [N, N] of a task's ratings; padding is independent of all others."""
    weights = torch.exp(theta)
    real = mask.to(grams.dtype)
    mixed = torch.tensordot(weights[:-1], grams, 1) * torch.outer(real, real)
    return mixed + torch.diag(1 + weights[-1] * uncertainty * real)


def left_out_errors(covariance: Tensor, residual: Tensor) -> Tensor:
    """Return each residual [N] minus its prediction from all the others, in closed form.

    [Rasmussen & Williams, 2006, eq. 5.12].
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(covariance).L)
    return (inverse @ residual) / inverse.diagonal()


def _squared_errors(theta: Tensor, prepared: _Prepared) -> Tensor:
    """Return the mean squared error [T] of each task's events, each left out in turn."""

    def one(grams: Tensor, residual: Tensor, mask: Tensor, uncertainty: Tensor) -> Tensor:
        covariance = _covariance(theta, grams, mask, uncertainty)
        # The residual of padding is 0, and so is its error.
        return left_out_errors(covariance, residual * mask).square().sum() / mask.sum()

    return vmap(one)(*prepared)


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
