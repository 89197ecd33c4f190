"""First and second derivatives of robust losses of choices, beside those of the plain softmax.

Knows what `loss_derivatives.SampledSoftmax` does, which these add to.
"""

import torch
from torch import Tensor

from metarec_ray.core.fast_weights.loss_derivatives import SampledSoftmax, SoftmaxTerms


class SmoothedSoftmax(SampledSoftmax):
    """The softmax with a share of each choice spread over the catalogue.

    That adds a term to the loss that is linear in the scores: the gradient moves by a constant.
    """

    def __init__(self, weight: Tensor, competes: Tensor, log_q: Tensor, smoothing: float):
        """Take weights [T, N], bool [T, N, R] and the log-probabilities [R]."""
        super().__init__(weight, competes, log_q)
        each = self.competes_float * torch.exp(-log_q)
        total = 1 + each.sum(-1)  # a positive stands for itself
        of_positive = smoothing * weight * (1 - 1 / total)
        of_reference = -((smoothing * weight / total).unsqueeze(-1) * each).sum(-2)
        self.constant = torch.cat([of_positive, of_reference], -1).unsqueeze(1)

    def grad(self, scores: Tensor) -> Tensor:
        return super().grad(scores) + self.constant


class GeneralisedSoftmax(SampledSoftmax):
    """(1 - p^power) / power of each positive's probability p.

    Its gradient is that of -log p, times p^power.
    """

    def __init__(self, weight: Tensor, competes: Tensor, log_q: Tensor, power: float):
        """Take weights [T, N], bool [T, N, R] and the log-probabilities [R]."""
        super().__init__(weight, competes, log_q)
        self.power = power

    def terms(self, scores: Tensor) -> SoftmaxTerms:
        at = super().terms(scores)
        likely = (1 - at.probability).clamp(min=torch.finfo(scores.dtype).tiny) ** self.power
        return at._replace(miss=at.miss * likely, curvature=at.curvature * likely)

    def hvp(self, scores: Tensor, tangent: Tensor) -> Tensor:
        at = self.terms(scores)
        positives, references = self.split(tangent)
        mean = at.inverse_total * ((at.exp_score * references) @ self.competes_float.mT)
        # Along the tangent p^power changes by -power p^power times what -log p changes by.
        moved = -self.power * at.miss * at.probability * (mean - positives)
        references = (moved * at.inverse_total) @ self.competes_float * at.exp_score
        return super().hvp(scores, tangent) + torch.cat([-moved, references], -1)
