"""Empirical-Bayes ridge: a user's ratings regressed on item factors under a learned prior.

Knows ratings only, no content. Axes: E entities, I items, P = 1 + factors.

    rating = mean + b_u + b_i + p_u . q_i + noise
    a_u = (b_u, p_u) ~ N(prior_mean, prior_precision^-1)
    c_i = (b_i, q_i) ~ N(item_mean, item_precision^-1)

Mean-field variational Bayes [Lim & Teh, 2007; Robbins, 1956]: each round computes the posterior of
every entity from the items' and adds up what the posterior of every item needs, so histories can
lie anywhere.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import Histories, Params, Problem, StatisticalLearner
from metarec_ray.algorithms.rivals.sums import entity_of_event
from metarec_ray.core.batch import Encoded
from metarec_ray.core.linear_head import solve_spd

_START_NOISE = 0.8  # variance of a rating around its prediction, before it is learned
_START_SHRINK = 5.0  # of an item's mean residual, the first guess of its bias
_START_SCALE = 0.1  # standard deviation of the first item factors


class EBRidge(StatisticalLearner):
    """Ridge regression of residual ratings; prior mean, covariance, noise are learned over users.

    Attributes:
        factors: dimensions of an item's vector.
        seed: of the first item factors.

    """

    name: Literal["eb_ridge"] = "eb_ridge"
    kind: ClassVar = "learner"
    rounds: ClassVar = 14
    factors: PositiveInt = 16
    seed: NonNegativeInt = 0

    def statistics(self, meta: Params, histories: Histories) -> Params:
        if not meta:
            return _first_sums(histories)
        residual = histories.label - meta["mean"]
        counts, values = _matrix(histories, torch.ones_like(residual)), _matrix(histories, residual)
        items = _moments(meta["item"], meta["item_cov"])
        spread, evidence = _evidence(counts, values, items)
        precision = meta["prior_precision"] + spread / meta["noise"]
        cov = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        pull = meta["prior_precision"] @ meta["prior_mean"] + evidence / meta["noise"]
        user = (cov @ pull.unsqueeze(-1)).squeeze(-1)
        item_spread, item_evidence = _evidence(counts.t(), values.t(), _moments(user, cov))
        known = histories.offsets.diff() > 0
        second = user[known].T @ user[known] + cov[known].sum(0)
        return {
            "item_spread": item_spread,
            "item_evidence": item_evidence,
            "user_first": user[known].sum(0).double(),
            "user_second": second.double(),
            "users": known.sum().double(),
            "squares": _squared_error(histories, meta, user, cov, spread, counts),
            "events": torch.tensor(float(residual.numel()), dtype=torch.float64),
        }

    def solve(self, meta: Params, sums: Params) -> Params:
        if not meta:
            return self._start(sums)
        meta = dict(meta)
        if meta["round"] > 0:  # the first posteriors hang on the start, not on the ratings
            meta |= _user_prior(sums) | _item_prior(meta)
            meta["noise"] = (sums["squares"] / sums["events"].clamp(min=1)).float()
        precision = meta["item_precision"] + sums["item_spread"] / meta["noise"]
        cov = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        pull = meta["item_precision"] @ meta["item_mean"] + sums["item_evidence"] / meta["noise"]
        meta["item"] = (cov @ pull.unsqueeze(-1)).squeeze(-1)
        meta["item_cov"] = cov
        meta["round"] = meta["round"] + 1
        return meta

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        item, cov = meta["item"][support.index], meta["item_cov"][support.index]
        x, outer, twice = _moments(item, cov)
        weight = support.mask / meta["noise"]
        size = x.shape[-1]
        precision = meta["prior_precision"] + (weight @ outer).reshape(size, size)
        residual = support.label - meta["mean"]
        pull = (
            meta["prior_precision"] @ meta["prior_mean"] + (weight * residual) @ x - weight @ twice
        )
        return {"user": solve_spd(precision, pull)}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        item = meta["item"][candidates.index]
        return meta["mean"] + item[..., 0] + fast["user"][0] + item[..., 1:] @ fast["user"][1:]

    def _start(self, sums: Params) -> Params:
        size, n_items = self.factors + 1, sums["count"].numel()
        mean = sums["label"].sum() / sums["count"].sum().clamp(min=1)
        bias = (sums["label"] - mean * sums["count"]) / (sums["count"] + _START_SHRINK)
        generator = torch.Generator().manual_seed(self.seed)
        factors = _START_SCALE * torch.randn(n_items, self.factors, generator=generator)
        return {
            "mean": mean.float(),
            "noise": torch.tensor(_START_NOISE),
            "prior_mean": torch.zeros(size),
            "prior_precision": torch.diag(torch.tensor([4.0] + [1.0] * self.factors)),
            "item_mean": torch.zeros(size),
            "item_precision": torch.diag(torch.tensor([4.0] + [10.0] * self.factors)),
            "item": torch.cat([bias.float().unsqueeze(1), factors], 1),
            "item_cov": torch.zeros(n_items, size, size),
            "trained": sums["count"] > 0,
            "round": torch.tensor(0),
        }


class _Moments(NamedTuple):
    """Expectations of one side's latents that the other side's posterior needs, [R, ...]."""

    x: Tensor  # [R, P]: E[(1, factors)]
    outer: Tensor  # [R, P * P]: E[(1, factors) (1, factors)']
    twice: Tensor  # [R, P]: E[bias (1, factors)]


def _moments(mean: Tensor, cov: Tensor) -> _Moments:
    x = torch.cat([torch.ones_like(mean[..., :1]), mean[..., 1:]], -1)
    outer = x.unsqueeze(-1) * x.unsqueeze(-2) + _padded(cov)
    shared = torch.cat([torch.zeros_like(mean[..., :1]), cov[..., 0, 1:]], -1)
    return _Moments(x, outer.flatten(-2), mean[..., :1] * x + shared)


def _padded(cov: Tensor) -> Tensor:
    """Return the covariance of (1, factors): the bias's row and column become 0."""
    keep = torch.ones(cov.shape[-1], dtype=cov.dtype)
    keep[0] = 0
    return cov * torch.outer(keep, keep)


