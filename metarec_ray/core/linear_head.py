"""Posterior of linear weights under a Gaussian prior: a learned prior, a closed form.

Knows one task (vmap batches it): N observed feature vectors of P dimensions. Three likelihoods:
Gaussian (ratings), Bernoulli (clicks) and the conditional logit, a choice among many (positives).
The first is exact in one Newton step; the others converge in a few, each step one P x P Cholesky.
"""

import torch
from torch import Tensor


def solve_spd(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return `matrix^-1 vector` for a symmetric positive definite matrix [P, P]."""
    factor = torch.linalg.cholesky_ex(matrix).L
    return torch.cholesky_solve(vector.unsqueeze(-1), factor).squeeze(-1)


def gaussian_posterior(
    features: Tensor, residual: Tensor, weight: Tensor, precision: Tensor
) -> Tensor:
    """Return the posterior mean [P] of w ~ N(0, precision^-1), residual ~ N(features w, 1/weight).

    Args:
        features: [N, P].
        residual: [N], what the prior mean left unexplained.
        weight: [N], observation precisions; 0 on padding.
        precision: [P], diagonal prior precision, > 0.

    """
    weighted = features * weight.unsqueeze(-1)
    return solve_spd(torch.diag(precision) + features.T @ weighted, weighted.T @ residual)


def ridge(features: Tensor, target: Tensor, weight: Tensor, penalty: Tensor) -> Tensor:
    """Return the weights [P] that minimise sum of weight (target - features w)^2 + penalty w^2.

    Solves the smaller of the two systems: P x P, or N x N by the Woodbury identity.

    Args:
        features: [N, P].
        target: [N].
        weight: [N], >= 0; 0 on padding.
        penalty: scalar > 0.

    """
    rows, width = features.shape[-2:]
    if width <= rows:
        return gaussian_posterior(features, target, weight, penalty.expand(width))
    system = weight.unsqueeze(-1) * (features @ features.T) + penalty * torch.eye(
        rows, dtype=features.dtype, device=features.device
    )
    # Not symmetric, but it needs no square root of a weight, whose slope at 0 is infinite.
    return features.T @ torch.linalg.solve_ex(system, weight * target).result


def bernoulli_posterior(
    features: Tensor, label: Tensor, prior: Tensor, weight: Tensor, precision: Tensor, *, steps: int
) -> Tensor:
    """Return the mode [P] of w ~ N(0, precision^-1) after clicks and none.

    The likelihood is label ~ Bernoulli(sigmoid(prior + features w)); `prior` [N] are the log-odds
    under the prior mean. `steps` Newton steps start at w = 0.
    """
    w = torch.zeros_like(precision)
    for _ in range(steps):
        p = torch.sigmoid(prior + features @ w)
        curvature = features * (weight * p * (1 - p)).unsqueeze(-1)
        gradient = precision * w - features.T @ (weight * (label - p))
        w = w - solve_spd(torch.diag(precision) + features.T @ curvature, gradient)
    return w


def choice_posterior(
    features: Tensor,
    weight: Tensor,
    reference: Tensor,
    reference_logits: Tensor,
    precision: Tensor,
    *,
    steps: int,
) -> Tensor:
    """Return the mode [P] of w ~ N(0, precision^-1) after choices among the catalogue.

    The probability to choose item j is proportional to exp(prior_j + features_j w) [McFadden, 1974,
    conditional logit]. The catalogue is represented by a reference sample.

    Args:
        features: [N, P] of the chosen items.
        weight: [N], how much each choice counts; 0 on padding.
        reference: [R, P] features of the reference items.
        reference_logits: [R], prior score minus the log-probability of having been sampled.
        precision: [P].
        steps: Newton steps from w = 0.

    """
    w = torch.zeros_like(precision)
    total, chosen = weight.sum(), weight @ features
    for _ in range(steps):
        p = torch.softmax(reference_logits + reference @ w, 0)
        mean = p @ reference
        spread = (reference * p.unsqueeze(-1)).T @ reference - torch.outer(mean, mean)
        gradient = precision * w - (chosen - total * mean)
        w = w - solve_spd(torch.diag(precision) + total * spread, gradient)
    return w
