"""The scores of query rows by adapted heads, and the meta-gradient through the inner loop.

First plain backpropagation from the query scores: it gives the adjoint v of the adapted weights.
Then, from the last step to the first, v <- v - r H v, with the Hessian H of that step's support
loss [Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147]: JVPs from the lowest layer up to the scores
along -r v, the Hessian of the loss at the scores, and HVPs back down (docs/gradients.md).

Knows an inner loop's layers and their order; does not know where rows come from.

Axes: T tasks, Q query rows.
"""

from typing import NamedTuple

from torch import Tensor

from metarec_ray.algorithms.gradient.inner_loop import HeadInputs, InnerLoop
from metarec_ray.core.fast_weights.batched_ops import (
    Grads,
    Rows,
    accumulate,
    where_active,
    where_active_,
)
from metarec_ray.core.fast_weights.layers import InputGrads
from metarec_ray.core.fast_weights.output import HIDDEN, ITEM


class HeadGrads(NamedTuple):
    """Gradients of what an inner loop and its query rows have read.

    `weights`: by the names of weights, and of rates with "rates." before them; summed over tasks.
    `support` and `query`: by the fields of `HeadInputs`.
    """

    weights: Grads
    support: Grads
    query: Grads


class QueryPass:
    """Scores [T, 1, Q] of query rows; their `initial_output` is written to."""

    def __init__(self, loop: InnerLoop, query: HeadInputs):
        self.loop, self.query = loop, query
        # A head may be asked for scores more than once.
        self.layers = loop.layers.copy()
        self.frozen = loop.head.frozen_layers(query)
        self.output_weights = self.layers.output.query_weights(query.item_weights)
        self.activations = self.layers.forward(
            query, self._lowest(), output_weights=self.output_weights
        )
        self.scores = self.activations.scores

    def _lowest(self) -> Rows | None:
        """Return the activations below all adapting hidden layers; None if there are none."""
        layer, query = self.layers.input, self.query
        if layer is None:
            return None if self.frozen is None else self.frozen.top
        assert query.initial_output is not None
        assert query.shared_dot is not None
        output = layer.query_forward(query.initial_output, query.blocks, query.shared_dot)
        return Rows(output.relu_())

    def meta_gradient(self, grad_scores: Tensor) -> HeadGrads:
        """Return the gradients, given that of the scores.

        Without `second_order`, what was learned is a constant.
        """
        grads = HeadGrads({}, {}, {"base_score": grad_scores})
        grad = self._query_vjp(grad_scores)
        frozen_grad = self._through_steps() if self.loop.head.second_order else None
        self._add_input_grads(grads)
        self._add_weight_grads(grads.weights)
        if self.frozen is not None:
            assert grad is not None
            self._add_frozen_grads(grads, frozen_grad, grad)
        return grads

    def _query_vjp(self, grad_scores: Tensor) -> Tensor | None:
        """Make all adjoints; return the gradient of the frozen layers' activations on query rows.

        None without frozen layers.
        """
        layers, activations = self.layers, self.activations
        blocks = [self.query.item, *activations.hidden[-1:]]
        grad = layers.output.query_vjp(blocks, self.output_weights, grad_scores)
        for layer, inputs, outputs in activations.by_layer(layers.hidden):
            assert grad is not None
            grad = layer.query_vjp(inputs, where_active_(grad, outputs.rows))
        if layers.input is None:
            return grad
        assert grad is not None
        layers.input.query_vjp(where_active_(grad, activations.hidden[0].rows))
        return None

    def _through_steps(self) -> Tensor | None:
        """Take all adjoints back to the initial weights.

        Returns the gradient of the frozen layers' activations on support rows, None without any.
        """
        total = None
        for step in reversed(range(len(self.loop.steps))):
            term = self._hvp(step)
            if term is not None:
                total = accumulate(total, term)
        if self.frozen is not None and not self.loop.hidden_adapts:
            return self.layers.output.support_block_grad(HIDDEN, None)
        return total

    def _hvp(self, step: int) -> Tensor | None:
        """Take all adjoints back through a step.

        Returns what the step adds to the gradient of the frozen layers' activations on support
        rows, if layers adapt above them.
        """
        layers, activations = self.layers, self.loop.steps[step]
        tangents: list[Tensor | None] = [None]  # of activations; frozen ones have none
        if layers.input is not None:
            tangents = [where_active(layers.input.jvp(step), activations.hidden[0].rows)]
        for layer, outputs in zip(layers.hidden, activations.hidden[1:], strict=True):
            tangent = layer.jvp(step, tangents[-1])
            tangents.append(where_active_(tangent, outputs.rows))
        scores_tangent = layers.output.jvp(step, tangents[-1])
        grad_tangent = self.loop.loss.hvp(activations.scores, scores_tangent)
        below = layers.output.hvp(step, tangents[-1], grad_tangent)
        each = zip(activations.by_layer(layers.hidden), tangents[-2::-1], strict=True)
        for (layer, _, outputs), input_tangent in each:
            assert below is not None
            below = layer.hvp(step, input_tangent, where_active_(below, outputs.rows))
        if layers.input is None:
            return below
        assert below is not None
        layers.input.hvp(step, where_active_(below, activations.hidden[0].rows))
        return None

    def _add_input_grads(self, grads: HeadGrads) -> None:
        layers, second_order = self.layers, self.loop.head.second_order
        output, support, query = layers.output, grads.support, grads.query
        if layers.input is not None:
            _add_layer_grads(query, layers.input.query_grads())
            if second_order:
                _add_layer_grads(support, layers.input.support_grads())
        query["item"] = output.query_item_grad(query.get("item"))
        of_support, query["item_weights"] = output.item_weight_grads(second_order=second_order)
        if second_order:
            support["base_score"] = output.base_score_grad
            support["item"] = output.support_block_grad(ITEM, support.get("item"))
            support["item_weights"] = of_support

    def _add_weight_grads(self, grads: Grads) -> None:
        layers, output = self.layers, self.layers.output
        for number, layer in zip(self.loop.head.adapting, layers.hidden, strict=True):
            names = [f"{number}.item", f"{number}.bias"]
            grads |= dict(zip(names, layer.weight_grads(), strict=True))
            rates = [f"rates.{name}" for name in names]
            grads |= dict(zip(rates, layer.rate_grads(), strict=True))
        if layers.input is not None:
            rates = ["rates.0.item", "rates.0.user"]
            grads |= dict(zip(rates, layers.input.rate_grads(), strict=False))
        grads["out.hidden"], grads["out.bias"] = output.weight_grads()
        grads["rates.out.item"], *hidden, grads["rates.out.bias"] = output.rate_grads()
        if hidden:
            grads["rates.out.hidden"] = hidden[0]

    def _add_frozen_grads(self, grads: HeadGrads, support: Tensor | None, query: Tensor) -> None:
        assert self.frozen is not None
        assert self.loop.frozen is not None
        grads.query["initial_output"] = self.frozen.vjp(query, grads.weights)
        if support is not None:
            grads.support["initial_output"] = self.loop.frozen.vjp(support, grads.weights)


def _add_layer_grads(grads: Grads, layer: InputGrads) -> None:
    grads |= dict(zip(("item", "user_in_context"), layer.blocks, strict=False))
    grads |= {"initial_output": layer.initial_output, "shared_dot": layer.shared_dot}
