"""Hidden layers that do not adapt, and plain backpropagation through them.

Axes: T tasks, M rows of a task, H units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.fast.rows import Gradients, Rows, flat, plus, relu_backward_, shared_product


class Frozen:
    """Rectified units of layers whose weights all tasks share."""

    def __init__(self, start: Tensor, weights: Params, numbers: Sequence[int]):
        """Take the outputs of the lowest layer [T, M, H], and by their names the weights above."""
        self.weights, self.numbers = weights, numbers
        self.units = [torch.relu(start)]
        for number in numbers:
            outputs = shared_product(self.units[-1], weights[f"{number}.item"])
            self.units.append(outputs.add_(weights[f"{number}.bias"]).relu_())
        self.top = Rows(self.units[-1])

    def back(self, slope: Tensor, found: Gradients) -> Tensor:
        """Return the slopes at the start, given those at the top.

        Gradients of weights are added to `found`.
        """
        layers = zip(self.numbers, self.units[1:], self.units[:-1], strict=True)
        for number, units, below in reversed(list(layers)):
            slope = relu_backward_(slope, units)
            item, bias = f"{number}.item", f"{number}.bias"
            found[item] = plus(found.get(item), flat(below).T @ flat(slope))
            found[bias] = plus(found.get(bias), slope.sum((0, 1)))
            slope = shared_product(slope, self.weights[item].mT)
        return relu_backward_(slope, self.units[0])
