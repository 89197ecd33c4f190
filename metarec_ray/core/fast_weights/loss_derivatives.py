"""First and second derivatives of the support loss with respect to scores.

Knows the scores [T, 1, M] of T tasks and the weight of each event's loss, 0 on padding; does not
know what made the scores. The loss of a support set is the weighted sum over its events. `hvp` is
the Hessian of that sum times a tangent of the scores. What does not depend on scores is computed
once.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarec_ray.core import losses
from metarec_ray.core.matrices.shared import times_shared


class LossDerivatives(Protocol):
    """The gradient and HVP of a loss, at the scores of T tasks."""

    def grad(self, scores: Tensor) -> Tensor:
        """Return the gradient of the loss with respect to the scores."""
        ...

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        """Return the derivative of `grad` along a tangent of the scores."""
        ...


class SquaredError:
    """The squared error of labels (explicit feedback)."""

    def __init__(self, label: Tensor, weight: Tensor):
        """Take labels and weights [T, M]."""
        self.label, self.weight = label.unsqueeze(1), 2 * weight.unsqueeze(1)

    def grad(self, scores: Tensor) -> Tensor:
        return (scores - self.label).mul_(self.weight)

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        return tangent * self.weight


class Huber:
    """Half the squared error of labels, linear from an error of `delta` on (explicit feedback)."""

    def __init__(self, label: Tensor, weight: Tensor, delta: float):
        """Take labels and weights [T, M]."""
        self.label, self.weight, self.delta = label.unsqueeze(1), weight.unsqueeze(1), delta

    def grad(self, scores: Tensor) -> Tensor:
        return (scores - self.label).clamp_(-self.delta, self.delta).mul_(self.weight)

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        return tangent * self.weight * ((scores - self.label).abs() < self.delta)


class CrossEntropy:
    """The binary cross-entropy of labels in 0..1, scores being log-odds (binary feedback)."""

    def __init__(self, label: Tensor, weight: Tensor):
        """Take labels and weights [T, M]."""
        self.label, self.weight = label.unsqueeze(1), weight.unsqueeze(1)

    def grad(self, scores: Tensor) -> Tensor:
        return (torch.sigmoid(scores) - self.label).mul_(self.weight)

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        probability = torch.sigmoid(scores)
        return probability * (1 - probability) * self.weight * tangent


class GeneralisedCrossEntropy:
    """(1 - p^power) / power of labels in 0..1, p the label's probability (binary feedback)."""

    def __init__(self, label: Tensor, weight: Tensor, power: float):
        """Take labels and weights [T, M]."""
        weight = weight.unsqueeze(1)
        self.click, self.skip = label.unsqueeze(1) * weight, (1 - label).unsqueeze(1) * weight
        self.power = power

    def grad(self, scores: Tensor) -> Tensor:
        click = torch.sigmoid(scores)
        skip = 1 - click
        return self.skip * skip**self.power * click - self.click * click**self.power * skip

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        click = torch.sigmoid(scores)
        skip, q = 1 - click, self.power
        of_click = self.click * click**q * skip * (click - q * skip)
        of_skip = self.skip * skip**q * click * (skip - q * click)
        return (of_click + of_skip) * tangent


class SampledSoftmax:
    """The softmax of each of N positives against R reference items (implicit feedback).

    Scores are those of the positives, then those of the reference items. The loss of a positive
    with score p is log(e^p + e^c) - p, where c is the logsumexp of its competitors: of all
    reference items but itself, each score less its log-probability of having been sampled.
    """

    def __init__(self, weight: Tensor, competes: Tensor, log_q: Tensor):
        """Take weights [T, N], bool [T, N, R] and the log-probabilities [R].

        `competes` is False where a reference item is the positive itself.
        """
        self.weight, self.log_q = weight.unsqueeze(1), log_q
        self.competes, self.competes_float = competes, competes.to(weight.dtype)

    def grad(self, scores: Tensor) -> Tensor:
        at = self.terms(scores)
        missed = times_shared(at.miss * at.inverse_total, self.competes_float)
        references = missed * at.exp_score
        return torch.cat([-at.miss, references], -1)

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        at = self.terms(scores)
        positives, references = self.split(tangent)
        # The tangent of each positive's logsumexp of competitors, and with it of its miss.
        mean = at.inverse_total * ((at.exp_score * references) @ self.competes_float.mT)
        miss_tangent = at.curvature * (mean - positives)
        moved = (at.inverse_total * (miss_tangent - at.miss * mean)) @ self.competes_float
        held = (at.inverse_total * at.miss) @ self.competes_float
        return torch.cat([-miss_tangent, (moved + held * references) * at.exp_score], -1)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of the positives and of the reference items, of values [T, 1, N + R]."""
        positives, references = values.split([self.weight.shape[-1], len(self.log_q)], -1)
        return positives, references

    def terms(self, scores: Tensor) -> "SoftmaxTerms":
        """Return what the derivatives at these scores [T, 1, N + R] are made of."""
        positives, references = self.split(scores)
        references = references - self.log_q
        top = references.amax(-1, keepdim=True)
        competitors = losses.competing(references.squeeze(1), self.competes).unsqueeze(1)
        probability = torch.sigmoid(competitors - positives)
        miss = self.weight * probability
        return SoftmaxTerms(
            probability=probability,
            miss=miss,
            curvature=miss * (1 - probability),
            exp_score=torch.exp(references - top),
            inverse_total=torch.exp(top - competitors),
        )


class SoftmaxTerms(NamedTuple):
    """What derivatives of the loss are made of.

    `exp_score * inverse_total` is a reference item's share among the competitors of a positive.
    """

    probability: Tensor  # [T, 1, N]: that a competitor is chosen
    miss: Tensor  # [T, 1, N]: weight times the probability that a competitor is chosen
    curvature: Tensor  # [T, 1, N]: the derivative of `miss` along the competitors' logsumexp
    exp_score: Tensor  # [T, 1, R]: relative to the largest
    inverse_total: Tensor  # [T, 1, N]: 1 / the sum of the competitors' `exp_score`
