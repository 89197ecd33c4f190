"""The Bayes-optimal ranking of the synthetic log: by the posterior under the model that made it.

The factors p of a user have the prior N(user_prior, taste_std^2 I), which the likelihood of the
support updates (see `synthetic`). For explicit feedback the posterior is in closed form. Else draws
of a Laplace approximation are corrected by importance weights: the only error is Monte Carlo.

Axes: T users, K events of the support, C candidates, D factors, N draws. Knows the truth, so no
learner may import it.
"""

from typing import NamedTuple

import numpy as np

from metarec_ray.data.datasets.synthetic import Floats, Ints, Truth

NEWTON_STEPS = 12
MAX_STEP = 3.0
USERS_AT_ONCE = 32


class _Evidence(NamedTuple):
    """Supports of T users."""

    position: Ints  # [T, K]: among the candidates
    factors: Floats  # [T, K, D]: of the items
    base: Floats  # [T, K]: scores without the user
    labels: Floats  # [T, K]


def optimum(
    truth: Truth,
    users: Ints,
    *,
    support: Ints,
    candidates: Ints,
    labels: Floats | None = None,
    draws: int = 256,
    seed: int = 0,
) -> Floats:
    """Return scores [T, C]: probability of the next choice, of a click, or the mean rating.

    Args:
        truth: the generating model.
        users: rows [T] of `truth.user_prior`, raw ids - 1.
        support: item rows [T, K], raw ids - 1, oldest first.
        candidates: item rows [C], ascending; with implicit feedback all that a user could choose,
            the support included: mask it afterwards.
        labels: [T, K] ratings or clicks; None with implicit feedback.
        draws: of Monte Carlo, even; unused with explicit feedback.
        seed: of the draws, which users share.

    """
    evidence = _evidence(truth, support, candidates, labels)
    prior = truth.user_prior[users]
    items = truth.item_factors[candidates]
    offset = truth.offset + truth.popularity[candidates]
    if truth.feedback == "explicit":
        return offset + _gaussian_mean(truth, prior, evidence) @ items.T
    noise = _draws(draws, prior.shape[1], seed)
    parts = [
        _predictive(
            truth,
            prior[low : low + USERS_AT_ONCE],
            _part(evidence, slice(low, low + USERS_AT_ONCE)),
            catalogue=(items, offset),
            noise=noise,
        )
        for low in range(0, len(users), USERS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(candidates)))


def _evidence(truth: Truth, support: Ints, candidates: Ints, labels: Floats | None) -> _Evidence:
    labels = np.ones(support.shape) if labels is None else labels
    position = np.searchsorted(candidates, support)
    if truth.feedback == "implicit" and support.size:
        inside = np.minimum(position, len(candidates) - 1)
        assert (candidates[inside] == support).all(), "a support item is no candidate"
    base = truth.offset + truth.popularity
    return _Evidence(position, truth.item_factors[support], base[support], labels)


def _part(evidence: _Evidence, rows: slice) -> _Evidence:
    position, factors, base, labels = evidence
    return _Evidence(position[rows], factors[rows], base[rows], labels[rows])


def _gaussian_mean(truth: Truth, prior: Floats, evidence: _Evidence) -> Floats:
    """Return the posterior mean [T, D], a ridge regression towards the prior."""
    x = evidence.factors
    residual = evidence.labels - evidence.base - np.einsum("tkd,td->tk", x, prior)
    ratio = (truth.noise_std / truth.taste_std) ** 2
    precision = np.einsum("tkd,tke->tde", x, x) + ratio * np.eye(x.shape[2])
    right = np.einsum("tkd,tk->td", x, residual)
    return prior + np.linalg.solve(precision, right[..., None])[..., 0]


