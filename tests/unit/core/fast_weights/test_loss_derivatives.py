"""First and second derivatives of losses of support sets, held to autograd."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metarec_ray.core.fast_weights.loss_derivatives import (
    CrossEntropy,
    SampledSoftmax,
    SquaredError,
)

TASKS, EVENTS, REFERENCES = 3, 4, 6


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def weights() -> Tensor:
    weight = torch.rand(TASKS, EVENTS, dtype=torch.float64)
    weight[0, 2:] = 0  # padding
    weight[1] = 0  # an empty set
    return weight


def squared_error():
    label, weight = drawn(TASKS, EVENTS), weights()
    return SquaredError(label, weight), lambda s: (weight * (s[:, 0] - label) ** 2).sum()


def cross_entropy():
    label, weight = (drawn(TASKS, EVENTS) > 0).double(), weights()

    def loss(scores: Tensor) -> Tensor:
        each = binary_cross_entropy_with_logits(scores[:, 0], label, reduction="none")
        return (weight * each).sum()

    return CrossEntropy(label, weight), loss


def sampled_softmax():
    weight, log_q = weights(), drawn(REFERENCES)
    competes = torch.rand(TASKS, EVENTS, REFERENCES) > 0.3

    def loss(scores: Tensor) -> Tensor:
        positives, references = scores[:, 0, :EVENTS], scores[:, 0, EVENTS:] - log_q
        competitors = torch.where(competes, references.unsqueeze(1), -torch.inf).logsumexp(-1)
        return (weight * (torch.logaddexp(positives, competitors) - positives)).sum()

    return SampledSoftmax(weight, competes, log_q), loss


@pytest.mark.parametrize("kind", [squared_error, cross_entropy, sampled_softmax])
def test_gradients_and_hessian_products_are_the_derivatives_of_the_loss(kind) -> None:
    torch.manual_seed(0)
    derivatives, loss = kind()
    rows = EVENTS + REFERENCES if kind is sampled_softmax else EVENTS
    scores, tangent = drawn(TASKS, 1, rows).requires_grad_(), drawn(TASKS, 1, rows)
    (grad,) = torch.autograd.grad(loss(scores), scores, create_graph=True)
    torch.testing.assert_close(derivatives.grad(scores), grad, rtol=1e-12, atol=1e-14)
    (product,) = torch.autograd.grad((grad * tangent).sum(), scores)
    found = derivatives.hvp(scores, tangent)
    torch.testing.assert_close(found, product, rtol=1e-12, atol=1e-14)


def test_a_positive_without_competitors_has_no_gradient() -> None:
    weight, log_q = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    alone = SampledSoftmax(weight, torch.zeros(1, 1, 1, dtype=torch.bool), log_q)
    scores, tangent = drawn(1, 1, 2), drawn(1, 1, 2)
    nothing = torch.zeros(1, 1, 2, dtype=torch.float64)
    torch.testing.assert_close(alone.grad(scores), nothing)
    torch.testing.assert_close(alone.hvp(scores, tangent), nothing)
