"""The head of some tasks, and its descent on their own rows.

Knows the order of layers; does not know where rows come from, nor what is asked afterwards.

Axes: T tasks, M rows that a task learns from, D dimensions of an item, H outputs of the lowest
layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.fast.curvature import Curvature
from metarec_ray.core.fast.factored import Dual, LowRank
from metarec_ray.core.fast.formed import FullRank, Primal
from metarec_ray.core.fast.frozen import Frozen
from metarec_ray.core.fast.readout import Readout
from metarec_ray.core.fast.rows import Rate, Rows, relu_backward_


class Inputs(NamedTuple):
    """What the head reads of rows.

    Attributes:
        given: [T, 1, M], scores without the head.
        item: rows [T, M, D].
        weights: [T or 1, 1, D], what scores items before descent.
        start: [T, M, H], outputs of the lowest hidden layer before descent; None without one.
        alike: [T, 1 or M, 1 or H], what `Dual` takes; None where the lowest layer does not adapt.
        user_in_context: rows [T, M, D], where the events of a task differ in them; else None.

    """

    given: Tensor
    item: Rows
    weights: Tensor
    start: Tensor | None = None
    alike: Tensor | None = None
    user_in_context: Rows | None = None

    @property
    def pieces(self) -> list[Rows]:
        """Return what the lowest layer reads, besides what is alike in all rows of a task."""
        return [self.item] if self.user_in_context is None else [self.item, self.user_in_context]


class Head(NamedTuple):
    """What the heads of all tasks have in common.

    Attributes:
        weights: above the lowest layer, by their names; hidden units are scored by a row.
        rates: of all that adapts, by the same names; "0.item" and "0.user" of the lowest layer,
            "out.item" of what scores items.
        frozen: numbers of the hidden layers above the lowest that do not adapt; None where all do.
        adapting: numbers of those that adapt.
        steps: of descent.
        second_order: whether there is a way back through the descent.

    """

    weights: Params
    rates: dict[str, Rate]
    frozen: list[int] | None
    adapting: list[int]
    steps: int
    second_order: bool

    def trunk(self, rows: Inputs) -> Frozen | None:
        """Return the hidden layers that do not adapt."""
        if self.frozen is None or rows.start is None:
            return None
        return Frozen(rows.start, self.weights, self.frozen)


class Step(NamedTuple):
    """What a step of descent has seen."""

    scores: Tensor  # [T, 1, M]
    units: list[Rows]  # that adapting layers read, or are read of them, from the lowest on


class Part:
    """The descent of some tasks."""

    def __init__(self, own: Inputs, head: Head, loss: Curvature):
        self.own, self.head, self.loss = own, head, loss
        self.trunk = head.trunk(own)
        self.lowest = self._lowest() if self.trunk is None and own.start is not None else None
        self.adapting = [self._layer(number) for number in head.adapting]
        self.units_adapt = self.lowest is not None or bool(self.adapting)
        self.readout = self._readout()
        self.steps: list[Step] = []
        for _ in range(head.steps):
            self._step()

    def _lowest(self) -> Dual | Primal:
        own, rates = self.own, self.head.rates
        assert own.start is not None
        assert own.alike is not None
        rate, pieces = rates["0.item"], own.pieces
        if not isinstance(rate, float):
            own_rates = [rate, rates["0.user"]][: len(pieces)]
            return Primal(own.start, pieces, own.alike, [*own_rates, 1.0])
        # Two products of rows a step, against four with weights of as many columns.
        if own.start.shape[1] <= 2 * sum(piece.rows.shape[-1] for piece in pieces):
            return Dual(own.start, pieces, own.alike, rate, second_order=self.head.second_order)
        return Primal(own.start, pieces, own.alike, [rate] * (len(pieces) + 1))

    def _layer(self, number: int) -> LowRank | FullRank:
        names = [f"{number}.{kind}" for kind in ("item", "bias")]
        weights, bias = (self.head.weights[name] for name in names)
        rate, bias_rate = (self.head.rates[name] for name in names)
        width, height = weights.shape
        # What all later steps do with the factors, against one product with the weights a step.
        later = (self.head.steps - 1) * self.own.given.shape[-1] * (width + height)
        if isinstance(rate, float) and later <= width * height:
            return LowRank(weights, bias, rate)
        return FullRank(weights, bias, (rate, bias_rate), second_order=self.head.second_order)

    def _readout(self) -> Readout:
        weights, rates, tasks = self.head.weights, self.head.rates, len(self.own.item.rows)
        units = [] if self.own.start is None else ["out.hidden"]
        pieces = [self.own.weights, *(weights[name] for name in units)]
        return Readout(
            [weight.expand(tasks, -1, -1) for weight in pieces],
            weights["out.bias"],
            [rates[name] for name in ("out.item", *units, "out.bias")],
            units_adapt=self.units_adapt,
            second_order=self.head.second_order,
        )

    def _step(self) -> None:
        units = [] if self.trunk is None else [self.trunk.top]
        if self.lowest is not None:
            outputs = self.lowest.outputs()
            # The start is read again after every step.
            begins = outputs is self.own.start
            units.append(Rows(torch.relu(outputs) if begins else outputs.relu_()))
        for layer in self.adapting:
            units.append(Rows(layer.outputs(units[-1]).relu_()))
        pieces = [self.own.item, *units[-1:]]
        scores = self.readout.outputs(self.own.given, pieces)
        slope = self.loss.slope(scores)
        under = self.readout.back(slope) if self.units_adapt else None
        self.readout.step(pieces, slope)
        for layer, read, made in reversed(list(zip(self.adapting, units, units[1:], strict=False))):
            assert under is not None
            own_slope = relu_backward_(under, made.rows)
            ends = self.trunk is not None and read is self.trunk.top
            under = None if ends else layer.back(own_slope)
            layer.step(read, own_slope)
        if self.lowest is not None:
            assert under is not None
            self.lowest.step(relu_backward_(under, units[0].rows))
        if self.head.second_order:
            self.steps.append(Step(scores, units))
