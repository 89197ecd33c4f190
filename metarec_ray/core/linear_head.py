"""Posterior of linear weights under a Gaussian prior: a learned prior, a closed form.

Knows one task or many, leading axes `*T` (vmap batches one): N observed feature vectors of P
dimensions. Three likelihoods: Gaussian (ratings), Bernoulli (clicks) and the conditional logit, a
choice among many (positives). The first is exact in one Newton step; the others converge in a few,
each step one Cholesky, of P or of as many equations as there are observations, and a search along
the step, which no scale of the features makes overshoot.

Whatever is handed in, the posterior is found in float64 and returned in the precision's type.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vecdot

from metarec_ray.core.gram import combine, pair_columns, solve_gram

_REFINEMENTS = 3  # of a step's length; a fourth adds nothing on ordinary scales


def gaussian_posterior(
    features: Tensor, residual: Tensor, weight: Tensor, precision: Tensor
) -> Tensor:
    """Return the posterior mean of w ~ N(0, precision^-1), residual ~ N(features w, 1/weight).

    Args:
        features: [*T, N, P].
        residual: [*T, N], what the prior mean left unexplained.
        weight: [*T, N], observation precisions; 0 on padding.
        precision: [P] or [*T, P], diagonal prior precision, > 0.

    Returns:
        [*T, P].

    """
    return _regress(features, residual, weight, precision.double()).to(precision.dtype)


def ridge(features: Tensor, target: Tensor, weight: Tensor, penalty: Tensor) -> Tensor:
    """Return the weights [*T, P] that minimise sum of weight (target - features w)^2 + penalty w^2.

    Args:
        features: [*T, N, P].
        target: [*T, N].
        weight: [*T, N], >= 0; 0 on padding.
        penalty: [] or [*T], > 0.

    """
    precision = penalty.double().unsqueeze(-1).expand(*penalty.shape, features.shape[-1])
    return _regress(features, target, weight, precision).to(penalty.dtype)


def bernoulli_posterior(
    features: Tensor, label: Tensor, prior: Tensor, weight: Tensor, precision: Tensor, *, steps: int
) -> Tensor:
    """Return the mode [*T, P] of w ~ N(0, precision^-1) after clicks and none.

    The likelihood is label ~ Bernoulli(sigmoid(prior + features w)); `prior` [*T, N] are the
    log-odds under the prior mean. `steps` Newton steps start at w = 0; the posterior grows with
    each. Shapes as in `gaussian_posterior`.
    """
    weight = weight.double()
    rows = features.double() * (weight > 0).unsqueeze(-1)  # padding must not bound a step
    clicks = _Clicks(weight, label.double())
    start = weight.new_zeros(*weight.shape[:-1], rows.shape[-1])
    return _mode(clicks, rows, prior, start, precision, steps)


def choice_posterior(
    features: Tensor,
    weight: Tensor,
    reference: Tensor,
    reference_logits: Tensor,
    precision: Tensor,
    *,
    steps: int,
) -> Tensor:
    """Return the mode [*T, P] of w ~ N(0, precision^-1) after choices among the catalogue.

    The probability to choose item j is proportional to exp(prior_j + features_j w) [McFadden, 1974,
    conditional logit]. The catalogue is represented by a reference sample.

    Args:
        features: [*T, N, P] of the chosen items.
        weight: [*T, N], how much each choice counts; 0 on padding.
        reference: [R, P] features of the reference items, or [*T, R, P] where they differ.
        reference_logits: [*T, R], prior score minus the log-probability of having been sampled.
        precision: [P] or [*T, P].
        steps: Newton steps from w = 0; the posterior grows with each.

    """
    weight, reference = weight.double(), reference.double()
    # Choices know differences only, and those keep their digits near zero.
    zero = reference.detach().mean(-2, keepdim=True)
    total = weight.sum(-1, keepdim=True)
    observed = combine(weight, features.double()) - total * zero.squeeze(-2)
    return _mode(_Choices(total), reference - zero, reference_logits, observed, precision, steps)


def _regress(features: Tensor, target: Tensor, weight: Tensor, precision: Tensor) -> Tensor:
    weight = weight.double()
    nothing = torch.zeros_like(precision)
    return solve_gram(features.double(), weight, precision, nothing, weight * target)[0]


class _Clicks(NamedTuple):
    """Clicks and none on M rows, each by itself, as functions of their log-odds."""

    weight: Tensor  # [*T, M]
    label: Tensor  # [*T, M]

    centred = False

    def expect(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much each row is expected more often than observed, and its variance."""
        p = torch.sigmoid(logits)
        return self.weight * (p - self.label), self.weight * p * (1 - p)

    def along(self, logits: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of excess x move [*T, 1] and the variance of the moves."""
        excess, spread = self.expect(logits)
        return _dot(excess, move), _dot(spread * move, move)

    def reach(self, move: Tensor) -> Tensor:
        """Return the range [*T, 1] of moves relative to each other."""
        # A logit moves against that of no click, which stands still.
        return _range(torch.cat([move, move.new_zeros(*move.shape[:-1], 1)], -1))


class _Choices(NamedTuple):
    """The same of choices among M rows; what was observed is counted elsewhere."""

    total: Tensor  # [*T, 1]: of choices

    centred = True

    def expect(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        excess = self.total * torch.softmax(logits, -1)
        return excess, excess

    def along(self, logits: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.softmax(logits, -1)
        mean = _dot(p, move)
        # Deviations before products: E[xx] - E[x]E[x] loses the digits of a small spread.
        apart = move - mean
        return self.total * mean, self.total * _dot(p * apart, apart)

    def reach(self, move: Tensor) -> Tensor:
        return _range(move)


def _mode(
    likelihood: _Clicks | _Choices,
    rows: Tensor,
    prior: Tensor,
    observed: Tensor,
    precision: Tensor,
    steps: int,
) -> Tensor:
    """Return w [*T, P] after Newton steps towards precision w + rows' excess = observed [*T, P]."""
    logits, strict = prior.double(), precision.double()
    pairs = pair_columns(rows, observed.shape[:-1].numel())
    w = torch.zeros_like(observed)
    for _ in range(steps):
        excess, spread = likelihood.expect(logits)
        pull = observed - strict * w
        step, move = solve_gram(
            rows, spread, strict, pull, -excess, centred=likelihood.centred, pairs=pairs
        )
        pull, stiffness = _dot(pull, step), _dot(strict * step, step)
        length = _length(likelihood, logits, move, pull=pull, stiffness=stiffness)
        w, logits = torch.addcmul(w, length, step), torch.addcmul(logits, length, move)
    return w.to(precision.dtype)


def _length(
    likelihood: _Clicks | _Choices,
    logits: Tensor,
    move: Tensor,
    *,
    pull: Tensor,
    stiffness: Tensor,
) -> Tensor:
    """Return how much of a Newton step to take [*T, 1], close to the best there is on its line.

    Along the line the objective has slope pull - t stiffness - move . excess(logits + t move). Its
    curvature changes by a factor of at most exp(range of move) a unit, as logistic likelihoods'
    does [Bach, 2010, doi:10.1214/09-EJS521]: log(1 + x) / x of a step that moves logits by x never
    lowers it, and is nearly the whole of a short one.
    """
    reach = likelihood.reach(move)
    length = _safe(reach)
    for _ in range(_REFINEMENTS):
        fall, bend = likelihood.along(torch.addcmul(logits, length, move), move)
        # Where nothing moves there is no bend, and nothing to refine.
        bend = (stiffness + bend).clamp(min=torch.finfo(bend.dtype).tiny)
        more = (pull - length * stiffness - fall) / bend
        length = torch.addcmul(length, more, _safe(reach * more.abs()))
    return length


def _safe(reach: Tensor) -> Tensor:
    reach = reach.clamp(min=torch.finfo(reach.dtype).eps)
    return torch.log1p(reach) / reach


def _range(values: Tensor) -> Tensor:
    return values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return vecdot(a, b).unsqueeze(-1)
