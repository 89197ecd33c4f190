"""What every layer that adapts can do, whatever form it keeps its fast weights in.

In the inner loop, for each step: `forward`, then `vjp` from the output down, then `update`. On the
query rows: `query_forward` (or `forward` again) and `query_vjp`, which also makes the adjoint v:
the gradient of the query loss with respect to the fast weights. Then, from the last step to the
first, the Hessian-vector product: `jvp` up from the inputs, along d = -rate * v; the Hessian of the
support loss at the scores; `hvp` down from the scores, which adds -rate * H v to v.

`x_tangent` is the derivative of x along d. Second derivatives are symmetric, so the tangent of the
support loss's gradient of x is also what the step adds to the query loss's gradient of x: that is
how the gradients of inputs and of initial outputs are found. docs/gradients.md derives all this.

Axes: T tasks, M support rows, Q query rows, K inputs, H outputs.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from metarec_ray.core.fast_weights.batched_ops import Rows


class InputGrads(NamedTuple):
    """Gradients of what an `InputLayer` reads of support rows, or of query rows."""

    blocks: list[Tensor]  # [T, M or Q, K] of each block of columns
    initial_output: Tensor  # [T, M or Q, H]
    shared_dot: Tensor  # of its own shape


class InputLayer(Protocol):
    """The lowest layer: its inputs do not adapt, so it reads the same support rows in every step.

    A row comes in blocks of columns, each with weights of its own, and `initial_output` is its
    output before the first step. Columns that are the same in all support rows of a task (its
    user, and the 1 that a bias multiplies) are not among the blocks. All that matters of them is
    `shared_dot`, their inner product with those of a support row or of a query row.
    """

    def forward(self) -> Tensor:
        """Return the outputs [T, M, H] on the support rows, before the ReLU.

        Before the first step this is `initial_output` itself, not a copy.
        """
        ...

    def update(self, grad_output: Tensor) -> None:
        """Take one gradient step, given the support loss's gradient of the outputs."""
        ...

    def query_forward(
        self, initial_output: Tensor, blocks: list[Rows], shared_dot: Tensor
    ) -> Tensor:
        """Return the outputs [T, Q, H] on query rows, written to their `initial_output`."""
        ...

    def query_vjp(self, grad_output: Tensor) -> None:
        """Make the adjoint, given the query loss's gradient of the query outputs."""
        ...

    def jvp(self, step: int) -> Tensor:
        """Return the tangents [T, M, H] of the outputs in a step; not to be written to."""
        ...

    def hvp(self, step: int, grad_output_tangent: Tensor) -> None:
        """Add -rate * H v to the adjoint, given the tangent of a step's `grad_output`."""
        ...

    def support_grads(self) -> InputGrads:
        """Return the gradients of what it read of support rows, after the `hvp` of all steps."""
        ...

    def query_grads(self) -> InputGrads:
        """Return the gradients of what it read of query rows."""
        ...

    def rate_grads(self) -> list[Tensor | None]:
        """Return the gradients of the blocks' rates, None where they are not learned."""
        ...

    def weight_changes(self) -> list[Tensor]:
        """Return how far all steps moved the weights [T, K, H] of each block."""
        ...

    def grad_total(self) -> Tensor:
        """Return the sum of `grad_output` over steps and support rows, [T, 1, H]."""
        ...


class HiddenLayer(Protocol):
    """A layer above another that adapts, or above frozen ones: it reads new inputs in every step.

    Its weights are [K, H] and its biases [H]; all tasks share the initial ones.
    """

    def forward(self, inputs: Rows) -> Tensor:
        """Return the outputs [T, M, H], before the ReLU."""
        ...

    def vjp(self, grad_output: Tensor) -> Tensor:
        """Return the gradient of the inputs of the last `forward`."""
        ...

    def update(self, inputs: Rows, grad_output: Tensor) -> None:
        """Take one gradient step, given the support loss's gradient of the outputs."""
        ...

    def query_vjp(self, inputs: Rows, grad_output: Tensor) -> Tensor:
        """Return the gradient of query inputs, those of the last `forward`; make the adjoint."""
        ...

    def jvp(self, step: int, input_tangent: Tensor | None) -> Tensor:
        """Return the tangents of the outputs in a step; an `input_tangent` of None stands for 0."""
        ...

    def hvp(self, step: int, input_tangent: Tensor | None, grad_output_tangent: Tensor) -> Tensor:
        """Return the tangent of a step's gradient of the inputs; add -rate * H v to the adjoint."""
        ...

    def weight_grads(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of the initial weights and biases: the adjoint summed over tasks."""
        ...

    def rate_grads(self) -> list[Tensor | None]:
        """Return the gradients of both rates, of weights and biases; None where not learned."""
        ...

    def weight_changes(self) -> tuple[Tensor, Tensor]:
        """Return how far all steps moved the weights [T, K, H] and the biases [T, 1, H]."""
        ...