def _predictive(
    truth: Truth,
    prior: Floats,
    evidence: _Evidence,
    *,
    catalogue: tuple[Floats, Floats],
    noise: Floats,
) -> Floats:
    """Return the mean [T, C] of what a candidate gets, over draws of p from the posterior."""
    items, offset = catalogue
    mode, precision = _mode(truth, prior, evidence, catalogue)
    root = np.linalg.cholesky(np.linalg.inv(precision))
    factors = mode[:, None] + np.einsum("tde,ne->tnd", root, noise)
    scores = factors @ items.T + offset
    top = scores.max(axis=2, keepdims=True)
    weight = np.exp(scores - top)
    at = np.einsum("tnd,tkd->tnk", factors, evidence.factors) + evidence.base[:, None]
    if truth.feedback == "implicit":
        left = weight.sum(axis=2)
        fit = np.zeros(left.shape)
        for k in range(evidence.position.shape[1]):
            chosen = at[:, :, k] - top[:, :, 0]
            fit += chosen - np.log(left)
            left = left - np.exp(chosen)
        value = weight / left[:, :, None]
    else:
        fit = (evidence.labels[:, None] * at - np.logaddexp(0.0, at)).sum(axis=2)
        value = 1.0 / (1.0 + np.exp(-scores))
    away = ((factors - prior[:, None]) ** 2).sum(axis=2) / truth.taste_std**2
    log_weight = fit - 0.5 * away + 0.5 * (noise**2).sum(axis=1)
    share = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return np.einsum("tn,tnc->tc", share, value)


def _mode(
    truth: Truth, prior: Floats, evidence: _Evidence, catalogue: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Return the posterior's mode [T, D] and the precision there [T, D, D], by Newton's method."""
    size = prior.shape[1]
    eye = np.eye(size) / truth.taste_std**2
    slope = _choice_slope if truth.feedback == "implicit" else _click_slope
    mode, precision = prior.copy(), np.broadcast_to(eye, (len(prior), size, size))
    for _ in range(NEWTON_STEPS if evidence.position.size else 0):
        gradient, curvature = slope(mode, evidence, catalogue)
        precision = curvature + eye
        gradient = gradient - (mode - prior) / truth.taste_std**2
        step = np.linalg.solve(precision, gradient[..., None])[..., 0]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        mode = mode + step * np.minimum(1.0, MAX_STEP * truth.taste_std / np.maximum(length, 1e-9))
    return mode, precision


def _click_slope(
    factors: Floats, evidence: _Evidence, catalogue: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    x = evidence.factors
    chance = 1 / (1 + np.exp(-(np.einsum("td,tkd->tk", factors, x) + evidence.base)))
    gradient = np.einsum("tk,tkd->td", evidence.labels - chance, x)
    return gradient, np.einsum("tk,tkd,tke->tde", chance * (1 - chance), x, x)


def _choice_slope(
    factors: Floats, evidence: _Evidence, catalogue: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Return gradient and curvature of the log-likelihood of choices without replacement.

    After each choice, the item is taken out of sum w, sum w q and sum w q q^T over what is left.
    """
    items, offset = catalogue
    size = items.shape[1]
    scores = factors @ items.T + offset
    weight = np.exp(scores - scores.max(axis=1, keepdims=True))
    outer = (items[:, :, None] * items[:, None]).reshape(-1, size * size)
    zero, first = weight.sum(axis=1), weight @ items
    second = (weight @ outer).reshape(-1, size, size)
    gradient, curvature = np.zeros_like(factors), np.zeros_like(second)
    rows = np.arange(len(factors))
    for k in range(evidence.position.shape[1]):
        x, w = evidence.factors[:, k], weight[rows, evidence.position[:, k]]
        mean = first / zero[:, None]
        gradient += x - mean
        curvature += second / zero[:, None, None] - mean[:, :, None] * mean[:, None]
        zero, first = zero - w, first - w[:, None] * x
        second = second - w[:, None, None] * x[:, :, None] * x[:, None]
    return gradient, curvature


def _draws(count: int, size: int, seed: int) -> Floats:
    """Return standard normal draws [N, D] in antithetic pairs."""
    half = np.random.default_rng(seed).standard_normal((count // 2, size))
    return np.concatenate([half, -half])
