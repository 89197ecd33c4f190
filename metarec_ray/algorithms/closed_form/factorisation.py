"""Mean-field variational Bayes for ratings: Gaussian posteriors of both sides in closed form.

Knows ratings and prior means; does not know content. Axes: R rows of a side, E entities of a
shard, I items, P = 1 + factors, S = P (P + 1) / 2 entries of an upper triangle.

    rating = mean + b_u + b_i + p_u . q_i + noise
    a_u = (b_u, p_u) ~ N(prior_u, user_cov)
    c_i = (b_i, q_i) ~ N(prior_i, item_cov)
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories


class Moments(NamedTuple):
    """Expectations over one side's latents, for the posterior of the other side."""

    x: Tensor  # [R, P]: E[(1, factors)]
    outer: Tensor  # [R, S]: upper triangle of E[(1, factors) (1, factors)']
    twice: Tensor  # [R, P]: E[bias (1, factors)]


class Shard(NamedTuple):
    """Entities whose posteriors are computed together."""

    histories: Histories
    prior: Tensor  # float [E, P]: prior means


def regressor(latent: Tensor) -> Tensor:
    """Return (1, factors) of latents (bias, factors): what the other side is regressed on."""
    return torch.cat([torch.ones_like(latent[..., :1]), latent[..., 1:]], -1)


def entity_step(state: Params, shard: Shard) -> Params:
    """Return the posteriors of a shard's entities, and their sums for the posteriors of items.

    `user` [E, P] are posterior means; the rest are sums over the shard: `user_spread` [P, P] of
    posterior covariances, `item_spread` [I, S], `item_pull` [I, P], `squares` (expected squared
    residuals) and `events`.
    """
    histories = shard.histories
    residual = histories.label - state["mean"]
    counts, values = (
        rating_matrix(histories, torch.ones_like(residual)),
        rating_matrix(histories, residual),
    )
    of_items = moments(state["item"], state["item_cov"])
    spread, pull = evidence(counts, values, of_items)
    user, cov = posterior(shard.prior, state["user_precision"], spread, pull, state["noise"])
    of_users = moments(user, cov)
    item_spread, item_pull = evidence(counts.t(), values.t(), of_users)
    means = unfold(torch.sparse.mm(counts, _outer(of_items.x)))
    known = histories.lengths() > 0
    return {
        "user": user,
        "user_spread": cov[known].sum(0).double(),
        "item_spread": item_spread.double(),
        "item_pull": item_pull.double(),
        # Squared residuals of the posterior means, plus the variance of predictions: that of the
        # entity's latent given the items' means, and of the items' given its second moments.
        "squares": _squared_error(histories, state, of_users, user)
        + (means * cov).double().sum()
        + (unfold(item_spread) * state["item_cov"]).double().sum(),
        "events": torch.tensor(float(residual.numel()), dtype=torch.float64),
    }


def posterior(
    prior: Tensor, precision: Tensor, spread: Tensor, pull: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return posterior means [R, P] and covariances [R, P, P] of rows with prior means [R, P].

    Args:
        prior: [R, P].
        precision: [P, P], the same for all rows.
        spread: [R, S], sums of second moments over a row's ratings.
        pull: [R, P], sums of residuals times regressors.
        noise: variance of a rating.

    """
    factor = torch.linalg.cholesky(precision + unfold(spread) / noise)
    cov = torch.cholesky_inverse(factor)
    mean = cov @ (prior @ precision + pull / noise).unsqueeze(-1)
    return mean.squeeze(-1), cov


def moments(mean: Tensor, cov: Tensor) -> Moments:
    """Return the moments of latents with means [R, P] and covariances [R, P, P]."""
    x = regressor(mean)
    rows, columns = torch.triu_indices(x.shape[-1], x.shape[-1])
    outer = _outer(x) + _of_factors(cov)[:, rows, columns]
    shared = torch.cat([torch.zeros_like(mean[:, :1]), cov[:, 0, 1:]], -1)
    return Moments(x, outer, mean[:, :1] * x + shared)


def unfold(triangle: Tensor) -> Tensor:
    """Return symmetric matrices [*, P, P] of upper triangles [*, S]."""
    size = int((2 * triangle.shape[-1]) ** 0.5)
    rows, columns = torch.triu_indices(size, size)
    place = torch.zeros(size, size, dtype=torch.int64)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows))
    return triangle[..., place]


def _outer(x: Tensor) -> Tensor:
    """Return the upper triangles [R, S] of x x'."""
    rows, columns = torch.triu_indices(x.shape[-1], x.shape[-1])
    return x[:, rows] * x[:, columns]


def _of_factors(cov: Tensor) -> Tensor:
    """Return the covariance of (1, factors): that of (bias, factors), with 0 for the bias."""
    keep = torch.ones(cov.shape[-1], dtype=cov.dtype)
    keep[0] = 0
    return cov * torch.outer(keep, keep)


def rating_matrix(histories: Histories, values: Tensor) -> Tensor:
    """Return the sparse matrix [E, I] of a number for each event, `values` [N]; repeats add up."""
    where = torch.stack([histories.entity(), histories.item])
    shape = (histories.n_entities, histories.n_items)
    return torch.sparse_coo_tensor(where, values, shape, check_invariants=True).coalesce()


def evidence(counts: Tensor, values: Tensor, other: Moments) -> tuple[Tensor, Tensor]:
    """Return what ratings say of the rows of a side: `spread` [R, S] and `pull` [R, P].

    The sums of second moments over a row's ratings, and of residuals times regressors, expected
    under the other side's latents. `counts` and `values` are sparse [R, rows of the other side]:
    the number of ratings, and the sum of their residuals.
    """
    # One product with the upper triangles gives the Gram matrices of all rows.
    spread = torch.sparse.mm(counts, other.outer)
    return spread, torch.sparse.mm(values, other.x) - torch.sparse.mm(counts, other.twice)


def _squared_error(histories: Histories, state: Params, of_users: Moments, user: Tensor) -> Tensor:
    """Return the squared residuals of the posterior means."""
    entity, item = histories.entity(), histories.item
    predicted = user[entity, 0] + state["item"][item, 0]
    predicted += (of_users.x[entity, 1:] * state["item"][item, 1:]).sum(1)
    return (histories.label - state["mean"] - predicted).double().square().sum()
