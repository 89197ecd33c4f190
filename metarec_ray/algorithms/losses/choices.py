"""Losses of positives among other items."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarec_ray.algorithms.losses.base import ChoiceLoss, Power
from metarec_ray.core import losses
from metarec_ray.core.fast_weights.choice_derivatives import GeneralisedSoftmax as PowerDerivatives
from metarec_ray.core.fast_weights.choice_derivatives import SmoothedSoftmax
from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives, SampledSoftmax


class Softmax(ChoiceLoss):
    """-log p(positive) among the items it competes with, corrected for how these were sampled.

    [Bengio & Senecal, 2008, doi:10.1109/TNN.2007.912312]; over a catalogue the full softmax.

    Attributes:
        smoothing: share of a choice that is spread over the positive and the items it competes
            with, each item of the catalogue alike [Szegedy et al., 2016, arXiv:1512.00567].

    """

    suits: ClassVar = ("implicit",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["softmax"] = "softmax"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def of_choices(
        self,
        positives: Tensor,
        others: Tensor,
        log_weight: Tensor,
        mask: Tensor,
        *,
        competes: Tensor | None = None,
    ) -> Tensor:
        found = losses.softmax(positives, others + log_weight, mask, competes=competes)
        if not self.smoothing:
            return found
        mean = losses.mean_score(positives, others, torch.exp(log_weight), competes=competes)
        return found + self.smoothing * losses.masked_mean(positives - mean, mask)

    def of_catalogue(self, scores: Tensor, item: Tensor, barred: Tensor, mask: Tensor) -> Tensor:
        found = losses.full_softmax(scores, item, barred, mask)
        if not self.smoothing:
            return found
        weight = torch.exp(barred)
        mean = (weight * scores).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        positives = scores.gather(-1, item)
        return found + self.smoothing * losses.masked_mean(positives - mean, mask)

    def derivatives(self, weight: Tensor, competes: Tensor, log_q: Tensor) -> LossDerivatives:
        if not self.smoothing:
            return SampledSoftmax(weight, competes, log_q)
        return SmoothedSoftmax(weight, competes, log_q, self.smoothing)


class GeneralisedSoftmax(ChoiceLoss):
    """(1 - p(positive)^power) / power, with the probability of `Softmax`.

    The generalised cross-entropy of choices [Zhang & Sabuncu, 2018, arXiv:1805.07836]: a positive
    that the model finds most unlikely, an event by accident, moves it less than in the softmax.

    Attributes:
        power: in (0, 1]; towards 0 it is the softmax. Among thousands of items every positive is
            unlikely, and large powers learn from hardly any.

    """

    suits: ClassVar = ("implicit",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["generalised_softmax"] = "generalised_softmax"
    power: Power = 0.1

    def of_choices(
        self,
        positives: Tensor,
        others: Tensor,
        log_weight: Tensor,
        mask: Tensor,
        *,
        competes: Tensor | None = None,
    ) -> Tensor:
        lost = losses.softmax_losses(positives, others + log_weight, competes=competes)
        return losses.masked_mean(-torch.expm1(-self.power * lost) / self.power, mask)

    def derivatives(self, weight: Tensor, competes: Tensor, log_q: Tensor) -> LossDerivatives:
        return PowerDerivatives(weight, competes, log_q, self.power)
