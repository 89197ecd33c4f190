"""Hidden layers that do not adapt, and plain backpropagation through them.

Axes: T tasks, M rows of a task, H units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.fast_weights.batched_ops import (
    Grads,
    Rows,
    accumulate,
    flat,
    shared_matmul,
    where_active_,
)


class FrozenLayers:
    """ReLU layers whose weights all tasks share; `top` holds the activations of the last."""

    def __init__(self, initial_output: Tensor, weights: Params, numbers: Sequence[int]):
        """Take the lowest layer's outputs [T, M, H], and by name the weights of those above it."""
        self.weights, self.numbers = weights, numbers
        self.activations = [torch.relu(initial_output)]
        for number in numbers:
            output = shared_matmul(self.activations[-1], weights[f"{number}.item"])
            self.activations.append(output.add_(weights[f"{number}.bias"]).relu_())
        self.top = Rows(self.activations[-1])

    def vjp(self, grad: Tensor, weight_grads: Grads) -> Tensor:
        """Return the gradient of the lowest layer's outputs, given that of the last activations.

        Gradients of weights are added to `weight_grads`.
        """
        layers = zip(self.numbers, self.activations[1:], self.activations[:-1], strict=True)
        for number, activations, inputs in reversed(list(layers)):
            grad = where_active_(grad, activations)
            item, bias = f"{number}.item", f"{number}.bias"
            weight_grads[item] = accumulate(weight_grads.get(item), flat(inputs).T @ flat(grad))
            weight_grads[bias] = accumulate(weight_grads.get(bias), grad.sum((0, 1)))
            grad = shared_matmul(grad, self.weights[item].mT)
        return where_active_(grad, self.activations[0])
