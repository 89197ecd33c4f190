"""Posterior of linear weights under a Gaussian prior: a learned prior, a closed form.

Knows one task (vmap batches it): N observed feature vectors of P dimensions. Three likelihoods:
Gaussian (ratings), Bernoulli (clicks) and the conditional logit, a choice among many (positives).
The first is exact in one Newton step; the others converge in a few, each step one P x P Cholesky
and a search along the step, which no scale of the features makes overshoot.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_JITTER = 16  # units of rounding that the diagonal is raised by, relative to itself
_REFINEMENTS = 3  # of a step's length; a fourth adds nothing on ordinary scales


def solve_spd(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return `matrix^-1 vector` for a symmetric positive definite matrix [P, P].

    NaN if rounding has left the matrix indefinite. Its diagonal is raised by a few units of
    rounding, so that a small ridge on large features survives float32.
    """
    raised = _JITTER * torch.finfo(matrix.dtype).eps * matrix.diagonal(dim1=-2, dim2=-1)
    factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag_embed(raised))
    solution = torch.cholesky_solve(vector.unsqueeze(-1), factor).squeeze(-1)
    return torch.where(failed.unsqueeze(-1) == 0, solution, torch.nan)


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
    under the prior mean. `steps` Newton steps start at w = 0; the posterior grows with each.
    """
    features = features * (weight > 0).unsqueeze(-1)  # padding must not bound a step

    def expect(logits: Tensor) -> _Expected:
        p = torch.sigmoid(logits)
        return _Expected(weight * p, weight * p * (1 - p), torch.zeros_like(p))

    met = (weight * label) @ features
    return _mode(expect, features, prior, observed=met, precision=precision, steps=steps)


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
        steps: Newton steps from w = 0; the posterior grows with each.

    """
    total = weight.sum()

    def expect(logits: Tensor) -> _Expected:
        p = torch.softmax(logits, 0)
        return _Expected(total * p, total * p, p)

    chosen = weight @ features
    return _mode(
        expect, reference, reference_logits, observed=chosen, precision=precision, steps=steps
    )


class _Expected(NamedTuple):
    """What a likelihood expects of M logits: sum of mass times rows, and its covariance.

    The covariance is the sum of spread (row - centre row)(row - centre row)'.
    """

    mass: Tensor  # [M]
    spread: Tensor  # [M]
    centre: Tensor  # [M]: weights of the mean row that deviations are taken from


def _mode(
    expect: Callable[[Tensor], _Expected],
    rows: Tensor,
    prior: Tensor,
    *,
    observed: Tensor,
    precision: Tensor,
    steps: int,
) -> Tensor:
    """Return w [P] after Newton steps towards rows' mass(prior + rows w) + precision w = observed.

    `observed` is the sum of the rows that were observed.
    """
    w = torch.zeros_like(precision)
    for _ in range(steps):
        logits = prior + rows @ w
        now = expect(logits)
        # Deviations before products: E[xx'] - E[x]E[x]' loses the digits of a small spread.
        centred = rows - now.centre @ rows
        curvature = centred.T @ (centred * now.spread.unsqueeze(-1))
        pull = observed - precision * w
        step = solve_spd(torch.diag(precision) + curvature, pull - now.mass @ rows)
        stiffness = precision @ step**2
        w = w + step * _length(expect, logits, rows @ step, pull=pull @ step, stiffness=stiffness)
    return w


def _length(
    expect: Callable[[Tensor], _Expected],
    logits: Tensor,
    move: Tensor,
    *,
    pull: Tensor,
    stiffness: Tensor,
) -> Tensor:
    """Return how much of a Newton step to take, close to the best there is on its line.

    Along the line the objective has slope pull - t stiffness - move . mass(logits + t move). Its
    curvature changes by a factor of at most exp(range of move) a unit, as logistic likelihoods'
    does [Bach, 2010, doi:10.1214/09-EJS521]: log(1 + x) / x of a step that moves logits by x never
    lowers it, and is nearly the whole of a short one.
    """
    apart = torch.cat([move - expect(logits).centre @ move, move.new_zeros(1)])
    reach = apart.amax() - apart.amin()
    length = _safe(reach)
    for _ in range(_REFINEMENTS):
        now = expect(logits + length * move)
        slope = pull - length * stiffness - now.mass @ move
        bend = stiffness + now.spread @ (move - now.centre @ move) ** 2
        # Where nothing moves there is no bend, and nothing to refine.
        more = slope / bend.clamp(min=torch.finfo(bend.dtype).tiny)
        length = length + more * _safe(reach * more.abs())
    return length


def _safe(reach: Tensor) -> Tensor:
    reach = reach.clamp(min=torch.finfo(reach.dtype).eps)
    return torch.log1p(reach) / reach
