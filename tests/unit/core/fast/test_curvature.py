"""Slopes of losses of support sets, and how they turn, held to autograd."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metarec_ray.core.fast.curvature import Choice, Logistic, Squared

TASKS, EVENTS, RIVALS = 3, 4, 6


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def weights() -> Tensor:
    weight = torch.rand(TASKS, EVENTS, dtype=torch.float64)
    weight[0, 2:] = 0  # padding
    weight[1] = 0  # an empty set
    return weight


def squared():
    label, weight = drawn(TASKS, EVENTS), weights()
    return Squared(label, weight), lambda s: (weight * (s[:, 0] - label) ** 2).sum()


def logistic():
    label, weight = (drawn(TASKS, EVENTS) > 0).double(), weights()

    def loss(scores: Tensor) -> Tensor:
        each = binary_cross_entropy_with_logits(scores[:, 0], label, reduction="none")
        return (weight * each).sum()

    return Logistic(label, weight), loss


def choice():
    weight, log_q = weights(), drawn(RIVALS)
    competes = torch.rand(TASKS, EVENTS, RIVALS) > 0.3

    def loss(scores: Tensor) -> Tensor:
        positives, others = scores[:, 0, :EVENTS], scores[:, 0, EVENTS:] - log_q
        rivals = (torch.where(competes, others.unsqueeze(1), -torch.inf)).logsumexp(-1)
        return (weight * (torch.logaddexp(positives, rivals) - positives)).sum()

    return Choice(weight, competes, log_q), loss


@pytest.mark.parametrize("kind", [squared, logistic, choice])
def test_slopes_and_how_they_turn_are_the_derivatives_of_the_loss(kind) -> None:
    torch.manual_seed(0)
    curvature, loss = kind()
    rows = EVENTS + RIVALS if kind is choice else EVENTS
    scores, change = drawn(TASKS, 1, rows).requires_grad_(), drawn(TASKS, 1, rows)
    (slope,) = torch.autograd.grad(loss(scores), scores, create_graph=True)
    torch.testing.assert_close(curvature.slope(scores), slope, rtol=1e-12, atol=1e-14)
    (turned,) = torch.autograd.grad((slope * change).sum(), scores)
    found = curvature.hessian_product(scores, change)
    torch.testing.assert_close(found, turned, rtol=1e-12, atol=1e-14)


def test_a_positive_without_rivals_loses_nothing() -> None:
    weight, log_q = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    alone = Choice(weight, torch.zeros(1, 1, 1, dtype=torch.bool), log_q)
    scores, change = drawn(1, 1, 2), drawn(1, 1, 2)
    nothing = torch.zeros(1, 1, 2, dtype=torch.float64)
    torch.testing.assert_close(alone.slope(scores), nothing)
    torch.testing.assert_close(alone.hessian_product(scores, change), nothing)
