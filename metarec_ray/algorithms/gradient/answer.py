"""What an adapted head answers, and the way back through its descent.

The way back begins as backpropagation from what was asked. Then, from the last step of descent to
the first: upwards, `tangent`s say how outputs move; at the scores, the Hessian of the loss makes of
that how slopes move; downwards, each layer has its rows' gradient (`pull`) and its own (`add`).

Knows a part's layers and their order; does not know where rows come from.

Axes: T tasks, Q rows that are asked about.
"""

from copy import copy
from typing import NamedTuple

from torch import Tensor

from metarec_ray.algorithms.gradient.part import Inputs, Part
from metarec_ray.core.fast.readout import ITEM, UNITS
from metarec_ray.core.fast.rows import Gradients, Rows, plus, relu_backward, relu_backward_


class PartGradients(NamedTuple):
    """Gradients of a part.

    By the names of weights, of rates with "rates." before them, and of inputs. Weights are summed
    over tasks.
    """

    weights: Gradients
    own: Gradients
    asked: Gradients


class Answer:
    """Scores [T, 1, Q] of other rows; `start` of these is written to."""

    def __init__(self, part: Part, asked: Inputs):
        self.part = part
        # A part may be asked more than once.
        self.lowest, self.readout = copy(part.lowest), copy(part.readout)
        self.adapting = [copy(layer) for layer in part.adapting]
        self.trunk = part.head.trunk(asked)
        self.units = [] if self.trunk is None else [self.trunk.top]
        if self.lowest is not None:
            assert asked.start is not None
            assert asked.alike is not None
            outputs = self.lowest.ask(asked.start, asked.pieces, asked.alike)
            self.units.append(Rows(outputs.relu_()))
        for layer in self.adapting:
            self.units.append(Rows(layer.ask(self.units[-1]).relu_()))
        pieces = [asked.item, *self.units[-1:]]
        self.scores = self.readout.ask(asked.given, pieces, asked.weights)

    def back(self, slope: Tensor) -> PartGradients:
        """Return the gradients, given the slopes at the scores.

        Without `second_order`, what was learned is a constant.
        """
        found = PartGradients({}, {}, {"given": slope})
        self.readout.begin(slope)
        under = self.readout.back(slope) if self.units else None
        for layer, made in reversed(list(zip(self.adapting, self.units[1:], strict=True))):
            assert under is not None
            under = layer.begin(relu_backward_(under, made.rows))
        if self.lowest is not None:
            assert under is not None
            self.lowest.begin(relu_backward_(under, self.units[0].rows))
        of_trunk = self._back_through_steps() if self.part.head.second_order else None
        self._of_rows(found)
        self._of_weights(found)
        if self.trunk is not None:
            assert under is not None
            self._of_trunk(found, of_trunk, under)
        return found

    def _back_through_steps(self) -> Tensor | None:
        """Return the gradient of the trunk's units, None without a trunk."""
        found = None
        for step in reversed(range(len(self.part.steps))):
            under = self._back_through(step)
            if under is not None:
                found = plus(found, under)
        if self.trunk is not None and not self.part.units_adapt:
            return self.readout.of_rows(UNITS, None)
        return found

    def _back_through(self, step: int) -> Tensor | None:
        """Return what a step adds to the gradient of the trunk's units, if layers adapt above."""
        scores, units = self.part.steps[step]
        lowest = self.lowest
        # How units move: those of a trunk do not.
        moves = [None if lowest is None else relu_backward(lowest.tangent(step), units[0].rows)]
        for layer, made in zip(self.adapting, units[1:], strict=True):
            moves.append(relu_backward_(layer.tangent(step, moves[-1]), made.rows))
        back = self.part.loss.hessian_product(scores, self.readout.tangent(step, moves[-1]))
        under = self.readout.pull(step, back)
        self.readout.add(step, moves[-1], back)
        for layer, made, moved in reversed(
            list(zip(self.adapting, units[1:], moves, strict=False))
        ):
            assert under is not None
            back = relu_backward_(under, made.rows)
            under = layer.pull(step, back)
            layer.add(step, moved, back)
        if lowest is None:
            return under
        assert under is not None
        lowest.add(step, relu_backward_(under, units[0].rows))
        return None

    def _of_rows(self, found: PartGradients) -> None:
        readout, lowest = self.readout, self.lowest
        second_order = self.part.head.second_order
        own, asked, pieces = found.own, found.asked, ("item", "user_in_context")
        if lowest is not None:
            asked |= dict(zip(pieces, lowest.of_asked(), strict=False))
            asked["start"], asked["alike"] = lowest.of_asked_start, lowest.of_asked_alike()
            if second_order:
                own |= dict(zip(pieces, lowest.of_rows(), strict=False))
                own["start"], own["alike"] = lowest.of_start, lowest.of_alike()
        asked["item"] = readout.of_asked(asked.get("item"))
        asked["weights"] = readout.of_asked_weights[ITEM]
        if second_order:
            own["given"], own["item"] = readout.of_given, readout.of_rows(ITEM, own.get("item"))
            own["weights"] = readout.of_weights[ITEM] - readout.of_asked_weights[ITEM]

    def _of_weights(self, found: PartGradients) -> None:
        weights, readout = found.weights, self.readout
        for number, layer in zip(self.part.head.adapting, self.adapting, strict=True):
            names = [f"{number}.item", f"{number}.bias"]
            weights |= dict(zip(names, layer.gradients(), strict=True))
            rates = [f"rates.{name}" for name in names]
            weights |= dict(zip(rates, layer.of_rates(), strict=True))
        if self.lowest is not None:
            rates = ["rates.0.item", "rates.0.user"]
            weights |= dict(zip(rates, self.lowest.of_rates(), strict=False))
        weights["out.bias"] = readout.of_bias.sum(0, keepdim=True)
        weights["rates.out.item"], *of_units, weights["rates.out.bias"] = readout.of_rates
        if self.units:
            weights["out.hidden"] = readout.of_weights[UNITS].sum(0, keepdim=True)
            weights["rates.out.hidden"] = of_units[0]

    def _of_trunk(self, found: PartGradients, own: Tensor | None, asked: Tensor) -> None:
        assert self.trunk is not None
        assert self.part.trunk is not None
        found.asked["start"] = self.trunk.back(asked, found.weights)
        if own is not None:
            found.own["start"] = self.part.trunk.back(own, found.weights)
