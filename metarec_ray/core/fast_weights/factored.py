"""Layers whose fast weights are never formed, only known by their low-rank factors.

The gradient of a layer's weights is X'S, for its inputs X and the gradients S of its outputs. After
steps at rate r the weights are W - r (X1'S1 + X2'S2 + ...), so that on other inputs Y the outputs
are YW - r (Y X1')S1 - ... : Gram matrices between rows take the place of weights. The adjoint v has
the same form: where D is the query loss's gradient of the outputs on Y, v begins as Y'D, and each
step adds such products to it. Time and memory grow with rows, not with weights.

All weights of a layer have one rate, which is not learned. docs/gradients.md has the derivation.

Axes: T tasks, M support rows, Q query rows, K inputs, H outputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.fast_weights.batched_ops import (
    Rows,
    accumulate,
    bmm_into,
    flat,
    shared_matmul,
)
from metarec_ray.core.fast_weights.layers import InputGrads


class FactoredInputLayer:
    """An `InputLayer` in dual form: as X is the same in every step, the sum of all S is enough.

    Its outputs on the support rows are `initial_output` - r G (S1 + S2 + ...), with the Gram matrix
    G = XX' + `shared_dot`.
    """

    def __init__(
        self,
        initial_output: Tensor,
        blocks: list[Rows],
        shared_dot: Tensor,
        rate: float,
        *,
        second_order: bool,
    ):
        """Take what `InputLayer` describes, of the support rows; `shared_dot` is [T, 1, 1].

        Without `second_order`, what was learned is a constant: only query inputs have gradients.
        """
        self.initial_output, self.blocks, self.shared_dot = initial_output, blocks, shared_dot
        self.rate, self.second_order = rate, second_order
        self.grads: list[Tensor] = []
        self.grad_sum: Tensor | None = None
        self._known_gram: Tensor | None = None

    def forward(self) -> Tensor:
        if self.grad_sum is None:
            return self.initial_output
        return self._minus_gram_times(self.initial_output, self.grad_sum)

    def update(self, grad_output: Tensor) -> None:
        if self.second_order:
            self.grads.append(grad_output)
        self.grad_sum = accumulate(self.grad_sum, grad_output)

    def query_forward(
        self, initial_output: Tensor, blocks: list[Rows], shared_dot: Tensor
    ) -> Tensor:
        assert self.grad_sum is not None
        self.query_blocks, self.query_shared_dot = blocks, shared_dot
        self._cross_gram = _gram(blocks, self.blocks).add_(shared_dot)
        return initial_output.baddbmm_(self._cross_gram, self.grad_sum, alpha=-self.rate)

    def query_vjp(self, grad_output: Tensor) -> None:
        assert self.grad_sum is not None
        self._query_grad = grad_output
        scaled = grad_output * -self.rate
        self._cross_gram_grad = torch.bmm(scaled, self.grad_sum.mT)
        # Tangents on the support rows, along the adjoint that query rows alone give.
        self._query_tangent = torch.bmm(self._cross_gram.mT, scaled)
        self._initial_output_grad: Tensor | None = None
        self._gram_grad: Tensor | None = None  # but for the factor -r

    def jvp(self, step: int) -> Tensor:
        if self._initial_output_grad is None:
            return self._query_tangent
        return self._minus_gram_times(self._query_tangent, self._initial_output_grad)

    def hvp(self, step: int, grad_output_tangent: Tensor) -> None:
        if self._initial_output_grad is not None:
            self._gram_grad = bmm_into(
                self._initial_output_grad, self.grads[step].mT, self._gram_grad
            )
        # What steps add to the adjoint is X' times this sum.
        self._initial_output_grad = accumulate(self._initial_output_grad, grad_output_tangent)

    def support_grads(self) -> InputGrads:
        assert self._initial_output_grad is not None
        blocks = [torch.bmm(self._cross_gram_grad.mT, query.rows) for query in self.query_blocks]
        if self._gram_grad is None:
            of_shared_dot = torch.zeros_like(self.shared_dot)
        else:
            both = (self._gram_grad + self._gram_grad.mT).mul_(-self.rate)
            pairs = zip(blocks, self.blocks, strict=True)
            blocks = [grad.baddbmm_(both, block.rows) for grad, block in pairs]
            of_shared_dot = self._gram_grad.sum((-1, -2), keepdim=True).mul_(-self.rate)
        return InputGrads(blocks, self._initial_output_grad, of_shared_dot)

    def query_grads(self) -> InputGrads:
        return InputGrads(
            blocks=[torch.bmm(self._cross_gram_grad, block.rows) for block in self.blocks],
            initial_output=self._query_grad,
            shared_dot=self._cross_gram_grad.sum_to_size(self.query_shared_dot.shape),
        )

    def rate_grads(self) -> list[Tensor | None]:
        return [None for _ in self.blocks]

    def weight_changes(self) -> list[Tensor]:
        assert self.grad_sum is not None
        return [torch.bmm(block.mT, self.grad_sum).mul_(-self.rate) for block in self.blocks]

    def grad_total(self) -> Tensor:
        assert self.grad_sum is not None
        return self.grad_sum.sum(-2, keepdim=True)

    def _minus_gram_times(self, start: Tensor, grads: Tensor) -> Tensor:
        # With one step, nobody asks for the Gram matrix.
        if self._known_gram is None:
            self._known_gram = _gram(self.blocks, self.blocks).add_(self.shared_dot)
        return torch.baddbmm(start, self._known_gram, grads, alpha=-self.rate)


class _AdjointTerm(NamedTuple):
    """A term rows' @ grads of a layer's adjoint."""

    rows: Tensor  # [T, M, K]
    grads: Tensor  # [T, M, H]
    has_bias: bool  # tangents of rows have none: the 1 that a bias multiplies does not move


class FactoredHiddenLayer:
    """A `HiddenLayer` known by its initial weights and the inputs and gradients of all steps."""

    def __init__(self, weights: Tensor, bias: Tensor, rate: float):
        """Take weights [K, H] and biases [H] that all tasks share."""
        self.weights, self.bias, self.rate = weights, bias, rate
        self.inputs: list[Rows] = []
        self.grads: list[Tensor] = []

    def forward(self, inputs: Rows) -> Tensor:
        output = torch.addmm(self.bias, flat(inputs.rows), self.weights)
        output = output.view(*inputs.rows.shape[:-1], -1)
        self._grams = [torch.bmm(inputs.rows, past.mT).add_(1) for past in self.inputs]
        for gram, grad in zip(self._grams, self.grads, strict=True):
            output.baddbmm_(gram, grad, alpha=-self.rate)
        return output

    def vjp(self, grad_output: Tensor) -> Tensor:
        self._scaled_grad = grad_output * -self.rate
        self._gram_grads = [torch.bmm(self._scaled_grad, grad.mT) for grad in self.grads]
        grad_input = shared_matmul(grad_output, self.weights.mT)
        for gram_grad, past in zip(self._gram_grads, self.inputs, strict=True):
            grad_input.baddbmm_(gram_grad, past.rows)
        return grad_input

    def update(self, inputs: Rows, grad_output: Tensor) -> None:
        self.inputs.append(inputs)
        self.grads.append(grad_output)

    def query_vjp(self, inputs: Rows, grad_output: Tensor) -> Tensor:
        # The adjoint is query_inputs' @ query_grad, and these terms.
        self._query_inputs, self._query_grad = inputs, grad_output
        self._terms: list[_AdjointTerm] = []
        return self.vjp(grad_output)

    def jvp(self, step: int, input_tangent: Tensor | None) -> Tensor:
        tangent = torch.bmm(self._grams[step].mT, self._scaled_grad)
        if input_tangent is not None:
            flat(tangent).addmm_(flat(input_tangent), self.weights)
            for past, grad in zip(self.inputs[:step], self.grads[:step], strict=True):
                tangent.baddbmm_(torch.bmm(input_tangent, past.mT), grad, alpha=-self.rate)
        for term in self._terms:
            gram = torch.bmm(self.inputs[step].rows, term.rows.mT)
            gram = gram.add_(1) if term.has_bias else gram
            tangent.baddbmm_(gram, term.grads, alpha=-self.rate)
        return tangent

    def hvp(self, step: int, input_tangent: Tensor | None, grad_output_tangent: Tensor) -> Tensor:
        grad = self.grads[step]
        tangent = torch.bmm(self._gram_grads[step].mT, self._query_inputs.rows)
        flat(tangent).addmm_(flat(grad_output_tangent), self.weights.mT)
        for past, past_grad in zip(self.inputs[:step], self.grads[:step], strict=True):
            gram_grad = torch.bmm(grad_output_tangent, past_grad.mT)
            tangent.baddbmm_(gram_grad, past.rows, alpha=-self.rate)
        for term in self._terms:
            tangent.baddbmm_(torch.bmm(grad, term.grads.mT), term.rows, alpha=-self.rate)
        self._terms.append(_AdjointTerm(self.inputs[step].rows, grad_output_tangent, True))
        if input_tangent is not None:
            self._terms.append(_AdjointTerm(input_tangent, grad, False))
        return tangent

    def weight_grads(self) -> tuple[Tensor, Tensor]:
        weights = flat(self._query_inputs.rows).T @ flat(self._query_grad)
        biases = self._query_grad.sum((0, 1))
        for term in self._terms:
            weights.addmm_(flat(term.rows).T, flat(term.grads))
            if term.has_bias:
                biases += term.grads.sum((0, 1))
        return weights, biases

    def rate_grads(self) -> list[Tensor | None]:
        return [None, None]

    def weight_changes(self) -> tuple[Tensor, Tensor]:
        pairs = list(zip(self.inputs, self.grads, strict=True))
        weights = torch.stack([torch.bmm(past.mT, grad) for past, grad in pairs]).sum(0)
        biases = torch.stack(self.grads).sum((0, -2)).unsqueeze(-2)
        return -self.rate * weights, -self.rate * biases


def _gram(left: list[Rows], right: list[Rows]) -> Tensor:
    """Return the inner products [T, Q, M] of rows, summed over their blocks."""
    (one, other), *rest = zip(left, right, strict=True)
    total = torch.bmm(one.rows, other.mT)
    for one, other in rest:
        total.baddbmm_(one.rows, other.mT)
    return total
