"""Layers that form the fast weights of every task, and their adjoint.

For support rows that are many beside the weights, and for learned rates of single weights, which
have no low-rank form. docs/gradients.md has the derivation.

Axes: T tasks, M support rows, Q query rows, K inputs, H outputs.
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
    shared_matmul,
    update_direction,
)
from metarec_ray.core.fast_weights.layers import InputGrads


class DenseHiddenLayer:
    """A `HiddenLayer` with the weights of every step and the adjoint [T, K, H] in memory."""

    def __init__(
        self, weights: Tensor, bias: Tensor, rates: tuple[Rate, Rate], *, second_order: bool
    ):
        """Take weights [K, H] and biases [H] that all tasks share, and the rates of both.

        Without `second_order`, what was learned is a constant: only query inputs have gradients.
        """
        self.rate, self.bias_rate = rates
        self.second_order, self.weights, self.biases = second_order, [weights], [bias]
        self.inputs: list[Rows] = []
        self.grads: list[Tensor] = []
        self.bias_grads: list[Tensor] = []

    def forward(self, inputs: Rows) -> Tensor:
        weights, bias = self.weights[-1], self.biases[-1]
        if weights.dim() == 2:
            return shared_matmul(inputs.rows, weights).add_(bias)
        return torch.baddbmm(bias, inputs.rows, weights)

    def vjp(self, grad_output: Tensor) -> Tensor:
        return _matmul(grad_output, self.weights[-1].mT)

    def update(self, inputs: Rows, grad_output: Tensor) -> None:
        bias_grad = grad_output.sum(-2, keepdim=True)
        weights = sgd_step_matmul(self.weights[-1], self.rate, inputs.mT, grad_output)
        self.weights = extended(self.weights, weights, second_order=self.second_order)
        bias = sgd_step(self.biases[-1], self.bias_rate, bias_grad)
        self.biases = extended(self.biases, bias, second_order=self.second_order)
        if self.second_order:
            self.inputs.append(inputs)
            self.grads.append(grad_output)
            self.bias_grads.append(bias_grad)

    def query_vjp(self, inputs: Rows, grad_output: Tensor) -> Tensor:
        self._adjoint = torch.bmm(inputs.mT, grad_output)
        self._bias_adjoint = grad_output.sum(-2, keepdim=True)
        self._rate_grads: list[Tensor | None] = [None, None]
        return self.vjp(grad_output)

    def jvp(self, step: int, input_tangent: Tensor | None) -> Tensor:
        self._direction, self._scale = update_direction(self._adjoint, self.rate)
        rows = self.inputs[step].rows
        if input_tangent is None:
            tangent = torch.bmm(rows, self._direction).mul_(self._scale)
        else:
            tangent = _matmul(input_tangent, self.weights[step])
            tangent.baddbmm_(rows, self._direction, alpha=self._scale)
        return tangent.sub_(self.bias_rate * self._bias_adjoint)

    def hvp(self, step: int, input_tangent: Tensor | None, grad_output_tangent: Tensor) -> Tensor:
        columns, grad = self.inputs[step].mT, self.grads[step]
        tangent = _matmul(grad_output_tangent, self.weights[step].mT)
        tangent.baddbmm_(grad, self._direction.mT, alpha=self._scale)
        if not isinstance(self.rate, float):
            bias_rate_grad = -(self._bias_adjoint * self.bias_grads[step]).sum((0, 1))
            both = rate_grad(self._adjoint, columns, grad), bias_rate_grad
            pairs = zip(self._rate_grads, both, strict=True)
            self._rate_grads = [accumulate(*pair) for pair in pairs]
        self._adjoint.baddbmm_(columns, grad_output_tangent)
        if input_tangent is not None:
            self._adjoint.baddbmm_(input_tangent.mT, grad)
        self._bias_adjoint += grad_output_tangent.sum(-2, keepdim=True)
        return tangent

    def weight_grads(self) -> tuple[Tensor, Tensor]:
        return self._adjoint.sum(0), self._bias_adjoint.sum((0, 1))

    def rate_grads(self) -> list[Tensor | None]:
        return self._rate_grads

    def weight_changes(self) -> tuple[Tensor, Tensor]:
        return self.weights[-1] - self.weights[0], self.biases[-1] - self.biases[0]


class DenseInputLayer:
    """An `InputLayer` with the weight changes [T, K, H] of every step and block in memory."""

    def __init__(
        self, initial_output: Tensor, blocks: list[Rows], shared_dot: Tensor, rates: list[Rate]
    ):
        """Take what `InputLayer` describes, of the support rows; `shared_dot` is [T, 1, 1 or H].

        The last of the rates is that of the shared columns. Where these have a rate for each
        weight, `shared_dot` has them in it, and this rate is 1.
        """
        *self.rates, self.shared_rate = rates
        self.initial_output, self.blocks, self.shared_dot = initial_output, blocks, shared_dot
        outputs = initial_output.shape[-1]
        self.grads: list[Tensor] = []
        self.grad_totals = [initial_output.new_zeros(len(initial_output), 1, outputs)]
        self.changes = [
            [initial_output.new_zeros(*block.mT.shape[:2], outputs) for block in blocks]
        ]

    def forward(self) -> Tensor:
        if not self.grads:
            return self.initial_output
        return self._plus_changes(
            self.initial_output - self._shared_change(self.shared_dot), self.blocks
        )

    def update(self, grad_output: Tensor) -> None:
        self.grads.append(grad_output)
        self.grad_totals.append(self.grad_totals[-1] + grad_output.sum(-2, keepdim=True))
        blocks = zip(self.changes[-1], self.rates, self.blocks, strict=True)
        self.changes.append(
            [sgd_step_matmul(change, rate, block.mT, grad_output) for change, rate, block in blocks]
        )

    def query_forward(
        self, initial_output: Tensor, blocks: list[Rows], shared_dot: Tensor
    ) -> Tensor:
        self.query_blocks, self.query_shared_dot = blocks, shared_dot
        return self._plus_changes(initial_output.sub_(self._shared_change(shared_dot)), blocks)

    def query_vjp(self, grad_output: Tensor) -> None:
        self._query_grad = grad_output
        self._adjoints = [torch.bmm(block.mT, grad_output) for block in self.query_blocks]
        # What the shared columns subtract from the tangent of every support row.
        self._shared_tangent = self.shared_rate * (self.query_shared_dot * grad_output).sum(
            -2, keepdim=True
        )
        self._initial_output_grad: Tensor | None = None
        self._block_grads: list[Tensor | None] = [None for _ in self.blocks]
        self._shared_dot_grad = torch.zeros_like(self.shared_dot)
        self._rate_grads: list[Tensor | None] = [None for _ in self.rates]

    def jvp(self, step: int) -> Tensor:
        pairs = zip(self._adjoints, self.rates, strict=True)
        self._directions = [update_direction(adjoint, rate) for adjoint, rate in pairs]
        tangent = (-self._shared_tangent).repeat(1, self.initial_output.shape[1], 1)
        for (direction, scale), block in zip(self._directions, self.blocks, strict=True):
            tangent.baddbmm_(block.rows, direction, alpha=scale)
        return tangent

    def hvp(self, step: int, grad_output_tangent: Tensor) -> None:
        grad = self.grads[step]
        for n, (direction, scale) in enumerate(self._directions):
            change, columns = self.changes[step][n], self.blocks[n].mT
            block_grad = bmm_into(grad_output_tangent, change.mT, self._block_grads[n])
            self._block_grads[n] = block_grad.baddbmm_(grad, direction.mT, alpha=scale)
            if not isinstance(self.rates[n], float):
                term = rate_grad(self._adjoints[n], columns, grad)
                self._rate_grads[n] = accumulate(self._rate_grads[n], term)
            self._adjoints[n].baddbmm_(columns, grad_output_tangent)
        total = grad_output_tangent.sum(-2, keepdim=True)
        term = self.shared_rate * total * self.grad_totals[step]
        self._shared_dot_grad = self._shared_dot_grad - term.sum_to_size(self.shared_dot.shape)
        self._shared_tangent = self._shared_tangent + self.shared_rate * self.shared_dot * total
        self._initial_output_grad = accumulate(self._initial_output_grad, grad_output_tangent)

    def support_grads(self) -> InputGrads:
        assert self._initial_output_grad is not None
        blocks = [grad for grad in self._block_grads if grad is not None]
        return InputGrads(blocks, self._initial_output_grad, self._shared_dot_grad)

    def query_grads(self) -> InputGrads:
        of_shared_dot = -self.shared_rate * self._query_grad * self.grad_totals[-1]
        return InputGrads(
            blocks=[torch.bmm(self._query_grad, change.mT) for change in self.changes[-1]],
            initial_output=self._query_grad,
            shared_dot=of_shared_dot.sum_to_size(self.query_shared_dot.shape),
        )

    def rate_grads(self) -> list[Tensor | None]:
        return self._rate_grads

    def weight_changes(self) -> list[Tensor]:
        return self.changes[-1]

    def grad_total(self) -> Tensor:
        return self.grad_totals[-1]

    def _shared_change(self, shared_dot: Tensor) -> Tensor:
        return self.shared_rate * shared_dot * self.grad_totals[-1]

    def _plus_changes(self, outputs: Tensor, blocks: list[Rows]) -> Tensor:
        for block, change in zip(blocks, self.changes[-1], strict=True):
            outputs.baddbmm_(block.rows, change)
        return outputs


def _matmul(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the products with weights of each task, or with those that all share."""
    return shared_matmul(rows, weights) if weights.dim() == 2 else torch.bmm(rows, weights)
