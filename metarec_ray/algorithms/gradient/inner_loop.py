"""The inner loop on the heads of some tasks: forward, backward, update, for each step.

Knows the order of layers; does not know where rows come from, nor what is scored afterwards.

Axes: T tasks, M rows of a task, D dimensions of an item, H outputs of the lowest hidden layer.
"""

from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.fast_weights.batched_ops import Rate, Rows, where_active_
from metarec_ray.core.fast_weights.dense import DenseHiddenLayer, DenseInputLayer
from metarec_ray.core.fast_weights.factored import FactoredHiddenLayer, FactoredInputLayer
from metarec_ray.core.fast_weights.frozen import FrozenLayers
from metarec_ray.core.fast_weights.layers import HiddenLayer, InputLayer
from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives
from metarec_ray.core.fast_weights.output import OutputLayer


class HeadInputs(NamedTuple):
    """What the head reads of rows: of support rows, or of query rows.

    Attributes:
        base_score: [T, 1, M], scores without the head.
        item: rows [T, M, D].
        item_weights: [T or 1, 1, D], initial weights that score items.
        initial_output: [T, M, H], outputs of the lowest hidden layer before the first step; None
            without hidden layers.
        shared_dot: [T, 1 or M, 1 or H], as in `InputLayer`; None where the lowest does not adapt.
        user_in_context: rows [T, M, D], where it is not the same in all support rows; else None.

    """

    base_score: Tensor
    item: Rows
    item_weights: Tensor
    initial_output: Tensor | None = None
    shared_dot: Tensor | None = None
    user_in_context: Rows | None = None

    @property
    def blocks(self) -> list[Rows]:
        """Return the blocks of columns that an `InputLayer` reads."""
        return [self.item] if self.user_in_context is None else [self.item, self.user_in_context]


class InitialHead(NamedTuple):
    """The head before the first step, which all tasks share, and how it adapts.

    Attributes:
        weights: above the lowest hidden layer, by name; `out.hidden` [1, 1, H] scores activations.
        rates: of all that adapts, by the same names, and `0.item`, `0.user` (the lowest hidden
            layer's) and `out.item` (of what scores items).
        frozen: numbers of the hidden layers above the lowest that do not adapt; None if all adapt.
        adapting: numbers of those that adapt.
        steps: of gradient descent.
        second_order: whether scores are differentiated through the steps.

    """

    weights: Params
    rates: dict[str, Rate]
    frozen: list[int] | None
    adapting: list[int]
    steps: int
    second_order: bool

    def frozen_layers(self, inputs: HeadInputs) -> FrozenLayers | None:
        """Return the hidden layers that do not adapt, run on the inputs; None if there are none."""
        if self.frozen is None or inputs.initial_output is None:
            return None
        return FrozenLayers(inputs.initial_output, self.weights, self.frozen)


class Activations(NamedTuple):
    """What a forward pass keeps for the backward pass."""

    scores: Tensor  # [T, 1, M]
    hidden: list[Rows]  # that adapting layers read or make, from the lowest on

    def by_layer(self, layers: list[HiddenLayer]) -> list[tuple[HiddenLayer, Rows, Rows]]:
        """Return each layer, its inputs and its activations, from the last layer to the first."""
        return list(zip(layers, self.hidden, self.hidden[1:], strict=False))[::-1]


class AdaptingLayers(NamedTuple):
    """The layers with fast weights, from the lowest on."""

    input: InputLayer | None
    hidden: list[HiddenLayer]
    output: OutputLayer

    def forward(
        self, inputs: HeadInputs, lowest: Rows | None, *, output_weights: list[Tensor]
    ) -> Activations:
        """Return the activations, given the lowest ones: frozen layers', or the input layer's."""
        hidden = [] if lowest is None else [lowest]
        for layer in self.hidden:
            hidden.append(Rows(layer.forward(hidden[-1]).relu_()))
        blocks = [inputs.item, *hidden[-1:]]
        return Activations(self.output.forward(inputs.base_score, blocks, output_weights), hidden)

    def copy(self) -> "AdaptingLayers":
        """Return layers with the same fast weights, whose adjoints are their own."""
        hidden = [copy(layer) for layer in self.hidden]
        return AdaptingLayers(copy(self.input), hidden, copy(self.output))


