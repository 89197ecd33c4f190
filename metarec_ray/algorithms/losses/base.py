"""What every loss answers. Knows scores; does not know what scored, or which set it is.

The last axis is the set; a leading `*T` of tasks stays. Every loss is a mean over the true entries
of `mask`, 0 for an empty set, and vmap can map it.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives
from metarec_ray.data.setting_types import Settings
from metarec_ray.data.settings import Feedback

Power = Annotated[float, Field(gt=0, le=1)]
"""Of a probability, in generalised cross-entropies."""


class Loss(Settings, ABC):
    """A loss, with its hyper-parameters as fields; `name` is what `train.loss` picks it by.

    Attributes:
        suits: kinds of feedback whose labels it makes sense of.
        has_derivatives: whether `derivatives` gives its derivatives by hand. Gradient learners then
            descend on many tasks at once (docs/gradients.md); without, autograd does it task by
            task, several times slower.

    """

    suits: ClassVar[tuple[Feedback, ...]]
    has_derivatives: ClassVar[bool] = False


class LabelLoss(Loss):
    """A loss of labels: ratings, or clicks, whose scores are log-odds."""

    @abstractmethod
    def of_labels(self, scores: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        """Return the mean loss [*T] of scores, given labels and a mask, all [*T, N]."""

    def derivatives(self, label: Tensor, weight: Tensor) -> LossDerivatives:
        """Return the derivatives of the sum of weighted losses, given labels and weights [T, N]."""
        raise AssertionError("a loss without `has_derivatives` was asked for it")


class ChoiceLoss(Loss):
    """A loss of positives, each chosen among other items."""

    @abstractmethod
    def of_choices(
        self,
        positives: Tensor,
        others: Tensor,
        log_weight: Tensor,
        mask: Tensor,
        *,
        competes: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss [*T] of the positives.

        Args:
            positives: scores [*T, N].
            others: scores [*T, S] of items that each positive competes with; S may be 0.
            log_weight: of each of these the logarithm of how many items it stands for, being drawn
                from a catalogue; minus infinity for an item that cannot be chosen.
            mask: True on real positives [*T, N].
            competes: bool [*T, N, S], False where another item is the positive itself; None for
                nowhere.

        """

    def of_catalogue(self, scores: Tensor, item: Tensor, barred: Tensor, mask: Tensor) -> Tensor:
        """Return the mean loss [*T] of positives among all items.

        Args:
            scores: [*T, I] of every item.
            item: positives [*T, N], columns of `scores`.
            barred: float [*T, I], minus infinity for an item that cannot be chosen, else 0.
            mask: True on real positives that can be chosen [*T, N].

        """
        competes = item.unsqueeze(-1) != torch.arange(scores.shape[-1], device=item.device)
        return self.of_choices(scores.gather(-1, item), scores, barred, mask, competes=competes)

    def derivatives(self, weight: Tensor, competes: Tensor, log_q: Tensor) -> LossDerivatives:
        """Return the derivatives of the sum of weighted losses of positives.

        Args:
            weight: [T, N] of the positives; 0 on padding.
            competes: bool [T, N, R], False where an item of the reference sample is the positive.
            log_q: log-probability [R] of each of these items to have been sampled.

        """
        raise AssertionError("a loss without `has_derivatives` was asked for it")
