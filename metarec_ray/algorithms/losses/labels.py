"""Losses of ratings and clicks."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import huber_loss, logsigmoid

from metarec_ray.algorithms.losses.base import LabelLoss, Power
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
    has_derivatives: ClassVar[bool] = True
    name: Literal["huber"] = "huber"
    delta: PositiveFloat = 1.0

    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return losses.masked_mean(
            huber_loss(scores, label, reduction="none", delta=self.delta), mask
        )

    def derivatives(self, label: Tensor, weight: Tensor) -> LossDerivatives:
        return loss_derivatives.Huber(label, weight, self.delta)


class CrossEntropy(LabelLoss):
    """The binary cross-entropy of a click or a skip, scores being log-odds.

    Attributes:
        smoothing: share of a label that is spread over click and skip alike [Szegedy et al., 2016,
            arXiv:1512.00567]; log-odds then stay below log((2 - smoothing) / smoothing).

    """

    suits: ClassVar = ("binary",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["cross_entropy"] = "cross_entropy"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        return losses.cross_entropy(scores, self._smooth(label), mask)

    def derivatives(self, label: Tensor, weight: Tensor) -> LossDerivatives:
        return loss_derivatives.CrossEntropy(self._smooth(label), weight)

    def _smooth(self, label: Tensor) -> Tensor:
        return label + self.smoothing * (0.5 - label) if self.smoothing else label


class GeneralisedCrossEntropy(LabelLoss):
    """(1 - p^power) / power, with p the probability that the model gives the label.

    [Zhang & Sabuncu, 2018, arXiv:1805.07836]. Between the cross-entropy (power to 0) and the mean
    absolute error (power 1), which a wrong label moves less the surer the model is that it is one.

    Attributes:
        power: in (0, 1]; the larger, the more labels may be wrong, and the slower it learns.

    """

    suits: ClassVar = ("binary",)
    has_derivatives: ClassVar[bool] = True
    name: Literal["generalised_cross_entropy"] = "generalised_cross_entropy"
    power: Power = 0.7

    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        click = -torch.expm1(self.power * logsigmoid(scores))
        skip = -torch.expm1(self.power * logsigmoid(-scores))
        return losses.masked_mean((label * click + (1 - label) * skip) / self.power, mask)

    def derivatives(self, label: Tensor, weight: Tensor) -> LossDerivatives:
        return loss_derivatives.GeneralisedCrossEntropy(label, weight, self.power)