class InnerLoop:
    """The inner loop of T tasks; it runs when it is constructed. `layers` hold the fast weights."""

    def __init__(self, support: HeadInputs, head: InitialHead, loss: LossDerivatives):
        self.support, self.head, self.loss = support, head, loss
        self.frozen = head.frozen_layers(support)
        adapts = self.frozen is None and support.initial_output is not None
        input_layer = self._input_layer() if adapts else None
        hidden = [self._hidden_layer(number) for number in head.adapting]
        self.hidden_adapts = input_layer is not None or bool(hidden)
        self.layers = AdaptingLayers(input_layer, hidden, self._output_layer())
        self.steps: list[Activations] = []  # of each step; none without `second_order`
        for _ in range(head.steps):
            self._step()

    def _input_layer(self) -> InputLayer:
        support, rates = self.support, self.head.rates
        initial, shared_dot = support.initial_output, support.shared_dot
        assert initial is not None
        assert shared_dot is not None
        rate, blocks = rates["0.item"], support.blocks
        if not isinstance(rate, float):
            block_rates = [rate, rates["0.user"]][: len(blocks)]
            return DenseInputLayer(initial, blocks, shared_dot, [*block_rates, 1.0])
        # A step costs two products with a Gram matrix, or four with weights of as many columns.
        if initial.shape[1] <= 2 * sum(block.rows.shape[-1] for block in blocks):
            second_order = self.head.second_order
            return FactoredInputLayer(initial, blocks, shared_dot, rate, second_order=second_order)
        return DenseInputLayer(initial, blocks, shared_dot, [rate] * (len(blocks) + 1))

    def _hidden_layer(self, number: int) -> HiddenLayer:
        names = [f"{number}.{kind}" for kind in ("item", "bias")]
        weights, bias = (self.head.weights[name] for name in names)
        rate, bias_rate = (self.head.rates[name] for name in names)
        inputs, outputs = weights.shape
        # A row's products with the factors of later steps, against those with the weights.
        later = (self.head.steps - 1) * self.support.base_score.shape[-1] * (inputs + outputs)
        if isinstance(rate, float) and later <= inputs * outputs:
            return FactoredHiddenLayer(weights, bias, rate)
        second_order = self.head.second_order
        return DenseHiddenLayer(weights, bias, (rate, bias_rate), second_order=second_order)

    def _output_layer(self) -> OutputLayer:
        support, weights, rates = self.support, self.head.weights, self.head.rates
        hidden = [] if support.initial_output is None else ["out.hidden"]
        blocks = [support.item_weights, *(weights[name] for name in hidden)]
        return OutputLayer(
            [weight.expand(len(support.item.rows), -1, -1) for weight in blocks],
            weights["out.bias"],
            [rates[name] for name in ("out.item", *hidden, "out.bias")],
            hidden_adapts=self.hidden_adapts,
            second_order=self.head.second_order,
        )

    def _lowest(self) -> Rows | None:
        """Return the activations below all adapting hidden layers; None if there are none."""
        if self.layers.input is None:
            return None if self.frozen is None else self.frozen.top
        output = self.layers.input.forward()
        # The initial output is read again after every step.
        is_initial = output is self.support.initial_output
        return Rows(torch.relu(output) if is_initial else output.relu_())

    def _step(self) -> None:
        layers, output = self.layers, self.layers.output
        weights = output.fast_weights()
        activations = layers.forward(self.support, self._lowest(), output_weights=weights)
        grad_scores = self.loss.grad(activations.scores)
        grad = output.vjp(grad_scores) if self.hidden_adapts else None
        output.update([self.support.item, *activations.hidden[-1:]], grad_scores)
        for layer, inputs, outputs in activations.by_layer(layers.hidden):
            assert grad is not None
            grad_output = where_active_(grad, outputs.rows)
            is_frozen = self.frozen is not None and inputs is self.frozen.top
            grad = None if is_frozen else layer.vjp(grad_output)
            layer.update(inputs, grad_output)
        if layers.input is not None:
            assert grad is not None
            layers.input.update(where_active_(grad, activations.hidden[0].rows))
        if self.head.second_order:
            self.steps.append(activations)
