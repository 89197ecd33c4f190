"""What a teacher adds to the loss of a query: how far a student is from its answers.

Knows scores of what a query asks, the student's and the teacher's; does not know who gave them. An
answer of minus infinity says nothing: the student is not held to it. The last axis are the
candidates or events of the query; a leading `*T` of tasks stays.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metarec_ray.core import losses

SILENT = -torch.inf
"""The answer that says nothing."""
TeacherLoss = Callable[[Tensor], Tensor]
"""From the scores of a student [*T, C] to its weighted distance to the teacher [*T]."""


class Teaching(NamedTuple):
    """How much a teacher counts.

    Attributes:
        weight: > 0, of the distance to the teacher beside the loss of the labels, which has 1.
        temperature: > 0, that scores of both are divided by before they are probabilities. The loss
            is multiplied by its square, so that gradients stay as large [Hinton et al., 2015,
            arXiv:1503.02531].

    """

    weight: float
    temperature: float = 1.0


def of_choices(teaching: Teaching, answers: Tensor, log_weight: Tensor) -> TeacherLoss:
    """Return the cross-entropy against the teacher's distribution over the candidates [*T, C].

    As in listwise distillation of rankings; Tang & Wang [2018, arXiv:1809.07428] keep the top of a
    list alone. A task of whose candidates the teacher knows none has loss 0.

    Args:
        teaching: how much the teacher counts.
        answers: the teacher's log-odds [*T, C].
        log_weight: [*T, C], of each candidate the logarithm of how many items it stands for; minus
            infinity for one that cannot be chosen.

    """
    known = (answers > SILENT) & (log_weight > -torch.inf)
    heard = known.any(-1, keepdim=True)
    # Where nothing is known nothing is barred, so that no distribution is empty.
    among = log_weight.masked_fill(~known, -torch.inf).masked_fill(~heard, 0.0)
    told = answers.masked_fill(~known, 0.0) / teaching.temperature
    target = torch.softmax(told + among, -1) * heard
    factor = teaching.weight * teaching.temperature**2

    def loss(scores: Tensor) -> Tensor:
        share = torch.log_softmax(scores / teaching.temperature + among, -1)
        return -factor * (target * share.masked_fill(~known, 0.0)).sum(-1)

    return loss


def of_ratings(teaching: Teaching, answers: Tensor, mask: Tensor) -> TeacherLoss:
    """Return the mean squared error to the teacher's predictions [*T, N]; they have no temperature.

    `answers` are on the scale of the student's labels.
    """
    known = mask & (answers > SILENT)
    told = answers.masked_fill(~known, 0.0)
    return lambda scores: teaching.weight * losses.squared_error(scores, told, known)


def of_clicks(teaching: Teaching, answers: Tensor, mask: Tensor) -> TeacherLoss:
    """Return the mean cross-entropy against the teacher's probabilities, of log-odds [*T, N]."""
    known = mask & (answers > SILENT)
    target = torch.sigmoid(answers.masked_fill(~known, 0.0) / teaching.temperature)
    factor = teaching.weight * teaching.temperature**2

    def loss(scores: Tensor) -> Tensor:
        lost = binary_cross_entropy_with_logits(
            scores / teaching.temperature, target, reduction="none"
        )
        return factor * losses.masked_mean(lost, known)

    return loss
