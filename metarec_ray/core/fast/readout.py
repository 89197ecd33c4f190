"""The last layer, one score a row, and the way back through its descent.

Its weights are few, [T, 1, K], and always formed. What is a column elsewhere is a row here: the
product of a matrix and a vector is quicker that way round. What the way back is, `factored` says.

A row is read in pieces, each with weights of its own: the item, and the hidden units if there are
any. Items are the same in every step; so are units, unless a layer below them adapts.

Axes: T tasks, M rows that it learns from, Q rows that it is asked about, K inputs of a piece, H
hidden units.
"""

import torch
from torch import Tensor

from metarec_ray.core.fast.rows import (
    Rate,
    Rows,
    descended,
    path_to,
    plus,
    rate_gradient,
    stepped,
    times,
)

ITEM, UNITS = 0, 1
"""Places of the pieces; there may be no units."""


class Readout:
    """Scores [T, 1, M]: the products of pieces [T, M, K] and weights [T, 1, K], and a bias."""

    def __init__(
        self,
        weights: list[Tensor],
        bias: Tensor,
        rates: list[Rate],
        *,
        units_adapt: bool,
        second_order: bool,
    ):
        """Take the weights [T, 1, K] of each piece before descent and the bias [1, 1, 1].

        `rates` are those of the pieces and of the bias. Without `second_order`
        there is a way back to what was asked alone.
        """
        *self.rates, self.bias_rate = rates
        self.units_adapt, self.second_order = units_adapt, second_order
        self.path, self.biases = [weights], [bias]
        self.read: list[list[Rows]] = []
        self.slopes: list[Tensor] = []

    def outputs(self, given: Tensor, read: list[Rows]) -> Tensor:
        """Return the scores of rows, by their pieces, on top of what is `given` [T, 1, M]."""
        return self._scores(given, self.path[-1], read)

    def back(self, slope: Tensor) -> Tensor:
        """Return the slopes [T, M, H] at the units."""
        return slope.mT * self.path[-1][UNITS]

    def step(self, read: list[Rows], slope: Tensor) -> None:
        """Descend, given the slopes at the scores."""
        pieces = zip(self.path[-1], self.rates, read, strict=True)
        weights = [descended(weight, rate, slope, piece.rows) for weight, rate, piece in pieces]
        self.path = path_to(self.path, weights, second_order=self.second_order)
        bias = stepped(self.biases[-1], self.bias_rate, slope.sum(-1, keepdim=True))
        self.biases = path_to(self.biases, bias, second_order=self.second_order)
        if self.second_order:
            self.read.append(read)
            self.slopes.append(slope)

    def ask(self, given: Tensor, read: list[Rows], weights: Tensor) -> Tensor:
        """Return the scores of other rows, whose items `weights` scored before descent."""
        (first, *_), (last, *of_units) = self.path[0], self.path[-1]
        self.asked, self.asked_weights = read, [weights + (last - first), *of_units]
        return self._scores(given, self.asked_weights, read)

    def begin(self, slope: Tensor) -> None:
        """Begin the way back from what was asked, given the slopes at the scores."""
        self.asked_slope = slope
        self.of_asked_weights = [torch.bmm(slope, piece.rows) for piece in self.asked]
        self.of_weights = self.of_asked_weights
        self.of_bias = slope.sum(-1, keepdim=True)
        self.of_given: Tensor | None = None
        self.of_rates: list[Tensor | None] = [None for _ in (*self.rates, self.bias_rate)]
        # Slopes and weights whose products are the gradients of the pieces that do not adapt.
        still = self.rates[:1] if self.units_adapt else self.rates
        self._pulls: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in still]

    def tangent(self, step: int, moved: Tensor | None) -> Tensor:
        """Return how the scores move; `moved` [T, M, H] is how the units do, None for not."""
        ways = zip(self.of_weights, self.rates, strict=True)
        self._headings = [adjoint * -rate for adjoint, rate in ways]
        found = self.of_bias * -self.bias_rate
        for heading, piece in zip(self._headings, self.read[step], strict=True):
            found = torch.baddbmm(found, heading, piece.columns)
        return found if moved is None else found.baddbmm_(self.path[step][UNITS], moved.mT)

    def pull(self, step: int, back: Tensor) -> Tensor | None:
        """Return the gradient of the units of a step, if they adapt, given how its slopes move."""
        slope = self.slopes[step]
        ways = zip(self._pulls, self.path[step], self._headings, strict=False)
        for (slopes, weights), weight, heading in ways:
            slopes += [back, slope]
            weights += [weight, heading]
        if not self.units_adapt:
            return None
        return (back.mT * self.path[step][UNITS]).addcmul_(slope.mT, self._headings[UNITS])

    def add(self, step: int, moved: Tensor | None, back: Tensor) -> None:
        """Pass a step."""
        slope, read = self.slopes[step], self.read[step]
        if not isinstance(self.bias_rate, float):
            self._add_rates(slope, read)
        ways = zip(self.of_weights, read, strict=True)
        self.of_weights = [torch.baddbmm(adjoint, back, piece.rows) for adjoint, piece in ways]
        if moved is not None:
            self.of_weights[UNITS].baddbmm_(slope, moved)
        self.of_bias = self.of_bias + back.sum(-1, keepdim=True)
        self.of_given = plus(self.of_given, back)

    def of_rows(self, piece: int, onto: Tensor | None) -> Tensor:
        """Return the gradients of a piece that does not adapt, added to `onto` in place."""
        slopes, weights = (torch.cat(parts, 1) for parts in self._pulls[piece])
        return times(slopes.mT, weights, onto)

    def of_asked(self, onto: Tensor | None) -> Tensor:
        """Return the gradients of the asked items, added to `onto` in place."""
        slope, weights = self.asked_slope.mT, self.asked_weights[ITEM]
        return slope * weights if onto is None else onto.addcmul_(slope, weights)

    def changes(self) -> tuple[Tensor, Tensor]:
        """Return what was added to all weights [T, 1, P], the units' first, and to the bias."""
        ways = zip(self.path[-1], self.path[0], strict=True)
        item, *units = (last - first for last, first in ways)
        return torch.cat([*units, item], -1), self.biases[-1] - self.biases[0]

    def _add_rates(self, slope: Tensor, read: list[Rows]) -> None:
        ways = zip(self.of_weights, read, strict=True)
        found = [rate_gradient(adjoint, slope, piece.rows).unsqueeze(0) for adjoint, piece in ways]
        bias = -(self.of_bias * slope.sum(-1, keepdim=True)).sum(0, keepdim=True)
        both = zip(self.of_rates, [*found, bias], strict=True)
        self.of_rates = [plus(known, more) for known, more in both]

    def _scores(self, given: Tensor, weights: list[Tensor], read: list[Rows]) -> Tensor:
        found = given + self.biases[-1]
        for weight, piece in zip(weights, read, strict=True):
            found.baddbmm_(weight, piece.columns)
        return found
