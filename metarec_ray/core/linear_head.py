"""Posterior of linear weights under a Gaussian prior, in closed form or by Newton's method.

Knows one task or many, leading axes `*T` (vmap batches one): N observed feature vectors of P
dimensions. Three likelihoods: Gaussian (ratings), Bernoulli (clicks) and the conditional logit, a
choice among many (positives). The first takes one solve. The others converge in a few Newton steps,
each one Cholesky factorisation, of P equations or of one for each observation, and a line search,
so that no step overshoots, whatever the scale of the features.

Computes in float64, whatever the input; returns the precision's type.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vecdot

from metarec_ray.core.matrices.gram import combine, pair_columns, solve_gram

_REFINEMENTS = 3  # of a step's length; a fourth gains nothing on ordinary scales


def gaussian_posterior(
    features: Tensor, residual: Tensor, weight: Tensor, precision: Tensor
) -> Tensor:
    """Return the posterior mean of w ~ N(0, precision^-1), residual ~ N(features w, 1/weight).

    Args:
        features: [*T, N, P].
        residual: [*T, N], the target less its mean under the prior.
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
    """Return the posterior mode [*T, P] of w ~ N(0, precision^-1) after clicks and non-clicks.

    The likelihood is label ~ Bernoulli(sigmoid(prior + features w)); `prior` [*T, N] are the
    log-odds under the prior mean. `steps` Newton steps start at w = 0; each increases the
    posterior. Shapes as in `gaussian_posterior`.
    """
    weight = weight.double()
    rows = features.double() * (weight > 0).unsqueeze(-1)  # padding must not shorten a step
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
    """Return the posterior mode [*T, P] of w ~ N(0, precision^-1) after choices in a catalogue.

    The probability to choose item j is proportional to exp(prior_j + features_j w) [McFadden, 1974,
    conditional logit]. The catalogue is represented by a reference sample.

    Args:
        features: [*T, N, P] of the chosen items.
        weight: [*T, N], of each choice; 0 on padding.
        reference: [R, P] features of the reference items, or [*T, R, P] where they differ.
        reference_logits: [*T, R], prior score minus the log-probability of having been sampled.
        precision: [P] or [*T, P].
        steps: Newton steps from w = 0; each increases the posterior.

    """
    weight, reference = weight.double(), reference.double()
    # Only differences between items matter; around 0 they keep their digits.
    centre = reference.detach().mean(-2, keepdim=True)
    total = weight.sum(-1, keepdim=True)
    observed = combine(weight, features.double()) - total * centre.squeeze(-2)
    return _mode(_Choices(total), reference - centre, reference_logits, observed, precision, steps)


def _regress(features: Tensor, target: Tensor, weight: Tensor, precision: Tensor) -> Tensor:
    weight = weight.double()
    zeros = torch.zeros_like(precision)
    return solve_gram(features.double(), weight, precision, zeros, weight * target)[0]


class _Clicks(NamedTuple):
    """The negative log-likelihood of clicks and non-clicks on M rows, as a function of logits."""

    weight: Tensor  # [*T, M]
    label: Tensor  # [*T, M]

    centred = False

    def derivatives(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient [*T, M] and the diagonal of the Hessian [*T, M]."""
        p = torch.sigmoid(logits)
        return self.weight * (p - self.label), self.weight * p * (1 - p)

    def along(self, logits: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and second derivative [*T, 1] along a direction of the logits."""
        gradient, curvature = self.derivatives(logits)
        return _dot(gradient, direction), _dot(curvature * direction, direction)

    def span(self, direction: Tensor) -> Tensor:
        """Return the range [*T, 1] of the direction's entries, relative to each other."""
        # The logit of no click is 0, and does not move.
        return _range(torch.cat([direction, direction.new_zeros(*direction.shape[:-1], 1)], -1))


class _Choices(NamedTuple):
    """The same of choices among M rows, without its linear term: that is `observed` in `_mode`.

    The Hessian is total x (diag(p) - p p'). `derivatives` returns total x p; `solve_gram` centres.
    """

    total: Tensor  # [*T, 1]: of choices

    centred = True

    def derivatives(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        expected = self.total * torch.softmax(logits, -1)
        return expected, expected

    def along(self, logits: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.softmax(logits, -1)
        mean = _dot(p, direction)
        # Deviations before products: E[xx] - E[x]E[x] loses the digits of a small variance.
        deviation = direction - mean
        return self.total * mean, self.total * _dot(p * deviation, deviation)

    def span(self, direction: Tensor) -> Tensor:
        return _range(direction)


def _mode(
    likelihood: _Clicks | _Choices,
    rows: Tensor,
    prior: Tensor,
    observed: Tensor,
    precision: Tensor,
    steps: int,
) -> Tensor:
    """Return w [*T, P] after Newton steps towards the mode.

    There precision w + rows' gradient = observed [*T, P], with the likelihood's gradient.
    """
    logits, strict = prior.double(), precision.double()
    pairs = pair_columns(rows, observed.shape[:-1].numel())
    w = torch.zeros_like(observed)
    for _ in range(steps):
        gradient, curvature = likelihood.derivatives(logits)
        vector = observed - strict * w
        step, direction = solve_gram(
            rows, curvature, strict, vector, -gradient, centred=likelihood.centred, pairs=pairs
        )
        linear, quadratic = _dot(vector, step), _dot(strict * step, step)
        length = _length(likelihood, logits, direction, linear=linear, quadratic=quadratic)
        w, logits = torch.addcmul(w, length, step), torch.addcmul(logits, length, direction)
    return w.to(precision.dtype)


def _length(
    likelihood: _Clicks | _Choices,
    logits: Tensor,
    direction: Tensor,
    *,
    linear: Tensor,
    quadratic: Tensor,
) -> Tensor:
    """Return the share [*T, 1] of a Newton step to take, close to the best on its line.

    At share t, the log-posterior has the derivative linear - t quadratic - (the likelihood's, at
    logits + t direction). Its curvature changes by a factor of at most exp(span of direction) for
    each unit of t, as logistic likelihoods' does [Bach, 2010, doi:10.1214/09-EJS521]. So a share of
    log(1 + x) / x of a step that changes logits by x never lowers the log-posterior; of a short
    step, it is nearly all.
    """
    span = likelihood.span(direction)
    length = _safe_share(span)
    for _ in range(_REFINEMENTS):
        first, second = likelihood.along(torch.addcmul(logits, length, direction), direction)
        # Where nothing moves the curvature is 0, and there is nothing to refine.
        second = (quadratic + second).clamp(min=torch.finfo(second.dtype).tiny)
        more = (linear - length * quadratic - first) / second
        length = torch.addcmul(length, more, _safe_share(span * more.abs()))
    return length


def _safe_share(span: Tensor) -> Tensor:
    span = span.clamp(min=torch.finfo(span.dtype).eps)
    return torch.log1p(span) / span


def _range(values: Tensor) -> Tensor:
    return values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return vecdot(a, b).unsqueeze(-1)
