"""Gradient descent on the last layer alone, in formulas that autograd and vmap go through.

What `descent` does for any layers by hand is a few products here: scores are linear in the weights
that adapt, and each step's gradient is written out (`LossDerivatives.grad`), so plain autograd
through the steps gives the exact second-order meta-gradient. Reference items that all tasks share
are one matrix in every product, where `descent` has rows of each task. Rates may be tensors: of
many runs at once, vmap maps them.

Axes: T tasks, N events of a support, R reference items, P features of the last layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives
from metarec_ray.models.head import dot, score_of

WEIGHT, BIAS = "head.out.weight", "head.out.bias"


def descend_last_layer(
    problem: Problem,
    meta: Params,
    support: Encoded,
    *,
    rates: tuple[float | Tensor, float | Tensor],
    steps: int,
    weight: Tensor,
) -> Params:
    """Return the last layer's weights [T, P] and biases [T] after `steps` on `support`.

    Args:
        problem: of T tasks.
        meta: shared parameters.
        support: of T tasks.
        rates: of weights and biases: one of all, or of each entry.
        steps: of gradient descent.
        weight: [T, N], of each event's loss; 0 on padding.

    """
    blocks, loss = _blocks(problem, meta, support), _loss(problem, support, weight)
    moved, raised = blocks[0].features.new_zeros(()), blocks[0].features.new_zeros(())
    for step in range(steps):
        scores = [block.scores(moved, raised) if step else block.prior for block in blocks]
        grad = loss.grad(torch.cat(scores, -1).unsqueeze(-2)).squeeze(-2)
        parts = grad.split([block.prior.shape[-1] for block in blocks], -1)
        each = zip(blocks, parts, strict=True)
        of_weight = torch.stack([block.vjp(part) for block, part in each]).sum(0)
        moved = moved - rates[0] * of_weight
        raised = raised - rates[1] * grad.sum(-1)
    return {WEIGHT: meta[WEIGHT] + moved, BIAS: meta[BIAS] + raised}


class _Block(NamedTuple):
    """Rows that are scored: a task's events, or the reference items, which tasks may share."""

    features: Tensor  # [T, M, P] or [M, P]
    prior: Tensor  # [T, M]: scores before any step

    def scores(self, moved: Tensor, raised: Tensor) -> Tensor:
        """Return the scores [T, M] under weights that `moved` [T, P] and a bias that `raised`."""
        return self.prior + dot(self.features, moved) + raised.unsqueeze(-1)

    def vjp(self, grad: Tensor) -> Tensor:
        """Return the gradient [T, P] of the weights, given that of the scores."""
        if self.features.dim() == 2:
            return grad @ self.features
        return (grad.unsqueeze(-2) @ self.features).squeeze(-2)


def _blocks(problem: Problem, meta: Params, support: Encoded) -> list[_Block]:
    rows = [support] if problem.reference is None else [support, problem.reference]
    features = [problem.features(meta, events) for events in rows]
    prior = [score_of(meta, x, events) for x, events in zip(features, rows, strict=True)]
    return [_Block(*block) for block in zip(features, prior, strict=True)]


def _loss(problem: Problem, support: Encoded, weight: Tensor) -> LossDerivatives:
    loss = problem.loss
    if isinstance(loss, LabelLoss):
        return loss.derivatives(support.label, weight)
    assert isinstance(loss, ChoiceLoss)
    assert problem.reference is not None
    competes = support.index.unsqueeze(-1) != problem.reference.index
    return loss.derivatives(weight, competes, problem.reference_log_q)
