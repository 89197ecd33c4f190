"""The last layer of the head: one score a row.

Its fast weights are few, [T, 1, K], and always formed. They are rows here, where other layers have
columns: the product of a matrix and a vector is quicker that way round.

A row comes in blocks, each with weights of its own: the item and, if there are any, the hidden
activations. Items are the same in every step; so are activations, unless a layer below adapts.
`layers` says what the methods have in common with those of other layers.

Axes: T tasks, M support rows, Q query rows, K inputs of a block, H hidden units.
"""

import torch
from torch import Tensor

from metarec_ray.core.fast_weights.batched_ops import (
    Rate,
    Rows,
    accumulate,
    bmm_into,
    extended,
    rate_grad,
    sgd_step,
    sgd_step_matmul,
)

ITEM, HIDDEN = 0, 1
"""Positions of the blocks; there may be no hidden one."""


class OutputLayer:
    """Scores [T, 1, M]: the products of blocks [T, M, K] and weights [T, 1, K], and a bias."""

    def __init__(
        self,
        weights: list[Tensor],
        bias: Tensor,
        rates: list[Rate],
        *,
        hidden_adapts: bool,
        second_order: bool,
    ):
        """Take the initial weights [T, 1, K] of each block and the bias [1, 1, 1].

        `rates` are those of the blocks and of the bias. `hidden_adapts` says whether a layer below
        does. Without `second_order`, what was learned is a constant.
        """
        *self.rates, self.bias_rate = rates
        self.hidden_adapts, self.second_order = hidden_adapts, second_order
        self.weights, self.biases = [weights], [bias]
        self.inputs: list[list[Rows]] = []
        self.grads: list[Tensor] = []

    def forward(self, base_score: Tensor, blocks: list[Rows], weights: list[Tensor]) -> Tensor:
        """Return the scores of rows under `weights`, on top of `base_score` [T, 1, M].

        The weights are `fast_weights()` on support rows, `query_weights` on query rows.
        """
        scores = base_score + self.biases[-1]
        for weight, block in zip(weights, blocks, strict=True):
            scores.baddbmm_(weight, block.mT)
        return scores

    def fast_weights(self) -> list[Tensor]:
        """Return the weights [T, 1, K] of each block after the steps so far."""
        return self.weights[-1]

    def query_weights(self, item_weights: Tensor) -> list[Tensor]:
        """Return the fast weights for query rows whose items had `item_weights` at first."""
        (first, *_), (last, *hidden) = self.weights[0], self.weights[-1]
        return [item_weights + (last - first), *hidden]

    def vjp(self, grad_scores: Tensor) -> Tensor:
        """Return the gradient [T, M, H] of the hidden activations."""
        return grad_scores.mT * self.weights[-1][HIDDEN]

    def update(self, blocks: list[Rows], grad_scores: Tensor) -> None:
        """Take one gradient step, given the support loss's gradient of the scores."""
        each = zip(self.weights[-1], self.rates, blocks, strict=True)
        weights = [sgd_step_matmul(w, rate, grad_scores, block.rows) for w, rate, block in each]
        self.weights = extended(self.weights, weights, second_order=self.second_order)
        bias = sgd_step(self.biases[-1], self.bias_rate, grad_scores.sum(-1, keepdim=True))
        self.biases = extended(self.biases, bias, second_order=self.second_order)
        if self.second_order:
            self.inputs.append(blocks)
            self.grads.append(grad_scores)

    def query_vjp(
        self, blocks: list[Rows], weights: list[Tensor], grad_scores: Tensor
    ) -> Tensor | None:
        """Return the gradient of the query rows' hidden activations, if any; make the adjoint."""
        self._query_grad, self._query_item_weights = grad_scores, weights[ITEM]
        self._query_adjoints = [torch.bmm(grad_scores, block.rows) for block in blocks]
        self._adjoints = self._query_adjoints
        self._bias_adjoint = grad_scores.sum(-1, keepdim=True)
        self.base_score_grad: Tensor | None = None
        self._rate_grads: list[Tensor | None] = [None for _ in (*self.rates, self.bias_rate)]
        # Gradients of blocks that do not adapt, as factors: gradients of scores, and weights.
        fixed = self.rates[:1] if self.hidden_adapts else self.rates
        self._input_grad_factors: list[tuple[list[Tensor], list[Tensor]]] = [
            ([], []) for _ in fixed
        ]
        return self.vjp(grad_scores) if len(blocks) > 1 else None

    def jvp(self, step: int, hidden_tangent: Tensor | None) -> Tensor:
        """Return the tangents of the scores; a `hidden_tangent` [T, M, H] of None stands for 0."""
        pairs = zip(self._adjoints, self.rates, strict=True)
        self._directions = [adjoint * -rate for adjoint, rate in pairs]
        tangent = self._bias_adjoint * -self.bias_rate
        for direction, block in zip(self._directions, self.inputs[step], strict=True):
            tangent = torch.baddbmm(tangent, direction, block.mT)
        if hidden_tangent is None:
            return tangent
        return tangent.baddbmm_(self.weights[step][HIDDEN], hidden_tangent.mT)

    def hvp(
        self, step: int, hidden_tangent: Tensor | None, grad_scores_tangent: Tensor
    ) -> Tensor | None:
        """Return the tangent of a step's gradient of the hidden activations, if they adapt.

        Adds -rate * H v to the adjoint.
        """
        grad, blocks, weights = self.grads[step], self.inputs[step], self.weights[step]
        each = zip(self._input_grad_factors, weights, self._directions, strict=False)
        for (grads, factors), weight, direction in each:
            grads += [grad_scores_tangent, grad]
            factors += [weight, direction]
        tangent = None
        if self.hidden_adapts:
            tangent = grad_scores_tangent.mT * weights[HIDDEN]
            tangent.addcmul_(grad.mT, self._directions[HIDDEN])
        if not isinstance(self.bias_rate, float):
            self._add_rate_grads(grad, blocks)
        pairs = zip(self._adjoints, blocks, strict=True)
        self._adjoints = [torch.baddbmm(v, grad_scores_tangent, block.rows) for v, block in pairs]
        if hidden_tangent is not None:
            self._adjoints[HIDDEN].baddbmm_(grad, hidden_tangent)
        self._bias_adjoint = self._bias_adjoint + grad_scores_tangent.sum(-1, keepdim=True)
        self.base_score_grad = accumulate(self.base_score_grad, grad_scores_tangent)
        return tangent

    def support_block_grad(self, block: int, total: Tensor | None) -> Tensor:
        """Return the gradient of a block that does not adapt, added in place to `total`."""
        grads, weights = (torch.cat(parts, 1) for parts in self._input_grad_factors[block])
        return bmm_into(grads.mT, weights, total)

    def query_item_grad(self, total: Tensor | None) -> Tensor:
        """Return the gradient of the query items, added in place to `total`."""
        grad, weights = self._query_grad.mT, self._query_item_weights
        return grad * weights if total is None else total.addcmul_(grad, weights)

    def weight_grads(self) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of the initial hidden weights, if any, and bias, [1, 1, H or 1]."""
        hidden = [adjoint.sum(0, keepdim=True) for adjoint in self._adjoints[HIDDEN:]]
        return hidden[0] if hidden else None, self._bias_adjoint.sum(0, keepdim=True)

    def item_weight_grads(self, *, second_order: bool) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of the initial item weights of support rows and of query rows."""
        of_query = self._query_adjoints[ITEM]
        return (self._adjoints[ITEM] - of_query if second_order else None), of_query

    def rate_grads(self) -> list[Tensor | None]:
        """Return the gradients of the rates of blocks and bias; None where they are not learned."""
        return self._rate_grads

    def weight_changes(self) -> tuple[Tensor, Tensor]:
        """Return how far all weights moved, [T, 1, P], hidden ones first, and the bias."""
        pairs = zip(self.weights[-1], self.weights[0], strict=True)
        item, *hidden = (last - first for last, first in pairs)
        return torch.cat([*hidden, item], -1), self.biases[-1] - self.biases[0]

    def _add_rate_grads(self, grad_scores: Tensor, blocks: list[Rows]) -> None:
        pairs = zip(self._adjoints, blocks, strict=True)
        terms = [rate_grad(v, grad_scores, block.rows).unsqueeze(0) for v, block in pairs]
        bias = -(self._bias_adjoint * grad_scores.sum(-1, keepdim=True)).sum(0, keepdim=True)
        both = zip(self._rate_grads, [*terms, bias], strict=True)
        self._rate_grads = [accumulate(total, term) for total, term in both]
