"""Losses of positives among other items."""

from typing import ClassVar, Literal

from torch import Tensor

from metarec_ray.algorithms.losses.base import ChoiceLoss
from metarec_ray.core import losses
from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives, SampledSoftmax


class Softmax(ChoiceLoss):
    """-log p(positive) among the items it competes with, corrected for how these were sampled.

    [Bengio & Senecal, 2008, doi:10.1109/TNN.2007.912312]; over a catalogue the full softmax.
    """

    suits: ClassVar = ("implicit",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["softmax"] = "softmax"

    def of_choices(
        self,
        positives: Tensor,
        others: Tensor,
        log_weight: Tensor,
        mask: Tensor,
        *,
        competes: Tensor | None = None,
    ) -> Tensor:
        return losses.softmax(positives, others + log_weight, mask, competes=competes)

    def of_catalogue(self, scores: Tensor, item: Tensor, barred: Tensor, mask: Tensor) -> Tensor:
        return losses.full_softmax(scores, item, barred, mask)

    def derivatives(self, weight: Tensor, competes: Tensor, log_q: Tensor) -> LossDerivatives:
        return SampledSoftmax(weight, competes, log_q)