def _matrix(histories: Histories, values: Tensor) -> Tensor:
    where = torch.stack([entity_of_event(histories), histories.item])
    shape = (histories.offsets.numel() - 1, histories.n_items)
    return torch.sparse_coo_tensor(where, values, shape, check_invariants=True).coalesce()


def _evidence(counts: Tensor, values: Tensor, other: _Moments) -> tuple[Tensor, Tensor]:
    size = other.x.shape[-1]
    spread = torch.sparse.mm(counts, other.outer).unflatten(1, (size, size))
    return spread, torch.sparse.mm(values, other.x) - torch.sparse.mm(counts, other.twice)


def _first_sums(histories: Histories) -> Params:
    label = torch.zeros(histories.n_items, dtype=torch.float64)
    return {
        "label": label.index_add(0, histories.item, histories.label.double()),
        "count": torch.bincount(histories.item, minlength=histories.n_items).double(),
    }


def _squared_error(
    histories: Histories, meta: Params, user: Tensor, cov: Tensor, spread: Tensor, counts: Tensor
) -> Tensor:
    """Return the expected sum of squared residuals under both posteriors."""
    entity, item = entity_of_event(histories), histories.item
    predicted = user[entity, 0] + meta["item"][item, 0]
    predicted += (user[entity, 1:] * meta["item"][item, 1:]).sum(1)
    squares = ((histories.label - meta["mean"] - predicted).double() ** 2).sum()
    x = torch.cat([torch.ones_like(user[:, :1]), user[:, 1:]], 1)
    outer = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(1)
    of_items = (torch.sparse.mm(counts.t(), outer) * meta["item_cov"].flatten(1)).double().sum()
    return squares + (cov * spread).double().sum() + of_items


def _user_prior(sums: Params) -> Params:
    mean = sums["user_first"] / sums["users"].clamp(min=1)
    scatter = sums["user_second"] - sums["users"] * torch.outer(mean, mean)
    return _gaussian(mean, (scatter + torch.eye(len(mean))) / (sums["users"] + 1), "prior")


def _item_prior(meta: Params) -> Params:
    item, cov = meta["item"][meta["trained"]].double(), meta["item_cov"][meta["trained"]].double()
    mean = item.mean(0)
    scatter = (item - mean).T @ (item - mean) + cov.sum(0)
    return _gaussian(mean, (scatter + 0.5 * torch.eye(len(mean))) / (len(item) + 1), "item")


def _gaussian(mean: Tensor, cov: Tensor, name: str) -> Params:
    precision = torch.cholesky_inverse(torch.linalg.cholesky(cov))
    return {f"{name}_mean": mean.float(), f"{name}_precision": precision.float()}
