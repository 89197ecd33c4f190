"""Losses of ratings and clicks."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import huber_loss

from metarec_ray.algorithms.losses.base import LabelLoss
from metarec_ray.core import losses
from metarec_ray.core.fast_weights import loss_derivatives
from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives


class SquaredError(LabelLoss):
    """The squared error of a rating."""

    suits: ClassVar = ("explicit",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["squared_error"] = "squared_error"

    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return losses.squared_error(scores, label, mask)

    def derivatives(self, label: Tensor, weight: Tensor) -> LossDerivatives:
        return loss_derivatives.SquaredError(label, weight)


class Huber(LabelLoss):
    """Half the squared error of a rating, growing linearly beyond `delta` [Huber, 1964].

    Outliers move a model less [doi:10.1214/aoms/1177703732].

    Attributes:
        delta: error, in standard deviations of all ratings, from which on the loss is linear.

    """

    suits: ClassVar = ("explicit",)
    name: Literal["huber"] = "huber"
    delta: PositiveFloat = 1.0

    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return losses.masked_mean(
            huber_loss(scores, label, reduction="none", delta=self.delta), mask
        )


class CrossEntropy(LabelLoss):
    """The binary cross-entropy of a click or a skip, scores being log-odds."""

    suits: ClassVar = ("binary",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["cross_entropy"] = "cross_entropy"

    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return losses.cross_entropy(scores, label, mask)

    def derivatives(self, label: Tensor, weight: Tensor) -> LossDerivatives:
        return loss_derivatives.CrossEntropy(label, weight)
